"""A process that runs cases as it is asked to; it may die or hang without harm to the campaign.

    python -m fuzz.worker SEEDS WORK MEMORY

Each line on standard input is a request as JSON: a group to make ready, or a case by its group, kind, seed and number. Each
is answered by a line.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import random
import resource
import shutil
import sys
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from audiorep.errors import AudiorepError
from fuzz.oracle import WrongError, is_sentence

SHOWN = 2000  # characters of a traceback's end


def outcome(
    kind: Callable[[random.Random, Path, Path], None], chance: random.Random, seeds: Path, place: Path
) -> tuple[str, str]:
    """What one case did, in one word, and what there is to say of it."""
    try:
        kind(chance, seeds, place)
    except AudiorepError as error:
        return ("refused" if is_sentence(str(error)) else "wrong"), str(error)[:SHOWN]
    except WrongError as error:
        return "wrong", str(error)
    except BaseException:
        return "uncaught", traceback.format_exc()[-SHOWN:]
    return "accepted", ""


def ready(name: str, seeds: Path) -> ModuleType:
    """A group's module, its seeds made if that was not done yet, and all that its first case would wait for."""
    group = importlib.import_module(f"fuzz.{name}")
    if not seeds.is_dir():
        partial = seeds.with_name(f"{seeds.name}.part")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        group.prepare(partial)
        partial.rename(seeds)
    group.warm(seeds)
    return group


def run(group: ModuleType, kind: str, seed: int, case: int, seeds: Path, work: Path) -> dict[str, Any]:
    """The outcome of a case. Its folder, where its files are, stays behind if there is something to see in it."""
    place = work / f"{kind}-{seed}-{case}"
    place.mkdir(parents=True)
    start = time.monotonic()
    found, text = outcome(getattr(group, kind), random.Random(f"{kind} {seed} {case}"), seeds, place)
    seconds = time.monotonic() - start
    if found in ("accepted", "refused"):
        shutil.rmtree(place)
    return {"outcome": found, "text": text, "seconds": seconds}


def limit(memory: int) -> None:
    """Lets the process reserve `memory` bytes more than it has now; what packages map at their import differs widely."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    wanted = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_AS, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))


def unlimited() -> None:
    """Takes the limit back, for the packages of a further group."""
    most = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (most, most))


def main() -> None:
    """Answers requests until there are no more."""
    seeds, work, memory = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no answer
    faulthandler.enable()
    groups: dict[str, ModuleType] = {}
    for line in sys.stdin:
        request = json.loads(line)
        name = request.pop("group")
        if request:
            warnings.simplefilter("error")
            answer = run(groups[name], **request, seeds=seeds / name, work=work / name)
        else:
            warnings.simplefilter("default")
            unlimited()
            groups[name] = ready(name, seeds / name)
            limit(memory)
            answer = {"ready": name}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
