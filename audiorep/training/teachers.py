"""Trained models as teachers of another network: loaded, refused where they would mislead it, and asked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.data import Dataset

from audiorep import audio, reparam, runtimes, shipped
from audiorep.datasets import Example, Labels, trained_clips
from audiorep.datasets.clips import Clips
from audiorep.errors import AudiorepError, CheckpointError, ConfigError, DataError
from audiorep.files import replacing
from audiorep.info.model_info import ModelInfo
from audiorep.models import checkpoint
from audiorep.models.checkpoint import Checkpoint
from audiorep.models.front_end import FrontEndConfig, LogMel, frames_of, repeat_last
from audiorep.models.layers import channels_last
from audiorep.models.tensors import not_finite, read_safetensors
from audiorep.reparam import Parallel
from audiorep.runtimes import Session
from audiorep.training import distil
from audiorep.training.recipe import TrainConfig

KEPT = "teacher.safetensors"
LONGEST = 2.5  # cuts: of a longer clip, most of what the student hears is not what the teachers heard
LONG_CLIPS = 0.1  # the share of them that a training bears
_ROWS = "clips"  # beside the scores: whose they are
DIGITS = 16  # of the fingerprint of a teacher


@dataclass(frozen=True)
class Lesson:
    """The outputs of the teachers for a batch."""

    scores: dict[str, Tensor]
    """{head: (B, K)}, softened, the mean over teachers."""
    maps: list[Tensor] = field(default_factory=list)
    """Each teacher's last map (B, C, T', F'), where features are to be matched."""


@dataclass(frozen=True)
class Teacher:
    """A trained model that teaches: a checkpoint that was merged for inference, or a deployed file."""

    source: str
    """Its folder or file."""
    info: ModelInfo
    architecture: str
    """Architecture of a checkpoint, or suffix of a file."""
    digest: str
    """Digest of its weights."""
    front_end: LogMel | None
    """None where the network takes waveforms."""
    network: nn.Module
    """(B, 1, T, F), or (B, N) without a front end, to {head: logits (B, K)}, or to that and its last map."""
    channels: int
    """Channels of its last map; 0 where features are not matched."""

    def provenance(self) -> dict[str, Any]:
        """What is kept about it in the student's provenance."""
        about = {"name": self.info.name, "architecture": self.architecture, "source": self.source, "weights": self.digest}
        return about | {name: value for name, value in self.info.provenance.items() if name in ("measured", "seen", "teachers")}


class Deployed(nn.Module):
    """A deployed file as a network: waveforms (B, N) to {head: logits (B, K)}, of a softmax but for a constant a row."""

    def __init__(self, session: Session) -> None:
        super().__init__()
        self.session = session

    def forward(self, waveform: Tensor) -> dict[str, Tensor]:
        """What scores its session gives, taken back to logits."""
        scores = self.session(waveform.cpu().numpy())
        return {head: self._logits(torch.from_numpy(values)).to(waveform.device) for head, values in scores.items()}

    def _logits(self, scores: Tensor) -> Tensor:
        kinds = torch.finfo(scores.dtype)
        if self.session.info.activation == "softmax":
            return scores.clamp_min(kinds.tiny).log()
        return scores.logit(eps=kinds.eps)


class TaughtClips(Dataset[tuple[Tensor, dict[str, Tensor], Tensor, dict[str, Tensor]]]):
    """Clips, each with the scores that teachers gave it once: {head: scores (clips, K)}."""

    def __init__(self, clips: Clips, scores: dict[str, Tensor]) -> None:
        self._clips, self._scores = clips, scores

    def __len__(self) -> int:
        return len(self._clips)

    def __getitems__(self, indices: Sequence[int]) -> tuple[Tensor, dict[str, Tensor], Tensor, dict[str, Tensor]]:
        """A batch of the clips, and the teachers' {head: scores (B, K)} of those that it holds."""
        waveforms, targets, samples, numbers = self._clips.numbered(indices)
        return waveforms, targets, samples, {head: scores[numbers] for head, scores in self._scores.items()}


