"""CNN14 of PANNs: plain 3×3 convolutions, pooled over frequency and time (arXiv 1912.10211, table 1)."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn
from torch.nn import functional

from audiorep.config import Config
from audiorep.errors import ConfigError
from audiorep.models.layers import Network, conv_bn, head_checks, make_heads, refuse, refuse_small


@dataclass(frozen=True)
class Cnn14Config(Config):
    """Every size of a CNN14; the defaults are those of PANNs, apart from the mel bands (64 there)."""

    heads: dict[str, int] = field(default_factory=lambda: {"label": 309})
    """Classes of each output."""
    mels: int = 128
    """Mel bands F of the input, each of which is normalized by itself."""
    widths: tuple[int, ...] = (64, 128, 256, 512, 1024, 2048)
    """Channels of each block of two convolutions; all blocks but the last halve the map."""
    block_dropout: float = 0.2
    """After each block."""
    dropout: float = 0.5
    """Before and after the last hidden layer."""

    def __post_init__(self) -> None:
        needed = 2 ** max(len(self.widths) - 1, 0)
        refuse(
            [
                *head_checks(self.heads, self.dropout),
                (0 <= self.block_dropout < 1, f"block_dropout is {self.block_dropout}; 0 to below 1 is allowed"),
                (bool(self.widths) and min(self.widths) >= 1, f"widths {self.widths} need at least one channel a block"),
                (self.mels >= needed, f"mels is {self.mels}; {len(self.widths)} blocks need at least {needed}"),
            ]
        )


class Cnn14(Network):
    """CNN14: (B, 1, T, F) to {head: logits (B, K)}, for F = `mels` and T of at least 32 (with six blocks)."""

    def __init__(self, config: Cnn14Config) -> None:
        super().__init__()
        self.config = config
        self.stem = BandNorm(config.mels)
        self.blocks = nn.Sequential(*_blocks(config))
        self.dropout = nn.Dropout(config.dropout)
        self.hidden = nn.Linear(config.widths[-1], config.widths[-1])
        self.heads = make_heads(config.widths[-1], config.heads)
        self.apply(_initialize)

    def forward_features(self, spectrogram: Tensor) -> Tensor:
        """(B, 1, T, F) to the last block's map (B, C, T', F').

        Raises:
            ConfigError: F is not `mels`, or T is too short for the poolings.
        """
        if spectrogram.shape[3] != self.config.mels:
            raise ConfigError(
                f"This CNN14 was made for {self.config.mels} mel bands; the spectrogram has {spectrogram.shape[3]}. "
                "Set network.mels to the front end's mels."
            )
        refuse_small(spectrogram, 2 ** (len(self.config.widths) - 1), self.config.mels, "CNN14")
        return self.blocks(self.stem(spectrogram))

    def pool(self, features: Tensor) -> Tensor:
        """(B, C, T', F') to (B, C): the mean over bands, its maximum and mean over frames, then a hidden layer."""
        frames = features.mean(3)  # (B, C, T')
        pooled = self.dropout(frames.amax(2) + frames.mean(2))  # (B, C)
        return self.dropout(functional.relu(self.hidden(pooled)))


class BandNorm(nn.Module):
    """A batch norm over each mel band: (B, 1, T, F) to the same."""

    def __init__(self, mels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(mels)

    def forward(self, x: Tensor) -> Tensor:
        """(B, 1, T, F) to the same."""
        return self.bn(x.transpose(1, 3)).transpose(1, 3)


def _blocks(config: Cnn14Config) -> list[nn.Module]:
    layers: list[nn.Module] = []
    inputs = 1
    for index, width in enumerate(config.widths):
        layers += [conv_bn(inputs, width, (3, 3), activation=nn.ReLU()), conv_bn(width, width, (3, 3), activation=nn.ReLU())]
        if index + 1 < len(config.widths):
            layers.append(nn.AvgPool2d(2))
        layers.append(nn.Dropout(config.block_dropout))
        inputs = width
    return layers


def _initialize(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
