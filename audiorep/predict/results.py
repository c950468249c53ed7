"""Results of recognition: labels with times and scores, and the errors of files that failed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from audiorep.errors import AudiorepError
from audiorep.info.model_info import ModelInfo
from audiorep.predict.events import Event, EventConfig, trackers

View = Literal["auto", "file", "windows", "merged", "events"]
"""Labels for the whole file, for each window, for each run of windows with the same label, or with the times at which sounds
begin and end; `auto` is `file` for short files, and for long ones `events`, or `merged` if a number of labels is asked for."""

SEVERAL = 3
"""Labels that are reported of a sound that may have any number, where no other number is asked for."""
LONG_SECONDS = 30.0  # a longer file has the view `events` under `auto`


@dataclass(frozen=True)
class Detection:
    """One label for one stretch of a recording.

    >>> detection = audiorep.load("esc50")("samples/crow.flac").detections()[0]
    >>> detection.label, detection.start, detection.end
    ('crow', 0.0, 0.975)
    """

    start: float
    """Seconds."""
    end: float
    """Seconds."""
    head: str
    label: str
    score: float
    """Score in 0..1: of the window, or the highest of the merged windows."""


@dataclass(frozen=True)
class Recording:
    """The scores of all windows of one sound, and its labels.

    >>> recording = audiorep.load("esc50")("samples/crow.flac")
    >>> recording.label, recording.seconds, recording.scores["label"].shape
    ('crow', 5.0, (10, 51))
    >>> [detection.start for detection in recording.view("windows")][:3]
    [0.0, 0.4875, 0.975]
    """

    path: Path
    info: ModelInfo = field(repr=False)
    seconds: float
    """Length of the sound in seconds."""
    starts: np.ndarray
    """(W,) seconds at which the windows begin."""
    scores: dict[str, np.ndarray]
    """{head: (W, K)} scores of each window, calibrated where the model is."""
    complete: bool = True
    """False if the user stopped before the end of the file; `seconds` is then the length of the part that was scored."""
    channel: int | None = None
    """The channel's number from 1, if each channel is a recording of its own."""
    notes: tuple[str, ...] = ()
    """Sentences on how the file was read, for example that its channels cancelled each other out."""
    peaks: np.ndarray | None = field(default=None, repr=False)
    """(W,) the largest magnitude in each window, 1 at full scale; None: not known."""
    means: dict[str, np.ndarray] = field(default_factory=dict, repr=False)
    """{head: (K,)} what `mean` gives; without it, the mean of `scores`, which is the same where nothing is calibrated."""

    @property
    def title(self) -> str:
        """The file's path, with the channel's number if each channel is a recording of its own."""
        return f"{self.path}{'' if self.channel is None else f' (channel {self.channel})'}"

    @property
    def silent(self) -> np.ndarray:
        """(W,) whether each window is silence, where the model tells it (see `ModelInfo.silence`)."""
        return np.zeros(len(self.starts), bool) if self.peaks is None else self.peaks < self.info.silence

    def mean(self, head: str | None = None) -> np.ndarray:
        """(K,) scores of the whole file: the mean over its windows, calibrated as a file's where the model is calibrated.

        Silent windows are left out, where the model tells them (see `silent`); a file of nothing else is `unknown`.
        """
        head = head or next(iter(self.scores))
        return self.means[head] if head in self.means else self.scores[head].mean(axis=0)

    def sounding(self, head: str | None = None) -> np.ndarray:
        """(≤ W, K) scores of the windows that are not silence."""
        scores = self.scores[head or next(iter(self.scores))]
        return scores[~self.silent]

    def top(self, count: int = 5, head: str | None = None) -> list[tuple[str, float]]:
        """The `count` most likely labels of the whole file, best first, with their scores.

        A class `unknown` comes first where it is likelier than all others together, or else last.
        """
        head = head or next(iter(self.scores))
        mean = self.mean(head)
        order = np.argsort(-self.info.contested(head, mean), kind="stable")
        return [(self.info.labels[head][k], float(mean[k])) for k in order[:count]]

    @property
    def label(self) -> str:
        """The most likely label of the whole file."""
        return self.top(1)[0][0]

    def end(self, window: int) -> float:
        """Seconds at which a window's sound ends."""
        return min(float(self.starts[window]) + self.info.window_seconds, self.seconds)

    def whole(self, top: int | None = None, threshold: float | None = None) -> list[Detection]:
        """The `top` labels of the whole file whose score reaches `threshold`, best first.

        Args:
            top: default: 1, or `SEVERAL` where a sound may have any number of labels. Where none of those reaches the
                threshold, the label is the model's `unknown`, if it has one; its score is 1 less the highest score.
            threshold: default: the model's.
        """
        return [
            Detection(0.0, self.seconds, head, label, score)
            for head in self.scores
            for label, score in self._reported(head, self.mean(head), top, threshold)
        ]

    def detections(self, top: int | None = None, threshold: float | None = None) -> list[Detection]:
        """The labels of each window, chosen as in `whole`, in order of time."""
        return [
            Detection(float(self.starts[window]), self.end(window), head, label, score)
            for window in range(len(self.starts))
            for head in self.scores
            for label, score in self._reported(head, self.scores[head][window], top, threshold)
        ]

    def merged(self, top: int | None = None, threshold: float | None = None) -> list[Detection]:
        """The detections, with those of the same label joined if their windows touch or overlap; the highest score is kept."""
        finished: list[Detection] = []
        current: dict[tuple[str, str], Detection] = {}
        for detection in self.detections(top, threshold):
            key = detection.head, detection.label
            before = current.get(key)
            if before is not None and detection.start <= before.end + 1e-3:
                current[key] = Detection(before.start, detection.end, *key, max(before.score, detection.score))
                continue
            if before is not None:
                finished.append(before)
            current[key] = detection
        return sorted([*finished, *current.values()], key=lambda d: (d.start, -d.score))

    def events(self, config: EventConfig | None = None) -> list[Detection]:
        """When sounds begin and end, by the settings `config`, in order of their beginning (see `EventTracker`).

        >>> recording = audiorep.load("esc50")("samples/recording.flac")
        >>> [(round(event.start, 1), event.label) for event in recording.events(audiorep.EventConfig(on=0.8, allow=("siren",)))]
        [(46.8, 'siren')]

        Raises:
            ConfigError: the settings name a label that the model does not have.
        """
        found = []
        for head, tracker in trackers(self.info, config).items():
            peaks = np.ones(len(self.starts)) if self.peaks is None else self.peaks
            told: list[Event] = []
            for window, (start, peak) in enumerate(zip(self.starts, peaks, strict=True)):
                told += tracker.push(float(start), self.end(window), self.scores[head][window], float(peak))
            told += tracker.flush()
            found += [Detection(each.start, each.end, head, each.label, each.score) for each in told if not each.is_open]
        return sorted(found, key=lambda event: (event.start, -event.score))

    def chosen(self, view: View, top: int | None = None) -> View:
        """The view that `auto` stands for; another is what it is."""
        if view != "auto":
            return view
        long: View = "events" if top is None else "merged"
        return "file" if self.seconds <= LONG_SECONDS else long

    def view(self, view: View = "auto", top: int | None = None, threshold: float | None = None) -> list[Detection]:
        """The detections of one `View` of the recording: those of `whole`, `detections`, `merged` or `events`.

        Of events, `threshold` is `EventConfig.on`, and there may be any number at once.
        """
        view = self.chosen(view, top)
        if view == "windows":
            return self.detections(top, threshold)
        if view == "events":
            return self.events(None if threshold is None else EventConfig(on=threshold))
        return self.whole(top, threshold) if view == "file" else self.merged(top, threshold)

    def rows(self, view: View = "auto", top: int | None = None, threshold: float | None = None) -> list[dict[str, Any]]:
        """One dictionary for each detection of a view, for example for `pandas.DataFrame`.

        >>> audiorep.load("esc50")("samples/siren.flac").rows()[0]["label"]
        'siren'
        """
        return [{**_source(self), **vars(detection), "error": ""} for detection in self.view(view, top, threshold)]

    def _reported(self, head: str, scores: np.ndarray, top: int | None, threshold: float | None) -> list[tuple[str, float]]:
        """The labels that are reported of scores (K,), with their scores, best first."""
        several, names = self.info.activation == "sigmoid", self.info.labels[head]
        reached = scores >= (np.asarray(self.info.threshold(head)) if threshold is None else threshold)
        order = np.argsort(-self.info.contested(head, scores), kind="stable")
        if several:
            order = order[reached[order]]
        found = [(names[k], float(scores[k])) for k in order[: top or (SEVERAL if several else 1)] if reached[k]]
        if found or not several or not self.info.unknown:
            return found
        rest = 1 - float(scores.max())
        return [(self.info.unknown, rest)] if rest >= (threshold or 0) else []