class Teachers:
    """Waveforms (B, N) to a `Lesson`, in evaluation mode and without gradients.

    Every teacher hears the same waveform as the student (arXiv 2106.05237), through its own front end. What follows a
    short clip is what the student's `padding` says; its last frame is repeated where that of both is `edge_frames`.
    """

    def __init__(self, teachers: Sequence[Teacher], config: TrainConfig, heads: Sequence[str]) -> None:
        self.teachers, self.config, self.heads = list(teachers), config, list(heads)
        self._device = torch.device("cpu")

    def __deepcopy__(self, memo: dict[int, Any]) -> Teachers:
        return self  # a moving average copies the student with all it holds; teachers never change

    @property
    def digests(self) -> list[str]:
        """The digest of each teacher's weights."""
        return [teacher.digest for teacher in self.teachers]

    @property
    def channels(self) -> list[int]:
        """The channels of each teacher's last map."""
        return [teacher.channels for teacher in self.teachers]

    def to(self, device: torch.device) -> Teachers:
        """The same, moved to a device."""
        for teacher in self.teachers:
            teacher.network.to(device)
            if teacher.front_end is not None:
                teacher.front_end.to(device)
        self._device = device
        return self

    @torch.no_grad()
    def __call__(self, waveform: Tensor, sound: Tensor) -> Lesson:
        """What they say of waveforms (B, N), of which `sound` (B,) samples are the clips' own."""
        settings = self.config.distil
        spectrograms: dict[tuple[FrontEndConfig, bool], Tensor] = {}
        scores, maps = [], []
        for teacher in self.teachers:
            given = waveform
            if teacher.front_end is not None:
                heard = (teacher.front_end.config, teacher.info.padding == self.config.padding == "edge_frames")
                if heard not in spectrograms:
                    spectrograms[heard] = _spectrogram(teacher.front_end, waveform, sound if heard[1] else None)
                given = spectrograms[heard]
            result = teacher.network(given)
            logits, last = result if settings.matches else (result, None)
            scores.append({h: distil.soften(logits[h], settings.temperature, self.config.multi_label) for h in self.heads})
            maps += [] if last is None else [last]
        return Lesson(distil.ensemble(scores, settings.weights), maps)

    def remember(self, clips: Clips, path: Path) -> dict[str, Tensor]:
        """{head: scores (clips, K)} of each clip's beginning without augmentation, kept in the file `path`.

        What the file has of the same teachers and the same sound is not asked for again.

        Raises:
            DataError: many of the clips are too long for one score each.
        """
        _refuse_long(clips, self.config.cut_seconds or self.config.window_seconds)
        still = copy(clips)  # shares the decoded sound
        still.random_cuts = False
        still.samples = self.config.front_end_config.samples(self.config.cut_seconds or self.config.window_seconds)
        settings = self.config.distil
        about = json.dumps([self.digests, settings.weights, settings.temperature, self.config.multi_label, self.heads])
        known = _recall(path, about, {head: len(self.teachers[0].info.labels[head]) for head in self.heads})
        order: list[bytes] = []
        for first in range(0, len(still), self.config.batch_size):
            waveform, _, sound = still.__getitems__(range(first, min(first + self.config.batch_size, len(still))))
            rows = [hashlib.sha256(clip.numpy().tobytes()).digest()[:16] for clip in waveform]
            if any(row not in known for row in rows):
                lesson = self(waveform.to(self._device), sound.to(self._device)).scores
                known.update(zip(rows, _by_clip({head: values.cpu() for head, values in lesson.items()}), strict=True))
            order += rows
        scores = {head: torch.stack([known[row][head] for row in order]) for head in self.heads}
        _keep(path, about, order, scores)
        return scores


def load(
    config: TrainConfig, labels: Labels, examples: Sequence[Example], say: Callable[[str], None] = lambda text: None
) -> Teachers | None:
    """The teachers that the settings name, or None where they name none.

    `say` is told of a teacher that does not tell which clips it was trained on.

    Raises:
        BundleError, CheckpointError: a file or folder cannot be used.
        CheckpointError: a model has other labels, another sample rate or another task.
        ConfigError: features are to be matched with a file, which has no last map, or a file hears another length than a cut.
        DataError: a teacher was trained on clips that the student is to be measured on.
    """
    if not config.distil.teachers:
        return None
    teachers = []
    for source in config.distil.teachers:
        opened = _opened(_existing(source), config)
        _refuse_other(source, opened.info, config, labels)  # sooner than merging, which takes seconds
        _refuse_trained_clips(source, opened.info, examples)
        if not opened.info.provenance.get("seen"):
            say(f"The teacher {source} does not tell which clips it was trained on; make sure that the test clips are not.")
        teachers.append(_of_folder(source, opened, config) if isinstance(opened, Checkpoint) else _of_file(source, opened))
    return Teachers(teachers, config, list(labels)).to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))


