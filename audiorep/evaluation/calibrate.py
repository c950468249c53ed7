"""A model's calibration and thresholds from labelled clips, and what they give on clips that they were not fitted on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from audiorep.datasets import Example, trained_clips
from audiorep.datasets.random_split import groups_of
from audiorep.errors import ConfigError, DataError
from audiorep.evaluation import scaling, thresholds
from audiorep.evaluation.reliability import Reliability, reliability
from audiorep.evaluation.scored import Heard, count_known, hear, refuse_trained_clips
from audiorep.evaluation.thresholds import RULES, Rule
from audiorep.info import UNKNOWN
from audiorep.info.calibration import calibrated
from audiorep.info.model_info import ModelInfo
from audiorep.predict.classifier import Classifier
from audiorep.predict.results import Failure

ELSEWHERE = "Calibrated on them, it could not be judged on them any more. Take validation clips or others."
LEAST_CLIPS = 20
PARTS = 5  # of the clips, each judged by what was fitted on the others


@dataclass(frozen=True)
class CalibratedHead:
    """The calibration of a head, and what it gives on clips that it was not fitted on."""

    window: dict[str, float]
    """`temperature`, and `bias` of a multi-label model, of a window's score."""
    file: dict[str, float]
    """The same of a file's score."""
    thresholds: list[float]
    """The lowest score at which each class is reported."""
    common: float | None
    """The threshold of all classes together; None where no score reaches the precision."""
    before: Reliability
    """Of the scores as the model gives them."""
    after: Reliability
    """Of the calibrated scores, each clip's fitted on other clips."""
    precision: float
    """Share of the reported labels that are right, by thresholds from other clips; NaN where none is reported."""
    answered: float
    """Share of the clips for which a label is reported, by thresholds from other clips."""


