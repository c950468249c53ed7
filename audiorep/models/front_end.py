"""Log-mel front end (paper, section 3.1).

Magnitude STFT, periodic Hann window zero-padded to `n_fft`, frames centered with constant zero padding, HTK mels over 0 Hz
to half the sample rate without normalization, `ln(mel + 1e-6)`; the settings can ask for other frames, bands and offsets.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from audiorep.errors import ConfigError
from audiorep.info.front_end import FRONT_ENDS, FrontEndConfig

MEL_GROUPS = 4  # more save arithmetic, and cost an operator each

CLIPS_AT_ONCE = 8  # on a CPU; the spectra of more spill out of its cache, and fresh memory is slow


class LogMel(nn.Module):
    """Log-mel spectrogram: (B, N) float32 in -1..1 to (B, 1, T, F), with T as `FrontEndConfig.frames` says.

    An FFT, for training and for running in torch; `exportable` gives the form for other runtimes. In float64 it equals
    librosa's to 1e-4 for any sound; float32 is twice as fast, and a band 70 dB below the frame's loudest may then be
    off by some 1e-3, which training does not notice.
    """

    window: Tensor
    mel: Tensor

    def __init__(self, config: FrontEndConfig, arithmetic: torch.dtype = torch.float64) -> None:
        super().__init__()
        self.config = config
        self.register_buffer("window", torch.hann_window(config.window, dtype=torch.float64).to(arithmetic), persistent=False)
        self.register_buffer("mel", torch.from_numpy(mel_filters(config)).float(), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """(B, N) to (B, 1, T, F), in float32 also under autocast: half precision would lose quiet bands."""
        together = CLIPS_AT_ONCE if waveform.device.type == "cpu" else len(waveform)
        with torch.autocast(waveform.device.type, enabled=False):
            return torch.cat([self._log_mel(clips) for clips in torch.split(waveform, together)])

    def exportable(self, form: str = "halves") -> MatrixLogMel:
        """The same without an FFT or STFT operator."""
        return MatrixLogMel(self.config, form).to(self.mel.device)

    def _log_mel(self, waveform: Tensor) -> Tensor:
        window, hop, samples = self.config.window, self.config.hop, waveform.shape[-1]
        around = (window // 2, window // 2) if self.config.centered else (0, max(0, window - samples))
        padded = functional.pad(waveform, around)
        frames = padded.unfold(-1, window, hop)[:, : self.config.frames(samples)] * self.window  # (B, T, W)
        spectrum = torch.fft.rfft(frames, n=self.config.n_fft).to(torch.complex64)  # (B, T, n_fft/2 + 1)
        parts = torch.view_as_real(spectrum)
        magnitude = torch.addcmul(parts[..., 0].square(), parts[..., 1], parts[..., 1]).sqrt()  # three times abs()'s speed
        return torch.log(magnitude @ self.mel + self.config.log_offset)[:, None]  # (B, 1, T, F)


class MatrixLogMel(nn.Module):
    """`LogMel` as slices and matrix products, which every runtime has fast kernels for: (B, N) to (B, 1, T, F).

    A periodic Hann window is symmetric about its middle sample, so a frame is folded there: cosines see the sum of its
    halves, sines the difference, which halves the arithmetic of a plain DFT (`halves`). Every fourth sample of a frame,
    from each of the first four on, gives four bins at once by sums and differences, which quarters it (`radix_4`; one
    step of a radix-4 FFT). A bin 60 dB below the loudest carries float32's rounding of a long sum, so single values may
    differ from `LogMel` by some 1e-4.

    Raises:
        ConfigError: `radix_4` of a window, hop or transform that four does not divide.
    """

    def __init__(self, config: FrontEndConfig, form: str = "halves") -> None:
        super().__init__()
        if form not in forms(config):
            raise ConfigError(f"front end: its form {form!r} is none of {', '.join(forms(config))}.")
        self.config = config
        self.form = form
        self.spectra = _Radix4(config) if form == "radix_4" else _Halves(config)
        mel, seen = mel_filters(config), _first_of_each(self.spectra.bins)
        self.mel = _MelProduct([mel[bins] * new[:, None] for bins, new in zip(self.spectra.bins, seen, strict=True)])

    def forward(self, waveform: Tensor) -> Tensor:
        """(B, N) to (B, 1, T, F)."""
        magnitudes = self.spectra(waveform, self._frames(waveform))  # of (B, 1, T, bins) each
        return torch.log(self.mel(magnitudes) + self.config.log_offset)

    def _frames(self, waveform: Tensor) -> int:
        """T, in symbols too, which cannot be told to be below a frame's length."""
        samples = waveform.shape[-1]
        return self.config.frames(samples if self.config.centered else torch.sym_max(samples, self.config.first))  # type: ignore[no-untyped-call]


