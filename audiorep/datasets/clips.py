"""The Dataset class: labelled clips as equally long waveforms with targets, and the sampler that orders them."""

from __future__ import annotations

import os
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

MEMORY_LIMIT = 4e9  # bytes of decoded sound to keep; clips beyond it are decoded each time
AUDIBLE_LEVEL = 1e-3  # share of full scale (-60 dB); quieter samples at a clip's ends are padding
LONG_SECONDS = 30.0  # longer clips are not kept; only the cut is read, by seeking
_DECODERS = max(4, os.cpu_count() or 1)  # threads
_TOGETHER = 256  # clips to decode before the memory limit is checked again


@dataclass(frozen=True)
class _Sound:
    """One clip: decoded, or, if it is long, read one cut at a time."""

    example: Example
    length: int
    audible: tuple[int, int]
    """The first audible sample, and the one after the last."""
    waveform: np.ndarray | None
    """(length,), or None if cuts are read from the file."""

    def cut(self, start: int, stop: int, sample_rate: int) -> np.ndarray:
        """The samples from `start` to `stop` that exist."""
        start, stop = max(0, start), min(max(0, stop), self.length)
        if self.waveform is not None:
            return self.waveform[start:stop]
        first = self.example.start
        return audio.read(self.example.path, sample_rate, first + start / sample_rate, first + stop / sample_rate)[
            : stop - start
        ]


