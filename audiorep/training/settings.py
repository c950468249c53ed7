"""What decides a training: recipes and settings, or else those of the package, and what a start brings along."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audiorep import config as configuration
from audiorep import shipped
from audiorep.datasets import Example, trained_clips
from audiorep.models import checkpoint
from audiorep.training.recipe import TrainConfig, configure
from audiorep.untrusted import is_number

Recipe = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

NO_START = "none"
"""`start` that asks for random weights, whatever a recipe says."""
RECIPES = Path(__file__).parent / "recipes"
FINE_TUNE, FROM_SCRATCH = RECIPES / "fine_tune.toml", RECIPES / "from_scratch.toml"
CHOICES = ("architecture", "network", "layers", "front_end", "distil")
"""Settings that choose a network, which the weights in the package would not fit, or what it hears or learns from."""


def settings_of(recipe: Recipe, settings: dict[str, Any]) -> TrainConfig:
    """The settings of recipes and of `settings`, which win.

    Without a recipe they are the package's: `FINE_TUNE` from the tagger in the package, or from the `start` that `settings`
    name; `FROM_SCRATCH` where they ask for random weights or make one of the `CHOICES`; none where they name a protocol, which
    is the paper's.

    Raises:
        ConfigError: a recipe cannot be read, or a setting is refused.
        CheckpointError: the checkpoint to start from cannot be read.
    """
    recipes = [recipe] if isinstance(recipe, str | os.PathLike) else list(recipe)
    if not recipes and "protocol" not in settings:
        chosen = any(settings.get(name) for name in CHOICES)
        settings = {"start": NO_START if chosen else shipped.DEFAULT, **settings}
        recipes = [FROM_SCRATCH if str(settings["start"]) == NO_START else FINE_TUNE]
    values = configuration.merged(_overlapping(configuration.read_recipes(recipes), settings), settings)
    start = str(values.pop("start", ""))
    if start not in ("", NO_START):
        values = {**configuration.merged(_taken_over(start, values), values), "start": start}
    return configure(values, where=", ".join(map(str, recipes)) or "settings")


def _taken_over(start: str, values: Mapping[str, Any]) -> dict[str, Any]:
    """What a training takes over from the checkpoint that it starts from, where its settings do not say otherwise.

    A protocol says how sound becomes windows and spectrograms; another architecture has other sizes. Windows of another length
    overlap as much as the start's.
    """
    kept = checkpoint.read_json(shipped.place(start) / checkpoint.CONFIG)
    names = [] if "protocol" in values else ["front_end", "window_seconds", "hop_seconds", "padding"]
    if values.get("architecture", kept.get("architecture")) == kept.get("architecture"):
        names += ["architecture", "network", "layers"]
    taken = {name: kept[name] for name in names if name in kept}
    if isinstance(taken.get("network"), dict):
        taken["network"] = {key: value for key, value in taken["network"].items() if key != "heads"}
    return _overlapping(taken, values)


def _overlapping(given: dict[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """`given` with a hop by which windows of the length in `chosen` overlap as much as its own do."""
    window, own, hop = chosen.get("window_seconds", 0), given.get("window_seconds", 0), given.get("hop_seconds", 0)
    if not all(map(is_number, (window, own, hop))) or min(window, own, hop) <= 0:
        return given
    return {**given, "hop_seconds": hop * window / own}


def remarks(config: TrainConfig, examples: Sequence[Example]) -> list[str]:
    """What about the start a user should know before training."""
    if not config.start:
        return ["Training starts from random weights."]
    kept = checkpoint.read_json(shipped.place(config.start) / checkpoint.CONFIG)
    found = []
    if kept.get("front_end") != config.front_end_config.as_dict():
        found.append(f"{config.start} learned from another front end than the one set here, so less of it may carry over.")
    memories = list(trained_clips.filters_of(kept.get("provenance", {})))
    for split in ("test", "valid"):
        clips = [example for example in examples if example.split == split]
        heard = max((trained_clips.count_trained(memory, clips) for memory in memories), default=0)
        if heard > trained_clips.most_false_matches(len(clips)):
            counts = f"{heard} of the {len(clips)} {split} clips"
            found.append(f"{config.start} was trained on {counts}, so their accuracy says less of new sounds.")
    return found
