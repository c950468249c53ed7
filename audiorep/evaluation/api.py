"""`audiorep.evaluate`, `calibrate` and `tune_events`: a model's accuracy, its scores and its events, by labelled clips."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from audiorep import datasets, shipped
from audiorep.datasets.location import Place, located
from audiorep.errors import ConfigError, DataError, require
from audiorep.predict.classifier import Classifier

if TYPE_CHECKING:
    from audiorep.evaluation.calibrate import Calibration
    from audiorep.evaluation.evaluate import Evaluation
    from audiorep.evaluation.thresholds import Rule
    from audiorep.evaluation.tune_events import EventTuning


def evaluate(
    model: Classifier | str | os.PathLike[str],
    data: Place,
    split: str = "test",
    *,
    views: int | None = None,
    unknown: Sequence[str | os.PathLike[str]] = (),
    say: Callable[[str], None] = lambda text: None,
    on_progress: Callable[[float], None] | None = None,
) -> Evaluation:
    """The accuracy of a model on labelled clips, through the same path as recognition.

    Args:
        model: a classifier, an exported file or a checkpoint folder.
        data: a folder of classes, a CSV manifest, another data set, or a `Data` with its layout and folds.
        split: `train`, `valid`, `test` or `all`. Clips are divided as they were for the model's training.
        views: windows spread over each clip; 0: all, one hop apart; the model's own number, if not given.
        unknown: files and folders of sounds of none of the model's classes, to measure how many are told from these.
        say: is told what should be known of how the data was read.
        on_progress: is told the seconds of sound just heard.

    Raises:
        DataError: nothing there, no such split, labels that the model does not know, or clips that it was trained on.
        BundleError, CheckpointError, ConfigError, MissingExtraError: the model cannot be run here.

    >>> result = audiorep.evaluate(checkpoint, clips)
    >>> result.heads["label"].summary["top1"] > 0.5
    True
    """
    require("torchmetrics", extra="train")
    from audiorep.evaluation.evaluate import evaluate as measured
    from audiorep.evaluation.scored import describe_split

    classifier = model if isinstance(model, Classifier) else Classifier.load(model)
    place = located(data)
    splits = datasets.Splits() if split == "all" else place.splits(classifier.info.provenance)
    try:
        everything = place.examples(splits, say)
        examples = datasets.examples_in_split(everything, split, place.root)
    except DataError as error:
        raise DataError(f"{error} Clips that this model was never trained on are measured whole with split all.") from None
    trained = [] if split in ("all", "train") else [example for example in everything if example.split == "train"]
    title = describe_split(place.root, split, examples)
    return measured(classifier, examples, title, trained, on_progress, views, unknown)


def calibrate(
    model: str | os.PathLike[str],
    data: Place,
    output: str | os.PathLike[str],
    split: str = "valid",
    *,
    thresholds: Rule = "f1",
    precision: float = 0.9,
    say: Callable[[str], None] = lambda text: None,
    on_progress: Callable[[float], None] | None = None,
) -> Calibration:
    """Writes a copy of a model whose scores are probabilities, with a threshold for each class, which every runtime applies.

    Args:
        model: an exported file or a checkpoint folder.
        data: labelled clips that it was neither trained nor tested on, as for `audiorep.evaluate`.
        output: the copy: a file of the same kind, or a new folder.
        split: `valid`, `test` or `all`. Clips are divided as they were for the model's training.
        thresholds: by the best `f1`, or by a `precision` that the labels reported are to reach.
        precision: that precision.
        say: is told what should be known of how the data was read.
        on_progress: is told the seconds of sound just heard.

    Raises:
        DataError: too few clips, clips that it was trained or tested on, or a precision that no score reaches.
        ConfigError: another rule, or a place that cannot be written to.
        BundleError, CheckpointError, MissingExtraError: the model cannot be run here.

    >>> found = audiorep.calibrate(checkpoint, more_clips, "calibrated", split="all")
    >>> audiorep.load("calibrated").info.calibration == found.info.calibration
    True
    """
    from audiorep.evaluation.calibrate import calibrate as fit
    from audiorep.evaluation.calibrate import refuse_older_test
    from audiorep.evaluation.scored import describe_split
    from audiorep.export import described

    source, target = shipped.file_of(model), Path(output)
    described.check(source, target)
    classifier, place = Classifier.load(source), located(data)
    examples = place.in_split(split, classifier.info.provenance, say)
    words = describe_split(place.root, split, examples)
    refuse_older_test(classifier.info, split, words)
    found = fit(classifier, examples, words, thresholds, precision, on_progress)
    described.write(source, found.info, target)
    return found


def tune_events(
    model: Classifier | str | os.PathLike[str],
    data: Place,
    output: str | os.PathLike[str],
    split: str = "valid",
    *,
    false_alarms: float | None = None,
    precision: float | None = None,
    hours: float = 2.0,
    noise: str | os.PathLike[str] | None = None,
    seed: int = 0,
    hop_seconds: float | None = None,
    say: Callable[[str], None] = lambda text: None,
    on_progress: Callable[[float], None] | None = None,
) -> EventTuning:
    """Writes settings of a model's events that keep a wish, for `--events` and `EventConfig`.

    They are chosen on soundscapes of half of the clips in noise, and measured on soundscapes of the other half. A false alarm
    is an event that overlaps no event of its label that is there.

    Args:
        model: a classifier, an exported file or a checkpoint folder.
        data: labelled clips that it was not trained on, as for `audiorep.evaluate`.
        output: the file, `.toml`.
        split: `valid`, `test` or `all`. Clips are divided as they were for the model's training.
        false_alarms: the wish: at most so many an hour, of all labels together; 6, if no wish is given.
        precision: another wish: the share of the events that are no false alarms.
        hours: of soundscapes.
        noise: folder of recordings without the model's sounds, for the background; coloured noise, if not given.
        seed: from which the soundscapes are drawn.
        hop_seconds: from one window to the next; default: the model's.
        say: is told what should be known of how the data was read.
        on_progress: is told the seconds of sound just heard.

    Raises:
        DataError: too few clips, clips that it was trained on, or a wish that no settings keep.
        ConfigError: two wishes, one that cannot be, or a place that cannot be written to.
        BundleError, CheckpointError, MissingExtraError: the model cannot be run here.

    >>> found = audiorep.tune_events(checkpoint, more_clips, "events.toml", split="all", precision=0.1, hours=0.4)
    >>> found.after.hours
    0.2
    >>> Path("events.toml").read_text().startswith("# Settings of events")
    True
    """
    from audiorep import files
    from audiorep.evaluation.scored import describe_split
    from audiorep.evaluation.tune_events import Drawing, tune, wish_of

    target, wish = Path(output), wish_of(false_alarms, precision)
    drawing = Drawing(hours, None if noise is None else Path(noise), seed)
    if target.suffix.lower() != ".toml":
        raise ConfigError(f"{target} is no .toml file; name one, such as events.toml.")
    files.reserve(target)
    classifier = (model if isinstance(model, Classifier) else Classifier.load(model)).with_windows(hop_seconds=hop_seconds)
    place = located(data)
    examples = place.in_split(split, classifier.info.provenance, say)
    found = tune(classifier, examples, describe_split(place.root, split, examples), wish, drawing, on_progress)
    if not isinstance(model, Classifier):
        found = replace(found, model=Path(model).name)
    files.write_text(target, found.toml())
    return found
