"""The one Dataset class, labelled clips as equally long waveforms and targets, and the order they are drawn in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from torch import Generator, Tensor
from torch.utils.data import Dataset, Sampler

from audiorep import audio
from audiorep.audio import containers
from audiorep.datasets.example import Example
from audiorep.errors import AudioError, AudiorepError, DataError

MEMORY_LIMIT = 4e9  # bytes of decoded sound kept; past it clips are decoded each time they are used
AUDIBLE = 1e-3  # of full scale (-60 dB): quieter samples at a clip's ends are padding
LONG_SECONDS = 30.0  # of a clip longer than this only the cut is read, by seeking
_TOGETHER = 256  # clips decoded between two looks at the limit


@dataclass(frozen=True)
class _Sound:
    """One clip, decoded, or as long as to be read a cut at a time."""

    example: Example
    length: int
    audible: tuple[int, int]
    """First sample that is heard, and the one after the last."""
    waveform: np.ndarray | None
    """(length,), or None where cuts are read from the file."""

    def cut(self, start: int, stop: int, sample_rate: int) -> np.ndarray:
        """Samples `start` to `stop`, as many of them as there are."""
        start, stop = max(0, start), min(max(0, stop), self.length)
        if self.waveform is not None:
            return self.waveform[start:stop]
        first = self.example.start
        return audio.read(self.example.path, sample_rate, first + start / sample_rate, first + stop / sample_rate)[
            : stop - start
        ]


class Clips(Dataset[tuple[Tensor, dict[str, Tensor], Tensor]]):
    """Item i is (waveform (N,), {head: targets (K,)}, samples ()): a cut of clip i, and how much of it is sound.

    With `random_cuts` the cut's place is drawn from the seed, the epoch and i alone, so it does not depend on the number
    of workers, and at least half of the cut (or of a shorter sound) is audible. Otherwise the cut is the clip's beginning.
    A clip shorter than the cut lies anywhere in it with `padding` "zeros", else at its beginning with its last sample
    repeated ("edge"), or with zeros whose frames are to repeat the last ("edge_frames").
    Targets hold a row of each tensor (clips, K) in `extra` too, by its name.
    Clips that cannot be read are left out and their errors kept in `failures`. Decoded sound is kept up to MEMORY_LIMIT;
    of clips longer than LONG_SECONDS only the cut is ever read.
    """

    def __init__(
        self,
        examples: Sequence[Example],
        labels: dict[str, list[str]],
        sample_rate: int,
        samples: int,
        random_cuts: bool,
        seed: int = 0,
        padding: str = "zeros",
    ) -> None:
        self.labels, self.sample_rate, self.samples = labels, sample_rate, samples
        self.random_cuts, self.seed, self.epoch, self.padding = random_cuts, seed, 0, padding
        self._numbers = {head: {name: k for k, name in enumerate(names)} for head, names in labels.items()}
        self.failures: list[AudiorepError] = []
        self.extra: dict[str, Tensor] = {}
        self.examples, self._decoded = self._load(examples)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        waveforms, targets, samples = self.__getitems__([index])
        return waveforms[0], {head: values[0] for head, values in targets.items()}, samples[0]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """(waveforms (B, N), {head: targets (B, K)}, samples (B,)): a whole batch, written in place once."""
        batch = np.zeros((len(indices), self.samples), np.float32)
        if all(index < len(self._decoded) for index in indices):
            used = [self._fill(row, index) for row, index in zip(batch, indices, strict=True)]
        else:
            with ThreadPoolExecutor(4) as pool:
                used = list(pool.map(self._fill, batch, indices))
        targets = {head: torch.stack([self.target(index, head) for index, _ in used]) for head in self.labels}
        targets |= {name: rows[[index for index, _ in used]] for name, rows in self.extra.items()}
        return torch.from_numpy(batch), targets, torch.tensor([samples for _, samples in used])

    def class_counts(self, head: str) -> Tensor:
        """(K,) clips of each class."""
        return torch.stack([self.target(index, head) for index in range(len(self))]).sum(0)

    def target(self, index: int, head: str) -> Tensor:
        """(K,) 1 at the clip's labels, 0 elsewhere."""
        target = torch.zeros(len(self.labels[head]))
        target[[self._numbers[head][name] for name in self.examples[index].labels[head]]] = 1.0
        return target

    def _fill(self, row: np.ndarray, index: int) -> tuple[int, int]:
        """Writes a cut into `row`; its clip's number, and the samples up to its end.

        A clip that has become unreadable gives its place to the next.
        """
        for step in range(len(self)):
            used = (index + step) % len(self)
            try:
                sound = self._sound(used)
                start = self._start(sound, index) if self.random_cuts else 0
                inside = sound.cut(start, start + self.samples, self.sample_rate)
            except AudiorepError as error:
                self.failures.append(error)
                continue
            first = max(0, -start)
            row[first : first + len(inside)] = inside
            if self.padding == "edge" and len(inside):
                row[first + len(inside) :] = inside[-1]
            return used, first + len(inside)
        raise DataError(f"None of the {len(self)} clips can be read; the last said: {self.failures[-1]}")

    def _start(self, sound: _Sound, index: int) -> int:
        """First sample of the cut; negative where it begins before the clip."""
        generator = np.random.default_rng((self.seed, self.epoch, index))
        if sound.length < self.samples:
            return -int(generator.integers(0, self.samples - sound.length + 1)) if self.padding == "zeros" else 0
        first, last = sound.audible
        kept, room = min(self.samples, last - first) // 2, sound.length - self.samples
        low = min(max(first - self.samples + kept, 0), room)
        high = max(min(last - kept, room), low)
        return int(generator.integers(low, high + 1))

    def _sound(self, index: int) -> _Sound:
        return self._decoded[index] if index < len(self._decoded) else _decode(self.examples[index], self.sample_rate)

    def _load(self, examples: Sequence[Example]) -> tuple[list[Example], list[_Sound]]:
        """The clips left to use, and the first of them decoded, up to the memory limit."""
        readable: list[Example] = []
        decoded: list[_Sound] = []
        size = 0
        with ThreadPoolExecutor(4) as pool:
            for first in range(0, len(examples), _TOGETHER):
                some = examples[first : first + _TOGETHER]
                if size > MEMORY_LIMIT:
                    return readable + self._present(examples[first:]), decoded
                for example, sound in zip(some, pool.map(self._attempt, some), strict=True):
                    if isinstance(sound, AudiorepError):
                        self.failures.append(sound)
                    else:
                        readable.append(example)
                        decoded.append(sound)
                        size += 0 if sound.waveform is None else sound.waveform.nbytes
        return readable, decoded

    def _present(self, examples: Sequence[Example]) -> list[Example]:
        """Those of the clips that are there; what else is wrong with one shows when it is used."""
        present: list[Example] = []
        for example in examples:
            if containers.exists(example.path):
                present.append(example)
            else:
                self.failures.append(AudioError(f"{example.path} does not exist.", "missing"))
        return present

    def _attempt(self, example: Example) -> _Sound | AudiorepError:
        try:
            return _decode(example, self.sample_rate)
        except AudiorepError as error:
            return error


