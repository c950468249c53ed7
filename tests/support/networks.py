"""Small networks in which merging is easy to get wrong, and statistics that show it."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn


def randomize(network: nn.Module, seed: int = 0) -> nn.Module:
    """Statistics, affines and biases far from their defaults, so that a wrong border or a forgotten shift shows."""
    generator = torch.Generator().manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.running_mean is not None:
            module.running_mean.normal_(0, 0.5, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
        if "Norm" in type(module).__name__:
            for name, parameter in module.named_parameters(recurse=False):
                nn.init.normal_(parameter, float("weight" in name), 0.3, generator)
    return network.eval()


def conv_bn(inputs: int, outputs: int, kernel, **more) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, kernel, bias=False, **more), nn.BatchNorm2d(outputs))


class Residual(nn.Module):
    """Conv-BN beside a plain identity, with what follows in place, as ResNets are written."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.relu = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True)

    def forward(self, x):
        y = self.bn(self.conv(self.relu(x * 1.5)))
        y += x
        return self.relu(y)


class ConvOfTwoNorms(nn.Module):
    """One convolution's output read by two batch norms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.first, self.second = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.BatchNorm2d(8)

    def forward(self, x):
        y = self.conv(x)
        return self.first(y).relu() + self.second(y).tanh()


class NormOfTwoConvs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(8, 8, 3, padding=1, bias=False) for _ in range(2))
        self.bn = nn.BatchNorm2d(8)

    def forward(self, x):
        return self.bn(self.first(x)).relu() + self.bn(self.second(x)).tanh()


class InPlaceThroughAlias(nn.Module):
    """A slice of the convolution's output is written before the batch norm reads it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)

    def forward(self, x):
        y = self.conv(x)
        y[:, :4].mul_(2)
        z = self.bn(y)
        z.view(-1).add_(1)
        return z + y


class UsedTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)

    def forward(self, x):
        y = self.conv(x)
        return self.bn(y), y


class NormThroughReshape(nn.Module):
    """A batch norm over a flattened sequence, reshaped back (LeViT)."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.bn = nn.Linear(8, 12), nn.BatchNorm1d(12)

    def forward(self, x):
        y = self.linear(x)
        return self.bn(y.flatten(0, 1)).reshape_as(y)


class PoolBranches(nn.Module):
    """Average pools beside a convolution (Diverse Branch Block); the one that does not count its padding stays."""

    def __init__(self) -> None:
        super().__init__()
        self.main = conv_bn(8, 8, 3, padding=1)
        self.pool = nn.Sequential(nn.AvgPool2d(3, 1, 1), nn.BatchNorm2d(8))
        self.point = nn.Sequential(nn.Conv2d(8, 8, 1, bias=False), nn.AvgPool2d(3, 1, 1), nn.BatchNorm2d(8))
        self.other = nn.AvgPool2d(3, 1, 1, count_include_pad=False)

    def forward(self, x):
        return self.main(x) + self.pool(x) + self.point(x) + self.other(x)


class Asymmetric(nn.Module):
    """3×3, 3×1 and 1×3 (ACNet)."""

    def __init__(self) -> None:
        super().__init__()
        self.square = conv_bn(8, 8, 3, padding=1)
        self.tall, self.wide = conv_bn(8, 8, (3, 1), padding=(1, 0)), conv_bn(8, 8, (1, 3), padding=(0, 1))

    def forward(self, x):
        return self.square(x) + self.tall(x) + self.wide(x)


class Concatenated(nn.Module):
    """Two siblings of one kernel and one of another, concatenated before a batch norm and a 1×1."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = conv_bn(8, 4, 3, padding=1), conv_bn(8, 6, 3, padding=1), conv_bn(8, 2, 1)
        self.bn, self.last = nn.BatchNorm2d(12), conv_bn(12, 8, 1)

    def forward(self, x):
        return self.last(self.bn(torch.cat([self.first(x), self.second(x), self.third(x)], 1)).relu())


class Transposed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.ConvTranspose2d(8, 6, 4, 2, 1, groups=2, bias=False), nn.BatchNorm2d(6))
        self.second = nn.Sequential(nn.ConvTranspose2d(8, 6, 2, 2, groups=2), nn.BatchNorm2d(6))
        self.third = nn.ConvTranspose2d(8, 6, 3, 2, 1, output_padding=1, groups=2)

    def forward(self, x):
        return self.first(x) + self.second(x) + self.third(x)


class Constants(nn.Module):
    """A gate, a layer scale, weight norm and spectral norm: computed from parameters alone."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate, self.scale = (
            nn.Conv2d(8, 8, 3, padding=1),
            nn.Parameter(torch.randn(1)),
            nn.Parameter(torch.randn(8, 1, 1)),
        )
        self.normed = nn.utils.parametrizations.weight_norm(nn.Conv2d(8, 8, 3))
        self.spectral = nn.utils.parametrizations.spectral_norm(nn.Linear(8, 8))

    def forward(self, x):
        y = x + torch.sigmoid(self.gate) * self.scale * self.conv(x)
        return self.spectral(self.normed(y.relu()).permute(0, 2, 3, 1))


class NormBeforePaddedConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn, self.conv = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        return self.conv(self.bn(x))


class NormBeforeUnpaddedConv(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.bn, self.conv = nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3)

    def forward(self, x):
        return self.conv(self.bn(x))


class Reflected(nn.Module):
    """Two reflect-padded branches before a batch norm: one padding, one convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect") for _ in range(2))
        self.bn = nn.BatchNorm2d(8)

    def forward(self, x):
        return self.bn(self.first(x) + self.second(x))


