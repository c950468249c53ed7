"""Networks that do more than call each layer once: loops, hooks, conditions, counters, tied weights, recurrent layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from support.networks import conv_bn


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


class ShapeReadTwice(nn.Module):
    """The convolution's output is read for its shape too, which is no use of its values."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8)

    def forward(self, x):
        y = self.conv(x)
        batch, channels, height, width = y.shape
        return self.bn(y).reshape(batch, channels, height * width) + torch.zeros_like(y).flatten(2)


class TiedHead(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed, self.norm, self.head = nn.Embedding(30, 8), nn.LayerNorm(8), nn.Linear(8, 30, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, index):
        return self.head(self.norm(self.embed(index)))


class Hooked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)
        self.conv.register_forward_hook(_double)

    def forward(self, x):
        return self.bn(self.conv(x))


def _double(module, given, output):
    return output * 2


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