@dataclass(frozen=True)
class Embedding:
    """What a model hears in all windows of one sound, as vectors: near ones are of sounds that it finds alike.

    They are what the model's heads are given, as they are: `unit` normalizes them for a comparison by cosine.

    >>> embedding = audiorep.load("esc50").embed("samples/crow.flac")
    >>> embedding.vectors.shape, embedding.vectors.dtype
    ((10, 128), dtype('float32'))
    >>> embedding.starts[:3]
    array([0.    , 0.4875, 0.975 ])
    """

    path: Path
    seconds: float
    """Length of the sound in seconds."""
    starts: np.ndarray
    """(W,) seconds at which the windows begin."""
    vectors: np.ndarray = field(repr=False)
    """(W, C) float32, one for each window."""
    complete: bool = True
    """False if the user stopped before the end of the file; `seconds` is then the length of the part that was heard."""
    channel: int | None = None
    """The channel's number from 1, if each channel is a recording of its own."""
    notes: tuple[str, ...] = ()
    """Sentences on how the file was read, for example that its channels cancelled each other out."""
    peaks: np.ndarray | None = field(default=None, repr=False)
    """(W,) the largest magnitude in each window, 1 at full scale; None: not known."""

    def mean(self) -> np.ndarray:
        """(C,) of the whole file: the mean over its windows."""
        return self.vectors.mean(axis=0)

    def unit(self) -> np.ndarray:
        """(W, C) the vectors at length 1, whose products are cosines; one of nothing but zeros stays."""
        lengths = np.linalg.norm(self.vectors, axis=1, keepdims=True)
        return self.vectors / np.where(lengths > 0, lengths, 1)


