"""Quantization-aware training: the merged network learns under int8's rounding (arXiv 1712.05877), by torchao's PT2E."""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from audiorep.datasets import Example
from audiorep.datasets.clips import EpochSampler
from audiorep.errors import ConfigError, require
from audiorep.models.checkpoint import Checkpoint
from audiorep.models.layers import safe_on_cpu
from audiorep.runtimes.silence import quiet
from audiorep.training.fit import clips_of, make_loaders
from audiorep.training.module import Batch, Trainee
from audiorep.training.recipe import TrainConfig


def rounding(fused: nn.Module, example: Tensor) -> nn.Module:
    """A copy of a merged network, with the same parameters, that rounds its weights and activations as int8 does.

    Weights have a scale a channel, activations one a tensor that follows what they are; gradients pass through
    (`example`: (B, 1, T, F), B above 1).

    Raises:
        MissingExtraError: torchao is not installed.
    """
    with quiet(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of layers that this quantizer leaves alone
        pt2e = require("torchao.quantization.pt2e.quantize_pt2e", extra="qat")
        x86 = require("torchao.quantization.pt2e.quantizer.x86_inductor_quantizer", extra="qat")
        free = safe_on_cpu(copy.deepcopy(fused))
        for parameter in free.parameters():
            parameter.requires_grad_(True)
        program = torch.export.export(free, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
        quantizer = x86.X86InductorQuantizer()
        quantizer.set_global(x86.get_default_x86_inductor_quantization_config(is_qat=True))
        made: nn.Module = pt2e.prepare_qat_pt2e(program.module(), quantizer)
    return made


def fit(
    model: Checkpoint,
    config: TrainConfig,
    examples: Sequence[Example],
    say: Callable[[str], None] = lambda text: None,
) -> nn.Module:
    """The merged network of `model`, its weights trained for `config.epochs` under int8's rounding; `model` stays as it is.

    What comes out is float32: static quantization then measures its ranges as it does any network's.

    Raises:
        ConfigError: the weights went out of range.
        DataError: no readable training clips.
        MissingExtraError: torchao is not installed.
    """
    torch.manual_seed(config.seed)
    labels = model.info.labels
    train, valid = (clips_of(config, examples, labels, split) for split in ("train", "valid"))
    sampler = EpochSampler(train, config.seed, config.balance == "sampling")
    loader = make_loaders(config, train, valid, sampler)[0]
    fused = model.fuse().model
    trainee = Trainee(config, labels, len(loader), {})  # for its augmentation and loss
    example, _ = trainee.prepare(*next(iter(loader)))  # as long as a training cut
    network = rounding(fused, example.contiguous())
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.optimizer.learning_rate, weight_decay=0.0)
    for epoch in range(config.epochs):
        sampler.set_epoch(epoch)
        trainee.seed_epoch(epoch)
        total = 0.0
        for step, batch in enumerate(loader):
            progress = (epoch + step / len(loader)) / config.epochs
            for group in optimizer.param_groups:
                group["lr"] = config.optimizer.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))
            total += _step(network, trainee, batch, optimizer)
        say(f"epoch {epoch + 1}/{config.epochs}: train loss {total / len(loader):.4g}")
    return _with_weights(fused, network)


def _step(network: nn.Module, trainee: Trainee, batch: Batch, optimizer: torch.optim.Optimizer) -> float:
    """One step of training; the loss."""
    spectrogram, targets = trainee.prepare(*batch)
    try:
        logits = network(spectrogram.contiguous())
    except RuntimeError as error:
        if "zero_point" not in str(error):  # what the rounding says of NaN
            raise
        logits = {head: torch.full_like(values, math.nan) for head, values in targets.items()}
    loss = torch.stack([trainee.loss(values, targets[head], head) for head, values in logits.items()]).mean()
    if not loss.isfinite():
        raise ConfigError("Training diverged: the loss is infinite or NaN. Lower the learning rate.")
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(network.parameters(), trainee.settings.gradient_clip or math.inf)
    optimizer.step()
    return loss.item()


def _with_weights(fused: nn.Module, trained: nn.Module) -> nn.Module:
    """The merged network with the weights of its rounded copy."""
    made = copy.deepcopy(fused)
    there = dict(trained.named_parameters())
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            parameter.copy_(there[name])
    return made.eval()
