"""The one Dataset class, labelled clips as equally long waveforms and targets, and the order they are drawn in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset, Sampler

from audiorep import audio
from audiorep.datasets.example import Example
from audiorep.errors import AudiorepError, DataError

MEMORY_LIMIT = 4e9  # bytes of decoded sound kept; past it clips are decoded each time they are used
AUDIBLE = 1e-3  # of full scale (-60 dB): quieter samples at a clip's ends are padding
_TOGETHER = 256  # clips decoded between two looks at the limit

_Decoded = tuple[np.ndarray, tuple[int, int]]


class Clips(Dataset[tuple[Tensor, dict[str, Tensor]]]):
    """Item i is (waveform (N,), {head: targets (K,)}): a cut of clip i, zero-padded where the clip is shorter.

    With `random_cuts` the cut's place is drawn from the seed, the epoch and i alone, so it does not depend on the number
    of workers, and at least half of the cut (or of a shorter sound) is audible. Otherwise the cut is the clip's beginning.
    Clips that cannot be read are left out and their errors kept in `failures`. Decoded sound is kept up to MEMORY_LIMIT.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        labels: dict[str, list[str]],
        sample_rate: int,
        samples: int,
        random_cuts: bool,
        seed: int = 0,
    ) -> None:
        self.labels, self.sample_rate, self.samples = labels, sample_rate, samples
        self.random_cuts, self.seed, self.epoch = random_cuts, seed, 0
        self._numbers = {head: {name: k for k, name in enumerate(names)} for head, names in labels.items()}
        self.failures: list[AudiorepError] = []
        self.examples, self._decoded = self._load(examples)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor]]:
        waveforms, targets = self.__getitems__([index])
        return waveforms[0], {head: values[0] for head, values in targets.items()}

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, dict[str, Tensor]]:
        """(waveforms (B, N), {head: targets (B, K)}): a whole batch, written in place once."""
        batch = np.zeros((len(indices), self.samples), np.float32)
        for row, index in zip(batch, indices, strict=True):
            clip, audible = self._clip(index)
            start = self._start(len(clip), audible, index) if self.random_cuts else 0
            inside = clip[max(0, start) : max(0, start + self.samples)]
            row[max(0, -start) : max(0, -start) + len(inside)] = inside
        targets = {head: torch.stack([self.target(index, head) for index in indices]) for head in self.labels}
        return torch.from_numpy(batch), targets

    def class_counts(self, head: str) -> Tensor:
        """(K,) clips of each class."""
        return torch.stack([self.target(index, head) for index in range(len(self))]).sum(0)

    def target(self, index: int, head: str) -> Tensor:
        """(K,) 1 at the clip's labels, 0 elsewhere."""
        target = torch.zeros(len(self.labels[head]))
        target[[self._numbers[head][name] for name in self.examples[index].labels[head]]] = 1.0
        return target

    def _start(self, length: int, audible: tuple[int, int], index: int) -> int:
        """First sample of the cut; negative where it begins before the clip."""
        generator = np.random.default_rng((self.seed, self.epoch, index))
        if length < self.samples:
            return -int(generator.integers(0, self.samples - length + 1))
        first, last = audible
        kept, room = min(self.samples, last - first) // 2, length - self.samples
        low = min(max(first - self.samples + kept, 0), room)
        high = max(min(last - kept, room), low)
        return int(generator.integers(low, high + 1))

    def _clip(self, index: int) -> _Decoded:
        """Clip `index`; one that has become unreadable gives its place to the next."""
        if index < len(self._decoded):
            return self._decoded[index]
        for step in range(len(self)):
            try:
                return _decode(self.examples[(index + step) % len(self)], self.sample_rate)
            except AudiorepError as error:
                self.failures.append(error)
        raise DataError(f"None of the {len(self)} clips can be read; the last said: {self.failures[-1]}")

    def _load(self, examples: Sequence[Example]) -> tuple[list[Example], list[_Decoded]]:
        """The clips left to use, and the first of them decoded, up to the memory limit."""
        readable: list[Example] = []
        decoded: list[_Decoded] = []
        size = 0
        with ThreadPoolExecutor(4) as pool:
            for first in range(0, len(examples), _TOGETHER):
                some = examples[first : first + _TOGETHER]
                if size > MEMORY_LIMIT:
                    return readable + list(examples[first:]), decoded
                for example, clip in zip(some, pool.map(self._attempt, some), strict=True):
                    if isinstance(clip, AudiorepError):
                        self.failures.append(clip)
                    else:
                        readable.append(example)
                        decoded.append(clip)
                        size += clip[0].nbytes
        return readable, decoded

    def _attempt(self, example: Example) -> _Decoded | AudiorepError:
        try:
            return _decode(example, self.sample_rate)
        except AudiorepError as error:
            return error


class EpochSampler(Sampler[int]):
    """Clip numbers in an order drawn from the seed and the epoch; tells the clips which epoch it is.

    `balanced` draws, with replacement, every class of the first head equally often.
    """

    def __init__(self, clips: Clips, seed: int, balanced: bool = False) -> None:
        self._clips, self._seed = clips, seed
        self._weights = _rarity(clips) if balanced else None

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self._clips.epoch = epoch

    def __len__(self) -> int:
        return len(self._clips)

    def __iter__(self) -> Iterator[int]:
        generator = Generator().manual_seed(epoch_seed(self._seed, self._clips.epoch))
        if self._weights is None:
            return iter(torch.randperm(len(self), generator=generator).tolist())
        return iter(torch.multinomial(self._weights, len(self), replacement=True, generator=generator).tolist())


def epoch_seed(seed: int, epoch: int) -> int:
    """One number for a run's seed and an epoch of it, so that an epoch's draws depend on nothing else."""
    return seed * 100_003 + epoch


def _rarity(clips: Clips) -> Tensor:
    """(clips,) weights inverse to the frequency of each clip's class."""
    head = next(iter(clips.labels))
    rarity = 1 / clips.class_counts(head).clamp_min(1)
    return torch.stack([(clips.target(index, head) * rarity).max() for index in range(len(clips))])


def _decode(example: Example, sample_rate: int) -> _Decoded:
    """The clip's waveform, and where its audible part begins and ends."""
    waveform = audio.read(example.path, sample_rate, example.start, example.end)
    audible = np.flatnonzero(np.abs(waveform) > AUDIBLE)
    return waveform, (int(audible[0]), int(audible[-1]) + 1) if len(audible) else (0, len(waveform))