class EpochSampler(Sampler[int]):
    """Clip numbers in an order drawn from the seed and the epoch; tells the clips which epoch it is.

    `balanced` draws, with replacement, every class of the first head equally often. Of several `ranks`, which draw the same
    order, each takes every so-many-th clip: together they draw each clip once, and the first may draw one more than the last.
    """

    def __init__(self, clips: Clips, seed: int, balanced: bool = False, rank: int = 0, ranks: int = 1) -> None:
        assert 0 <= rank < ranks, f"rank {rank} of {ranks}"
        self._clips, self._seed = clips, seed
        self._own = slice(rank, None, ranks)
        self._weights = _rarity(clips) if balanced else None

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self._clips.epoch = epoch

    def __len__(self) -> int:
        return len(range(len(self._clips))[self._own])

    def __iter__(self) -> Iterator[int]:
        generator, count = Generator().manual_seed(epoch_seed(self._seed, self._clips.epoch)), len(self._clips)
        if self._weights is None:
            order = torch.randperm(count, generator=generator)
        else:
            order = torch.multinomial(self._weights, count, replacement=True, generator=generator)
        return iter(order[self._own].tolist())


def epoch_seed(seed: int, epoch: int) -> int:
    """One number for a run's seed and an epoch of it, so that an epoch's draws depend on nothing else."""
    return seed * 100_003 + epoch


def _rarity(clips: Clips) -> Tensor:
    """(clips,) weights inverse to the frequency of each clip's class."""
    head = next(iter(clips.labels))
    rarity = 1 / clips.class_counts(head).clamp_min(1)
    return torch.stack([(clips.target(index, head) * rarity).max() for index in range(len(clips))])


def _decode(example: Example, sample_rate: int) -> _Sound:
    """The clip's waveform and where its audible part begins and ends; of a long one only its length."""
    about = audio.probe(example.path)
    seconds = (about.seconds if example.end is None else min(example.end, about.seconds)) - example.start
    if seconds > LONG_SECONDS:
        length = int(seconds * sample_rate)
        return _Sound(example, length, (0, length), None)
    waveform = audio.read(example.path, sample_rate, example.start, example.end)
    audible = np.flatnonzero(np.abs(waveform) > AUDIBLE)
    return _Sound(
        example, len(waveform), (int(audible[0]), int(audible[-1]) + 1) if len(audible) else (0, len(waveform)), waveform
    )
