"""Settings of events that keep a wish, chosen on soundscapes of some clips, and measured on those of others."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from audiorep.audio.decode import Waveform
from audiorep.config import refuse
from audiorep.datasets import Example
from audiorep.datasets.random_split import groups_of
from audiorep.errors import AudioError, ConfigError, DataError
from audiorep.escape import visible
from audiorep.evaluation.event_choice import BOUND, Chosen, Wish, choose
from audiorep.evaluation.event_metrics import EventCounts, Spans, count_events, macro, overall
from audiorep.evaluation.intervals import rate_bound
from audiorep.evaluation.scored import refuse_trained_clips, targets_of
from audiorep.evaluation.soundscapes import EMPTY_EVERY, SECONDS, Label, Sound, Soundscape, draw, heard_part, noise_files
from audiorep.info.model_info import ModelInfo
from audiorep.predict.classifier import Classifier
from audiorep.predict.events import EventConfig
from audiorep.predict.results import Failure, Recording

LEAST_CLIPS = 20
HALVES = 2  # of the clips: one to choose by, one to measure on
PARTS = 4  # of each half, whose clips are never in one soundscape
MINUTES = HALVES * PARTS * SECONDS / 60  # of one soundscape in each part
HOURS = 2.0
FALSE_ALARMS = 6.0  # an hour; in as many hours a much smaller wish could not be told from chance
MOST_HOURS = 1000.0
_BARE = re.compile(r"[A-Za-z0-9_-]+")

Clip = tuple[Example, Sound]
"""A labelled clip, and what is heard of it."""


@dataclass(frozen=True)
class Drawing:
    """How soundscapes are drawn.

    Raises:
        ConfigError: hours or a seed that cannot be.
    """

    hours: float = HOURS
    """Half of them to choose by, and half to measure on."""
    noise: Path | None = None
    """Folder of recordings for the background; None: coloured noise."""
    seed: int = 0

    def __post_init__(self) -> None:
        least = EMPTY_EVERY * MINUTES / 60
        refuse(
            [
                (least <= self.hours <= MOST_HOURS, f"hours is {self.hours:g}; {least:g} to {MOST_HOURS:g} is allowed"),
                (self.seed >= 0, f"seed is {self.seed}; 0 or more is allowed"),
            ]
        )

    @property
    def count(self) -> int:
        """Soundscapes in each part of a half."""
        return round(60 * self.hours / MINUTES)


@dataclass(frozen=True)
class Measured:
    """How good events are on soundscapes."""

    labels: dict[str, EventCounts]
    hours: float

    @property
    def all(self) -> EventCounts:
        """The counts of all labels together."""
        return overall(self.labels)

    @property
    def false_alarms_an_hour(self) -> float:
        """Of all labels together."""
        return self.all.false_alarms / self.hours

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON; macro values are means over the labels that are there."""
        shares = {f"macro_{name}": macro(self.labels, name) for name in ("f1", "onset_f1", "recall")}
        return {
            **self.all.as_dict(),
            "false_alarms_an_hour": self.false_alarms_an_hour,
            **shares,
            "labels": {label: counts.as_dict() for label, counts in sorted(self.labels.items())},
        }


@dataclass(frozen=True)
class EventTuning:
    """Settings of events that were chosen for a wish, and what they give."""

    model: str
    hop_seconds: float
    """From one window to the next."""
    split: str
    """The clips, in words."""
    clips: int
    """How many could be used."""
    wish: Wish
    settings: EventConfig
    seed: int
    before: Measured
    """By the model's own settings, on soundscapes of clips by which nothing was chosen."""
    after: Measured
    """By the settings that were chosen, on the same soundscapes."""
    failures: list[Failure]

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "model": self.model,
            "hop_seconds": self.hop_seconds,
            "split": self.split,
            "clips": self.clips,
            "unreadable": [str(failure.error) for failure in self.failures],
            "wish": {key: value for key, value in vars(self.wish).items() if value is not None},
            "seed": self.seed,
            "hours": self.after.hours,
            "settings": _settings(self.settings),
            "before": self.before.as_dict(),
            "after": self.after.as_dict(),
        }

    def toml(self) -> str:
        """The settings as a file for `--events`, with a comment that says how they were found."""
        found, counts = self.after, self.after.all
        about = [
            f"Settings of events for {self.model}, heard every {self.hop_seconds:g} s: {self.wish.in_words}.",
            f"Chosen by audiorep tune-events (seed {self.seed}) on soundscapes of half of {self.clips} clips: {self.split}.",
            f"On {found.hours:g} h of soundscapes of the other half: {found.false_alarms_an_hour:.1f} false alarms an hour,",
            f"precision {counts.precision:.1%}, recall {counts.recall:.1%}, event F1 {counts.f1:.3f} (200 ms), of onsets "
            f"{counts.onset_f1:.3f}.",
        ]
        values = _settings(self.settings)
        own = values.pop("labels", {})
        lines = [f"# {visible(line)}" for line in about] + [f"{key} = {value}" for key, value in values.items()]
        for label, settings in own.items():
            lines += ["", f"[labels.{_key(label)}]", *(f"{key} = {value}" for key, value in settings.items())]
        text = "\n".join(lines) + "\n"
        assert EventConfig.from_dict(tomllib.loads(text)) == self.settings
        return text


