"""Runs cases in a process of their own, under limits of time and memory, and counts how they end."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support import ROOT

SECONDS = 10.0  # of a case; more is a hang
MEMORY = 2 << 30  # bytes that cases may reserve besides what their packages take
STARTING = 300.0  # seconds in which a group's packages are imported and its seeds are made
SHOWN = 4000  # bytes of what a process said last
ACCEPTED, REFUSED = "accepted", "refused"
FINDINGS = ("crashed", "hung", "uncaught", "wrong")
SEEDS, WORK = "seeds", "work"


@dataclass(frozen=True)
class Outcome:
    """How one case ended."""

    name: str
    """`accepted`, `refused` or one of `FINDINGS`."""
    text: str
    """What was said."""
    seconds: float


@dataclass
class Tally:
    """All cases of a kind."""

    accepted: int = 0
    refused: int = 0
    crashed: int = 0
    hung: int = 0
    uncaught: int = 0
    wrong: int = 0
    slowest_seconds: float = 0.0
    seconds: float = 0.0
    findings: list[str] = field(default_factory=list)
    """Kind, seed, case and first words of each."""

    @property
    def cases(self) -> int:
        """How many were run."""
        return self.accepted + self.refused + self.found

    @property
    def found(self) -> int:
        """How many ended as none may."""
        return sum(getattr(self, name) for name in FINDINGS)

    def add(self, outcome: Outcome) -> None:
        """Counts one more case."""
        setattr(self, outcome.name, getattr(self, outcome.name) + 1)
        self.slowest_seconds = max(self.slowest_seconds, outcome.seconds)
        self.seconds += outcome.seconds

    def figures(self) -> dict[str, float]:
        """What a table shows."""
        counts = {name: getattr(self, name) for name in (ACCEPTED, REFUSED, *FINDINGS)}
        return {"cases": self.cases, **counts, "slowest_seconds": round(self.slowest_seconds, 2)}


class Campaign:
    """Cases of any kind, `group.kind`; findings and what they were made of are kept in a folder.

    A case that takes longer than `limit` seconds is tried once more, by itself in a new process: a machine that did
    something else meanwhile is not held against it.
    """

    def __init__(self, findings: Path, limit: float = SECONDS, memory: int = MEMORY) -> None:
        self.findings, self.limit, self._memory = findings, limit, memory
        self._scratch = tempfile.TemporaryDirectory(prefix="audiorep-fuzz-")
        self._worker: _Worker | None = None

    def __enter__(self) -> Campaign:
        return self

    def __exit__(self, *error: object) -> None:
        self._end()
        self._scratch.cleanup()

    def start(self, kind: str) -> _Worker:
        """A process that is ready for cases of a kind."""
        if self._worker is None:
            self._worker = _Worker(Path(self._scratch.name), self._memory)
        self._worker.start(kind.partition(".")[0])
        return self._worker

    def run(
        self, kind: str, seed: int, cases: range, until: float = float("inf"), on_finding: Callable[[str], None] = print
    ) -> Tally:
        """Runs cases of one kind, or those that begin before `until` (of `time.monotonic`)."""
        tally = Tally()
        for case in cases:
            if time.monotonic() >= until:
                break
            outcome = self._case(kind, seed, case)
            if outcome.name == "hung":
                outcome = self._case(kind, seed, case)
            tally.add(outcome)
            if outcome.name in FINDINGS:
                tally.findings.append(self._keep(kind, seed, case, outcome))
                on_finding(tally.findings[-1])
        return tally

    def _case(self, kind: str, seed: int, case: int) -> Outcome:
        shutil.rmtree(self._files(kind, seed, case), ignore_errors=True)
        outcome = self.start(kind).run(kind, seed, case, self.limit)
        if outcome.name in ("crashed", "hung"):
            self._end()
        return outcome

    def _end(self) -> None:
        if self._worker is not None:
            self._worker.close()
        self._worker = None

    def _files(self, kind: str, seed: int, case: int) -> Path:
        """The folder of what a case wrote."""
        group, _, name = kind.partition(".")
        return Path(self._scratch.name, WORK, group, f"{name}-{seed}-{case}")

    def _keep(self, kind: str, seed: int, case: int, outcome: Outcome) -> str:
        """Puts a finding's files where they stay, with what was said of it; its description in a line."""
        again = f"--kinds {kind} --seed {seed} --case {case}"
        place = self.findings / f"{kind}-{seed}-{case}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        if (left := self._files(kind, seed, case)).is_dir():
            shutil.move(left, place / "files")
        (place / "why.txt").write_text(f"{outcome.name}: {again}\n\n{outcome.text}\n", errors="backslashreplace")
        last = (outcome.text.strip().splitlines() or [""])[-1]
        return f"{outcome.name}: {again}: {last[:300]!a}"


class _Worker:
    """A process that runs cases."""

    def __init__(self, scratch: Path, memory: int) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115  closed with the worker
        paths = [str(ROOT / "tests"), str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fuzz.worker", scratch / SEEDS, scratch / WORK, str(memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)},
            start_new_session=True,
        )
        self._answers = b""
        self._groups: set[str] = set()

    def start(self, group: str) -> None:
        """Makes it ready for cases of a group."""
        if group not in self._groups:
            if self._ask(STARTING, group=group) is None:
                raise RuntimeError(f"The worker of {group} did not start. It said: {self.said()}")
            self._groups.add(group)

    def run(self, kind: str, seed: int, case: int, limit: float) -> Outcome:
        """How the case ends."""
        start = time.monotonic()
        group, _, name = kind.partition(".")
        answer = self._ask(limit, group=group, kind=name, seed=seed, case=case)
        seconds = time.monotonic() - start
        if answer is not None:
            return Outcome(answer["outcome"], answer["text"], answer["seconds"])
        if self._ended(1.0):
            return Outcome("crashed", f"{self.said()}\nstatus {self._process.returncode}", seconds)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGABRT)  # the process then says where its threads are
        self._ended(5.0)
        return Outcome("hung", f"{self.said()}\nmore than {limit:g} s", seconds)

    def said(self) -> str:
        """The end of what the process wrote to its standard error."""
        size = self._said.seek(0, os.SEEK_END)
        self._said.seek(max(0, size - SHOWN))
        return self._said.read().decode(errors="replace").strip()

    def close(self) -> None:
        """Ends the process, with all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(timeout=30)
        for file in (self._process.stdin, self._process.stdout, self._said):
            if file is not None:
                file.close()

    def _ask(self, limit: float, **request: object) -> dict[str, Any] | None:
        """The process' answer, or None where none came in time or it ended."""
        stream, end = self._process.stdout, time.monotonic() + limit
        assert stream is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(request).encode() + b"\n")
        self._process.stdin.flush()
        while b"\n" not in self._answers:
            ready, _, _ = select.select([stream], [], [], max(0.0, end - time.monotonic()))
            data = os.read(stream.fileno(), 1 << 16) if ready else b""
            if not data:
                return None
            self._answers += data
        line, _, self._answers = self._answers.partition(b"\n")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _ended(self, seconds: float) -> bool:
        try:
            self._process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            return False
        return True
