"""A short run of every kind of damage finds nothing, and the harness counts what was planted (`make fuzz` runs longer)."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from fuzz.campaign import FINDINGS, Campaign, Tally
from fuzz.kinds import KINDS
from support import ROOT, processes

CASES = {
    "sounds": 60, "models": 12, "models.config": 40, "models.bundle_metadata": 40, "models.pyth": 8, "models.weights": 40,
    "folders": 20, "manifests": 60, "names": 60, "names.evaluations": 6,
}  # fmt: skip
TESTS = ROOT / "tests"


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    with Campaign(tmp_path_factory.mktemp("findings")) as campaign:
        yield campaign


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_refused_in_a_sentence_or_used_rightly(campaign, kind):
    cases = range(CASES.get(kind) or CASES[kind.partition(".")[0]])
    no_finding(campaign, kind, cases)


@pytest.mark.full
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_more_damage_is_refused_in_a_sentence_or_used_rightly(campaign, kind):
    cases = CASES.get(kind) or CASES[kind.partition(".")[0]]
    no_finding(campaign, kind, range(cases, 4 * cases))


def no_finding(campaign: Campaign, kind: str, cases: range) -> None:
    tally = campaign.run(kind, 0, cases)
    assert tally.findings == []
    assert tally.accepted + tally.refused == tally.cases == len(cases)
    if kind.endswith("cut"):
        assert tally.accepted == 0


# ---------------------------------------------------------------- the harness


def planted(findings: Path, kind: str, cases: int = 2, limit: float = 20.0) -> Tally:
    with Campaign(findings, limit) as campaign:
        return campaign.run(f"planted.{kind}", 0, range(cases))


@pytest.mark.parametrize(
    ("kind", "counted", "said"),
    [
        ("raises", {"uncaught": 2}, "ValueError: planted"),
        ("takes_all_memory", {"uncaught": 2}, "MemoryError"),
        ("accepts_a_cut", {"wrong": 2}, "of 100 bytes were accepted"),
        ("says_nothing", {"wrong": 2}, "File x"),
        ("refuses", {"refused": 2}, ""),
        ("good", {"accepted": 2}, ""),
    ],
)
def test_what_was_planted_is_counted_and_kept(tmp_path, kind, counted, said):
    tally = planted(tmp_path, kind)
    assert {name: count for name, count in tally.figures().items() if count and name != "slowest_seconds"} == {
        "cases": 2,
        **counted,
    }
    assert len(tally.findings) == tally.found == sum(counted.get(name, 0) for name in FINDINGS)
    assert all(said in text for text in tally.findings)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"planted.{kind}-0-{case}" for case in range(tally.found)]
    if kind == "raises":
        assert (
            (tmp_path / "planted.raises-0-1" / "why.txt")
            .read_text()
            .startswith("uncaught: --kinds planted.raises --seed 0 --case 1")
        )
        assert len((tmp_path / "planted.raises-0-1" / "files" / "x").read_bytes()) == 4


def test_process_that_dies_costs_its_case_alone(tmp_path):
    tally = planted(tmp_path, "dies", 5)
    assert (tally.crashed, tally.accepted) == (3, 2)
    assert {(tmp_path / f"planted.dies-0-{case}" / "files" / "x").read_bytes() for case in (0, 3, 4)} == {b"dead"}
    assert "Fatal Python error: Aborted" in (tmp_path / "planted.dies-0-0" / "why.txt").read_text()


@pytest.mark.slow
def test_case_that_hangs_is_tried_twice_ended_and_told_with_its_stack(tmp_path):
    tally = planted(tmp_path, "hangs", 1, 0.3)
    assert (tally.hung, tally.cases) == (1, 1)
    why = (tmp_path / "planted.hangs-0-0" / "why.txt").read_text()
    assert "in hangs" in why
    assert why.endswith("more than 0.3 s\n")
    assert (tmp_path / "planted.hangs-0-0" / "files" / "x").read_bytes() == b"long"


def fuzz(*words: object, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)])}
    return processes.run(
        processes.python("from fuzz.__main__ import main; raise SystemExit(main())", *words), cwd=folder, env=environment
    )


@pytest.mark.slow
def test_command_writes_figures_and_tells_findings_by_its_status(tmp_path):
    done = fuzz("--kinds", "planted.good,planted.accepts_a_cut", "--cases", 3, "--output", "f.json", folder=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    result = json.loads((tmp_path / "f.json").read_text())
    assert (result["total"]["cases"], result["total"]["wrong"], result["kinds"]["planted.good"]["accepted"]) == (6, 3, 3)
    again = fuzz("--kinds", "planted.accepts_a_cut", "--seed", 0, "--case", 2, folder=tmp_path)
    told = [line for line in done.stdout.splitlines() if "--case 2" in line]
    assert told == [line for line in again.stdout.splitlines() if "--case 2" in line] != []
    assert again.returncode == 1
    assert fuzz("--kinds", "planted.good", "--seconds", 0.2, folder=tmp_path).returncode == 0


def test_command_refuses_a_kind_that_is_not_there(tmp_path):
    done = fuzz("--kinds", "sounds,sound", folder=tmp_path)
    assert done.returncode == 2
    assert "There is no sound." in done.stderr
