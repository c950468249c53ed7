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


class ConvCalledTwice(nn.Module):
    """One convolution called twice, each time with another batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.first, self.second = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.BatchNorm2d(8)

    def forward(self, x):
        return self.first(self.conv(x)).relu() + self.second(self.conv(x.flip(2))).relu()


class BlockCalledTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())

    def forward(self, x):
        return self.block(self.block(x))


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


class ShapeReadTwice(nn.Module):
    """The convolution's output is read for its shape too, which is no use of its values."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)

    def forward(self, x):
        y = self.conv(x)
        batch, channels, height, width = y.shape
        return self.bn(y).reshape(batch, channels, height * width) + torch.zeros_like(y).flatten(2)


class NormThroughReshape(nn.Module):
    """A batch norm over a flattened sequence, reshaped back (LeViT)."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.bn = nn.Linear(8, 12), nn.BatchNorm1d(12)

    def forward(self, x):
        y = self.linear(x)
        return self.bn(y.flatten(0, 1)).reshape_as(y)


class TiedHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm, self.head = nn.Embedding(30, 8), nn.LayerNorm(8), nn.Linear(8, 30, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, index):
        return self.head(self.norm(self.embed(index)))


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


class Hooked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)
        self.conv.register_forward_hook(_double)

    def forward(self, x):
        return self.bn(self.conv(x))


def _double(module, given, output):
    return output * 2


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


class WithoutGradients(nn.Module):
    """A region without gradients, and a spectrum."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn, self.filter = nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.Parameter(torch.randn(8, 14, 8, 2))

    def forward(self, x):
        with torch.no_grad():
            y = self.bn(self.conv(x))
        return torch.fft.irfft2(torch.fft.rfft2(y) * torch.view_as_complex(self.filter), s=(14, 14))


class Counting(nn.Module):
    """Counts its calls in a buffer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))

    def forward(self, x):
        self.calls += 1
        return self.bn(self.conv(x))


class Loop(nn.Module):
    """One branched block, five times."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel, self.point = conv_bn(8, 8, 3, padding=1), conv_bn(8, 8, 1)

    def forward(self, x):
        for _ in range(5):
            x = torch.relu(self.kernel(x) + self.point(x) + x)
        return x


class Decoder(nn.Module):
    """Up by a transposed convolution and by interpolation, with a skip, and a head through a pixel shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.shuffle = conv_bn(8, 16, 3, stride=2, padding=1), nn.PixelShuffle(2)
        self.up = nn.Sequential(nn.ConvTranspose2d(16, 8, 3, 2, 1, 1), nn.BatchNorm2d(8))
        self.zoom = nn.Sequential(nn.Conv2d(16, 8, 1), nn.Upsample(scale_factor=2, mode="bilinear"), nn.BatchNorm2d(8))
        self.last = nn.BatchNorm2d(4)

    def forward(self, x):
        y = self.down(x).relu()
        return self.up(y) + self.zoom(y) + x, self.last(self.shuffle(y))


class Conditional(nn.Module):
    """A condition that the exporter keeps as a region of its own, beside a block."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(conv_bn(8, 8, 3), nn.ReLU())

    def forward(self, x):
        y = self.block(x)
        return torch.cond(y.sum() > 0, lambda t: t * 2, lambda t: t - 1, (y,))


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)

    def forward(self, x):
        return self.bn(self.conv(x)) + torch.rand(1)


class Classifier(nn.Module):
    """Embedding, layer norm, recurrent layers, head."""

    def __init__(self, kind=nn.LSTM, **more) -> None:
        super().__init__()
        self.embed, self.norm = nn.Embedding(50, 8), nn.LayerNorm(8)
        self.rnn = kind(8, 6, 2, batch_first=True, **more)
        self.head = nn.Linear(6 * (1 + self.rnn.bidirectional), 5)

    def forward(self, index):
        return self.head(self.rnn(self.norm(self.embed(index)))[0][:, -1])


class Detector(nn.Module):
    """Control flow that depends on the data, around a backbone and a head called on every level."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(conv_bn(3, 8, 3, stride=2), nn.ReLU(), conv_bn(8, 8, 3, padding=1), nn.ReLU())
        self.head = nn.Sequential(conv_bn(8, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 5, 1))

    def forward(self, x):
        features = self.backbone(x)
        levels = [features, F.max_pool2d(features, 2)]
        found = torch.cat([self.head(level).flatten(2) for level in levels], 2)
        if found.max() > 0:
            found = found[:, :, found.amax((0, 1)) > 0]
        return found


class SizeBranch(nn.Module):
    """Computes something else for large inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)

    def forward(self, x):
        y = self.bn(self.conv(x))
        return y if x.shape[2] < 20 else 2 * y
