"""Settings of the log-mel front end (paper, section 3.1 and table 1)."""

from __future__ import annotations

from dataclasses import dataclass

from audiorep.config import Config, failed
from audiorep.errors import ConfigError
from audiorep.untrusted import brief, is_number, is_whole

RATES = (1_000, 1_000_000)
"""Hz that a model may hear at: bats need a quarter of the upper end."""
LONGEST_TRANSFORM = 32_768  # samples; tables of a longer one would take gigabytes
MOST_MELS = 512
LONGEST_MS = 10_000.0


@dataclass(frozen=True)
class FrontEndConfig(Config):
    """Settings of the log-mel front end; stored in every checkpoint and bundle."""

    sample_rate: int = 16_000
    """Hz of the waveform."""
    window_ms: float = 20.0
    """Length of the Hann window."""
    hop_ms: float = 10.0
    """Distance between the centers of neighboring frames."""
    n_fft: int = 2048
    """Length of the transform; the window is zero-padded to it."""
    mels: int = 128
    """Mel bands F."""

    def __post_init__(self) -> None:
        problems = self._type_problems() or self._problems()
        if problems:
            raise ConfigError("front end: " + "; ".join(problems) + ".")

    @property
    def window(self) -> int:
        """Samples in the window."""
        return round(self.sample_rate * self.window_ms / 1000)

    @property
    def hop(self) -> int:
        """Samples between frames."""
        return round(self.sample_rate * self.hop_ms / 1000)

    def samples(self, seconds: float) -> int:
        """Samples of a clip of `seconds`: one short, so that a centered STFT yields exactly `seconds / hop` frames."""
        return round(self.sample_rate * seconds) - 1

    def frames(self, samples: int) -> int:
        """Frames T that `samples` samples yield."""
        return 1 + samples // self.hop

    def _type_problems(self) -> list[str]:
        whole = {"sample_rate": self.sample_rate, "n_fft": self.n_fft, "mels": self.mels}
        numbers = {"window_ms": self.window_ms, "hop_ms": self.hop_ms}
        return [
            *(f"{name} is {brief(value)}; a whole number is needed" for name, value in whole.items() if not is_whole(value)),
            *(f"{name} is {brief(value)}; a number is needed" for name, value in numbers.items() if not is_number(value)),
        ]

    def _problems(self) -> list[str]:
        lowest, highest = RATES
        checks = [
            (
                lowest <= self.sample_rate <= highest,
                f"sample_rate is {brief(self.sample_rate)} Hz; at least {lowest} is needed and at most {highest} allowed",
            ),
            (
                max(abs(self.window_ms), abs(self.hop_ms)) <= LONGEST_MS,
                f"window_ms {self.window_ms:g} and hop_ms {self.hop_ms:g} may be at most {LONGEST_MS:g}",
            ),
        ]
        return failed(checks) or self._misfits()

    def _misfits(self) -> list[str]:
        """What does not fit together; rate and times are within their bounds."""
        most = min(self.n_fft // 2, MOST_MELS)
        checks = [
            (
                self.window >= 4 and self.window % 2 == 0,
                f"window_ms {self.window_ms} gives {self.window} samples; an even number of at least 4 is needed",
            ),
            (self.hop >= 1, f"hop_ms {self.hop_ms} gives {self.hop} samples; at least 1 is needed"),
            (
                self.window <= self.n_fft <= LONGEST_TRANSFORM and self.n_fft % 2 == 0,
                f"n_fft is {brief(self.n_fft)}; an even number of at least the window's {self.window} samples is needed, and "
                f"at most {LONGEST_TRANSFORM} allowed",
            ),
            (1 <= self.mels <= most, f"mels is {brief(self.mels)}; 1 to {brief(most)} fit n_fft {brief(self.n_fft)}"),
        ]
        return failed(checks)


FRONT_ENDS: dict[str, FrontEndConfig] = {
    "vggsound": FrontEndConfig(16_000, 20, 10),
    "epic_kitchens": FrontEndConfig(24_000, 10, 5),
    "epic_sounds": FrontEndConfig(24_000, 10, 5),
    "speech_commands": FrontEndConfig(16_000, 5, 2),
    "urbansound8k": FrontEndConfig(16_000, 20, 10),
    "nsynth": FrontEndConfig(16_000, 20, 10),
    "light": FrontEndConfig(16_000, 40, 20, n_fft=640, mels=64),
    "speech_light": FrontEndConfig(16_000, 25, 10, n_fft=512, mels=40),
}
"""The paper's six settings (its table 1), and lighter ones for the small networks."""