def classes_of(config: TrainConfig) -> Labels:
    """The classes of the first teacher, which a student of unlabelled clips learns.

    Raises:
        ConfigError: there is no teacher.
        BundleError, CheckpointError: the file or folder cannot be used.
    """
    if not config.distil.teachers:
        raise ConfigError('distil.classes = "teacher" needs a teacher; name it in distil.teachers, or with distil --teacher.')
    return dict(_opened(_existing(config.distil.teachers[0]), config).info.labels)


def _existing(source: str) -> str:
    if not shipped.place(source).exists():
        raise CheckpointError(f"The teacher {source} does not exist; a checkpoint folder or an exported file is needed.")
    return source


def _opened(source: str, config: TrainConfig) -> Checkpoint | Session:
    """A checkpoint, or a deployed file with as many threads as training has."""
    if (shipped.place(source) / checkpoint.CONFIG).exists():
        return checkpoint.load(source)
    if config.distil.matches:
        raise ConfigError(
            f"The teacher {source} is a file, and has no last map to match: give its checkpoint, or set features=0 and "
            "embedding=0."
        )
    session = runtimes.open_session(source, threads=torch.get_num_threads())
    cut, window = config.cut_seconds or config.window_seconds, session.info.window_seconds
    samples = config.front_end_config.samples
    if samples(cut) != samples(window):
        raise ConfigError(
            f"The teacher {source} is a file that hears {window:g} s at once, and the student's cuts are of {cut:g} s: set "
            f"cut_seconds={window:g}, or give the teacher's checkpoint."
        )
    return session


def _of_folder(folder: str, loaded: Checkpoint, config: TrainConfig) -> Teacher:
    """A checkpoint as a teacher."""
    network: nn.Module = distil.WithMap(loaded.network) if config.distil.matches else loaded.network
    example, network, channels = loaded.example(), network.eval(), 0
    if config.distil.matches:
        with torch.no_grad():
            channels = network(example)[1].shape[1]
    if any(isinstance(module, _BatchNorm | Parallel) for module in network.modules()):  # or else nothing merges
        network = reparam.fuse(network, example).model
    network = channels_last(network.eval().requires_grad_(False))
    front_end = LogMel(loaded.front_end.config, torch.float32)
    digest = runtimes.fingerprint(Path(folder) / checkpoint.WEIGHTS)[:DIGITS]
    return Teacher(folder, loaded.info, loaded.architecture, digest, front_end, network, channels)


def _of_file(path: str, session: Session) -> Teacher:
    """A deployed file as a teacher."""
    return Teacher(path, session.info, Path(path).suffix, runtimes.fingerprint(Path(path))[:DIGITS], None, Deployed(session), 0)


def _refuse_other(source: str, info: ModelInfo, config: TrainConfig, labels: Labels) -> None:
    """No teacher of something else."""
    for head, names in labels.items():
        theirs = info.labels.get(head)
        if theirs is None:
            raise CheckpointError(f"The teacher {source} has no head {head!r}; it has {', '.join(info.labels)}.")
        if theirs != names:
            raise CheckpointError(
                f"The teacher {source} knows other labels than the student: {_difference(theirs, names)}. Take one that was "
                "trained on the same classes in the same order."
            )
    if info.sample_rate != config.front_end_config.sample_rate:
        raise CheckpointError(
            f"The teacher {source} hears {info.sample_rate} Hz, the student {config.front_end_config.sample_rate} Hz, and both "
            "are to hear the same waveform. Choose a front_end of the teacher's rate."
        )
    if (info.activation == "sigmoid") != config.multi_label:
        wanted = "multi-label" if config.multi_label else "single-label"
        raise CheckpointError(f"The teacher {source} is {info.task}, the student {wanted}; multi_label says which it is.")


