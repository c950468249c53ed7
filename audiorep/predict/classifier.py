"""The `Classifier`: files, long recordings and waveforms to labels with times; decoding runs beside inference."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from audiorep.audio.decode import Chunk, Decoder, Source, batches
from audiorep.errors import AudioError, AudiorepError
from audiorep.info.model_info import ModelInfo
from audiorep.runtimes import Session, checked, open_session

BUNDLED = Path(__file__).parent.parent / "assets" / "esc50_nano.onnx"
"""The model inside the package: 50 environmental sounds."""


@dataclass(frozen=True)
class Detection:
    """One label over one stretch of a recording."""

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
    """Scores of every window of one file."""

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

    def _reported(self, head: str, scores: np.ndarray, top: int, threshold: float | None) -> list[int]:
        limits = self.info.threshold(head) if threshold is None else [threshold] * len(scores)
        return [int(k) for k in np.argsort(-scores, kind="stable")[:top] if scores[k] >= limits[k]]


@dataclass(frozen=True)
class Failure:
    """A file that could not be used, and why."""

    path: Path
    error: AudiorepError
    channel: int | None = None
    """Its number from 1, where each channel is a recording of its own."""


class Classifier:
    """A model with its labels, ready for files.

    >>> classifier = Classifier.from_bundle()
    >>> classifier.file("samples/siren.flac").label
    'siren'
    """

    def __init__(self, session: Session, info: ModelInfo | None = None) -> None:
        self.session = checked(session)
        self.info = info or session.info

    @classmethod
    def from_bundle(cls, path: str | os.PathLike[str] | None = None, threads: int | None = None) -> Classifier:
        """A classifier from a bundle (`.onnx`), or the one inside the package.

        Raises:
            BundleError: the file is missing, not ONNX, or not an audiorep bundle.
        """
        from audiorep.runtimes.onnx import OnnxSession

        path = BUNDLED if path is None else path
        return cls(checked(OnnxSession(path, threads), str(path)))

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] | None = None,
        threads: int | None = None,
        runtime: str | None = None,
        precision: str = "fp32",
    ) -> Classifier:
        """A classifier from an exported file or, with torch installed, a checkpoint folder (see `runtimes.open_session`).

        Raises:
            BundleError: a file that is no model, or nothing there.
            CheckpointError: a folder that is no checkpoint.
            ConfigError: a runtime that does not open it.
            MissingExtraError: the packages that run it are not installed.
        """
        return cls(open_session(BUNDLED if path is None else path, runtime, threads, precision))

    def scores(self, waveforms: np.ndarray) -> dict[str, np.ndarray]:
        """(B, N) or (N,) float32 mono at `info.sample_rate` Hz, of any length, to {head: scores (B, K)}.

        Raises:
            AudioError: another shape, no samples, or NaN.
        """
        waveforms = np.asarray(waveforms)
        if waveforms.dtype.kind != "f":
            raise AudioError(
                f"A waveform of {waveforms.dtype} was given; floats in -1..1 are needed. Divide integers by their range."
            )
        batch = np.ascontiguousarray(np.atleast_2d(waveforms), dtype=np.float32)
        if waveforms.ndim not in (1, 2) or 0 in batch.shape:
            raise AudioError(f"A waveform of shape {waveforms.shape} was given; (N,) or (B, N) with samples is needed.")
        if not np.isfinite(batch).all():
            raise AudioError("The waveform holds NaN or infinite samples.")
        return self.session(batch)

    def with_windows(self, window_seconds: float | None = None, hop_seconds: float | None = None) -> Classifier:
        """The same model hearing windows of another length, or moving on by another hop; a lone length keeps the overlap.

        Raises:
            BundleError: they are not positive, or the hop is longer than the window, which would skip sound.
        """
        window = self.info.window_seconds if window_seconds is None else window_seconds
        hop = self.info.hop_seconds * window / self.info.window_seconds if hop_seconds is None else hop_seconds
        return Classifier(self.session, replace(self.info, window_seconds=window, hop_seconds=hop))

    def file(self, path: Source) -> Recording:
        """The scores of one file, of any length, rate and channel count.

        Raises:
            AudioError: the file cannot be used; the text says why.
        """
        result = next(self.files([path]))
        if isinstance(result, Failure):
            raise result.error
        return result

    def files(
        self, paths: Iterable[Source], on_progress: Callable[[float], None] | None = None, views: int = 0
    ) -> Iterator[Recording | Failure]:
        """The scores of each file, in order; memory does not grow with their number or length.

        A file is heard in windows one hop apart, or in `views` windows spread evenly over it.

        Files are decoded by threads beside inference, and windows of several files share a batch. A file that cannot be
        used becomes a `Failure` and the rest go on. `on_progress` is told the seconds of sound just scored. Ctrl-C in a
        long recording gives what was scored of it, marked incomplete, before it goes on up.

        Raises:
            BundleError: `views` would take for ever, or the model fails or gives scores that are no numbers.
        """
        decoder = Decoder(paths, replace(self.info, views=views), views)
        scored: list[_Scored] = []  # windows of the file that is under way
        try:
            for chunks in batches(decoder):
                for chunk, scores in zip(chunks, self._run(chunks), strict=True):
                    scored.append(_Scored(replace(chunk, windows=chunk.windows[:0].copy()), scores))
                    if on_progress is not None:
                        on_progress(chunk.seconds)
                    if chunk.end is not None:
                        done, scored = scored, []
                        yield self._result(done)
        except KeyboardInterrupt:
            if heard := [part for part in scored if len(part.chunk.starts)]:
                yield self._recording(heard)
            raise
        finally:
            decoder.close()

    def _run(self, chunks: list[Chunk]) -> list[dict[str, np.ndarray]]:
        """The scores of each chunk's windows; all chunks make one batch."""
        sizes = [len(chunk.windows) for chunk in chunks]
        if not any(sizes):
            return [{} for _ in chunks]
        scores = self.session(np.concatenate([chunk.windows for chunk in chunks if len(chunk.windows)]))
        borders = np.cumsum(sizes)[:-1]
        parts = {head: np.split(values, borders) for head, values in scores.items()}
        return [{head: values[index] for head, values in parts.items()} for index in range(len(chunks))]

    def _result(self, scored: list[_Scored]) -> Recording | Failure:
        last = scored[-1].chunk
        return Failure(last.path, last.end, last.channel) if isinstance(last.end, AudiorepError) else self._recording(scored)

    def _recording(self, scored: list[_Scored]) -> Recording:
        last = scored[-1].chunk
        starts = np.concatenate([part.chunk.starts for part in scored]) / self.info.sample_rate
        scores = {head: np.concatenate([part.scores[head] for part in scored]) for head in self.info.labels}
        complete = isinstance(last.end, float)
        seconds = last.end if isinstance(last.end, float) else float(starts[-1]) + self.info.window_seconds
        return Recording(last.path, self.info, seconds, starts, scores, complete, last.channel, last.notes)


@dataclass(frozen=True)
class _Scored:
    """A chunk and its scores."""

    chunk: Chunk
    """Without its windows, so that a long file's sound is not kept."""
    scores: dict[str, np.ndarray]
