"""Results of recognition: the labels of a sound with times and scores, and why a file failed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from audiorep.errors import AudiorepError
from audiorep.info.model_info import ModelInfo

View = Literal["auto", "file", "windows", "merged"]
"""One answer a file, one a window, or one for windows in a row that agree; `auto` is `file` for short files, else `merged`."""

LONG_SECONDS = 30.0  # files up to this get one answer under `auto`, longer ones times


@dataclass(frozen=True)
class Detection:
    """One label over one stretch of a recording.

    >>> found = audiorep.load()("samples/crow.flac").detections()[0]
    >>> found.label, found.start, found.end
    ('crow', 0.0, 2.5)
    """

    start: float
    """Seconds."""
    end: float
    """Seconds."""
    head: str
    label: str
    score: float
    """0..1: the window's, or the highest of the windows merged."""


@dataclass(frozen=True)
class Recording:
    """The scores of every window of one sound, and the labels that follow from them.

    >>> recording = audiorep.load()("samples/crow.flac")
    >>> recording.label, recording.seconds, recording.scores["label"].shape
    ('crow', 5.0, (3, 50))
    >>> [found.start for found in recording.view("windows")]
    [0.0, 1.25, 2.5]
    """

    path: Path
    info: ModelInfo = field(repr=False)
    seconds: float
    """Length of the sound."""
    starts: np.ndarray
    """(W,) seconds at which the windows begin."""
    scores: dict[str, np.ndarray]
    """{head: (W, K)}."""
    complete: bool = True
    """False where the user stopped it before its end; `seconds` then counts what was heard."""
    channel: int | None = None
    """Its number from 1, where each channel is a recording of its own."""
    notes: tuple[str, ...] = ()
    """Sentences on how the file was heard, for example that its channels cancelled each other out."""

    @property
    def title(self) -> str:
        """The file's name, and the channel's number where each is a recording of its own."""
        return f"{self.path}{'' if self.channel is None else f' (channel {self.channel})'}"

    def mean(self, head: str | None = None) -> np.ndarray:
        """(K,) scores of the whole file: the mean over its windows."""
        return self.scores[head or next(iter(self.scores))].mean(axis=0)

    def top(self, count: int = 5, head: str | None = None) -> list[tuple[str, float]]:
        """The `count` most likely labels of the whole file, best first, with their scores."""
        head = head or next(iter(self.scores))
        mean = self.mean(head)
        return [(self.info.labels[head][k], float(mean[k])) for k in np.argsort(-mean, kind="stable")[:count]]

    @property
    def label(self) -> str:
        """The most likely label of the whole file."""
        return self.top(1)[0][0]

    def end(self, window: int) -> float:
        """Seconds at which a window's sound ends."""
        return min(float(self.starts[window]) + self.info.window_seconds, self.seconds)

    def whole(self, top: int = 1, threshold: float | None = None) -> list[Detection]:
        """The `top` labels of the whole file that reach `threshold` (default: the model's own), best first."""
        found = []
        for head in self.scores:
            mean = self.mean(head)
            found += [
                Detection(0.0, self.seconds, head, self.info.labels[head][k], float(mean[k]))
                for k in self._reported(head, mean, top, threshold)
            ]
        return found

    def detections(self, top: int = 1, threshold: float | None = None) -> list[Detection]:
        """The `top` labels of each window that reach `threshold` (default: the model's own), in order of time."""
        return [
            Detection(
                float(self.starts[window]),
                self.end(window),
                head,
                self.info.labels[head][k],
                float(self.scores[head][window, k]),
            )
            for window in range(len(self.starts))
            for head in self.scores
            for k in self._reported(head, self.scores[head][window], top, threshold)
        ]

    def merged(self, top: int = 1, threshold: float | None = None) -> list[Detection]:
        """Detections with touching or overlapping windows of the same label joined; the highest score is kept."""
        done: list[Detection] = []
        open_: dict[tuple[str, str], Detection] = {}
        for found in self.detections(top, threshold):
            key = found.head, found.label
            before = open_.get(key)
            if before is not None and found.start <= before.end + 1e-3:
                open_[key] = Detection(before.start, found.end, *key, max(before.score, found.score))
                continue
            if before is not None:
                done.append(before)
            open_[key] = found
        return sorted([*done, *open_.values()], key=lambda d: (d.start, -d.score))

    def view(self, view: View = "auto", top: int = 1, threshold: float | None = None) -> list[Detection]:
        """The detections of a view of the recording."""
        if view == "auto":
            view = "file" if self.seconds <= LONG_SECONDS else "merged"
        if view == "windows":
            return self.detections(top, threshold)
        return self.whole(top, threshold) if view == "file" else self.merged(top, threshold)

    def rows(self, view: View = "auto", top: int = 1, threshold: float | None = None) -> list[dict[str, Any]]:
        """A dictionary for each detection of a view, as `pandas.DataFrame` takes them.

        >>> audiorep.load()("samples/siren.flac").rows()[0]["label"]
        'siren'
        """
        return [{**_source(self), **vars(found), "error": ""} for found in self.view(view, top, threshold)]

    def _reported(self, head: str, scores: np.ndarray, top: int, threshold: float | None) -> list[int]:
        limits = self.info.threshold(head) if threshold is None else [threshold] * len(scores)
        return [int(k) for k in np.argsort(-scores, kind="stable")[:top] if scores[k] >= limits[k]]


@dataclass(frozen=True)
class Failure:
    """A file that could not be used, and why.

    >>> audiorep.load()(["nothing.wav"])[0].error
    AudioError('nothing.wav does not exist.')
    """

    path: Path
    error: AudiorepError
    channel: int | None = None
    """Its number from 1, where each channel is a recording of its own."""

    def rows(self, view: View = "auto", top: int = 1, threshold: float | None = None) -> list[dict[str, Any]]:
        """One row with the error, in the columns of `Recording.rows`."""
        return [{**_source(self), **dict.fromkeys(Detection.__dataclass_fields__), "error": str(self.error)}]


class Results(list[Recording | Failure]):
    """The results of several sounds, in order.

    >>> results = audiorep.load()(["samples/siren.flac", "samples/rain.flac"])
    >>> [recording.label for recording in results.recordings]
    ['siren', 'rain']
    >>> results.failures
    []
    """

    @property
    def recordings(self) -> list[Recording]:
        """Those that could be used."""
        return [result for result in self if isinstance(result, Recording)]

    @property
    def failures(self) -> list[Failure]:
        """Those that could not."""
        return [result for result in self if isinstance(result, Failure)]

    def rows(self, view: View = "auto", top: int = 1, threshold: float | None = None) -> list[dict[str, Any]]:
        """The rows of all, for example for `pandas.DataFrame`; a sound that failed has one with its error."""
        return [row for result in self for row in result.rows(view, top, threshold)]


def _source(result: Recording | Failure) -> dict[str, Any]:
    return {"path": str(result.path)} | ({} if result.channel is None else {"channel": result.channel})
