"""The `Classifier`: labels with times, or embeddings, of files and waveforms; files are decoded while the model runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any, TypeVar, overload

import numpy as np

from audiorep import audio, shipped
from audiorep.audio.decode import BATCH_WINDOWS, Chunk, Decoder, Source, Stretch, Waveform, Windowing, batches
from audiorep.errors import AudioError, ConfigError
from audiorep.info import EMBEDDING
from audiorep.info.model_info import ModelInfo
from audiorep.predict.results import Embedding, Failure, Recording, Results
from audiorep.predict.stream import CutWindow, Stream, StreamWindow
from audiorep.runtimes import Known, Session, checked, open_session

Result = TypeVar("Result")


class Classifier:
    """A model with its labels, which recognizes sounds.

    >>> classifier = audiorep.load("esc50")
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
        """The model in an exported file or a checkpoint folder (which needs torch), or one in the package, by name.

        Args:
            path: `.onnx`, `.xml`, another runtime's file, a checkpoint folder, or `nano` (the default: a general tagger) or
                `esc50`, which are in the package; a file or folder of that name comes first.
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
        session = open_session(shipped.DEFAULT if path is None else path, runtime, threads, precision)
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

        >>> classifier = audiorep.load("esc50")
        >>> classifier("samples/crow.flac").top(1)[0][0]
        'crow'
        >>> samples, rate = soundfile.read("samples/crow.flac")
        >>> classifier(samples, rate).label
        'crow'
        >>> len(classifier("samples")) > 10
        True
        """
        one, sources = _sources(source, sample_rate)
        return _usable(next(self.files(sources))) if one else Results(self.files(sources))

    @overload
    def embed(self, source: np.ndarray, sample_rate: float) -> Embedding: ...
    @overload
    def embed(self, source: Stretch | Waveform) -> Embedding: ...
    @overload
    def embed(self, source: str | os.PathLike[str]) -> Any: ...  # an `Embedding` for a file, a list for a folder
    @overload
    def embed(self, source: Iterable[Source]) -> list[Embedding | Failure]: ...
    def embed(self, source: Any, sample_rate: float | None = None) -> Embedding | list[Embedding | Failure]:
        """The embedding of a file or an array, or of each file of a list, a folder or a pattern.

        It is the vector (C,) that the model's heads are given for a window, and takes as long as the labels do. Files that
        an earlier version exported give none.

        Args:
            source: as for the labels: a path, a list of paths, or samples (N,) or (N, C).
            sample_rate: Hz of the samples; needed for an array, and only for an array.

        Returns:
            An `Embedding` for a file or an array. For several files a list in their order, with a `Failure` for each file
            that cannot be used. The method `embed_files` gives the same results one by one.

        Raises:
            AudioError: the one file, or the array, cannot be used; the text says why.
            BundleError: the model's file gives no embedding.
            ConfigError: an array was given without its rate, or a path with a rate.

        >>> classifier = audiorep.load("esc50")
        >>> crow, rain, again = (classifier.embed(f"samples/{name}.flac").mean() for name in ("crow", "rain", "crow"))
        >>> bool(np.linalg.norm(crow - again) < np.linalg.norm(crow - rain))
        True
        >>> samples, rate = soundfile.read("samples/crow.flac")
        >>> classifier.embed(samples, rate).vectors.shape
        (10, 128)
        >>> len(classifier.embed(["samples/crow.flac", "samples/rain.flac"]))
        2
        """
        one, sources = _sources(source, sample_rate)
        return _usable(next(self.embed_files(sources))) if one else list(self.embed_files(sources))

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
        return self._of_windows(self.session(batch), _peaks(batch) < self.info.silence)

    def stream(self, sample_rate: float | None = None, hop_seconds: float | None = None) -> Stream:
        """A stream of samples that are pushed piece by piece, for live sound (see `Stream`).

        Args:
            sample_rate: Hz of the samples; default: the model's.
            hop_seconds: from one window to the next; default: the model's.

        Raises:
            BundleError: a hop that is not positive, or longer than the window.
            ConfigError: the rate is no whole number of Hz that is allowed.

        >>> stream = audiorep.load("esc50").stream(48_000)
        >>> stream.push(np.zeros(24_000)), stream.seconds
        ([], 0.5)
        """
        return Stream(self if hop_seconds is None else self.with_windows(hop_seconds=hop_seconds), sample_rate)

    def hear_windows(self, cut: Sequence[CutWindow]) -> list[StreamWindow]:
        """What the model hears in windows of streams, of one or of several, a few in a call.

        Raises:
            BundleError: the model fails, or gives scores that are not numbers.
        """
        found: list[StreamWindow] = []
        while some := cut[len(found) : len(found) + BATCH_WINDOWS]:
            alike = list(takewhile(lambda each: len(each.samples) == len(some[0].samples), some))
            windows = np.stack([each.samples for each in alike])
            found += self.stream_windows(alike, windows, self.session(windows))
        return found

    def stream_windows(self, cut: Sequence[CutWindow], windows: np.ndarray, given: dict[str, np.ndarray]) -> list[StreamWindow]:
        """What was heard in windows of streams, (B, N) as `windows`, for which the model gave {head: (B, K)}."""
        peaks = _peaks(windows)
        scores = self._of_windows(given, peaks < self.info.silence)
        return [
            StreamWindow(each.start, each.end, {head: values[place] for head, values in scores.items()}, float(peaks[place]))
            for place, each in enumerate(cut)
        ]

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
        return _usable(next(self.files([path])))

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
        return self._results(paths, on_progress, views, list(self.info.labels), self.recording)

    def embed_files(
        self, paths: Iterable[Source], on_progress: Callable[[float], None] | None = None, views: int = 0
    ) -> Iterator[Embedding | Failure]:
        """The embedding of each file, in order; all else is as in `files`. Of a file, only its vectors are kept in memory.

        Raises:
            BundleError: the model's file gives no embedding; or as in `files`.
        """
        return self._results(paths, on_progress, views, [EMBEDDING], self.embedding)

    def _results(
        self,
        paths: Iterable[Source],
        on_progress: Callable[[float], None] | None,
        views: int,
        outputs: Sequence[str],
        make: Callable[[list[HeardChunk]], Result],
    ) -> Iterator[Result | Failure]:
        """What `make` makes of each file's `outputs`."""
        self.session.refuse_missing(outputs)  # before a file is opened
        decoder = Decoder(paths, windowing(replace(self.info, views=views)))
        heard: list[HeardChunk] = []  # of the current file
        try:
            for chunks in batches(decoder):
                for chunk, found in zip(chunks, self._run(chunks, outputs), strict=True):
                    heard.append(HeardChunk.of(chunk, found))
                    if on_progress is not None:
                        on_progress(chunk.seconds)
                    if chunk.is_last:
                        done, heard = heard, []
                        yield (make(done) if chunk.error is None else Failure(chunk.path, chunk.error, chunk.channel))
        except KeyboardInterrupt:
            if with_windows := [part for part in heard if len(part.chunk.starts)]:
                yield make(with_windows)
            raise
        finally:
            decoder.close()

    def _run(self, chunks: list[Chunk], outputs: Sequence[str]) -> list[dict[str, np.ndarray]]:
        """The outputs of each chunk's windows; the windows of all chunks are one batch."""
        sizes = [len(chunk.windows) for chunk in chunks]
        if not any(sizes):
            return [{} for _ in chunks]
        found = self.session.run(np.concatenate([chunk.windows for chunk in chunks if len(chunk.windows)]), outputs)
        borders = np.cumsum(sizes)[:-1]
        parts = {output: np.split(values, borders) for output, values in found.items()}
        return [{output: values[index] for output, values in parts.items()} for index in range(len(chunks))]

    def _joined(self, heard: Sequence[HeardChunk]) -> _Heard:
        """The chunks of one sound as a whole."""
        last = heard[-1].chunk
        starts = np.concatenate([part.chunk.starts for part in heard]) / self.info.sample_rate
        outputs = {name: np.concatenate([part.outputs[name] for part in heard]) for name in heard[0].outputs}
        seconds = last.length if last.length is not None else float(starts[-1]) + self.info.window_seconds
        return _Heard(last, seconds, starts, outputs, np.concatenate([part.peaks for part in heard]))

    def recording(self, chunks: Sequence[HeardChunk]) -> Recording:
        """The scores of one sound, from its chunks in order as they were heard."""
        heard = self._joined(chunks)
        about, silent = heard.last, heard.peaks < self.info.silence
        scores = self._of_windows(heard.outputs, silent)
        means = {head: self._of_file(head, values[~silent]) for head, values in heard.outputs.items()}
        return Recording(
            about.path,
            self.info,
            heard.seconds,
            heard.starts,
            scores,
            heard.complete,
            about.channel,
            about.notes,
            heard.peaks,
            means,
        )

    def embedding(self, chunks: Sequence[HeardChunk]) -> Embedding:
        """The embedding of one sound, from its chunks in order as they were heard."""
        heard = self._joined(chunks)
        about, vectors = heard.last, heard.outputs[EMBEDDING]
        about_file = (heard.complete, about.channel, about.notes, heard.peaks)
        return Embedding(about.path, heard.seconds, heard.starts, vectors, *about_file)

    def _of_windows(self, given: dict[str, np.ndarray], silent: np.ndarray) -> dict[str, np.ndarray]:
        """{head: scores (W, K)} of windows for which the model gave `given`, and of which some are silent (W,)."""
        found = {head: self.info.calibrated(head, values, "window") for head, values in given.items()}
        if not silent.any():
            return found
        return {head: np.where(silent[:, None], self.info.silent_scores(head), values) for head, values in found.items()}

    def _of_file(self, head: str, given: np.ndarray) -> np.ndarray:
        """(K,) scores of a file for whose windows, but the silent ones, the model gave (W, K)."""
        return self.info.calibrated(head, given.mean(axis=0), "file") if len(given) else self.info.silent_scores(head)


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


