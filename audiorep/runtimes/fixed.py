"""Running models of one fixed shape: one clip of one window at a time."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from audiorep.bundle import ModelInfo
from audiorep.errors import BundleError

Run = Callable[[np.ndarray, int], dict[str, np.ndarray]]
"""One clip (1, N), and how many of its samples are sound, to {head: scores (1, K)}."""


def scores(info: ModelInfo, waveform: np.ndarray, run: Run) -> dict[str, np.ndarray]:
    """(B, N) to {head: scores (B, K)}, through `run` for each clip; N is a window's, or less where the model fills it.

    Raises:
        BundleError: another number of samples.
    """
    clips, samples = waveform.shape
    _check_length(info, samples)
    filled = np.pad(waveform, ((0, 0), (0, info.window_samples - samples)))
    result = {head: np.empty((clips, len(names)), np.float32) for head, names in info.labels.items()}
    for index in range(clips):
        for head, values in run(filled[index : index + 1], samples).items():
            result[head][index] = values[0]
    return result


def fills(info: ModelInfo) -> bool:
    """Whether the model itself fills what a short clip lacks (see `fixed_program.FixedPipeline`), so must know its length."""
    return info.padding == "edge_frames"


def _check_length(info: ModelInfo, samples: int) -> None:
    window = info.window_samples
    if samples == window or (fills(info) and 0 < samples < window):
        return
    at_most = "at most " if fills(info) else ""
    raise BundleError(
        f"This model was exported for one length of sound and takes {at_most}{info.window_seconds:g} s ({window} samples) at a "
        f"time; {samples / info.sample_rate:.4g} s ({samples}) were given. Use windows of {info.window_seconds:g} s, or export "
        "to .onnx, which takes any length."
    )
