"""A checkpoint as a torch module of one fixed shape, for formats whose graphs have no dynamic ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from audiorep.models.checkpoint import Checkpoint
from audiorep.models.front_end import forms, repeat_last
from audiorep.runtimes.fixed_shape import fills
from audiorep.runtimes.torch import Pipeline


class FixedPipeline(nn.Module):
    """A checkpoint, fused, for one clip of one window: (1, N) waveform to {name: (1, size)} of its outputs, in their order.

    A shape that does not change cannot be a short clip's. Where the model fills one with its last log-mel frame (`padding`
    edge_frames), zeros follow it in the waveform, and its length in samples, (1,) int32, says from which frame on.
    """

    centers: Tensor

    def __init__(self, model: Checkpoint, form: str = "halves") -> None:
        super().__init__()
        self.pipeline = Pipeline(model.front_end.exportable(form), model.fuse().model, model.info)
        self.pipeline.pad = nn.Identity()
        front_end = model.front_end.config
        centers = front_end.first + front_end.hop * torch.arange(front_end.frames(model.info.window_samples), dtype=torch.int32)
        centers[0] = 0  # the first frame is there for any sound
        self.register_buffer("centers", centers[None], persistent=False)  # (1, T), the samples from which on there is a frame
        self.outputs = list(model.info.outputs)

    def forward(self, waveform: Tensor, samples: Tensor | None = None) -> dict[str, Tensor]:
        """(1, N) and, where it matters, (1,) samples of sound, to {head: scores (1, K)} and the embedding (1, C)."""
        found = self.pipeline.activated(self.pipeline.network(self.spectrogram(waveform, samples)))
        return {output: found[output] for output in self.outputs}

    def spectrogram(self, waveform: Tensor, samples: Tensor | None = None) -> Tensor:
        """What the network sees: (1, 1, T, F)."""
        spectrogram = self.pipeline.front_end(waveform)
        if samples is None:
            return spectrogram
        frames = (self.centers <= samples[:, None]).int().sum(1)  # counted, since coremltools makes a quotient a float
        return repeat_last(spectrogram, frames)


def fixed_program(model: Checkpoint, small: bool = False) -> tuple[FixedPipeline, tuple[Tensor, ...]]:
    """The module, its front end in the form of fewest constants where it is to be small, and an example of what it takes."""
    form = forms(model.front_end.config)[0] if small else "halves"
    samples = model.info.window_samples
    example = (torch.zeros(1, samples), *([torch.tensor([samples], dtype=torch.int32)] if fills(model.info) else []))
    return FixedPipeline(model, form).eval(), example