@dataclass(frozen=True)
class Calibration:
    """What a calibration of a model found."""

    info: ModelInfo
    """The model's description with its calibration and thresholds."""
    split: str
    """The clips, in words."""
    clips: int
    """How many could be heard."""
    rule: Rule
    wanted: float
    """The precision that the rule `precision` asks for."""
    heads: dict[str, CalibratedHead]
    failures: list[Failure]

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON."""
        heads = {
            head: {
                **asdict(found),
                "precision": None if np.isnan(found.precision) else found.precision,
                "before": found.before.as_dict(),
                "after": found.after.as_dict(),
            }
            for head, found in self.heads.items()
        }
        return {
            "split": self.split,
            "clips": self.clips,
            "thresholds": self.rule,
            **({"precision": self.wanted} if self.rule == "precision" else {}),
            "unreadable": [str(failure.error) for failure in self.failures],
            "heads": heads,
        }


def calibrate(
    classifier: Classifier,
    examples: Sequence[Example],
    split: str,
    rule: Rule = "f1",
    precision: float = 0.9,
    on_progress: Callable[[float], None] | None = None,
) -> Calibration:
    """The calibration and the thresholds of `classifier`, from `examples`, called `split` in words.

    Whole files are heard as in recognition: all windows, one hop apart.

    Raises:
        ConfigError: another rule, or a precision that is none.
        DataError: fewer than `LEAST_CLIPS` clips or two groups of them, clips that the model was trained or tested on, labels
            that it does not know, or a precision that no score reaches.
    """
    if rule not in RULES or not 0 < precision < 1:
        raise ConfigError(f"thresholds by {rule!r} with precision {precision}; {' or '.join(RULES)}, and 0 to 1 are allowed.")
    refuse_trained_clips(classifier, examples, split)
    if tested := count_known(classifier, examples, "tested"):
        raise DataError(f"The model was tested on {tested} of the {len(examples)} clips of {split}. {ELSEWHERE}")
    heard = hear(classifier.uncalibrated(), examples, split, on_progress)
    return fitted(classifier.info, heard, split, rule, precision)


def fitted(info: ModelInfo, heard: Heard, split: str, rule: Rule, precision: float) -> Calibration:
    """The same from what the model, without a calibration, heard.

    Raises:
        DataError: too few clips, or a precision that no score reaches.
    """
    heard = _with_sound(heard)
    parts = _parts(heard.examples)
    if len(heard.examples) < LEAST_CLIPS or parts.max() < 1:
        raise DataError(
            f"{split} has {len(heard.examples)} clips of {len(set(groups_of(heard.examples)))} recordings; a calibration needs "
            f"at least {LEAST_CLIPS} of 2."
        )
    heads = {head: _head(info, heard, head, parts, rule, precision) for head in info.labels}
    for head, found in heads.items():
        if found.common is None:
            raise DataError(
                f"No score of {head} reaches a precision of {precision:g} on the {len(heard.examples)} clips of {split} for "
                "sure. Take more clips, a lower precision, or thresholds by f1."
            )
    about = {"split": split, "thresholds": rule, **({"precision": precision} if rule == "precision" else {})}
    told = replace(
        info,
        calibration={head: {"window": found.window, "file": found.file} for head, found in heads.items()},
        thresholds={head: found.thresholds for head, found in heads.items()},
        unknown=info.unknown or (UNKNOWN if info.activation == "sigmoid" else ""),
    ).with_provenance(calibrated={**trained_clips.filter_of(heard.examples), **about})
    return Calibration(told, split, len(heard.examples), rule, precision, heads, heard.failures)


def _with_sound(heard: Heard) -> Heard:
    """The same without files that are nothing but silence, whose scores no calibration changes."""
    kept = [place for place, recording in enumerate(heard.recordings) if len(recording.sounding())]
    if len(kept) == len(heard.recordings):
        return heard
    return replace(
        heard,
        examples=[heard.examples[place] for place in kept],
        recordings=[heard.recordings[place] for place in kept],
        targets={head: values[kept] for head, values in heard.targets.items()},
    )


def _head(info: ModelInfo, heard: Heard, head: str, parts: np.ndarray, rule: Rule, precision: float) -> CalibratedHead:
    targets, activation = heard.targets[head], info.activation

    def shown(scores: np.ndarray, settings: dict[str, float]) -> np.ndarray:
        return info.contested(head, calibrated(scores, settings, activation))

    windows = [recording.sounding(head) for recording in heard.recordings]
    files = np.stack([recording.mean(head) for recording in heard.recordings])
    of_files = scaling.fit([scores[None] for scores in files], targets, activation)
    chosen = thresholds.choose(shown(files, of_files), targets, activation, rule, precision)
    unseen, limits = np.empty_like(files), np.empty_like(files)
    for part in range(parts.max() + 1):
        held, rest = parts == part, parts != part
        settings = scaling.fit([scores[None] for scores in files[rest]], targets[rest], activation)
        others = thresholds.choose(shown(files[rest], settings), targets[rest], activation, rule, precision)
        unseen[held], limits[held] = shown(files[held], settings), others.classes
    labels = thresholds.reported(unseen, limits, activation)
    return CalibratedHead(
        window=scaling.fit(windows, targets, activation),
        file=of_files,
        thresholds=[round(value, 6) for value in chosen.classes],
        common=chosen.common,
        before=reliability(info.contested(head, files), targets),
        after=reliability(unseen, targets),
        precision=float(targets[labels].mean()) if labels.any() else float("nan"),
        answered=float(labels.any(1).mean()),
    )


def _parts(examples: Sequence[Example]) -> np.ndarray:
    """(clips,) the part of each clip, from 0; clips of one recording are in the same."""
    groups = groups_of(examples)
    numbers = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    order = np.random.default_rng(0).permutation(len(numbers))
    return np.array([order[numbers[group]] % PARTS for group in groups])


def refuse_older_test(info: ModelInfo, split: str, words: str) -> None:
    """Refuses the test clips that a model was measured on before models remembered the clips themselves.

    They are known by the data's name and folds in `words`, which `describe_split` gives, and without folds by `split` too.

    Raises:
        DataError: its accuracy was measured on test clips of this name.
    """
    place = words.partition(" split of ")[2]
    measured = {**info.provenance.get("measured", {}), **info.provenance.get("measured_in_float32", {})}
    if (split == "test" or ", fold" in place) and any(f"test split of {place} (" in title for title in measured):
        raise DataError(f"The model was tested on the {words}. {ELSEWHERE}")
