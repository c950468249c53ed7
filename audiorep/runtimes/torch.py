"""PyTorch: a checkpoint run as it is, fused, channels last."""

from __future__ import annotations

import copy
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from audiorep.info import EMBEDDING
from audiorep.info.front_end import FrontEndConfig
from audiorep.info.model_info import ModelInfo
from audiorep.models import checkpoint
from audiorep.models.checkpoint import Checkpoint
from audiorep.models.front_end import EdgeFrames, LogMel, MatrixLogMel
from audiorep.models.layers import channels_last
from audiorep.runtimes import Session, running


class Scores(nn.Module):
    """A network and its activation: (B, 1, T, F) log-mel to {head: scores (B, K)} and the embedding (B, C)."""

    def __init__(self, network: nn.Module, info: ModelInfo) -> None:
        super().__init__()
        frames = FrontEndConfig(**info.front_end).frames(info.window_samples)
        self.pad = EdgeFrames(frames) if info.padding == "edge_frames" else nn.Identity()
        self.network = network
        self.activation = nn.Softmax(-1) if info.activation == "softmax" else nn.Sigmoid()

    def forward(self, spectrogram: Tensor) -> dict[str, Tensor]:
        """(B, 1, T, F) to {head: scores (B, K)} and the embedding (B, C)."""
        return self.activated(self.network(self.pad(spectrogram)))

    def activated(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The outputs of the network with scores in place of logits."""
        return {name: values if name == EMBEDDING else self.activation(values) for name, values in outputs.items()}


class Pipeline(Scores):
    """Front end, network and activation in one: (B, N) waveform to {head: scores (B, K)} and the embedding (B, C)."""

    def __init__(self, front_end: LogMel | MatrixLogMel, network: nn.Module, info: ModelInfo) -> None:
        super().__init__(network, info)
        self.front_end = front_end

    def forward(self, waveform: Tensor) -> dict[str, Tensor]:
        """(B, N) to {head: scores (B, K)} and the embedding (B, C)."""
        return super().forward(self.front_end(waveform))


class TorchSession(Session):
    """A checkpoint, or its folder, ready to run fused: (B, N) float32 at `info.sample_rate` to scores and embeddings.

    In bf16 the network runs under autocast; the front end stays in float32.

    Raises:
        CheckpointError: the folder cannot be used.
    """

    def __init__(self, model: Checkpoint | str | os.PathLike[str], threads: int | None = None, precision: str = "fp32") -> None:
        if threads:
            torch.set_num_threads(threads)
        self._path = Path(model.architecture if isinstance(model, Checkpoint) else model)
        if not isinstance(model, Checkpoint):
            model = checkpoint.load(model)
        self.info: ModelInfo = model.info
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._half = precision == "bf16"
        self.device = f"PyTorch {torch.__version__}, {self._device}, {precision}"
        pipeline = Pipeline(model.front_end, channels_last(copy.deepcopy(model.fuse().model)), model.info).eval()
        self._pipeline: Pipeline = pipeline.to(self._device)

    def run(self, waveform: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """The outputs that are asked for: {name: (B, size)}."""
        with running(self._path), torch.inference_mode(), torch.autocast(self._device.type, torch.bfloat16, enabled=self._half):
            found = self._pipeline(torch.from_numpy(waveform).to(self._device))
        return {output: found[output].float().cpu().numpy() for output in outputs}


class CompiledTorchSession(TorchSession):
    """The same with the network through `torch.compile`, on a GPU as CUDA graphs; a batch size's first call compiles."""

    def __init__(self, model: Checkpoint | str | os.PathLike[str], threads: int | None = None, precision: str = "fp32") -> None:
        super().__init__(model, threads, precision)
        mode = "reduce-overhead" if self._device.type == "cuda" else "default"
        self._pipeline.network.compile(mode=mode, dynamic=False)  # not the front end: an FFT has no compiled form
        self.device += ", compiled"