def wish_of(false_alarms: float | None, precision: float | None) -> Wish:
    """The wish that is asked for, or the default.

    Raises:
        ConfigError: two wishes, or one that cannot be.
    """
    if false_alarms is not None and precision is not None:
        raise ConfigError("false_alarms and precision are two wishes; give one.")
    if false_alarms is not None and not 0 < false_alarms < float("inf"):
        raise ConfigError(f"false_alarms is {false_alarms:g}; a number above 0 is needed.")
    if precision is not None and not 0 < precision < 1:
        raise ConfigError(f"precision is {precision:g}; more than 0 and less than 1 is allowed.")
    return Wish(FALSE_ALARMS if precision is None and false_alarms is None else false_alarms, precision)


def tune(
    classifier: Classifier,
    examples: Sequence[Example],
    split: str,
    wish: Wish,
    drawing: Drawing,
    on_progress: Callable[[float], None] | None = None,
) -> EventTuning:
    """The settings of events of `classifier` for a wish, from `examples`, called `split` in words.

    Raises:
        DataError: too few clips, clips that the model was trained on, labels that it does not know, or a wish that cannot be
            kept.
    """
    _refuse_few_hours(drawing.hours, wish)
    refuse_trained_clips(classifier, examples, split)
    info, labels = classifier.info, _labels(classifier.info)
    clips, unread = _clips(info, examples, split)
    halves = _divided([example for example, _ in clips], HALVES)
    backgrounds, without = _backgrounds(drawing.noise)
    heard = []
    for half in range(HALVES):
        mine = [clip for clip, own in zip(clips, halves, strict=True) if own == half]
        drawn, parts = _drawn(mine, backgrounds, drawing, half)
        heard.append((*_hear(classifier, drawn, on_progress), parts))
    chosen = choose(*heard[0], labels, wish)
    if chosen is None:
        raise DataError(
            f"No settings keep {wish.in_words} for sure and still tell events, on {len(heard[0][0])} minutes of soundscapes of "
            f"{split}. Wish for less, or take more hours or more clips."
        )
    settings = _config(chosen, labels)
    before, after = (_measured(*heard[1][:2], config) for config in (EventConfig(), settings))
    failures = [*unread, *without]
    return EventTuning(info.name, info.hop_seconds, split, len(clips), wish, settings, drawing.seed, before, after, failures)


def _refuse_few_hours(hours: float, wish: Wish) -> None:
    """Refuses soundscapes on which even no false alarm would not tell that the wish is kept.

    Raises:
        DataError: there are too few hours of them.
    """
    needed = HALVES * rate_bound(0, BOUND) / wish.false_alarms if wish.false_alarms else 0.0
    if needed > hours:
        raise DataError(
            f"{hours:g} hours of soundscapes cannot tell for sure that there is {wish.in_words}, even if they hold none. "
            f"Take at least {np.ceil(10 * needed) / 10:g} hours, or wish for less."
        )


def _clips(info: ModelInfo, examples: Sequence[Example], split: str) -> tuple[list[Clip], list[Failure]]:
    """The clips that are not silent, with what is heard of them, and those that cannot be read.

    Raises:
        DataError: a label that the model does not know, or too few clips.
    """
    clips, failures = [], []
    for example in _named(info, examples):
        try:
            sound = heard_part(example, info.sample_rate)
        except AudioError as error:
            failures.append(Failure(example.path, error))
            continue
        if sound is not None:
            clips.append((example, sound))
    if failures and not clips:
        raise DataError(f"None of the {len(examples)} clips of {split} can be read; the first: {failures[0].error}")
    recordings = len(set(groups_of([example for example, _ in clips])))
    if len(clips) < LEAST_CLIPS or recordings < HALVES * PARTS:
        raise DataError(
            f"{split} has {len(clips)} clips of {recordings} recordings; event settings need at least {LEAST_CLIPS} of "
            f"{HALVES * PARTS}."
        )
    return clips, failures


def _named(info: ModelInfo, examples: Sequence[Example]) -> list[Example]:
    """The clips with the model's names of their labels; what is `unknown` to it has none.

    Raises:
        DataError: a label that it does not know.
    """
    targets = {head: targets_of(examples, head, labels) for head, labels in info.labels.items()}
    return [
        replace(
            example,
            labels={
                head: tuple(name for name, there in zip(info.labels[head], targets[head][place], strict=True)
                            if there and name != info.unknown)
                for head in targets
            },
        )
        for place, example in enumerate(examples)
    ]  # fmt: skip