class MixedPadding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"), nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        return self.first(x) + self.second(x)


class Chain(nn.Module):
    """1×1 then padded 3×3 without a bias between, and 3×3 then 1×1."""

    def __init__(self) -> None:
        super().__init__()
        self.widen, self.narrow = nn.Conv2d(8, 32, 1, bias=False), nn.Conv2d(32, 8, 3, padding=1)
        self.kernel, self.point = nn.Conv2d(8, 8, 3), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        return self.point(self.kernel(self.narrow(self.widen(x)).relu()))


class PointWithPadding(nn.Module):
    """A 1×1 that carries the padding, with its bias, before a 3×3 without."""

    def __init__(self) -> None:
        super().__init__()
        self.point, self.kernel = nn.Conv2d(8, 8, 1, padding=1), nn.Conv2d(8, 8, 3)

    def forward(self, x):
        return self.kernel(self.point(x))


class PooledHeads(nn.Module):
    """1×1, mean over the map, and two heads averaged (LeViT, RepViT)."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.first, self.second = conv_bn(8, 32, 1), nn.Linear(32, 5), nn.Linear(32, 5)

    def forward(self, x):
        pooled = self.features(x).mean((2, 3))
        return (self.first(pooled) + self.second(pooled)) / 2


class AffineFree(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(8, 8, 3, bias=False), nn.BatchNorm2d(8, affine=False)

    def forward(self, x):
        return self.bn(self.conv(x))


class EvenKernels(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.four, self.two = nn.Conv2d(8, 8, 4, padding="same"), nn.Conv2d(8, 8, 2, padding="same")
        self.three = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x):
        return self.four(x) + self.two(x) + self.three(x) - 0.5 * x


class PaddedByHand(nn.Module):
    """TensorFlow's padding, on one side, beside a branch without."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel, self.point, self.bn = nn.Conv2d(8, 8, 3, 2), nn.Conv2d(8, 8, 1, 2), nn.BatchNorm2d(8)

    def forward(self, x):
        return self.bn(self.kernel(F.pad(x, (0, 1, 0, 1)))) + self.point(x)


class ConvNextBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mix, self.norm = nn.Conv2d(8, 8, 7, padding=3, groups=8), nn.LayerNorm(8)
        self.widen, self.narrow, self.gamma = nn.Linear(8, 32), nn.Linear(32, 8), nn.Parameter(torch.randn(8))

    def forward(self, x):
        y = self.narrow(F.gelu(self.widen(self.norm(self.mix(x).permute(0, 2, 3, 1)))))
        return x + (self.gamma * y).permute(0, 3, 1, 2)


class GroupNorms(nn.Module):
    """One whose readers all take its affine, one before a padded convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.point, self.kernel = nn.GroupNorm(2, 8), nn.Conv2d(8, 4, 1), nn.Conv2d(8, 4, 3)
        self.second, self.padded = nn.GroupNorm(2, 8), nn.Conv2d(8, 4, 3, padding=1)

    def forward(self, x):
        y = self.first(x)
        return self.point(y)[:, :, 1:-1, 1:-1] + self.kernel(y) + self.padded(self.second(x))[:, :, 1:-1, 1:-1]


class FrozenNorm(nn.Module):
    """A batch norm that is only buffers and arithmetic (detection networks)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 8, 3)
        for name in ("weight", "bias", "mean", "var"):
            self.register_buffer(name, torch.rand(8) + 0.5)

    def forward(self, x):
        gain = (self.weight * (self.var + 1e-5).rsqrt()).view(1, -1, 1, 1)
        return self.conv(x) * gain + (self.bias.view(1, -1, 1, 1) - self.mean.view(1, -1, 1, 1) * gain)


class Adapter(nn.Module):
    """A linear layer with a low-rank adapter and a residual (LoRA)."""

    def __init__(self) -> None:
        super().__init__()
        self.base, self.down, self.up = nn.Linear(8, 8), nn.Linear(8, 2, bias=False), nn.Linear(2, 8, bias=False)

    def forward(self, x):
        return x + self.base(x) + 2 * self.up(self.down(x))


class NarrowLinears(nn.Module):
    """Two linear layers through a bottleneck, and a separable kernel: fewer values as two."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up = nn.Linear(16, 2), nn.Linear(2, 16)
        self.tall = nn.Conv2d(8, 8, (9, 1), groups=8)
        self.wide = nn.Conv2d(8, 8, (1, 9), groups=8)

    def forward(self, x):
        return self.up(self.down(self.wide(self.tall(x)).flatten(2)[..., :16]))
