"""Finds problems of a data set before it is used for training."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from audiorep import audio
from audiorep.datasets import shards
from audiorep.datasets.class_names import is_text, look_alikes, normalized
from audiorep.datasets.example import Example
from audiorep.errors import AudioError
from audiorep.files import open_text, replacing, write_json

SILENT_PEAK = 1e-3  # share of full scale, -60 dB
CLIPPED_LEVEL, CLIPPED_SHARE = 0.9985, 1e-3  # a thousandth of all samples at full scale is audible
IMBALANCE = 10.0  # largest class over smallest

KINDS = {
    "damaged shard": "a tar file that is not as it was written",
    "missing": "no file at the path",
    "unreadable": "not audio that can be read",
    "empty": "no samples",
    "truncated": "shorter than its header promises",
    "non-finite": "NaN or infinite samples",
    "silent": "never louder than -60 dB",
    "opposite phase": "channels that cancel each other out: one of them is used for their mean",
    "clipped": "at full scale for over a thousandth of its samples",
    "too short": "shorter than asked for",
    "odd rate": "another sample rate than most files",
    "duplicate": "the same sound as another clip",
    "leak": "the same sound, or group, as a clip of another split or fold",
    "label conflict": "the same sound as a clip of another label",
    "look-alike": "a class name that differs from another in what is easily overlooked",
    "spelling": "a class name that is written in several ways, or is no text",
    "imbalance": "a class with less than a tenth of the largest one's clips",
}
"""Every kind of problem and its meaning."""


@dataclass(frozen=True)
class Problem:
    """One problem of one clip or class."""

    kind: str
    """A key of KINDS."""
    subject: str
    """The file, or the class."""
    detail: str


@dataclass(frozen=True)
class Measured:
    """The measurements of one clip, from one pass over its samples."""

    example: Example
    sample_rate: int
    seconds: float
    peak: float
    """The largest magnitude of a sample, from 0 to 1."""
    clipped: float
    """The share of samples at full scale."""
    digest: str
    """The hash of the decoded samples, which is the same for one sound in two containers."""
    notes: tuple[str, ...] = ()
    """Sentences about how it was decoded."""


def find_problems(
    examples: Sequence[Example], shortest_seconds: float = 0.1, on_progress: Callable[[int], None] | None = None
) -> list[Problem]:
    """All problems of `examples`: those of single clips first, then those between clips."""
    measured: list[Measured] = []
    problems: list[Problem] = []
    with ThreadPoolExecutor(4) as pool:
        for result in pool.map(_measure, examples):
            if isinstance(result, Problem):
                problems.append(result)
            else:
                measured.append(result)
                problems.extend(_clip_problems(result, shortest_seconds))
            if on_progress is not None:
                on_progress(1)
    over_all = [*_odd_rates(measured), *_duplicates(measured), *_leaking_groups(measured)]
    return [*problems, *over_all, *_look_alikes(examples), *_spellings(examples), *_imbalance(examples)]


def damaged_shards(root: Path, on_progress: Callable[[int], None] | None = None) -> list[Problem]:
    """A problem for each damaged tar file of a set of shards."""
    return [Problem("damaged shard", str(path), fault) for path, fault in shards.verify(root, on_progress).items()]


def write(problems: Sequence[Problem], path: Path) -> None:
    """Writes the problems as CSV, or as JSON if the suffix is `.json`; the file appears whole or not at all."""
    rows = [asdict(problem) for problem in problems]
    if path.suffix == ".json":
        write_json(path, rows)
        return
    # file names need not be UTF-8
    with replacing(path) as partial, open_text(partial) as file:
        table = csv.DictWriter(file, ("kind", "subject", "detail"))
        table.writeheader()
        table.writerows(rows)


def _measure(example: Example) -> Measured | Problem:
    try:
        about = audio.probe(example.path)
        peak, clipped, samples, digest = 0.0, 0, 0, hashlib.sha256()
        notes: list[str] = []
        for block in audio.blocks(example.path, about.sample_rate, example.start, example.end, notes=notes):
            level = np.abs(block)
            peak = max(peak, float(level.max(initial=0.0)))
            clipped += int((level >= CLIPPED_LEVEL).sum())
            samples += len(block)
            digest.update(np.round(block * 32767).astype("<i4").tobytes())
    except AudioError as error:
        return Problem(error.kind, str(example.path), str(error))
    clipped_share, seconds = clipped / max(samples, 1), samples / about.sample_rate
    return Measured(example, about.sample_rate, seconds, peak, clipped_share, digest.hexdigest(), tuple(notes))


def _clip_problems(clip: Measured, shortest_seconds: float) -> Iterator[Problem]:
    name = str(clip.example.path)
    if clip.peak < SILENT_PEAK:
        yield Problem("silent", name, f"peak {20 * np.log10(max(clip.peak, 1e-10)):.0f} dB")
    for note in clip.notes:
        yield Problem("opposite phase", name, note.removeprefix(f"{name}: "))
    if clip.clipped > CLIPPED_SHARE:
        yield Problem("clipped", name, f"{clip.clipped:.1%} of its samples are at full scale")
    if clip.seconds < shortest_seconds:
        yield Problem("too short", name, f"{clip.seconds:.3f} s; {shortest_seconds:g} s are asked for")


def _odd_rates(clips: Sequence[Measured]) -> Iterator[Problem]:
    rates = Counter(clip.sample_rate for clip in clips)
    usual = rates.most_common(1)[0][0] if rates else 0
    for clip in clips:
        if clip.sample_rate != usual:
            yield Problem("odd rate", str(clip.example.path), f"{clip.sample_rate} Hz; most have {usual} Hz")


def _duplicates(clips: Sequence[Measured]) -> Iterator[Problem]:
    by_digest: dict[str, list[Measured]] = defaultdict(list)
    for clip in clips:
        if clip.peak >= SILENT_PEAK:  # silence is reported as such
            by_digest[clip.digest].append(clip)
    for first, *others in by_digest.values():
        for other in others:
            kind = "duplicate"
            if other.example.part != first.example.part:
                kind = "leak"
            elif other.example.labels != first.example.labels:
                kind = "label conflict"
            yield Problem(
                kind, str(other.example.path), f"same sound as {first.example.path}{_where(first.example, other.example)}"
            )


def _leaking_groups(clips: Sequence[Measured]) -> Iterator[Problem]:
    split_of: dict[str, Example] = {}
    for clip in clips:
        group = clip.example.group
        first = split_of.setdefault(group, clip.example)
        if group and clip.example.part != first.part:
            yield Problem("leak", str(clip.example.path), f"group {group}, as {first.path}{_where(first, clip.example)}")


def _where(first: Example, other: Example) -> str:
    differing = [f"{first.part} and {other.part}"] if first.part != other.part else []
    if first.labels != other.labels:
        differing.append(" and ".join("+".join(example.all_labels) for example in (first, other)))
    return f" ({'; '.join(differing)})" if differing else ""


def _look_alikes(examples: Iterable[Example]) -> Iterator[Problem]:
    for names in _names(examples).values():
        for label, usual, difference in look_alikes(names):
            yield Problem(
                "look-alike",
                label,
                f"{names[label]} clips; looks like {usual!r} ({names[usual]} clips) and differs in {difference}",
            )


def _names(examples: Iterable[Example]) -> dict[str, Counter[str]]:
    """{head: the number of clips of each label}."""
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for example in examples:
        for head, names in example.labels.items():
            found[head].update(names)
    return found


def _spellings(examples: Iterable[Example]) -> Iterator[Problem]:
    found: dict[str, Counter[str]] = defaultdict(Counter)
    for example in examples:
        for spelled in example.spelled or example.all_labels:
            found[normalized(spelled)][spelled] += 1
    for label, spellings in sorted(found.items()):
        if len(spellings) > 1:
            ways = ", ".join(f"{spelled!a} ({count} clips)" for spelled, count in sorted(spellings.items()))
            yield Problem("spelling", label, f"written in {len(spellings)} ways, which are read as one class: {ways}")
        elif not is_text(next(iter(spellings))):
            yield Problem("spelling", label, f"not text in UTF-8; its {spellings.total()} clips are of a class of this name")


def _imbalance(examples: Iterable[Example]) -> Iterator[Problem]:
    counts = Counter(label for example in examples for label in example.all_labels)
    largest = max(counts.values(), default=0)
    for label, count in sorted(counts.items()):
        if count * IMBALANCE < largest:
            yield Problem("imbalance", label, f"{count} clips; the largest class has {largest}")
