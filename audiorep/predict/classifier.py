"""The `Classifier`: files, long recordings and waveforms to labels with times; decoding runs beside inference."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, overload

import numpy as np

from audiorep import audio
from audiorep.audio.decode import Chunk, Decoder, Source, Stretch, Waveform, Windowing, batches
from audiorep.errors import AudioError, AudiorepError, ConfigError
from audiorep.info.model_info import ModelInfo
from audiorep.predict.results import Failure, Recording, Results
from audiorep.runtimes import Session, checked, open_session

BUNDLED = Path(__file__).parent.parent / "assets" / "esc50_nano.onnx"
"""The model inside the package: 50 environmental sounds."""


class Classifier:
    """A model with its labels, ready for sounds.

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
    ) -> Classifier:
        """A model from an exported file or, with torch installed, a checkpoint folder; without a path the bundled one.

        Args:
            path: `.onnx`, `.xml`, another runtime's file, or a checkpoint folder.
            threads: processor threads; all, if not given.
            runtime: a key of `audiorep.runtimes.RUNTIMES`; the first that opens such a file, if not given.
            precision: of the arithmetic: `fp32`, or `bf16` where the runtime and the processor have it.

        Raises:
            BundleError: a file that is no model, or nothing there.
            CheckpointError: a folder that is no checkpoint.
            ConfigError: a runtime that does not open it.
            MissingExtraError: the packages that run it are not installed.

        >>> audiorep.load().info.sample_rate
        16000
        """
        return cls(open_session(BUNDLED if path is None else path, runtime, threads, precision))

    @overload
    def __call__(self, source: np.ndarray, sample_rate: float) -> Recording: ...
    @overload
    def __call__(self, source: Stretch | Waveform) -> Recording: ...
    @overload
    def __call__(self, source: str | os.PathLike[str]) -> Any: ...  # a recording of a file, results of a folder
    @overload
    def __call__(self, source: Iterable[Source]) -> Results: ...
    def __call__(self, source: Any, sample_rate: float | None = None) -> Recording | Results:
        """The labels of a file or an array, or of each file of a list, a folder or a pattern.

        Args:
            source: a path, a list of paths, or samples: (N,) or (N, C) floats in -1..1, as soundfile reads them. Channels are
                averaged. A folder is searched at any depth, and a pattern such as `field/*.wav` expanded.
            sample_rate: Hz of the samples, any rate; needed for an array and for nothing else.

        Returns:
            The `Recording` of a file or an array. The `Results` of several files, a list: one that cannot be used is a
            `Failure` in its place and costs the others nothing. `files` gives the same one by one.

        Raises:
            AudioError: the one file, or the array, cannot be used; the text says why.
            ConfigError: an array without its rate, or a path with one.

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
        if isinstance(source, Stretch | Waveform) or (isinstance(source, str | os.PathLike) and _is_one(Path(source))):
            return self.file(source)
        return Results(self.files(_expanded([source] if isinstance(source, str | os.PathLike) else source)))

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
        decoder = Decoder(paths, windowing(replace(self.info, views=views)))
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


load = Classifier.load


def windowing(info: ModelInfo) -> Windowing:
    """How a model's sounds are cut into windows."""
    return Windowing(info.sample_rate, info.window_samples, info.hop_samples, info.padding, info.views)


def _is_one(path: Path) -> bool:
    """Whether a path stands for one sound, and is no folder or pattern."""
    folder = os.path.isdir(path)  # noqa: PTH112 (a name that is too long is no folder, and no error yet)
    return not folder and (os.path.lexists(path) or not any(mark in str(path) for mark in "*?["))


def _expanded(sources: Iterable[Source]) -> Iterator[Source]:
    """The sources with folders and patterns in place of which their sounds come."""
    for source in sources:
        yield from audio.find([source]) if isinstance(source, str | os.PathLike) else [source]


@dataclass(frozen=True)
class _Scored:
    """A chunk and its scores."""

    chunk: Chunk
    """Without its windows, so that a long file's sound is not kept."""
    scores: dict[str, np.ndarray]
