"""Merge the branches and batch norms of a network that knows nothing of audiorep."""

import torch
from torch import Tensor, nn

import audiorep


class Branches(nn.Module):
    """A convolution of 3x3, one of 1x1 and the input itself, added, as in RepVGG."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.wide = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels))
        self.narrow = nn.Sequential(nn.Conv2d(channels, channels, 1), nn.BatchNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) to the same."""
        return torch.relu(self.wide(x) + self.narrow(x) + x)


network = nn.Sequential(Branches(8), Branches(8)).eval()
result = audiorep.fuse(network, torch.randn(1, 8, 32, 32))
print(result)  # what was merged, what was left and why, and the measured difference
print(result.model(torch.randn(4, 8, 32, 32)).shape)
