"""A stream of samples to the scores of its windows: no input or output, no clock, and memory that does not grow."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from audiorep.audio import Cutter, Resampler, checked
from audiorep.audio.decoders import rate_problem
from audiorep.errors import AudioError, ConfigError

if TYPE_CHECKING:
    from audiorep.predict.classifier import Classifier


@dataclass(frozen=True, eq=False)
class CutWindow:
    """A window of a stream that no model has heard yet."""

    start: float
    """Seconds from the beginning of the stream, gaps included."""
    end: float
    """Seconds."""
    samples: np.ndarray
    """(N,) at the model's rate."""


@dataclass(frozen=True, eq=False)
class StreamWindow:
    """What a model hears in a window of a stream."""

    start: float
    """Seconds from the beginning of the stream, gaps included."""
    end: float
    """Seconds."""
    scores: dict[str, np.ndarray]
    """{head: (K,)}, calibrated where the model is."""
    peak: float
    """The largest magnitude in it, 1 at full scale."""


class Stream:
    """Samples in, windows out, however the samples are cut into pieces.

    A window comes with the sample that completes it. Its scores are those that `Recording.scores` holds for a file of the same
    samples, within 1e-6. Times count samples: they are exact however late the samples arrive.

    >>> classifier = audiorep.load("esc50")
    >>> samples, rate = soundfile.read("samples/siren.flac")
    >>> stream = classifier.stream(rate)
    >>> windows = [window for piece in np.array_split(samples, 50) for window in stream.push(piece)] + stream.flush()
    >>> whole = classifier(samples, rate)
    >>> len(windows) == len(whole.starts)
    True
    >>> bool(np.abs(windows[2].scores["label"] - whole.scores["label"][2]).max() < 1e-6)
    True

    Args:
        classifier: the model.
        sample_rate: Hz of the samples; default: the model's.

    Raises:
        ConfigError: the rate is no whole number of Hz that is allowed.
    """

    def __init__(self, classifier: Classifier, sample_rate: float | None = None) -> None:
        self._classifier, info = classifier, classifier.info
        rate = info.sample_rate if sample_rate is None else sample_rate
        if problem := rate_problem(rate):
            raise ConfigError(problem)
        self.sample_rate = int(rate)
        self._origin = 0.0
        self._begin()

    @property
    def seconds(self) -> float:
        """Sound heard so far, and gaps."""
        return self._origin + self._given / self.sample_rate

    def push(self, samples: np.ndarray) -> list[StreamWindow]:
        """The windows that these samples complete.

        Args:
            samples: (n,) or (n, C) floats in -1..1 at `sample_rate`, any number; channels are averaged.

        Raises:
            AudioError: the samples are no floats, of another shape, NaN or infinite, or integers that were not scaled; none
                of them was heard.
            BundleError: the model fails, or gives scores that are not numbers.
        """
        return self._classifier.hear_windows(self.cut(samples))

    def flush(self) -> list[StreamWindow]:
        """The window of the rest at the end, as of a file that ends here; what follows is a new beginning after no gap."""
        return self._classifier.hear_windows(self.cut_rest())

    def reset(self, gap_seconds: float = 0.0) -> None:
        """Forgets the sound of the current window, and goes on `gap_seconds` later.

        Raises:
            ConfigError: the gap is negative or no number.
        """
        if not 0 <= gap_seconds < float("inf"):
            raise ConfigError(f"A gap of {gap_seconds} s was given; it cannot be negative.")
        self._origin = self.seconds + gap_seconds
        self._begin()

    def cut(self, samples: np.ndarray) -> list[CutWindow]:
        """The windows that `push` would hear, for several streams to be heard together."""
        block = _mono(samples)
        self._given += len(block)
        return self._placed(self._cutter.push(self._resampler.push(block)))

    def cut_rest(self) -> list[CutWindow]:
        """The windows that `flush` would hear."""
        found = self._placed([*self._cutter.push(self._resampler.flush()), *self._cutter.flush()])
        seconds = self._cutter.heard / self._classifier.info.sample_rate
        if found:  # of a short sound, the end of the sound
            found[-1] = replace(found[-1], end=min(found[-1].end, self._origin + seconds))
        self.reset()
        return found

    def _begin(self) -> None:
        info = self._classifier.info
        self._cutter = Cutter(info.window_samples, info.hop_samples, info.padding)
        self._resampler = Resampler(self.sample_rate, info.sample_rate)
        self._given = 0

    def _placed(self, cut: Iterable[tuple[int, np.ndarray]]) -> list[CutWindow]:
        info = self._classifier.info
        starts = ((self._origin + first / info.sample_rate, window) for first, window in cut)
        return [CutWindow(start, start + info.window_seconds, window) for start, window in starts]


def _mono(samples: np.ndarray) -> np.ndarray:
    """(n,) float32 of samples (n,) or (n, C).

    Raises:
        AudioError: they cannot be used.
    """
    samples = np.asarray(samples)
    if samples.dtype.kind != "f":
        raise AudioError(f"Samples of {samples.dtype} were given; floats in -1..1 are needed. Divide integers by their range.")
    if samples.ndim not in (1, 2) or (samples.ndim == 2 and not samples.shape[1]):
        raise AudioError(f"Samples of shape {samples.shape} were given; (n,) or (n, C) is needed.")
    mono = (samples if samples.ndim == 1 else samples.mean(axis=1)).astype(np.float32)
    return checked(mono, "The stream", advice="")
