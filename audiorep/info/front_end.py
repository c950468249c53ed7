"""Settings of the log-mel front end (paper, section 3.1 and table 1)."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

from audiorep.config import Config, failed
from audiorep.errors import ConfigError
from audiorep.untrusted import brief, is_number, is_whole

RATES = (1_000, 1_000_000)
"""Hz that a model may hear at: bats need a quarter of the upper end."""
LONGEST_TRANSFORM = 32_768  # samples; tables of a longer one would take gigabytes
MOST_MELS = 512
LONGEST_MS = 10_000.0
OFFSETS = (1e-30, 1.0)
"""Between which float32 can add an offset and take its logarithm."""
SLOPES = ("hertz", "mel")
ALWAYS = ("sample_rate", "window_ms", "hop_ms", "n_fft", "mels")
"""Settings that are always written down; the others came later, and are where they differ from their defaults."""


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
    lowest_hz: float = 0.0
    """Where the lowest mel band begins."""
    highest_hz: float = 0.0
    """Where the highest mel band ends; 0 is half the sample rate."""
    slopes: str = "hertz"
    """The scale on which the sides of a band are straight: `hertz` (as librosa's) or `mel` (as HTK's and TensorFlow's)."""
    log_offset: float = 1e-6
    """Added to a band's magnitude before the logarithm; the paper's. Another value shifts a network's whole input."""
    centered: bool = True
    """Frames are centered on multiples of the hop, with zeros beyond both ends; or else each lies within the sound."""

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

    @property
    def top_hz(self) -> float:
        """Where the highest mel band ends."""
        return self.highest_hz or self.sample_rate / 2

    @property
    def first(self) -> int:
        """Samples that the first frame needs: a window's where frames lie within the sound, else none."""
        return 0 if self.centered else self.window

    def samples(self, seconds: float) -> int:
        """Samples of a clip of `seconds`: one short where frames are centered, which then yields `seconds / hop` frames."""
        return round(self.sample_rate * seconds) - self.centered

    def frames(self, samples: int) -> int:
        """Frames T that `samples` samples yield; at least one, if need be with zeros behind the sound."""
        return 1 + max(samples - self.first, 0) // self.hop

    def as_dict(self) -> dict[str, Any]:
        """The settings as models keep them: those of `ALWAYS`, and the others where they are not the default."""
        standard = {field.name: field.default for field in fields(self)}
        return {name: value for name, value in asdict(self).items() if name in ALWAYS or value != standard[name]}

    def _type_problems(self) -> list[str]:
        whole = {"sample_rate": self.sample_rate, "n_fft": self.n_fft, "mels": self.mels}
        names = ("window_ms", "hop_ms", "lowest_hz", "highest_hz", "log_offset")
        numbers = {name: getattr(self, name) for name in names}
        return [
            *(f"{name} is {brief(value)}; a whole number is needed" for name, value in whole.items() if not is_whole(value)),
            *(f"{name} is {brief(value)}; a number is needed" for name, value in numbers.items() if not is_number(value)),
            *failed([(isinstance(self.centered, bool), f"centered is {brief(self.centered)}; true or false is needed")]),
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
            (
                0 <= self.lowest_hz < self.top_hz <= self.sample_rate / 2,
                f"lowest_hz {self.lowest_hz:g} and highest_hz {self.highest_hz:g}: the first must be the lower, both from "
                f"0 to half of {self.sample_rate} Hz",
            ),
            (self.slopes in SLOPES, f"slopes is {brief(self.slopes)}; allowed are {', '.join(SLOPES)}"),
            (
                OFFSETS[0] <= self.log_offset <= OFFSETS[1],
                f"log_offset is {self.log_offset:g}; {OFFSETS[0]:g} to {OFFSETS[1]:g} is allowed",
            ),
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
    "yamnet": FrontEndConfig(
        16_000, 25, 10, n_fft=512, mels=64, lowest_hz=125, highest_hz=7500, slopes="mel", log_offset=0.001, centered=False
    ),
}
"""The paper's six settings (its table 1), lighter ones for the small networks, and YAMNet's."""