def _sources(source: Any, sample_rate: float | None) -> tuple[bool, Iterable[Source]]:
    """Whether what a caller gave is one sound, and the sound or sounds.

    Raises:
        ConfigError: an array without its rate, or a path with a rate.
    """
    if hasattr(source, "__array__"):
        if sample_rate is None:
            raise ConfigError("An array does not say its sample rate; give it too, for example classifier(array, 44100).")
        return True, [Waveform(np.asarray(source), sample_rate)]
    if sample_rate is not None:
        raise ConfigError("A file says its own sample rate; leave sample_rate out.")
    if isinstance(source, Stretch | Waveform) or (isinstance(source, str | os.PathLike) and _is_single_sound(Path(source))):
        return True, [source]
    return False, _expanded([source] if isinstance(source, str | os.PathLike) else source)


def _peaks(windows: np.ndarray) -> np.ndarray:
    """(B,) the largest magnitude in each of the windows (B, N)."""
    return np.maximum(windows.max(1), -windows.min(1)) if windows.size else np.zeros(0, np.float32)


def _usable(result: Result | Failure) -> Result:
    """The result of a single sound.

    Raises:
        AudioError: the sound cannot be used.
    """
    if isinstance(result, Failure):
        raise result.error
    return result


@dataclass(frozen=True)
class HeardChunk:
    """A chunk of a sound and what the model gives for it."""

    chunk: Chunk
    """The chunk without its windows, so that the sound of a long file is not kept in memory."""
    outputs: dict[str, np.ndarray]
    """{name: (windows, size)}."""
    peaks: np.ndarray
    """(windows,) the largest magnitude in each."""

    @classmethod
    def of(cls, chunk: Chunk, outputs: dict[str, np.ndarray]) -> HeardChunk:
        """A chunk for whose windows the model gave `outputs`."""
        return cls(replace(chunk, windows=chunk.windows[:0].copy()), outputs, _peaks(chunk.windows))


@dataclass(frozen=True)
class _Heard:
    """What the model gives for one sound."""

    last: Chunk
    """The last chunk, which tells about all."""
    seconds: float
    starts: np.ndarray
    """(W,) seconds."""
    outputs: dict[str, np.ndarray]
    """{name: (W, size)}."""
    peaks: np.ndarray
    """(W,) the largest magnitude in each window."""

    @property
    def complete(self) -> bool:
        """Whether the sound was heard to its end."""
        return self.last.length is not None