def _difference(theirs: Sequence[str], ours: Sequence[str]) -> str:
    """What tells two lists of classes apart, in words."""
    if missing := [name for name in ours if name not in theirs]:
        return f"it lacks {', '.join(missing[:5])}{' …' if len(missing) > 5 else ''}"
    if further := [name for name in theirs if name not in ours]:
        return f"it knows {', '.join(further[:5])}{' …' if len(further) > 5 else ''} too"
    return "they come in another order"


def _refuse_trained_clips(source: str, info: ModelInfo, examples: Sequence[Example]) -> None:
    """No teacher that could tell the student what the clips are that it is measured on."""
    for split in ("test", "valid"):
        clips = [example for example in examples if example.split == split]
        for memory in trained_clips.filters_of(info.provenance):
            count = trained_clips.count_trained(memory, clips)
            if count > trained_clips.most_false_matches(len(clips)):
                raise DataError(
                    f"The teacher {source} was trained on {count} of the {len(clips)} {split} clips, so the student's number "
                    "for them would say nothing of new sounds. Take a teacher that was trained with the same split or fold."
                )


def _spectrogram(front_end: LogMel, waveform: Tensor, sound: Tensor | None) -> Tensor:
    """(B, 1, T, F) of (B, N), channels last, its last frame of `sound` (B,) samples repeated where they are given."""
    spectrogram = front_end(waveform)
    if sound is not None:
        spectrogram = repeat_last(spectrogram, frames_of(front_end.config, sound, waveform.shape[1]))
    return spectrogram.contiguous(memory_format=torch.channels_last)


def _refuse_long(clips: Clips, cut_seconds: float) -> None:
    """One score a clip is for clips of about one cut."""
    long = sum(_seconds(example) > LONGEST * cut_seconds for example in clips.examples)
    if long > LONG_CLIPS * len(clips):
        raise DataError(
            f"{long} of the {len(clips)} training clips are longer than {LONGEST:g} training cuts of {cut_seconds:g} s, so a "
            "teacher's one score for each would be of other sound than the student hears. Set distil.cache=false, or a longer "
            "cut_seconds."
        )


def _seconds(example: Example) -> float:
    """A clip's length; 0 where it cannot be read, which shows when it is used."""
    try:
        return (audio.probe(example.path).seconds if example.end is None else example.end) - example.start
    except AudiorepError:
        return 0.0


def _by_clip(scores: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """{head: (B, K)} as B times {head: (K,)}."""
    return [dict(zip(scores, rows, strict=True)) for rows in zip(*scores.values(), strict=True)]


def _stored_name(head: str) -> str:
    """The name of a head's scores in the file, which no other tensor there has."""
    return f"{head} of teachers"


def _keep(path: Path, about: str, rows: Sequence[bytes], scores: dict[str, Tensor]) -> None:
    digests = torch.frombuffer(bytearray(b"".join(rows)), dtype=torch.uint8).reshape(len(rows), -1)
    tensors = {_ROWS: digests, **{_stored_name(head): values.contiguous() for head, values in scores.items()}}
    with replacing(path) as partial:
        partial.write_bytes(serialize(tensors, {"teachers": about}))


def _recall(path: Path, about: str, classes: dict[str, int]) -> dict[bytes, dict[str, Tensor]]:
    """{clip's digest: {head: scores (K,)}} of a file of the same teachers; nothing where there is none."""
    try:
        with safe_open(path, "pt") as file:
            if (file.metadata() or {}).get("teachers") != about:
                return {}
        kept = read_safetensors(path)
        digests, scores = kept[_ROWS], {head: kept[_stored_name(head)] for head in classes}
    except (OSError, SafetensorError, ValueError, KeyError):  # missing, or damaged: it is made again
        return {}
    whole = digests.dim() == 2 and all(values.shape == (len(digests), classes[head]) for head, values in scores.items())
    if not whole or not_finite(scores):
        return {}
    return dict(zip((bytes(row.tolist()) for row in digests), _by_clip(scores), strict=True))