def _labels(info: ModelInfo) -> list[Label]:
    """All that may become events."""
    return [(head, label) for head, names in info.labels.items() for label in names if label != info.unknown]


def _divided(examples: Sequence[Example], parts: int) -> np.ndarray:
    """(clips,) the part of each: clips of one recording are in the same, and those of a label in as many as they can."""
    groups, counts = groups_of(examples), Counter[tuple[str, ...]]()
    part_of: dict[str, int] = {}
    for place in np.random.default_rng(0).permutation(len(examples)):
        if groups[place] not in part_of:
            labels = tuple(examples[place].all_labels)
            first = len(counts)  # labels begin with different parts, so that the parts are as large
            counts.setdefault(labels, first)
            part_of[groups[place]] = counts[labels] % parts
            counts[labels] += 1
    return np.array([part_of[group] for group in groups])


def _drawn(
    clips: Sequence[Clip], backgrounds: Sequence[tuple[Path, float]], drawing: Drawing, half: int
) -> tuple[list[Soundscape], list[int]]:
    """The soundscapes of each part of the clips of a half, and the part of each."""
    drawn: list[Soundscape] = []
    parts: list[int] = []
    part_of = _divided([example for example, _ in clips], PARTS)
    for part in np.unique(part_of).tolist():
        mine = [sound for (_, sound), own in zip(clips, part_of, strict=True) if own == part]
        found = draw(mine, backgrounds, half, drawing.count, np.random.default_rng([drawing.seed, half, part]))
        drawn += found
        parts += [part] * len(found)
    return drawn, parts


def _backgrounds(folder: Path | None) -> tuple[list[tuple[Path, float]], list[Failure]]:
    """The recordings of a folder with their lengths, and those that cannot be read.

    Raises:
        DataError: none can be.
    """
    if folder is None:
        return [], []
    errors: list[tuple[Path, AudioError]] = []
    found = noise_files(folder, errors)
    if not found:
        raise DataError(f"{folder} has no recordings that can be read" + (f"; the first: {errors[0][1]}" if errors else "."))
    return found, [Failure(path, error) for path, error in errors]


def _hear(
    classifier: Classifier, drawn: Sequence[Soundscape], on_progress: Callable[[float], None] | None
) -> tuple[list[Recording], list[dict[Label, Spans]]]:
    """What the model hears in each soundscape, beside the events that are there."""

    def made() -> Iterator[Waveform]:
        for soundscape in drawn:
            yield soundscape.waveform(classifier.info.sample_rate)

    recordings = []
    for result in classifier.files(made(), on_progress):
        if isinstance(result, Failure):
            raise result.error
        recordings.append(result)
    return recordings, [soundscape.events() for soundscape in drawn]


def _config(chosen: Chosen, labels: Sequence[Label]) -> EventConfig:
    """The settings with a table for each label whose threshold is another; of one in several heads the highest."""
    on: dict[str, float] = {}
    for (_, label), value in zip(labels, chosen.on, strict=True):
        on[label] = max(float(value), on.get(label, 0.0))
    own = {
        label: {"on": value, **({"off": value} if value < chosen.common.off else {})}
        for label, value in on.items()
        if value != chosen.common.on
    }
    return replace(chosen.common, labels=own)


def _measured(recordings: Sequence[Recording], references: Sequence[dict[Label, Spans]], config: EventConfig) -> Measured:
    told = []
    for recording in recordings:
        spans: dict[Label, list[tuple[float, float]]] = {}
        for event in recording.events(config):
            spans.setdefault((event.head, event.label), []).append((event.start, event.end))
        told.append({_name(recording.info, key): np.array(found) for key, found in spans.items()})
    info = recordings[0].info
    there = [{_name(info, key): spans for key, spans in events.items()} for events in references]
    return Measured(count_events(there, told), len(recordings) * SECONDS / 3600)


def _name(info: ModelInfo, label: Label) -> str:
    return label[1] if len(info.labels) == 1 else f"{label[0]}: {label[1]}"


def _settings(config: EventConfig) -> dict[str, Any]:
    """Those that were chosen, where they are not the defaults."""
    plain = {name: getattr(config, name) for name in ("on", "off", "confirm", "of", "hang_seconds")}
    default = EventConfig()
    return {
        **{name: value for name, value in plain.items() if value != getattr(default, name)},
        **({"labels": {label: dict(own) for label, own in config.labels.items()}} if config.labels else {}),
    }


def _key(label: str) -> str:
    """A label as a key of TOML."""
    return label if _BARE.fullmatch(label) else json.dumps(label, ensure_ascii=False).replace("\x7f", "\\u007f")
