"""What a student learns from its teachers: their softened scores (arXiv 1503.02531) and their last maps (arXiv 1412.6550).

Of the ways to teach a map, a learned projection was taken, not attention transfer (arXiv 1612.03928): these networks
average their last map, of some 4 × 2 cells, so what they know is in its channels, and attention is the one thing that
throws the channels away.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiorep.models import Network


def soften(logits: Tensor, temperature: float, multi_label: bool) -> Tensor:
    """(B, K) logits to scores (B, K) at a temperature: evener than those at 1 where it is higher."""
    scaled = logits.float() / temperature
    return scaled.sigmoid() if multi_label else scaled.softmax(1)


def soft_target_loss(logits: Tensor, scores: Tensor, temperature: float, multi_label: bool) -> Tensor:
    """T² times the divergence of the student's softened scores from its teachers' (arXiv 1503.02531, section 2), a number.

    Zero where both are equal. T² keeps the gradient's size whatever the temperature. The mean is over clips, and with
    `multi_label` over classes too, each of them present or absent: as in the loss of the labels.

    Args:
        logits: the student's (B, K).
        scores: the teachers' (B, K), softened at the same temperature.
        temperature: T.
        multi_label: sigmoids instead of a softmax.
    """
    scaled = logits.float() / temperature
    if not multi_label:
        return temperature**2 * functional.kl_div(scaled.log_softmax(1), scores, reduction="batchmean")
    entropy = -(torch.xlogy(scores, scores) + torch.xlogy(1 - scores, 1 - scores)).mean()
    return temperature**2 * (functional.binary_cross_entropy_with_logits(scaled, scores) - entropy)


def shares(weights: Sequence[float], count: int) -> list[float]:
    """Each of `count` teachers' share, of a sum of 1; without weights all have the same."""
    given = list(weights) or [1.0] * count
    return [weight / sum(given) for weight in given]


def ensemble(scores: Sequence[Mapping[str, Tensor]], weights: Sequence[float] = ()) -> dict[str, Tensor]:
    """The mean of several teachers' {head: scores (B, K)}, weighted where `weights` are given."""
    parts = list(zip(shares(weights, len(scores)), scores, strict=True))
    return {head: torch.stack([share * each[head] for share, each in parts]).sum(0) for head in scores[0]}


class FeatureMatch(nn.Module):
    """How far the student's last map is from a teacher's, after a learned 1×1 projection (FitNets, arXiv 1412.6550, eq. 3)."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(inputs, outputs, 1)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """(B, C_s, T, F) and (B, C_t, T', F') to a number: the squared error as a share of the teacher's square.

        Both are averaged to the smaller size of each axis. A projection to zero costs 1, whatever a teacher's scale.
        """
        size = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
        wanted = functional.adaptive_avg_pool2d(teacher.float(), size)
        given = self.projection(functional.adaptive_avg_pool2d(student, size)).float()
        return (given - wanted).square().mean() / wanted.square().mean().clamp_min(1e-12)


class EmbeddingMatch(nn.Module):
    """How far a linear function of the student's embedding is from the logarithm of 1 and a teacher's.

    An embedding is the mean of the last map, after its activation, and so never negative. Its logarithm keeps the few
    large values from outweighing all others.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.projection = nn.Linear(inputs, outputs)

    def forward(self, student: Tensor, teacher: Tensor) -> Tensor:
        """The last maps (B, C_s, T, F) and (B, C_t, T', F') to the mean squared error, a number."""
        wanted = teacher.float().mean((2, 3)).clamp_min(0).log1p()
        return (self.projection(student.mean((2, 3))).float() - wanted).square().mean()


class WithMap(nn.Module):
    """A network that gives its last map beside its logits."""

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network

    def forward(self, spectrogram: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """(B, 1, T, F) to {head: logits (B, K)} with the embedding, and the last map (B, C, T', F')."""
        last = self.network.forward_features(spectrogram)
        return self.network.classify(last), last
