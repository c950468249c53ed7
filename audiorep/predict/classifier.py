"""The `Classifier`: labels with times for files and waveforms; files are decoded while the model runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np

from audiorep import audio
from audiorep.audio.decode import Chunk, Decoder, Source, Stretch, Waveform, Windowing, batches
from audiorep.errors import AudioError, ConfigError
from audiorep.info.model_info import ModelInfo
from audiorep.predict.results import Failure, Recording, Results
from audiorep.runtimes import Known, Session, checked, open_session

BUNDLED = Path(__file__).parent.parent / "assets" / "esc50_nano.onnx"
"""The model inside the package: 50 environmental sounds."""


class Classifier:
    """A model with its labels, which recognizes sounds.

    >>> classifier = audiorep.load()
    >>> classifier("samples/siren.flac").label
    'siren'
    """

    def __init__(self, session: Session, info: ModelInfo | None = None) -> None:
        self.session = checked(session)
        self.info = info or session.info

    @classmethod
    def load(
        cls,
        path: str | os.PathLike[str] | None = None,
        threads: int | None = None,
        runtime: str | None = None,
        precision: str = "fp32",
        unknown: bool = True,
    ) -> Classifier:
        """The model in an exported file or a checkpoint folder (which needs torch); without a path, the one in the package.

        Args:
            path: `.onnx`, `.xml`, another runtime's file, or a checkpoint folder.
            threads: processor threads; default: all.
            runtime: a key of `audiorep.runtimes.RUNTIMES`; default: the first that opens such a file.
            precision: precision of the arithmetic: `fp32`, or `bf16` if the runtime and the processor support it.
            unknown: whether a model may answer `unknown`; or else the best of its classes has to do.

        Raises:
            BundleError: the file does not exist or is not a model.
            CheckpointError: the folder is not a checkpoint.
            ConfigError: the runtime cannot open the file.
            MissingExtraError: the packages of the runtime are not installed.

        >>> audiorep.load().info.sample_rate
        16000
        """
        session = open_session(BUNDLED if path is None else path, runtime, threads, precision)
        return cls(session if unknown or not session.info.unknown else Known(session))

    @overload
    def __call__(self, source: np.ndarray, sample_rate: float) -> Recording: ...
    @overload
    def __call__(self, source: Stretch | Waveform) -> Recording: ...
    @overload
    def __call__(self, source: str | os.PathLike[str]) -> Any: ...  # a `Recording` for a file, `Results` for a folder
    @overload
    def __call__(self, source: Iterable[Source]) -> Results: ...
    def __call__(self, source: Any, sample_rate: float | None = None) -> Recording | Results:
        """The labels of a file or an array, or of each file of a list, a folder or a pattern.

        Args:
            source: a path, a list of paths, or samples: (N,) or (N, C) floats in -1..1, as soundfile reads them. Channels are
                averaged. A folder is searched at any depth, and a pattern such as `field/*.wav` is expanded.
            sample_rate: Hz of the samples; needed for an array, and only for an array.

        Returns:
            A `Recording` for a file or an array. For several files `Results`, a list in their order, with a `Failure` for each
            file that cannot be used. The method `files` gives the same results one by one.

        Raises:
            AudioError: the one file, or the array, cannot be used; the text says why.
            ConfigError: an array was given without its rate, or a path with a rate.

        >>> classifier = audiorep.load()
        >>> classifier("samples/crow.flac").top(1)[0][0]
        'crow'
        >>> samples, rate = soundfile.read("samples/crow.flac")
        >>> classifier(samples, rate).label
        'crow'
        >>> len(classifier("samples")) > 10
        True
        """
        if hasattr(source, "__array__"):
            if sample_rate is None:
                raise ConfigError("An array does not say its sample rate; give it, for example classifier(array, 44100).")
            return self.file(Waveform(np.asarray(source), sample_rate))
        if sample_rate is not None:
            raise ConfigError("A file says its own sample rate; leave sample_rate out.")
        if isinstance(source, Stretch | Waveform) or (isinstance(source, str | os.PathLike) and _is_single_sound(Path(source))):
            return self.file(source)
        return Results(self.files(_expanded([source] if isinstance(source, str | os.PathLike) else source)))

    def scores(self, waveforms: np.ndarray) -> dict[str, np.ndarray]:
        """{head: scores (B, K)} of (B, N) or (N,) mono floats at `info.sample_rate` Hz, of any length.

        Each waveform is heard as one window, and its scores are calibrated as a window's, where the model is calibrated.
        What the model gives before that is `session(waveforms)`.

        Raises:
            AudioError: the array has another shape or type, no samples, or holds NaN or infinite values.
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
        return {head: self.info.calibrated(head, values, "window") for head, values in self.session(batch).items()}

    def uncalibrated(self) -> Classifier:
        """The same model with its scores as they are, and without thresholds, which are meant for calibrated ones."""
        return Classifier(self.session, replace(self.info, calibration={}, thresholds={}))

    def with_windows(self, window_seconds: float | None = None, hop_seconds: float | None = None) -> Classifier:
        """The same model with another window length or another hop; if only the length is given, the overlap stays the same.

        Raises:
            BundleError: a value is not positive, or the hop is longer than the window, which would skip sound.
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
        """The scores of each file, in order, in memory that does not grow with the number or length of files.

        The windows of a file are one hop apart, or there are `views` windows spread evenly over it. Threads decode files
        while the model runs, and windows of several files share a batch. A file that cannot be used gives a `Failure`, and
        the others are not affected. `on_progress` is called with the seconds of sound just scored. If Ctrl-C is pressed, the
        scores so far of the current recording are given first, marked incomplete; then `KeyboardInterrupt` is raised.

        Raises:
            BundleError: `views` is not allowed, or the model fails or gives scores that are not numbers.
        """
        decoder = Decoder(paths, windowing(replace(self.info, views=views)))
        scored: list[_ScoredChunk] = []  # of the current file
        try:
            for chunks in batches(decoder):
                for chunk, scores in zip(chunks, self._run(chunks), strict=True):
                    scored.append(_ScoredChunk(replace(chunk, windows=chunk.windows[:0].copy()), scores))
                    if on_progress is not None:
                        on_progress(chunk.seconds)
                    if chunk.is_last:
                        done, scored = scored, []
                        yield self._result(done)
        except KeyboardInterrupt:
            if with_windows := [part for part in scored if len(part.chunk.starts)]:
                yield self._recording(with_windows)
            raise
        finally:
            decoder.close()

    def _run(self, chunks: list[Chunk]) -> list[dict[str, np.ndarray]]:
        """The scores of each chunk's windows; the windows of all chunks are one batch."""
        sizes = [len(chunk.windows) for chunk in chunks]
        if not any(sizes):
            return [{} for _ in chunks]
        scores = self.session(np.concatenate([chunk.windows for chunk in chunks if len(chunk.windows)]))
        borders = np.cumsum(sizes)[:-1]
        parts = {head: np.split(values, borders) for head, values in scores.items()}
        return [{head: values[index] for head, values in parts.items()} for index in range(len(chunks))]

    def _result(self, scored: list[_ScoredChunk]) -> Recording | Failure:
        last = scored[-1].chunk
        return self._recording(scored) if last.error is None else Failure(last.path, last.error, last.channel)

    def _recording(self, scored: list[_ScoredChunk]) -> Recording:
        last = scored[-1].chunk
        starts = np.concatenate([part.chunk.starts for part in scored]) / self.info.sample_rate
        given = {head: np.concatenate([part.scores[head] for part in scored]) for head in self.info.labels}
        scores = {head: self.info.calibrated(head, values, "window") for head, values in given.items()}
        means = {head: self.info.calibrated(head, values.mean(axis=0), "file") for head, values in given.items()}
        complete = last.length is not None
        seconds = last.length if last.length is not None else float(starts[-1]) + self.info.window_seconds
        return Recording(last.path, self.info, seconds, starts, scores, complete, last.channel, last.notes, means)


load = Classifier.load


def windowing(info: ModelInfo) -> Windowing:
    """How sounds are cut into windows for a model."""
    return Windowing(info.sample_rate, info.window_samples, info.hop_samples, info.padding, info.views)


def _is_single_sound(path: Path) -> bool:
    """Whether a path stands for one sound, and not for a folder or a pattern."""
    folder = os.path.isdir(path)  # noqa: PTH112 (Path.is_dir raises an error for a name that is too long)
    return not folder and (os.path.lexists(path) or not any(mark in str(path) for mark in "*?["))


def _expanded(sources: Iterable[Source]) -> Iterator[Source]:
    """The sources, with every folder and pattern replaced by the sounds in it."""
    for source in sources:
        yield from audio.find([source]) if isinstance(source, str | os.PathLike) else [source]


@dataclass(frozen=True)
class _ScoredChunk:
    """A chunk and its scores."""

    chunk: Chunk
    """The chunk without its windows, so that the sound of a long file is not kept in memory."""
    scores: dict[str, np.ndarray]
