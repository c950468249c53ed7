"""Everything that decides a training, apart from the data: a `TrainConfig`, usually read from a TOML recipe."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from audiorep import config as configuration
from audiorep import models
from audiorep.config import Config, refuse
from audiorep.datasets import Splits
from audiorep.errors import ConfigError
from audiorep.info.checks import MAX_WINDOW_SECONDS
from audiorep.info.model_info import PADDINGS
from audiorep.models.front_end import FRONT_ENDS, FrontEndConfig
from audiorep.training.augment import AugmentConfig
from audiorep.training.unknown import UnknownConfig


@dataclass(frozen=True)
class Protocol:
    """Front end, windows and test of one of the paper's data sets (its table 1 and section 4.1)."""

    front_end: str
    """A key of `models.front_end.FRONT_ENDS`."""
    window_seconds: float
    """Length of a clip; the cut is one sample shorter."""
    views: int
    """Test cuts, spread evenly over a clip, whose scores are averaged after the softmax."""
    padding: str
    """What a shorter clip is filled up with (see `info.ModelInfo`)."""
    heads: dict[str, int]
    """Official classes of each output."""


PROTOCOLS: dict[str, Protocol] = {
    "vggsound": Protocol("vggsound", 5.119, 2, "edge_frames", {"label": 309}),
    "epic_kitchens": Protocol("epic_kitchens", 2.08, 10, "edge_frames", {"verb": 97, "noun": 300}),
    "epic_sounds": Protocol("epic_sounds", 2.08, 5, "edge_frames", {"label": 44}),
    "speech_commands": Protocol("speech_commands", 1.023, 1, "edge", {"label": 35}),
    "urbansound8k": Protocol("urbansound8k", 4.16, 2, "edge", {"label": 10}),
    "nsynth": Protocol("nsynth", 4.16, 1, "edge", {"label": 11}),
}
"""The paper's six data sets; a recipe takes a row with `protocol = "…"`."""


@dataclass(frozen=True)
class OptimizerConfig(Config):
    """How weights move; norms and biases are never decayed."""

    name: Literal["adamw", "sgd"] = "adamw"
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    momentum: float = 0.9
    """Momentum of SGD, in Nesterov's form."""
    trunk_rate: float = 1.0
    """Learning rate of all layers but the heads, relative to that of the heads (arXiv 1801.06146, section 3.2)."""
    frozen_epochs: float = 0.0
    """Epochs at the start in which the heads alone learn."""

    def __post_init__(self) -> None:
        checks = [
            (
                0 < self.learning_rate < math.inf and 0 <= self.weight_decay < math.inf and 0 <= self.momentum < 1,
                "learning_rate must be above 0, weight_decay at least 0, momentum 0 to below 1",
            ),
            (0 <= self.trunk_rate < math.inf and self.frozen_epochs >= 0, "trunk_rate and frozen_epochs must not be negative"),
        ]
        refuse(checks, "optimizer: ")


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
        passed = sum(epoch > milestone for milestone in self.milestones)  # `epoch` is where a step ends
        return warmup * (self.factors[passed - 1] if passed else 1.0)


