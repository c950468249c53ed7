"""A network's passes recorded once on a GPU and replayed, so that its many small kernels do not wait for the processor."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from audiorep.models import Network


class LastMap:
    """A network in training up to its last map: (B, 1, T, F) to (B, C, T', F').

    On a GPU the passes over the first batch are recorded as CUDA graphs, forward and backward, and batches of its shape
    replay them. Other batches, and all on a CPU, take the plain way; the numbers are the same.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self._replay: Callable[[Tensor], Tensor] | None = None
        self._shape: torch.Size | None = None

    def __call__(self, spectrogram: Tensor) -> Tensor:
        """(B, 1, T, F) to (B, C, T', F')."""
        if spectrogram.is_cuda and self._replay is None:
            self._replay, self._shape = recorded(self.network, spectrogram), spectrogram.shape
        if self._replay is None or spectrogram.shape != self._shape:
            return self.network.forward_features(spectrogram)
        return self._replay(spectrogram)


class _Features(nn.Module):
    """What is recorded: a module, whose parameters get gradients."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, spectrogram: Tensor) -> Tensor:
        return self.network.forward_features(spectrogram)


def recorded(network: Network, example: Tensor) -> Callable[[Tensor], Tensor]:
    """A function from batches of the shape of `example` (B, 1, T, F) on a GPU to the last map, whose passes are replayed.

    Recording runs the network several times; the statistics of its norms are set back afterwards.
    """
    before = [buffer.clone() for buffer in network.buffers()]
    # a cache of weights in half precision would hold those of the recorded step for ever
    with torch.autocast("cuda", torch.get_autocast_dtype("cuda"), torch.is_autocast_enabled("cuda"), cache_enabled=False):
        replay = torch.cuda.make_graphed_callables(_Features(network), (example.detach().clone(),), allow_unused_input=True)
    with torch.no_grad():
        for buffer, value in zip(network.buffers(), before, strict=True):
            buffer.copy_(value)
    return cast(Callable[[Tensor], Tensor], replay)
