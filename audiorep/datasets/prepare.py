"""Copies any data set into shards (see `shards`) with several processes; continues where it was stopped."""

from __future__ import annotations

import hashlib
import io
import json
import multiprocessing
import os
import tarfile
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from audiorep import audio
from audiorep.datasets import shards
from audiorep.datasets.example import SPLITS, Example
from audiorep.datasets.random_split import groups_of
from audiorep.errors import AudioError, AudiorepError, ConfigError, DataError, MissingExtraError
from audiorep.files import partial_path, replacing, write_json, write_text
from audiorep.interrupts import become_worker, block_in_children

HIGHEST_RATE = 655_350  # Hz; the limit of FLAC
_FULL_SCALE = 32768  # for PCM_16, as in `audio.read`, so that 16-bit sound stays the same without resampling

_stop: Any = None  # in a worker process: the event that stops it


def prepare(
    examples: Sequence[Example],
    labels: Mapping[str, Sequence[str]] | None,
    output: Path,
    sample_rate: int = 16_000,
    shard_clips: int = 1000,
    workers: int | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> shards.Prepared:
    """Writes the clips as 16-bit mono FLAC at `sample_rate` Hz; continues where an earlier call stopped.

    The same clips give the same bytes. Within a split the clips are shuffled by a stable hash, because some readers stream
    them. `labels` are the classes in their official order, if there is one. It spawns `workers` processes (default: one per
    processor), so a script must call it below `if __name__ == "__main__"`. `on_progress` gets the number of clips that were
    finished. A clip that cannot be read is recorded and left out.

    Raises:
        DataError: there are no clips, none can be read, or `output` holds something else.
        ConfigError: an argument is out of range, or nothing can be written.
    """
    _refuse_out_of_range(sample_rate, shard_clips, workers)
    if not examples:
        raise DataError("There are no clips to prepare.")
    jobs = _jobs(examples, shard_clips)
    plan = _digest_of(jobs, labels, sample_rate, shard_clips)
    _refuse_other(output, plan)
    done = {job.name: record for job in jobs if (record := _finished(output, job.name, plan)) is not None}
    left = [job for job in jobs if job.name not in done]
    for job in jobs:
        if job.name in done and on_progress is not None:
            on_progress(len(job.clips))
    if left or not (output / shards.INDEX).exists():
        write_json(output / shards.UNFINISHED, _marker(plan))
        (output / shards.INDEX).unlink(missing_ok=True)
    with closing(_written(left, output, sample_rate, plan, workers or os.cpu_count() or 1)) as results:
        for job, record in results:
            done[job.name] = record
            if on_progress is not None:
                on_progress(len(job.clips))
    return _finish(output, [done[job.name] for job in jobs], labels, sample_rate, plan, len(examples))


def _refuse_out_of_range(sample_rate: int, shard_clips: int, workers: int | None) -> None:
    if not 1 <= sample_rate <= HIGHEST_RATE or shard_clips < 1 or (workers is not None and workers < 1):
        raise ConfigError(
            f"sample_rate {sample_rate}, shard_clips {shard_clips} and workers {workers} must be at least 1, "
            f"and the rate at most {HIGHEST_RATE}."
        )


@dataclass(frozen=True)
class _Job:
    """The content of one shard."""

    name: str
    split: str
    clips: tuple[tuple[Example, dict[str, Any]], ...]
    """(clip, row) for each clip: the row holds its key and its annotations."""


class _StoppedError(Exception):
    """Ctrl-C was pressed; the unfinished shard is dropped."""


# --- the plan: a pure function of the clips ---


def _jobs(examples: Sequence[Example], shard_clips: int) -> list[_Job]:
    width = max(6, len(str(len(examples) - 1)))
    by_split: dict[str, list[tuple[Example, dict[str, Any]]]] = {split: [] for split in (*SPLITS, "")}
    for number, (example, group) in enumerate(zip(examples, groups_of(examples), strict=True)):
        row = _row(example, f"{number:0{width}d}", group)
        by_split[row["split"]].append((example, row))
    jobs = []
    for split, clips in by_split.items():
        clips.sort(key=lambda clip: (_sha256(clip[1]["token"]), clip[1]["key"]))
        for number, first in enumerate(range(0, len(clips), shard_clips)):
            jobs.append(_Job(f"{split or 'all'}-{number:06d}.tar", split, tuple(clips[first : first + shard_clips])))
    return jobs


def _row(example: Example, key: str, group: str) -> dict[str, Any]:
    """The annotations of a clip. A split that was drawn at random is left out; it is drawn again for training."""
    return {
        "key": key,
        "labels": {head: list(names) for head, names in example.labels.items()},
        "split": "" if example.drawn else example.split,
        "fold": example.fold,
        "group": example.group,
        "license": example.license,
        "optional": example.optional,
        "token": example.identity,
        "source": group,
        "start": example.start,
        "end": example.end,
    }


def _digest_of(jobs: Iterable[_Job], labels: Mapping[str, Sequence[str]] | None, sample_rate: int, shard_clips: int) -> str:
    digest = hashlib.sha256(_line([shards.VERSION, sample_rate, shard_clips, labels and {h: [*n] for h, n in labels.items()}]))
    for job in jobs:
        digest.update(_line(job.name))
        for _, row in job.clips:
            digest.update(_line(row))
    return digest.hexdigest()


def _line(value: object) -> bytes:
    return (json.dumps(value) + "\n").encode()  # ASCII, so that bytes of a file name that are not text are escaped


def _sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode(errors="surrogateescape")).digest()


# --- writing ---