@dataclass(frozen=True)
class DistilConfig(Config):
    """What a network learns from trained teachers besides the labels (see `audiorep.training.distil`)."""

    teachers: tuple[str, ...] = ()
    """Checkpoint folders or deployed files; empty trains on the labels alone."""
    weights: tuple[float, ...] = ()
    """Each teacher's weight in their mean; empty weighs them alike."""
    temperature: float = 2.0
    """Softmax temperature. Higher values give unlikely classes more weight."""
    soft: float = 0.9
    """Share of the loss against the teachers' scores; the rest is against the labels."""
    features: float = 0.0
    """Weight of the loss between the student's last map, projected, and the teachers' last maps."""
    embedding: float = 0.0
    """Weight of the loss between the mean of the student's last map, projected, and the logarithm of the teachers' ones."""
    classes: Literal["labels", "teacher"] = "labels"
    """Whose classes are learned: those that the clips are labelled with, or the first teacher's, which needs no labels."""
    cache: bool = False
    """Ask the teachers once for each clip without augmentation, not at every step."""

    def __post_init__(self) -> None:
        checks = [
            (all(self.teachers), "teachers are folders or files; one is empty"),
            (
                not self.weights or len(self.weights) == len(self.teachers),
                f"{len(self.weights)} weights are given for {len(self.teachers)} teachers; name one each, or none",
            ),
            (all(0 < weight < math.inf for weight in self.weights), "weights must be above 0"),
            (0 < self.temperature < math.inf, f"temperature is {self.temperature}; above 0 is allowed"),
            (0 <= self.soft <= 1, f"soft is {self.soft}; 0 to 1 is allowed"),
            (0 <= self.features < math.inf, f"features is {self.features}; it must not be negative"),
            (0 <= self.embedding < math.inf, f"embedding is {self.embedding}; it must not be negative"),
            (
                self.soft > 0 or self.matches or not self.teachers,
                "with soft, features and embedding at 0 the teachers teach nothing",
            ),
            (
                not (self.cache and self.matches),
                "cache keeps scores of clips without augmentation, which have no map to match: set features=0 and embedding=0, "
                "or cache=false",
            ),
            (self.classes == "labels" or self.soft == 1, 'classes = "teacher" learns from no labels: set soft=1'),
        ]
        refuse(checks, "distil: ")

    @property
    def matches(self) -> bool:
        """Whether the teachers' last maps are matched, not only their scores."""
        return max(self.features, self.embedding) > 0


