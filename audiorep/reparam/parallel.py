"""A module that adds parallel branches, so that a merge can find them."""

from __future__ import annotations

from torch import Tensor, nn


class Parallel(nn.ModuleDict):
    """Named branches that read one input; their outputs are added."""

    def forward(self, x: Tensor) -> Tensor:
        """The sum of every branch's output for `x`."""
        first, *others = self.values()
        total = first(x)
        for branch in others:
            total = total + branch(x)
        return total