def _written(
    jobs: Sequence[_Job], folder: Path, sample_rate: int, plan: str, workers: int
) -> Generator[tuple[_Job, dict[str, Any]], None, None]:
    """Yields each job with its record when it is finished; an interruption stops the workers within a block of sound."""
    if not jobs:
        return
    context = multiprocessing.get_context("spawn")
    with block_in_children():  # an event starts the resource tracker process
        stop = context.Event()
    with ProcessPoolExecutor(min(workers, len(jobs)), context, _start_worker, (stop,)) as pool:
        futures: dict[Future[dict[str, Any]], _Job] = {}
        try:
            with block_in_children():  # workers start here
                for job in jobs:
                    futures[pool.submit(_write_shard, job, folder, sample_rate, plan)] = job
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool:
            raise DataError(
                "A worker was ended from outside, as happens when memory runs out. The same command goes on; "
                "give it fewer workers."
            ) from None
        finally:
            stop.set()
            pool.shutdown(cancel_futures=True)
            for job in jobs:  # a signal to the process group may have ended workers
                for path in (folder / job.name, shards.sidecar(folder / job.name)):
                    partial_path(path).unlink(missing_ok=True)


def _start_worker(stop: Any) -> None:
    global _stop
    _stop = stop
    become_worker()


def _write_shard(job: _Job, folder: Path, sample_rate: int, plan: str) -> dict[str, Any]:
    """Writes a tar file and the list of its clips; returns the record without the clips."""
    path = folder / job.name
    rows: list[dict[str, Any]] = []
    failures: list[shards.Unread] = []
    with replacing(path) as partial:
        with tarfile.open(partial, "w", format=tarfile.USTAR_FORMAT) as tar:
            for example, row in job.clips:
                try:
                    sound = _flac(example, sample_rate)
                except MissingExtraError:
                    raise
                except (AudiorepError, OSError) as error:
                    failures.append(shards.Unread(row["key"], str(example.path), str(error)))
                    continue
                _add(tar, f"{row['key']}.flac", sound)
                _add(tar, f"{row['key']}.json", _line(row))
                rows.append(row)
        shard = shards.Shard(job.name, job.split, len(rows), partial.stat().st_size, shards.sha256_of(partial))
    record = {"plan": plan, **asdict(shard), "failures": [asdict(failure) for failure in failures]}
    write_text(shards.sidecar(path), json.dumps({**record, "rows": rows}) + "\n")
    return record


def _flac(example: Example, sample_rate: int) -> bytes:
    """The clip as FLAC. Samples that resampling lifts above full scale are clipped."""
    file, samples = io.BytesIO(), 0
    with soundfile.SoundFile(file, "w", sample_rate, 1, "PCM_16", format="FLAC") as sound:
        for block in audio.blocks(example.path, sample_rate, example.start, example.end):
            if _stop is not None and _stop.is_set():
                raise _StoppedError
            sound.write(np.clip(np.rint(block * _FULL_SCALE), -_FULL_SCALE, _FULL_SCALE - 1).astype(np.int16))
            samples += len(block)
    if not samples:
        raise AudioError(f"{example.path}: the stretch from {example.start:g} s is shorter than a sample.", "empty")
    return file.getvalue()


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    member = tarfile.TarInfo(name)  # time and owner 0: the same clips give the same bytes
    member.size = len(data)
    tar.addfile(member, io.BytesIO(data))


def _finish(
    output: Path,
    records: Sequence[dict[str, Any]],
    labels: Mapping[str, Sequence[str]] | None,
    sample_rate: int,
    plan: str,
    expected: int,
) -> shards.Prepared:
    """Writes the index of all shards."""
    failures = [shards.Unread(**failure) for record in records for failure in record["failures"]]
    prepared = shards.Prepared(
        output, tuple(map(shards.shard_of, records)), tuple(sorted(failures, key=lambda failure: failure.key))
    )
    assert prepared.clips + len(failures) == expected, f"{prepared.clips} clips and {len(failures)} failures of {expected}"
    if not prepared.clips:
        for shard in prepared.shards:
            (output / shard.name).unlink()
            shards.sidecar(output / shard.name).unlink()
        (output / shards.UNFINISHED).unlink(missing_ok=True)
        raise DataError(f"None of the {expected} clips can be read; the first said: {prepared.failures[0].error}")
    about = {**_marker(plan), "sample_rate": sample_rate, "clips": prepared.clips}
    lists = {"shards": [*map(asdict, prepared.shards)], "failures": [*map(asdict, prepared.failures)]}
    write_json(output / shards.INDEX, {**about, "labels": labels, **lists})
    (output / shards.UNFINISHED).unlink(missing_ok=True)
    return prepared


def _marker(plan: str) -> dict[str, Any]:
    return {"format": shards.FORMAT, "version": shards.VERSION, "plan": plan}


def _refuse_other(output: Path, plan: str) -> None:
    """Refuses an output folder that holds anything but shards of this plan."""
    marker = shards.marker(output)
    if marker is not None and marker.get("plan") != plan:
        raise DataError(
            f"{output} holds shards of other data, of another sample rate or of another size. Name another folder, or delete "
            "this one."
        )
    if marker is None and output.is_dir() and any(not path.name.startswith(".") for path in output.iterdir()):
        raise DataError(f"{output} is not empty and holds no shards of audiorep data prepare. Name a new folder.")


def _finished(output: Path, name: str, plan: str) -> dict[str, Any] | None:
    """The record of a finished shard of this plan, or None."""
    try:
        record = shards.read(shards.sidecar(output / name))
        whole = record["plan"] == plan and not shards.size_fault(output / name, shards.shard_of(record))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    record.pop("rows", None)
    return record if whole else None