@dataclass(frozen=True)
class Failure:
    """A file that could not be used, with its error.

    >>> audiorep.load("esc50")(["nothing.wav"])[0].error
    AudioError('nothing.wav does not exist.')
    """

    path: Path
    error: AudiorepError
    channel: int | None = None
    """The channel's number from 1, if each channel is a recording of its own."""

    def rows(self, view: View = "auto", top: int | None = None, threshold: float | None = None) -> list[dict[str, Any]]:
        """One row with the error and the columns of `Recording.rows`."""
        return [{**_source(self), **dict.fromkeys(Detection.__dataclass_fields__), "error": str(self.error)}]


class Results(list[Recording | Failure]):
    """The results of several sounds, a list in their order.

    >>> results = audiorep.load("esc50")(["samples/siren.flac", "samples/rain.flac"])
    >>> [recording.label for recording in results.recordings]
    ['siren', 'rain']
    >>> results.failures
    []
    """

    @property
    def recordings(self) -> list[Recording]:
        """The results of the sounds that could be used."""
        return [result for result in self if isinstance(result, Recording)]

    @property
    def failures(self) -> list[Failure]:
        """The failures of the sounds that could not be used."""
        return [result for result in self if isinstance(result, Failure)]

    def rows(self, view: View = "auto", top: int | None = None, threshold: float | None = None) -> list[dict[str, Any]]:
        """The rows of all results, for example for `pandas.DataFrame`; a sound that failed has one row with its error."""
        return [row for result in self for row in result.rows(view, top, threshold)]


def _source(result: Recording | Failure) -> dict[str, Any]:
    return {"path": str(result.path)} | ({} if result.channel is None else {"channel": result.channel})
