"""Quantization-aware training: the merged network learns under int8's rounding (arXiv 1712.05877), by torchao's PT2E."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor, nn

from audiorep.datasets import Example
from audiorep.errors import ConfigError, require
from audiorep.models.checkpoint import Checkpoint
from audiorep.models.layers import safe_on_cpu
from audiorep.runtimes.silence import silenced
from audiorep.training import teachers
from audiorep.training.fit import Reports, Run, check_run, train_network
from audiorep.training.recipe import TrainConfig


class Rounding(nn.Module):
    """A copy of a merged network, with the same parameters, that rounds its weights and activations as int8 does.

    Weights have a scale a channel, activations one a tensor. In training the scales follow the values, and gradients pass
    through the rounding; in evaluation the scales stay as they are.

    Raises:
        MissingExtraError: torchao is not installed.
    """

    def __init__(self, fused: nn.Module, example: Tensor) -> None:
        """Rounds `fused`, which takes inputs of the size of `example` (B, 1, T, F), B above 1, in batches of any size."""
        super().__init__()
        with silenced(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of layers that this quantizer leaves alone
            pt2e = require("torchao.quantization.pt2e.quantize_pt2e", extra="qat")
            x86 = require("torchao.quantization.pt2e.quantizer.x86_inductor_quantizer", extra="qat")
            rounding = require("torchao.quantization.pt2e.fake_quantize", extra="qat")
            free = safe_on_cpu(copy.deepcopy(fused))
            for parameter in free.parameters():
                parameter.requires_grad_(True)
            program = torch.export.export(free, (example,), dynamic_shapes=({0: torch.export.Dim("batch")},))
            quantizer = x86.X86InductorQuantizer()
            quantizer.set_global(x86.get_default_x86_inductor_quantization_config(is_qat=True))
            self.program: nn.Module = pt2e.prepare_qat_pt2e(program.module(), quantizer)
        self._follow, self._keep = rounding.enable_observer, rounding.disable_observer
        self._size_scales(example)

    def train(self, mode: bool = True) -> Rounding:
        """Sets the mode of the scales; an exported program has none."""
        self.training = mode
        return self

    def forward(self, spectrogram: Tensor) -> dict[str, Tensor]:
        """(B, 1, T, F) to {head: logits (B, K)} and the embedding (B, C).

        Raises:
            ConfigError: values are NaN, which cannot be rounded.
        """
        self.program.apply(self._follow if self.training else self._keep)
        try:
            outputs: dict[str, Tensor] = self.program(spectrogram.contiguous())
        except RuntimeError as error:
            if "zero_point" not in str(error):  # what the rounding says of NaN
                raise
            raise ConfigError("Training diverged: activations are infinite or NaN. Lower the learning rate.") from None
        return outputs

    @torch.no_grad()
    def _size_scales(self, example: Tensor) -> None:
        """Gives the scales their sizes, which a copy for the average of weights must have; the ranges are forgotten again."""
        self.program(example)
        for name, value in self.program.named_buffers():
            if name.endswith(("min_val", "max_val")) and value.numel() == 1:  # those of channels are of the weights
                value.fill_(torch.inf if name.endswith("min_val") else -torch.inf)

    def weights_in(self, fused: nn.Module) -> nn.Module:
        """A copy of the merged network with the weights that were learned here."""
        made = copy.deepcopy(fused)
        learned = dict(self.program.named_parameters())
        with torch.no_grad():
            for name, parameter in made.named_parameters():
                parameter.copy_(learned[name])
        return made.eval()


def fit(
    model: Checkpoint,
    config: TrainConfig,
    examples: Sequence[Example],
    output: Path,
    say: Callable[[str], None] = lambda text: None,
) -> nn.Module:
    """The merged network of `model`, its weights trained under int8's rounding; `model` stays as it is.

    It is trained as any network is (see `audiorep.training.fit.train_network`) and kept in `output`. What comes out is
    float32: static quantization then measures its ranges as it does any network's.

    Raises:
        ConfigError: the weights went out of range, or `output` holds another run.
        DataError: no readable training clips.
        MissingExtraError: torchao is not installed.
    """
    # an exported program takes one length: validation hears as much at once as training does
    seconds = config.cut_seconds or config.window_seconds
    config = replace(config, window_seconds=seconds, hop_seconds=0.0, cut_seconds=0.0, precise_norms=0)
    labels, fused, front_end = model.info.labels, model.fuse().model, config.front_end_config
    run = Run(config, labels, examples, output, Reports(say=say), teachers.load(config, labels, examples, say))
    check_run(run)
    example = torch.zeros(2, 1, front_end.frames(front_end.samples(seconds)), front_end.mels)
    trained = train_network(run, lambda: Rounding(fused, example))
    assert isinstance(trained, Rounding)
    return trained.weights_in(fused)
