"""YAMNet's MobileNet-V1 (arXiv 1704.04861, table 1; github.com/tensorflow/models, research/audioset/yamnet)."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from torch import Tensor, nn

from audiorep.config import Config
from audiorep.models.layers import Network, conv_bn, convolution, he_fan_out, head_checks, make_heads, narrow_linear, refuse


@dataclass(frozen=True)
class YamNetConfig(Config):
    """Every size of a YAMNet; the defaults are those of the published network but for its classes (521)."""

    heads: dict[str, int] = field(default_factory=lambda: {"label": 309})
    """Classes of each output."""
    stem_width: int = 32
    """Channels of the first convolution, whose stride is 2."""
    widths: tuple[int, ...] = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
    """Channels of each separable layer."""
    strides: tuple[int, ...] = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
    """Stride of each separable layer."""
    norms: bool = True
    """A batch norm behind each convolution; without them convolutions have biases, as in the published file, where they are
    merged."""
    dropout: float = 0.0
    """Before the heads."""

    def __post_init__(self) -> None:
        refuse(
            [
                *head_checks(self.heads, self.dropout),
                (
                    min((self.stem_width, *self.widths)) >= 1,
                    f"stem_width {self.stem_width} and widths {self.widths} must be at least 1",
                ),
                (
                    len(self.strides) == len(self.widths) > 0 and set(self.strides) <= {1, 2},
                    f"strides {self.strides} need a 1 or 2 for each of the {len(self.widths)} widths",
                ),
            ]
        )


class YamNet(Network):
    """YAMNet: (B, 1, T, F) to {head: logits (B, K)}, for any T and F; its embedding is what `pool` gives.

    TensorFlow pads what a stride of 2 lacks at the end, PyTorch at the start. Seen from their ends both do the same, so the
    map is reversed, in time and in frequency, and its kernels with it. That is exact for even and odd sizes.
    """

    def __init__(self, config: YamNetConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = _layer(config, 1, config.stem_width, 3, 2)
        layers, inputs = [], config.stem_width
        for width, stride in zip(config.widths, config.strides, strict=True):
            mix = _layer(config, inputs, inputs, 3, stride, groups=inputs)
            layers.append(nn.Sequential(OrderedDict(mix=mix, project=_layer(config, inputs, width, 1))))
            inputs = width
        self.layers = nn.Sequential(*layers)
        self.dropout = nn.Dropout(config.dropout)
        self.heads = make_heads(inputs, config.heads)
        self.apply(he_fan_out).apply(narrow_linear)

    def forward_features(self, spectrogram: Tensor) -> Tensor:
        """(B, 1, T, F) to the last map (B, C, T', F')."""
        return self.layers(self.stem(spectrogram.flip(2, 3))).flip(2, 3)


def _layer(config: YamNetConfig, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """A convolution, its batch norm or bias, and a ReLU."""
    if config.norms:
        return conv_bn(inputs, outputs, (kernel, kernel), stride, groups, nn.ReLU())
    conv = convolution(inputs, outputs, (kernel, kernel), stride, groups, bias=True)
    return nn.Sequential(OrderedDict(conv=conv, activation=nn.ReLU()))