@dataclass(frozen=True)
class TrainConfig(Config):
    """Everything that decides a training, apart from the data."""

    architecture: str = "arin_nano"
    """A key of `models.ARCHITECTURES`."""
    network: dict[str, Any] = field(default_factory=dict)
    """Fields of the architecture's configuration to change."""
    layers: dict[str, dict[str, int]] = field(default_factory=dict)
    """Layers of other sizes than that configuration gives, as compression leaves them (see `checkpoint.Checkpoint`)."""
    front_end: str | FrontEndConfig = "light"
    """A key of `models.front_end.FRONT_ENDS`, or all settings."""
    window_seconds: float = 5.0
    """Sound the deployed model sees at once."""
    hop_seconds: float = 0.0
    """Default distance between its windows; 0 is a whole window."""
    cut_seconds: float = 0.0
    """Length of a training cut; 0 is a whole window. Shorter cuts train faster."""
    audible: float = 0.5
    """Least share of a training cut that is audible, of clips with silence at their ends; 0 draws cuts anywhere in a clip."""
    padding: str = "zeros"
    """What follows a clip shorter than a window: `zeros`, `edge` (its last sample), `edge_frames` (its last log-mel frame)."""
    views: int = 0
    """Windows spread evenly over a clip whose scores are averaged in evaluation; 0: all windows, one hop apart."""
    multi_label: bool = False
    """Any number of labels a clip (sigmoid) instead of one (softmax)."""
    splits: Splits = field(default_factory=Splits)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    distil: DistilConfig = field(default_factory=DistilConfig)
    unknown: UnknownConfig = field(default_factory=UnknownConfig)
    start: str = ""
    """Checkpoint folder whose weights training starts from (fine-tuning); empty starts from random ones."""
    fit_heads: bool = False
    """Fine-tuning: heads of new classes begin as a logistic regression on the start's embeddings, not with random weights."""
    freeze_norms: bool | Literal["all"] = False
    """Fine-tuning: batch norms keep the statistics they came with, all or, with true, all but the stem's, as in the paper.
    Their scale and shift still learn."""
    precise_norms: int = 0
    """Batches over which the statistics of batch norms are measured anew at the end (precise BN, arXiv 2105.07576)."""
    keep: Literal["best", "last"] = "best"
    """The epoch whose weights become the model: the one best on the validation clips, or the last."""
    epochs: int = 60
    batch_size: int = 32
    """Clips a step; fewer where that would leave less than four steps an epoch."""
    cuts: int = 1
    """Cuts of each clip an epoch: several make epochs longer, and so checkpoints rarer."""
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
    license: str = "unknown"
    """License of the trained weights, for the model card."""
    attribution: str = ""
    """Whom the data's license asks to name, for the model card."""

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
                0 < self.window_seconds <= MAX_WINDOW_SECONDS and 0 <= self.cut_seconds <= MAX_WINDOW_SECONDS,
                f"window_seconds and cut_seconds must lie in 0..{MAX_WINDOW_SECONDS:g}, the window above 0",
            ),
            (0 <= self.hop_seconds <= self.window_seconds, f"hop_seconds is {self.hop_seconds}; 0 to a window is allowed"),
            (
                min(self.epochs, self.batch_size, self.cuts) >= 1 and self.workers >= 0,
                "epochs, batch_size and cuts must be at least 1, workers at least 0",
            ),
            (
                self.padding != "edge_frames" or not (self.augment.speed or self.augment.shift_seconds or self.augment.noise),
                "padding edge_frames goes with neither augment.speed, shift_seconds nor noise: they change a clip's end",
            ),
            (self.padding in PADDINGS, f"padding is {self.padding!r}; there are {', '.join(PADDINGS)}"),
            (
                not self.freeze_norms or bool(self.start),
                "freeze_norms keeps the statistics of weights to start from; name them with start (or --start FOLDER), or set "
                "freeze_norms=false to train from scratch",
            ),
            (
                not self.fit_heads or bool(self.start),
                "fit_heads fits heads to the embeddings of weights to start from; name them with start (or --start FOLDER)",
            ),
            (
                self.multi_label or self.distil.classes == "labels",
                'distil.classes = "teacher" is for taggers: set multi_label=true',
            ),
            (
                not (self.distil.cache and self.unknown.synthetic),
                "distil.cache keeps what teachers said of the clips, which unknown.synthetic replaces: leave one of them out",
            ),
            (0 <= self.audible <= 1, f"audible is {self.audible}; 0 to 1 is allowed"),
            (min(self.views, self.precise_norms) >= 0, "views and precise_norms must not be negative"),
            (0 <= self.label_smoothing < 1, f"label_smoothing is {self.label_smoothing}; 0 to below 1 is allowed"),
            (self.gradient_clip >= 0 and self.seed >= 0, "gradient_clip and seed must not be negative"),
            (0 <= self.ema_decay < 1, f"ema_decay is {self.ema_decay}; 0 to below 1 is allowed"),
        ]
        refuse(checks)
        made = models.configure(self.architecture, {"label": 2}, self.network_settings)  # says at once what is wrong with it
        if getattr(made, "mels", self.front_end_config.mels) != self.front_end_config.mels:
            raise ConfigError(f"network.mels is {made.mels}; the front end gives {self.front_end_config.mels} bands")

    @property
    def front_end_config(self) -> FrontEndConfig:
        """The front end's settings."""
        return FRONT_ENDS[self.front_end] if isinstance(self.front_end, str) else self.front_end

    @property
    def network_settings(self) -> dict[str, Any]:
        """The fields of the network's configuration, those that follow from the front end among them."""
        front_end = self.front_end_config
        frames = front_end.frames(front_end.samples(self.window_seconds))
        return {**models.sized(self.architecture, frames, front_end.mels), **self.network}


def configure(values: Mapping[str, Any], where: str) -> TrainConfig:
    """The settings of a recipe; `protocol` in it names the row of PROTOCOLS that gives what the recipe leaves out.

    Raises:
        ConfigError: unknown or impossible settings, all named, with `where` they came from.
    """
    settings = dict(values)
    name = settings.pop("protocol", None)
    if name is not None:
        if name not in PROTOCOLS:
            raise ConfigError(f"{where}: protocol is {name!r}; there are {', '.join(PROTOCOLS)}")
        row = asdict(PROTOCOLS[name])
        settings = {**{key: value for key, value in row.items() if key != "heads"}, **settings}
    return configuration.load(TrainConfig, settings, where)
