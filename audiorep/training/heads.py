"""Heads of new classes on a network that was trained already: they begin as a logistic regression on its embeddings.

A head with random weights sends noise back into the trunk and needs many epochs, since embeddings are far from standardized.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from functools import partial
from itertools import chain

import torch
from torch import Tensor, nn
from torch.nn import functional

from audiorep.info import EMBEDDING
from audiorep.training.module import Batch, TaughtBatch, Trainee

PENALTY = 1e-3
"""Weight of half the squared weights, on standardized embeddings, beside the mean loss. Of 0.001 to 0.3 it was the best with
twenty clips of each of 50 classes (ESC-50, 71.3 % of an unseen fold); with five, 0.003 was (63.8 against 62.0 %)."""
PASSES, WINDOWS = 10, 20_000
"""Cuts of each clip that are drawn, and of all clips together."""
STEPS = 200


def fit_heads(trainee: Trainee, heads: Collection[str], epoch: Callable[[int], Iterable[Batch | TaughtBatch | Tensor]]) -> int:
    """Sets the weights of `heads` to those of least loss on augmented training clips, and returns how many were heard.

    Args:
        trainee: whose trunk stays as it is.
        heads: names of heads; one that is no single linear layer stays as it is.
        epoch: the batches of a pass over the clips, by its number.
    """
    embeddings, targets = _listen(trainee, epoch)
    mean, deviation = embeddings.mean(0), embeddings.std(0)
    deviation = deviation.clamp_min(1e-6 + float(deviation.mean()) / 100)  # of values that hardly ever change
    standardized = (embeddings - mean) / deviation
    for head in heads:
        layer = trainee.network.heads[head]  # type: ignore[index]
        if isinstance(layer, nn.Linear):
            wanted = targets[head]
            weight, bias = _regression(standardized, partial(trainee.loss, targets=wanted, head=head), layer.out_features)
            with torch.no_grad():
                layer.weight.copy_(weight / deviation)
                layer.bias.copy_(bias - layer.weight @ mean)
    return len(embeddings)


@torch.no_grad()
def _listen(
    trainee: Trainee, epoch: Callable[[int], Iterable[Batch | TaughtBatch | Tensor]]
) -> tuple[Tensor, dict[str, Tensor]]:
    """Embeddings (N, C) of augmented clips, and {head: targets (N, K)}."""
    embeddings: list[Tensor] = []
    targets: dict[str, list[Tensor]] = {head: [] for head in trainee.labels}
    heard = 0
    trainee.eval()
    for batch in chain.from_iterable(map(epoch, range(PASSES))):
        spectrogram, wanted = trainee.prepare(*trainee.heard(batch))
        embeddings.append(trainee.network(spectrogram)[EMBEDDING])
        for head, values in wanted.items():
            targets[head].append(values)
        heard += len(spectrogram)
        if heard >= WINDOWS:
            break
    trainee.train()
    return torch.cat(embeddings), {head: torch.cat(values) for head, values in targets.items()}


def _regression(inputs: Tensor, loss: Callable[[Tensor], Tensor], classes: int) -> tuple[Tensor, Tensor]:
    """The weights (K, C) and biases (K,) of least penalized `loss` of logits (N, K) of `inputs` (N, C)."""
    weight = inputs.new_zeros(classes, inputs.shape[1]).requires_grad_()
    bias = inputs.new_zeros(classes).requires_grad_()
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=STEPS, line_search_fn="strong_wolfe")

    def penalized() -> Tensor:
        optimizer.zero_grad()
        value = loss(functional.linear(inputs, weight, bias)) + PENALTY / 2 * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimizer.step(penalized)  # type: ignore[no-untyped-call]
    return weight.detach(), bias.detach()
