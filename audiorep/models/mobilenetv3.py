"""MobileNetV3-Large (arXiv 1905.02244, table 1), as EfficientAT's taggers size it (arXiv 2211.04772)."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.nn import functional

from audiorep.config import Config
from audiorep.models.layers import Network, conv_bn, he_fan_out, head_checks, make_heads, narrow_linear, refuse

# kernel, inner channels, outer channels, squeeze and excite, hard swish, stride
ROWS = (
    (3, 16, 16, False, False, 1),
    (3, 64, 24, False, False, 2),
    (3, 72, 24, False, False, 1),
    (5, 72, 40, True, False, 2),
    (5, 120, 40, True, False, 1),
    (5, 120, 40, True, False, 1),
    (3, 240, 80, False, True, 2),
    (3, 200, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 184, 80, False, True, 1),
    (3, 480, 112, True, True, 1),
    (3, 672, 112, True, True, 1),
    (5, 672, 160, True, True, 2),
    (5, 960, 160, True, True, 1),
    (5, 960, 160, True, True, 1),
)
STEM, HIDDEN = 16, 1280  # channels of the first convolution and of the last hidden layer
NORM_EPSILON, NORM_MOMENTUM = 0.001, 0.01  # as in the source; other networks use PyTorch's 1e-5 and 0.1


@dataclass(frozen=True)
class MobileNetV3Config(Config):
    """Every size of a MobileNetV3-Large."""

    heads: dict[str, int] = field(default_factory=lambda: {"label": 309})
    """Classes of each output."""
    multiplier: float = 1.0
    """Factor on all widths, which are then rounded to multiples of eight; EfficientAT's mn10 is 1, mn04 0.4."""
    dropout: float = 0.2
    """Before the heads."""

    def __post_init__(self) -> None:
        fine = self.multiplier > 0
        refuse([*head_checks(self.heads, self.dropout), (fine, f"multiplier is {self.multiplier}; more than 0 is needed")])


class MobileNetV3(Network):
    """MobileNetV3-Large: (B, 1, T, F) to {head: logits (B, K)}, for any T and F."""

    def __init__(self, config: MobileNetV3Config) -> None:
        super().__init__()
        self.config = config
        stem, hidden = _eights(STEM * config.multiplier), _eights(HIDDEN * config.multiplier)
        self.stem = conv_bn(1, stem, (3, 3), 2, activation=nn.Hardswish())
        blocks, inputs = [], stem
        for kernel, inner, outputs, excites, swish, stride in ROWS:
            inner, outputs = _eights(inner * config.multiplier), _eights(outputs * config.multiplier)
            blocks.append(InvertedResidual(inputs, inner, outputs, kernel, stride, excites, swish))
            inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.last = conv_bn(inputs, 6 * inputs, (1, 1), activation=nn.Hardswish())
        self.hidden = nn.Linear(6 * inputs, hidden)
        self.dropout = nn.Dropout(config.dropout)
        self.heads = make_heads(hidden, config.heads)
        self.apply(he_fan_out).apply(narrow_linear)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps, module.momentum = NORM_EPSILON, NORM_MOMENTUM

    def forward_features(self, spectrogram: Tensor) -> Tensor:
        """(B, 1, T, F) to the last map (B, C, T', F')."""
        return self.last(self.blocks(self.stem(spectrogram)))

    def pool(self, features: Tensor) -> Tensor:
        """(B, C, T', F') to (B, C'): the mean over the map, then a hidden layer."""
        return self.dropout(functional.hardswish(self.hidden(features.mean((2, 3)))))


class InvertedResidual(nn.Module):
    """Widen, mix depthwise, weigh channels, narrow, add the input where it fits: (B, C_in, T, F) to (B, C, T/s, F/s)."""

    def __init__(self, inputs: int, inner: int, outputs: int, kernel: int, stride: int, excites: bool, swish: bool) -> None:
        super().__init__()
        activation = nn.Hardswish if swish else nn.ReLU
        self.expand = nn.Identity() if inner == inputs else conv_bn(inputs, inner, (1, 1), activation=activation())
        self.mix = conv_bn(inner, inner, (kernel, kernel), stride, groups=inner, activation=activation())
        self.excite = Excitation(inner) if excites else nn.Identity()
        self.project = conv_bn(inner, outputs, (1, 1))
        self.keeps_shape = inputs == outputs and stride == 1

    def forward(self, x: Tensor) -> Tensor:
        """(B, C_in, T, F) to (B, C, T/s, F/s)."""
        y = self.project(self.excite(self.mix(self.expand(x))))
        return x + y if self.keeps_shape else y


class Excitation(nn.Module):
    """Channels weighed by a gate of their means, squeeze and excite (arXiv 1709.01507): (B, C, T, F) to the same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        squeezed = _eights(channels // 4)
        self.squeeze, self.excite = nn.Conv2d(channels, squeezed, 1), nn.Conv2d(squeezed, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, T, F) to the same."""
        gate = self.excite(functional.relu(self.squeeze(x.mean((2, 3), keepdim=True))))  # (B, C, 1, 1)
        return x * functional.hardsigmoid(gate)


def _eights(channels: float) -> int:
    """The nearest multiple of eight that is at least eight and not a tenth below `channels`."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest
