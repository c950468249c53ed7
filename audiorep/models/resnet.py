"""ResNet with bottlenecks, the stride on the 3×3 convolution (arXiv 1512.03385; "v1.5")."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from audiorep.config import Config
from audiorep.models.layers import Network, conv_bn, he_fan_out, head_checks, make_heads, refuse

EXPANSION = 4  # of a bottleneck's output over its inner layers


@dataclass(frozen=True)
class ResNetConfig(Config):
    """Every size of a ResNet with bottlenecks; the defaults are those of ResNet-50."""

    heads: dict[str, int] = field(default_factory=lambda: {"label": 309})
    """Classes of each output."""
    width: int = 64
    """Channels of the stem; each stage doubles the inner layers."""
    depths: tuple[int, ...] = (3, 4, 6, 3)
    """Blocks in each stage."""
    dropout: float = 0.0
    """Before the heads."""

    def __post_init__(self) -> None:
        refuse(
            [
                *head_checks(self.heads, self.dropout),
                (self.width >= 1, f"width is {self.width}; at least 1 is needed"),
                (bool(self.depths) and min(self.depths) >= 1, f"depths {self.depths} need at least one block a stage"),
            ]
        )


class ResNet(Network):
    """ResNet: (B, 1, T, F) to {head: logits (B, K)}, for any T and F."""

    def __init__(self, config: ResNetConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = conv_bn(1, config.width, (7, 7), 2, activation=nn.ReLU())
        self.stem.add_module("pool", nn.MaxPool2d(3, stride=2, padding=1))
        self.stages = nn.Sequential(*_stages(config))
        self.dropout = nn.Dropout(config.dropout)
        self.heads = make_heads(EXPANSION * config.width * 2 ** (len(config.depths) - 1), config.heads)
        self.apply(he_fan_out)

    def forward_features(self, spectrogram: Tensor) -> Tensor:
        """(B, 1, T, F) to the last stage's map (B, C, T', F')."""
        return self.stages(self.stem(spectrogram))


class Bottleneck(nn.Module):
    """Narrow, 3×3, widen, add the shortcut: (B, C_in, T, F) to (B, C, T/s, F/s)."""

    def __init__(self, inputs: int, inner: int, stride: int) -> None:
        super().__init__()
        outputs = inner * EXPANSION
        self.reduce = conv_bn(inputs, inner, (1, 1), activation=nn.ReLU())
        self.mix = conv_bn(inner, inner, (3, 3), stride, activation=nn.ReLU())
        self.project = conv_bn(inner, outputs, (1, 1))
        keeps_shape = inputs == outputs and stride == 1
        self.shortcut = nn.Identity() if keeps_shape else conv_bn(inputs, outputs, (1, 1), stride)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, T, F) to (B, C, T/s, F/s)."""
        return self.relu(self.project(self.mix(self.reduce(x))) + self.shortcut(x))


def _stages(config: ResNetConfig) -> list[nn.Sequential]:
    stages, inputs = [], config.width
    for stage, depth in enumerate(config.depths):
        inner, blocks = config.width * 2**stage, []
        for position in range(depth):
            blocks.append(Bottleneck(inputs, inner, 2 if stage and position == 0 else 1))
            inputs = inner * EXPANSION
        stages.append(nn.Sequential(*blocks))
    return stages