def forms(config: FrontEndConfig) -> list[str]:
    """The forms of `MatrixLogMel` that fit these settings, the fastest and smallest first, the most exact last.

    Measured in each runtime (`results/front_end.json`). That is no reason to measure it at every export: the same checkpoint
    would give other bytes whenever the clock decides otherwise.
    """
    return ["radix_4", "halves"] if config.window % 4 == config.hop % 4 == config.n_fft % 4 == 0 else ["halves"]


class _Halves(nn.Module):
    """Frames folded at their middle, to one range of magnitudes: (B, N) to (B, 1, T, n_fft/2 - 1)."""

    def __init__(self, config: FrontEndConfig) -> None:
        super().__init__()
        self.config = config
        self.bins = [np.arange(1, config.n_fft // 2)]  # 0 and n_fft/2 carry no mel weight
        angles = 2 * np.pi * np.arange(config.window // 2)[:, None] * self.bins[0] / config.n_fft
        window = half_window(config)[:, None]
        self.cosines, self.sines = _constant(window * np.cos(angles)), _constant(window * np.sin(angles))

    def forward(self, waveform: Tensor, frames: int) -> list[Tensor]:
        """Magnitudes of `bins` in each of the frames."""
        half, hop = self.config.window // 2, self.config.hop
        middle = 0 if self.config.centered else half
        after = _framed(_rows(waveform, -middle, frames, half, hop), frames, half)  # (B, 1, T, W/2), from the middle on
        before = _framed(_rows(waveform, half - 1 - middle, frames, half, hop), frames, half).flip(-1)  # and back from it
        return [_magnitude((after + before) @ self.cosines, (after - before) @ self.sines)]


class _Radix4(nn.Module):
    """Four phases of each frame, every fourth sample, to four ranges of magnitudes: (B, N) to (B, 1, T, n_fft/8 + 1) each.

    Of bins k, n_fft/4 + k, n_fft/4 - k and n_fft/2 - k, the last two downwards: a quarter of the circle turns phase p by
    i^p, half of it by (-1)^p, and a real sound's negative bins are the conjugates of the positive ones.
    """

    def __init__(self, config: FrontEndConfig) -> None:
        super().__init__()
        self.config = config
        lower, quarter = np.arange(config.n_fft // 8 + 1), config.n_fft // 4
        self.bins = [lower, quarter + lower, quarter - lower, 2 * quarter - lower]
        angles = 2 * np.pi * np.arange(config.window)[:, None] * lower / config.n_fft
        window = whole_window(config)[:, None]
        waves = window * np.cos(angles), window * np.sin(angles)
        self.cosines, self.sines = (nn.ParameterList(_constant(wave[phase::4]) for phase in range(4)) for wave in waves)

    def forward(self, waveform: Tensor, frames: int) -> list[Tensor]:
        """Magnitudes of `bins` in each of the frames."""
        window, hop = self.config.window, self.config.hop
        rows = _rows(waveform, window // 2 if self.config.centered else 0, frames, window, hop)
        every_fourth = rows.reshape(*rows.shape[:-1], -1, 4).movedim(-1, 1).flatten(1, 2)  # (B, 4, R, hop/4)
        phases = torch.split(_framed(every_fourth, frames, window // 4), 1, 1)  # four of (B, 1, T, W/4)
        real = _even_and_odd([phase @ wave for phase, wave in zip(phases, self.cosines, strict=True)])
        imaginary = _even_and_odd([phase @ wave for phase, wave in zip(phases, self.sines, strict=True)])
        (same, turned, odd, odd_turned), (i_same, i_turned, i_odd, i_odd_turned) = real, imaginary
        return [
            _magnitude(same + odd, i_same + i_odd),
            _magnitude(turned - i_odd_turned, i_turned + odd_turned),
            _magnitude(turned + i_odd_turned, i_turned - odd_turned),
            _magnitude(same - odd, i_same - i_odd),
        ]


def _even_and_odd(phases: list[Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Sums and differences of the two even phases, and of the two odd ones."""
    first, second, third, fourth = phases
    return first + third, first - third, second + fourth, second - fourth


def _first_of_each(ranges: list[np.ndarray]) -> list[np.ndarray]:
    """Of each bin in several ranges, whether no earlier place has the same."""
    every = np.concatenate(ranges)
    new = np.zeros(len(every), bool)
    new[np.unique(every, return_index=True)[1]] = True
    return np.split(new, np.cumsum([len(bins) for bins in ranges])[:-1])


class _MelProduct(nn.Module):
    """Magnitudes (B, 1, T, bins) of several ranges of bins to mel bands (B, 1, T, F).

    The filters are a narrow band along the diagonal: a few neighboring mels at a time meet only the bins they see, a
    quarter of the whole product's arithmetic.
    """

    def __init__(self, filters: list[np.ndarray]) -> None:
        super().__init__()
        self.factors = nn.ParameterList()
        self.groups: list[list[tuple[int, int, int]]] = []  # of each group of mels: (range of bins, first bin, last + 1)
        mels = filters[0].shape[1]
        edges = np.linspace(0, mels, min(MEL_GROUPS, mels) + 1).round().astype(int)
        for first, last in itertools.pairwise(edges):
            self.groups.append([])
            for index, weights in enumerate(filters):
                seen = np.flatnonzero(weights[:, first:last].any(1))
                if len(seen) or (index == len(filters) - 1 and not self.groups[-1]):  # mels that see no bin are zero
                    low, high = (int(seen[0]), int(seen[-1]) + 1) if len(seen) else (0, 1)
                    self.groups[-1].append((index, low, high))
                    self.factors.append(_constant(weights[low:high, first:last]))

    def forward(self, magnitudes: list[Tensor]) -> Tensor:
        """[(B, 1, T, bins), …] to (B, 1, T, F)."""
        factors = iter(self.factors)
        bands = [sum(magnitudes[i][..., low:high] @ next(factors) for i, low, high in group) for group in self.groups]
        return torch.cat(bands, -1)


class EdgeFrames(nn.Module):
    """A spectrogram shorter than `frames` with its last frame repeated up to there: (B, 1, t, F) to (B, 1, max(t, frames), F).

    How the paper fills a window past the end of a short clip.
    """

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, spectrogram: Tensor) -> Tensor:
        """(B, 1, t, F) to (B, 1, max(t, frames), F)."""
        last = spectrogram[:, :, -1:].expand(-1, -1, self.frames - 1, -1)
        return torch.cat([spectrogram, last], 2)[:, :, : torch.sym_max(spectrogram.shape[2], self.frames)]  # type: ignore[no-untyped-call]


def repeat_last(spectrogram: Tensor, frames: Tensor) -> Tensor:
    """(B, 1, T, F) with every frame from `frames` (B,) on replaced by the one before: `EdgeFrames` for a batch of cuts."""
    index = torch.arange(spectrogram.shape[2], device=spectrogram.device)[None].minimum(frames[:, None] - 1)  # (B, T)
    return spectrogram.gather(2, index[:, None, :, None].expand(-1, 1, -1, spectrogram.shape[3]))


def frames_of(config: FrontEndConfig, samples: Tensor, most: int) -> Tensor:
    """`FrontEndConfig.frames` of each of the numbers of samples (B,), of which at most `most` were heard."""
    return 1 + (samples.clamp(max=most) - config.first).clamp(min=0) // config.hop


def mel_filters(config: FrontEndConfig) -> np.ndarray:
    """Triangular HTK filters without normalization, float64 (n_fft/2 + 1, F)."""

    def mel(hertz: float) -> float:
        return 2595.0 * math.log10(1.0 + hertz / 700.0)

    edges = np.linspace(mel(config.lowest_hz), mel(config.top_hz), config.mels + 2)
    bins = np.linspace(0.0, config.sample_rate / 2, config.n_fft // 2 + 1)[:, None]
    if config.slopes == "mel":
        bins = 2595.0 * np.log10(1.0 + bins / 700.0)
    else:
        edges = 700.0 * (10.0 ** (edges / 2595.0) - 1.0)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.maximum(0.0, np.minimum(rising, falling))


def whole_window(config: FrontEndConfig) -> np.ndarray:
    """A periodic Hann window, float64 (W,)."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(config.window) / config.window)


def half_window(config: FrontEndConfig) -> np.ndarray:
    """The same from its middle on, float64 (W/2,); half of its first sample, which is in both halves."""
    window = whole_window(config)[config.window // 2 :]
    window[0] /= 2
    return window


def _constant(values: np.ndarray) -> nn.Parameter:
    """A float32 tensor that is no weight of a network, and moves with its module."""
    return nn.Parameter(torch.from_numpy(np.ascontiguousarray(values)).float(), requires_grad=False)


def _magnitude(real: Tensor, imaginary: Tensor) -> Tensor:
    return (real * real + imaginary * imaginary).sqrt()


def _rows(waveform: Tensor, lead: int, frames: int, length: int, hop: int) -> Tensor:
    """(B, 1, R, hop): as many rows as the frames need, from `lead` zeros before the sound on, and zeros behind it."""
    samples = (frames - 1 + math.ceil(length / hop)) * hop
    if lead < 0:
        waveform, lead = functional.pad(waveform, (0, -lead))[:, -lead:], 0
    return functional.pad(waveform, (lead, samples))[:, :samples].reshape(waveform.shape[0], 1, -1, hop)


def _framed(rows: Tensor, frames: int, length: int) -> Tensor:
    """(…, T, length): frame t is row t of (…, R, hop), and as much of the following rows as it needs.

    Rows are joined, since `unfold` becomes a gather of single samples in ONNX.
    """
    hop = rows.shape[-1]
    needed = [min(hop, length - start) for start in range(0, length, hop)]
    return torch.cat([rows[..., row : row + frames, :size] for row, size in enumerate(needed)], dim=-1)


__all__ = [
    "FRONT_ENDS",
    "EdgeFrames",
    "FrontEndConfig",
    "LogMel",
    "MatrixLogMel",
    "forms",
    "frames_of",
    "half_window",
    "mel_filters",
    "repeat_last",
    "whole_window",
]