class Clips(Dataset[tuple[Tensor, dict[str, Tensor], Tensor]]):
    """Item i is (waveform (N,), {head: targets (K,)}, samples ()): a cut of clip i, and the samples in it before padding.

    With `random_cuts` the position of the cut depends on the seed, the epoch and i alone, not on the number of workers, and
    at least the share `audible` of the cut (or of a shorter sound) is audible. Otherwise the cut is the beginning of the clip.
    A clip shorter than the cut lies at a random position in it with `padding` "zeros". With "edge" it lies at the beginning
    and its last sample is repeated. With "edge_frames" it lies at the beginning and zeros follow; the last frame is to be
    repeated there.
    Clips that cannot be read are left out and their errors kept in `failures`. Decoded sound is kept up to MEMORY_LIMIT.
    Clips longer than LONG_SECONDS are not kept; only the cut is read.
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
        audible: float = 0.5,
    ) -> None:
        self.labels, self.sample_rate, self.samples = labels, sample_rate, samples
        self.random_cuts, self.seed, self.epoch, self.padding, self.audible = random_cuts, seed, 0, padding, audible
        self._numbers = {head: {name: k for k, name in enumerate(names)} for head, names in labels.items()}
        self.failures: list[AudiorepError] = []
        self.examples, self._decoded = self._load(examples)

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        waveforms, targets, samples = self.__getitems__([index])
        return waveforms[0], {head: values[0] for head, values in targets.items()}, samples[0]

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """A whole batch, written into one array: (waveforms (B, N), {head: targets (B, K)}, samples (B,))."""
        waveforms, targets, samples, _ = self.numbered(indices)
        return waveforms, targets, samples

    def numbered(self, indices: Sequence[int]) -> tuple[Tensor, dict[str, Tensor], Tensor, list[int]]:
        """A batch, and the numbers of the clips that it holds: where one has become unreadable, the next one's.

        An index past the last clip is another cut of a clip: that of `index % len(self)`.
        """
        batch = np.zeros((len(indices), self.samples), np.float32)
        if all(index % len(self) < len(self._decoded) for index in indices):
            used = [self._fill(row, index) for row, index in zip(batch, indices, strict=True)]
        else:
            with ThreadPoolExecutor(_DECODERS) as pool:
                used = list(pool.map(self._fill, batch, indices))
        targets = {head: torch.stack([self.target(index, head) for index, _ in used]) for head in self.labels}
        samples = torch.tensor([samples for _, samples in used])
        return torch.from_numpy(batch), targets, samples, [index for index, _ in used]

    def class_counts(self, head: str) -> Tensor:
        """(K,) the number of clips of each class."""
        return torch.stack([self.target(index, head) for index in range(len(self))]).sum(0)

    def target(self, index: int, head: str) -> Tensor:
        """(K,) 1 for the clip's labels, 0 for other classes."""
        target = torch.zeros(len(self.labels[head]))
        target[[self._numbers[head][name] for name in self.examples[index].labels[head]]] = 1.0
        return target

    def _fill(self, row: np.ndarray, index: int) -> tuple[int, int]:
        """Writes a cut into `row`; returns the number of its clip, and the samples up to the clip's end.

        If the clip has become unreadable, the next one takes its place.
        """
        for step in range(len(self)):
            used = (index + step) % len(self)
            try:
                sound = self._sound(used)
                start = self._drawn_start(sound, index) if self.random_cuts else 0
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

    def decoded(self) -> list[np.ndarray] | None:
        """The waveform (samples,) of each clip, or None if some are read from their files, one cut at a time."""
        waveforms = [sound.waveform for sound in self._decoded if sound.waveform is not None]
        return waveforms if len(waveforms) == len(self) else None

    def start_range(self, index: int) -> tuple[int, int]:
        """The first and the last sample at which a random cut of a clip may begin; negative where that is before the clip."""
        return self._start_range(self._sound(index))

    def _drawn_start(self, sound: _Sound, index: int) -> int:
        """The first sample of the cut that belongs to `index`."""
        low, high = self._start_range(sound)
        generator = np.random.default_rng((self.seed, self.epoch, index))
        return -int(generator.integers(0, 1 - low)) if low < 0 else int(generator.integers(low, high + 1))

    def _start_range(self, sound: _Sound) -> tuple[int, int]:
        if sound.length < self.samples:
            return (sound.length - self.samples if self.padding == "zeros" else 0), 0
        first, last = sound.audible if self.audible else (0, sound.length)
        kept, room = int(min(self.samples, last - first) * self.audible), sound.length - self.samples
        low = min(max(first - self.samples + kept, 0), room)
        return low, max(min(last - kept, room), low)

    def _sound(self, index: int) -> _Sound:
        return self._decoded[index] if index < len(self._decoded) else _decode(self.examples[index], self.sample_rate)

    def _load(self, examples: Sequence[Example]) -> tuple[list[Example], list[_Sound]]:
        """(the clips that can be used, the first of them decoded, up to the memory limit)."""
        readable: list[Example] = []
        decoded: list[_Sound] = []
        size = 0
        with ThreadPoolExecutor(_DECODERS) as pool:
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
        """The clips whose files exist; other errors show when a clip is used."""
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
    """Clip numbers in a random order that depends on the seed and the epoch; sets the epoch of the clips.

    With `balanced` it draws with replacement, every class of the first head equally often. All `ranks` draw the same order
    and take every `ranks`-th clip of it, so that together they take each clip once. The first rank may take one more clip
    than the last. With several `cuts` an epoch takes each clip so often; number n + i is another cut of clip i of n.
    Of the last `outliers` clips it draws only `share` times as many as there are others.
    """

    def __init__(
        self,
        clips: Clips,
        seed: int,
        balanced: bool = False,
        rank: int = 0,
        ranks: int = 1,
        cuts: int = 1,
        outliers: int = 0,
        share: float = 0.0,
    ) -> None:
        assert 0 <= rank < ranks, f"rank {rank} of {ranks}"
        self._clips, self._seed, self._cuts = clips, seed, cuts
        self._own = slice(rank, None, ranks)
        self._labelled = len(clips) - outliers
        self._drawn = round(share * self._labelled * cuts) if outliers else 0
        self._weights = _rarity(clips)[: self._labelled] if balanced else None

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self._clips.epoch = epoch

    def __len__(self) -> int:
        return len(range(self._cuts * self._labelled + self._drawn)[self._own])

    def __iter__(self) -> Iterator[int]:
        generator, count = Generator().manual_seed(epoch_seed(self._seed, self._clips.epoch)), self._cuts * self._labelled
        if self._weights is None:
            drawn = torch.randperm(count, generator=generator)
        else:
            drawn = torch.multinomial(self._weights, count, replacement=True, generator=generator)
        order = drawn // self._labelled * len(self._clips) + drawn % self._labelled
        if self._drawn:
            order = torch.cat([order, self._outliers(generator)])[torch.randperm(count + self._drawn, generator=generator)]
        return iter(order[self._own].tolist())

    def _outliers(self, generator: Generator) -> Tensor:
        """As many of the last clips as an epoch takes: all of them before one comes again."""
        count = len(self._clips) - self._labelled
        rounds = [torch.randperm(count, generator=generator) for _ in range(-(-self._drawn // count))]
        return (
            self._labelled
            + torch.cat([number * len(self._clips) + drawn for number, drawn in enumerate(rounds)])[: self._drawn]
        )


def epoch_seed(seed: int, epoch: int) -> int:
    """The seed of an epoch, which depends on the run's seed and the epoch alone."""
    return seed * 100_003 + epoch


def _rarity(clips: Clips) -> Tensor:
    """(clips,) weights that are inverse to the frequency of each clip's class."""
    head = next(iter(clips.labels))
    rarity = 1 / clips.class_counts(head).clamp_min(1)
    return torch.stack([(clips.target(index, head) * rarity).max() for index in range(len(clips))])


def _decode(example: Example, sample_rate: int) -> _Sound:
    """Decodes a clip and finds its audible part; of a long clip only the length is read."""
    about = audio.probe(example.path)
    seconds = (about.seconds if example.end is None else min(example.end, about.seconds)) - example.start
    if seconds > LONG_SECONDS:
        length = int(seconds * sample_rate)
        return _Sound(example, length, (0, length), None)
    waveform = audio.read(example.path, sample_rate, example.start, example.end)
    audible = np.flatnonzero(np.abs(waveform) > AUDIBLE_LEVEL)
    return _Sound(
        example, len(waveform), (int(audible[0]), int(audible[-1]) + 1) if len(audible) else (0, len(waveform)), waveform
    )
