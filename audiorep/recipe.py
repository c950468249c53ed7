"""Everything that decides a training, apart from the data: a `TrainConfig`, usually read from a TOML recipe."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from audiorep import models
from audiorep.augment import AugmentConfig
from audiorep.bundle import LONGEST_WINDOW
from audiorep.config import Config
from audiorep.datasets import Splits
from audiorep.errors import ConfigError
from audiorep.frontend import FRONT_ENDS, FrontEndConfig


@dataclass(frozen=True)
class OptimizerConfig(Config):
    """How weights move; norms and biases are never decayed."""

    name: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    momentum: float = 0.9
    """Of SGD, which is Nesterov's."""

    def __post_init__(self) -> None:
        if not 0 < self.learning_rate < math.inf or not 0 <= self.weight_decay < math.inf or not 0 <= self.momentum < 1:
            raise ConfigError("optimizer: learning_rate must be above 0, weight_decay at least 0, momentum 0 to below 1")


@dataclass(frozen=True)
class ScheduleConfig(Config):
    """How the learning rate goes."""

    name: Literal["cosine", "step"] = "cosine"
    """To zero along a cosine, or down in steps."""
    warmup_epochs: float = 0.0
    """Epochs of linear rise from zero."""
    milestones: tuple[float, ...] = ()
    """Epochs at which a step begins."""
    factors: tuple[float, ...] = ()
    """Learning rate from each milestone on, relative to the first."""

    def __post_init__(self) -> None:
        if len(self.milestones) != len(self.factors) or list(self.milestones) != sorted(self.milestones):
            raise ConfigError("schedule: milestones must rise and have one factor each")
        if self.warmup_epochs < 0:
            raise ConfigError("schedule: warmup_epochs must not be negative")

    def factor(self, epoch: float, epochs: int) -> float:
        """The learning rate at a (fractional) epoch, relative to its base."""
        warmup = min(1.0, epoch / self.warmup_epochs) if self.warmup_epochs else 1.0
        if self.name == "cosine":
            return warmup * 0.5 * (1 + math.cos(math.pi * min(epoch / epochs, 1.0)))
        passed = sum(epoch >= milestone for milestone in self.milestones)
        return warmup * (self.factors[passed - 1] if passed else 1.0)


@dataclass(frozen=True)
class TrainConfig(Config):
    """Everything that decides a training, apart from the data."""

    architecture: str = "arin_nano"
    """A key of `models.ARCHITECTURES`."""
    network: dict[str, Any] = field(default_factory=dict)
    """Fields of the architecture's configuration to change."""
    front_end: str | FrontEndConfig = "light"
    """A key of `frontend.FRONT_ENDS`, or all settings."""
    window_seconds: float = 5.0
    """Sound the deployed model sees at once."""
    hop_seconds: float = 0.0
    """Default distance between its windows; 0 is a whole window."""
    cut_seconds: float = 0.0
    """Length of a training cut; 0 is a whole window. Shorter cuts train faster."""
    multi_label: bool = False
    """Any number of labels a clip (sigmoid) instead of one (softmax)."""
    splits: Splits = field(default_factory=Splits)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    epochs: int = 60
    batch_size: int = 32
    """Clips a step; fewer where that would leave less than four steps an epoch."""
    label_smoothing: float = 0.0
    ema_decay: float = 0.0
    """Decay a step of the weights' moving average, which becomes the model; 0 keeps none."""
    balance: Literal["none", "weights", "sampling"] = "none"
    """Against class imbalance: weigh the loss, or draw rare classes more often."""
    gradient_clip: float = 5.0
    """Largest norm of the gradient; 0 clips nothing."""
    precision: Literal["32-true", "bf16-mixed", "16-mixed"] = "32-true"
    """bf16-mixed is for GPUs: on a CPU it is slower."""
    workers: int = 0
    """Processes that load clips; 0 is fastest while decoded clips fit in memory."""
    seed: int = 0
    licence: str = "unknown"
    """Of the trained weights, for the model card."""
    attribution: str = ""
    """Whom the data's licence asks to name, for the model card."""

    def __post_init__(self) -> None:
        checks = [
            (
                isinstance(self.front_end, FrontEndConfig) or self.front_end in FRONT_ENDS,
                f"front_end is {self.front_end!r}; there are {', '.join(FRONT_ENDS)}",
            ),
            (
                self.architecture in models.ARCHITECTURES,
                f"architecture is {self.architecture!r}; there are {', '.join(models.ARCHITECTURES)}",
            ),
            (
                0 < self.window_seconds <= LONGEST_WINDOW and 0 <= self.cut_seconds <= LONGEST_WINDOW,
                f"window_seconds and cut_seconds must lie in 0..{LONGEST_WINDOW:g}, the window above 0",
            ),
            (0 <= self.hop_seconds <= self.window_seconds, f"hop_seconds is {self.hop_seconds}; 0 to a window is allowed"),
            (
                min(self.epochs, self.batch_size) >= 1 and self.workers >= 0,
                "epochs and batch_size must be at least 1, workers at least 0",
            ),
            (0 <= self.label_smoothing < 1, f"label_smoothing is {self.label_smoothing}; 0 to below 1 is allowed"),
            (self.gradient_clip >= 0 and self.seed >= 0, "gradient_clip and seed must not be negative"),
            (0 <= self.ema_decay < 1, f"ema_decay is {self.ema_decay}; 0 to below 1 is allowed"),
        ]
        if problems := [text for fine, text in checks if not fine]:
            raise ConfigError("; ".join(problems))
        models.configure(self.architecture, {"label": 2}, self.network)  # says at once what is wrong with the network

    @property
    def front_end_config(self) -> FrontEndConfig:
        """The front end's settings."""
        return FRONT_ENDS[self.front_end] if isinstance(self.front_end, str) else self.front_end
