"""Decoded clips on the device that trains: a batch of cuts is one gather there, and the processor only chooses clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset

from audiorep.datasets.clips import Clips

FULL_SCALE = 32_768  # an int16 of a waveform of 1
MEMORY_SHARE = 0.5  # of the device's free memory, at most, for sound


class ClipNumbers(Dataset[int]):
    """What a loader draws from where the sound lies on the device: item i is i, a batch is a tensor of them."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitems__(self, indices: Sequence[int]) -> Tensor:
        """(B,) the numbers of the clips of a batch."""
        return torch.tensor(indices)


@dataclass(frozen=True)
class ResidentClips:
    """The sound of `Clips` on a device, as int16, whose rounding of -98 dB is that of 16-bit files.

    `batch` gives what `Clips.__getitems__` gives, with the positions of the cuts drawn on the device, from the same range.
    """

    sound: Tensor
    """(N,) int16: the clips, one after another."""
    scale: Tensor
    """(clips,) by which each one's numbers become a waveform; more where a clip is louder than full scale."""
    first: Tensor
    """(clips,) each one's first sample in it."""
    length: Tensor
    """(clips,) its samples."""
    low: Tensor
    """(clips,) the earliest start of a cut; negative if a cut begins before the clip."""
    high: Tensor
    """(clips,) the latest start."""
    targets: dict[str, Tensor]
    """{head: (clips, K)}."""
    samples: int
    """In a cut."""
    repeats_end: bool
    """A cut past a clip's end repeats its last sample, and not zeros."""

    def batch(self, numbers: Tensor, generator: Generator) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """(waveforms (B, N), {head: targets (B, K)}, samples (B,)) of the clips with these numbers (B,)."""
        clips = numbers % len(self.length)
        drawn = torch.rand(len(clips), generator=generator, device=clips.device, dtype=torch.float64)
        low, high = self.low[clips], self.high[clips]
        start = low + (drawn * (high - low + 1)).long()
        waveform = self.cuts(clips, start)
        targets = {head: values[clips] for head, values in self.targets.items()}
        return waveform, targets, (self.length[clips] - start).clamp(max=self.samples)

    def cuts(self, clips: Tensor, start: Tensor) -> Tensor:
        """Waveforms (B, N) of the clips with these numbers (B,), from these samples (B,) of theirs on."""
        place = start[:, None] + torch.arange(self.samples, device=start.device)  # (B, N)
        last = self.length[clips, None] - 1
        inside = (place >= 0) & ((place <= last) | self.repeats_end)
        found = self.sound[self.first[clips, None] + torch.minimum(place.clamp_min(0), last)]
        return torch.where(inside, found, 0) * self.scale[clips, None]


def resident(clips: Clips, device: torch.device) -> ResidentClips | None:
    """The clips on `device`, or None where they do not fit in its memory, or some of them are read from files by the cut."""
    sounds = clips.decoded()
    if sounds is None or 2 * sum(map(len, sounds)) > MEMORY_SHARE * _free_memory(device):
        return None
    lengths = torch.tensor([len(sound) for sound in sounds])
    ranges = torch.tensor([clips.start_range(index) for index in range(len(clips))])
    scales = np.array([max(1.0, np.abs(sound).max(initial=0.0)) / FULL_SCALE for sound in sounds], np.float32)
    flat = np.concatenate([_as_int16(sound / scale) for sound, scale in zip(sounds, scales, strict=True)])
    return ResidentClips(
        torch.from_numpy(flat).to(device),
        torch.from_numpy(scales).to(device),
        (lengths.cumsum(0) - lengths).to(device),
        lengths.to(device),
        ranges[:, 0].to(device),
        ranges[:, 1].to(device),
        {head: torch.stack([clips.target(i, head) for i in range(len(clips))]).to(device) for head in clips.labels},
        clips.samples,
        clips.padding == "edge",
    )


def _as_int16(steps: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(steps), -FULL_SCALE, FULL_SCALE - 1).astype(np.int16)


def _free_memory(device: torch.device) -> float:
    """Bytes; without a bound where the device shares the processor's, in which the clips are already."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else float("inf")
