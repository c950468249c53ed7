"""PyTorch: a checkpoint run as it is, fused, channels last."""

from __future__ import annotations

import os

import numpy as np
import torch
from torch import Tensor, nn

from audiorep import checkpoint
from audiorep.bundle import ModelInfo
from audiorep.checkpoint import Checkpoint
from audiorep.frontend import EdgeFrames, LogMel, MatrixLogMel


class Pipeline(nn.Module):
    """Front end, network and activation in one: (B, N) waveform to {head: scores (B, K)}."""

    def __init__(self, front_end: LogMel | MatrixLogMel, network: nn.Module, info: ModelInfo) -> None:
        super().__init__()
        self.front_end = front_end
        edge_frames = info.padding == "edge_frames"
        self.pad = EdgeFrames(front_end.config.frames(info.window_samples)) if edge_frames else nn.Identity()
        self.network = network
        self.activation = nn.Softmax(-1) if info.activation == "softmax" else nn.Sigmoid()

    def forward(self, waveform: Tensor) -> dict[str, Tensor]:
        """(B, N) to {head: scores (B, K)}."""
        logits = self.network(self.pad(self.front_end(waveform)))
        return {head: self.activation(values) for head, values in logits.items()}


class TorchSession:
    """A checkpoint ready to run: (B, N) float32 at `info.sample_rate` to {head: scores (B, K)}."""

    def __init__(self, model: Checkpoint, threads: int | None = None) -> None:
        if threads:
            torch.set_num_threads(threads)
        self.info: ModelInfo = model.info
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.device = f"PyTorch {torch.__version__}, {self._device}"
        pipeline = Pipeline(model.front_end, model.fuse().model, model.info).eval()
        self._pipeline = pipeline.to(self._device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @classmethod
    def from_checkpoint(cls, folder: str | os.PathLike[str], threads: int | None = None) -> TorchSession:
        """The checkpoint in `folder`, fused.

        Raises:
            CheckpointError: it cannot be used.
        """
        return cls(checkpoint.load(folder), threads)

    def __call__(self, waveform: np.ndarray) -> dict[str, np.ndarray]:
        """Scores of each head for each waveform of the batch."""
        with torch.inference_mode():
            scores = self._pipeline(torch.from_numpy(waveform).to(self._device))
        return {head: values.float().cpu().numpy() for head, values in scores.items()}
