"""Running models of one fixed shape: one clip of one window at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from audiorep.errors import BundleError
from audiorep.info.model_info import ModelInfo

Run = Callable[[np.ndarray, int], dict[str, np.ndarray]]
"""One clip (1, N), and how many of its samples are sound, to some of its outputs, {name: (1, size)}."""

UNMEASURABLE = "The network gives NaN or infinite values on a clip to calibrate on; leave that clip out."


def clip_by_clip(info: ModelInfo, waveform: np.ndarray, outputs: Sequence[str], run: Run) -> dict[str, np.ndarray]:
    """(B, N) to {name: (B, size)} of `outputs`, by `run` for each clip; N is a window's, or less where the model fills it.

    Raises:
        BundleError: another number of samples.
    """
    clips, samples = waveform.shape
    filled = _filled(info, waveform)
    result = {output: np.empty((clips, info.outputs[output]), np.float32) for output in outputs}
    for index in range(clips):
        found = run(filled[index : index + 1], samples)
        for output in outputs:
            result[output][index] = found[output][0]
    return result


def inputs(info: ModelInfo, calibration: Sequence[np.ndarray]) -> list[dict[str, np.ndarray]]:
    """What a model is given for each of `calibration`, (n,) waveforms, by name and in order.

    That is `waveform` (1, N) float32 and, where it fills short clips, their `samples` (1,) int32.

    Raises:
        BundleError: there are none, or one has another number of samples.
    """
    if not calibration:
        raise BundleError("int8 needs clips to measure the ranges of activations on; give some with --calibration.")
    names = ("waveform", "samples")[: 1 + fills(info)]
    values = ((_filled(info, clip[None]), np.array([len(clip)], np.int32)) for clip in calibration)
    return [dict(zip(names, pair, strict=False)) for pair in values]


def fills(info: ModelInfo) -> bool:
    """Whether the model fills what a short clip lacks (see `export.fixed_program.FixedPipeline`), so must know its length."""
    return info.padding == "edge_frames"


def _filled(info: ModelInfo, waveform: np.ndarray) -> np.ndarray:
    """(B, n) to (B, N), with zeros at its end."""
    window, samples = info.window_samples, waveform.shape[1]
    if samples == window or (fills(info) and 0 < samples < window):
        return np.pad(waveform, ((0, 0), (0, window - samples)))
    at_most = "at most " if fills(info) else ""
    raise BundleError(
        f"This model was exported for one length of sound and takes {at_most}{info.window_seconds:g} s ({window} samples) at a "
        f"time; {samples / info.sample_rate:.4g} s ({samples}) were given. Use windows of {info.window_seconds:g} s, or export "
        "to .onnx, which takes any length."
    )
