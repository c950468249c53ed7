"""The general taggers: networks that learn YAMNet's scores and embedding, as long as the given minutes let them.

python -m experiments.gpu.taught --minutes 8 --data FOLDER --out FOLDER

The folder with the data is what `experiments.gpu.pack` makes. The sizes are trained in turn, each for its share of the time
that is left once the sounds are decoded. A short trial measures how long a step takes; the number of epochs follows from
it. Called again, a stopped training goes on.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from audiorep import datasets
from audiorep.config import merged, read_recipes
from audiorep.datasets import Example, Labels
from audiorep.datasets.clips import Clips
from audiorep.hub import imported
from audiorep.training import fit, loaders
from audiorep.training.recipe import TrainConfig, configure

SIZES = {"arin_nano": 0.6, "arin_small": 0.4}
"""What is taught, and its share of the time."""
TRIAL_CUTS = 16
KEPT_BACK = 5.0  # seconds of a share for recording the passes and writing what was learned


class TrialOverError(Exception):
    """The trial has seen enough."""


def main() -> None:
    """All sizes in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--settings", type=json.loads, default={}, help="that differ from the recipe's, as JSON")
    given = parser.parse_args()
    until = time.time() + 60 * given.minutes
    fit.quieten()
    given.out.mkdir(parents=True, exist_ok=True)
    if not (given.out / "yamnet").exists():
        imported.convert(given.data / "yamnet" / "yamnet.tflite", given.out / "yamnet")
    examples = datasets.examples(given.data / "sounds.csv")
    recipe = read_recipes([Path("recipes/tagger.toml")], {})
    settings = merged(merged(recipe, {"distil": {"teachers": [str(given.out / "yamnet")]}}), given.settings)
    decode_once()
    shares = dict(SIZES)
    for size in SIZES:
        config = configure({**settings, "architecture": size}, size)
        share = shares[size] / sum(shares.values())
        teach(config, examples, given.out, time.time() + share * (until - time.time()))
        del shares[size]


def decode_once() -> None:
    """Lets all trainings share the decoded clips."""
    make, kept = loaders.clips_of, dict[str, Clips]()

    def clips_of(config: TrainConfig, examples: Sequence[Example], labels: Labels, split: str) -> Clips:
        if split not in kept:
            kept[split] = make(config, examples, labels, split)
        return kept[split]

    loaders.clips_of = clips_of


def teach(config: TrainConfig, examples: list[Example], out: Path, until: float) -> None:
    """One tagger, in a folder of `out`."""
    name = config.architecture

    def say(text: str) -> None:
        print(f"{time.strftime('%T')} {name}, {until - time.time():.0f} s left: {text}", flush=True)

    record = out / name / fit.CONFIG
    if record.exists():
        epochs = json.loads(record.read_text())["config"]["epochs"]
    else:
        step = seconds_a_step(config, examples, out / f"{name}_trial")
        steps = len(examples) * config.cuts // config.batch_size
        epochs = max(2, int((until - time.time() - KEPT_BACK) / (step * steps)))
        say(f"{1000 * step:.1f} ms a step, so {epochs} epochs of {steps} steps")
    fit.fit(replace(config, epochs=epochs), examples, out / name, say=say)
    say("done")


def seconds_a_step(config: TrainConfig, examples: list[Example], folder: Path) -> float:
    """Seconds that a step takes, from the second of two short epochs: in the first everything is loaded."""
    ends = []

    def on_epoch(epoch: int, values: dict[str, float]) -> None:
        ends.append(time.time())
        if len(ends) == 2:
            raise TrialOverError

    with suppress(TrialOverError):
        fit.fit(replace(config, epochs=100, cuts=min(config.cuts, TRIAL_CUTS)), examples, folder, on_epoch=on_epoch)
    return (ends[1] - ends[0]) / max(1, len(examples) * min(config.cuts, TRIAL_CUTS) // config.batch_size)


if __name__ == "__main__":
    main()
