"""From files on disk to labels, and from a cold start: whole paths as a user runs them."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from audiorep import shipped
from audiorep.errors import AudioError, AudiorepError, ConfigError, DataError, MissingExtraError, require
from audiorep.predict.classifier import Classifier
from audiorep.predict.results import Recording
from audiorep.runtimes import timing

if TYPE_CHECKING:
    from audiorep.benchmark.cases import Plan
    from audiorep.models.checkpoint import Checkpoint

MOST = 200
"""Files that are labelled."""
USUAL = "usual way"
"""librosa for the sound and its log-mel, the network in the authors' merged form in eager PyTorch, a file at a time."""


Way = Callable[[Sequence[Path]], list[str]]
"""Labels sound files."""


@dataclass(frozen=True)
class Labelling:
    """How fast one way of running a model labels files."""

    name: str
    files_per_second: float
    ratio: float
    """Over the usual way where that was measured, else over the first: the median of the rounds' ratios."""
    ratio_low: float
    ratio_high: float
    same_label: float
    """Share of files with the first way's label."""


@dataclass(frozen=True)
class ColdStart:
    """A whole `audiorep predict` of one file: start, model, sound, label."""

    name: str
    seconds: float
    """Median."""
    peak_memory_mb: float


@dataclass(frozen=True)
class Measured:
    """One network from files to labels, and from a cold start."""

    network: str
    files: int
    to_labels: list[Labelling]
    cold_start: list[ColdStart]


def measure(
    plan: Plan,
    folder: Path,
    rounds: int,
    threads: int,
    say: Callable[[str], None] = lambda text: None,
    advance: Callable[[float], None] = lambda amount: None,
) -> list[Measured]:
    """Each network of `plan` in the usual way and in each of its runtimes, on the sounds below `folder`.

    Raises:
        ConfigError: the plan has no runtime that opens a deployed file.
        DataError: there are no sounds.
        BundleError, CheckpointError, MissingExtraError: a network cannot be exported.
    """
    runtimes = [name for name in plan.runtimes if name in ("onnx", "openvino")]
    if not runtimes:
        raise ConfigError("--end-to-end measures the runtimes onnx and openvino against the usual way in eager PyTorch.")
    files = sounds_in(folder, MOST)
    results = []
    for name in plan.networks:
        say(f"Making ready: {name}, {', '.join(runtimes)}")
        with tempfile.TemporaryDirectory() as scratch:
            source = _checkpoint_of(name, plan, Path(scratch))
            made = exported(source, runtimes, Path(scratch))
            ways = ways_of(source, runtimes, threads, made)
            if USUAL not in ways:
                say(f"Without librosa there is no usual way to measure; speeds are over {runtimes[0]}.")
            labelled = files_to_labels(ways, files, rounds, advance)
            starts = [cold_start(made[runtime], files[0], runtime) for runtime in runtimes]
        results.append(Measured(Path(name).name, len(files), labelled, starts))
    return results


def _checkpoint_of(name: str, plan: Plan, scratch: Path) -> Path:
    """A checkpoint folder, or one that is made of an architecture with random weights."""
    from audiorep.benchmark.cases import made_up
    from audiorep.models import checkpoint

    if (folder := shipped.place(name)).is_dir():
        return folder
    made = made_up(name, plan.front_end, plan.seconds, plan.classes)
    checkpoint.save(scratch / name, made.network, made.info, name)
    return scratch / name


def files_to_labels(
    ways: dict[str, Way],
    files: Sequence[Path],
    rounds: int,
    advance: Callable[[float], None] = lambda amount: None,
) -> list[Labelling]:
    """Each way of labelling the same files; all take turns on a block of them, in every round another block."""
    blocks = [list(files[i::rounds]) for i in range(min(rounds, len(files)))]
    labels: dict[str, list[str]] = {name: [] for name in ways}
    for way in ways.values():
        way(blocks[0][:2])  # the first call of some allocates and compiles
    turns = [_labelling(way, blocks, labels[name]) for name, way in ways.items()]
    times = dict(zip(ways, timing.in_turns(turns, len(blocks), advance=advance), strict=True))
    first = next(iter(ways))
    rows = []
    for name in ways:
        speed = timing.speed(times[USUAL if USUAL in ways else first], times[name])
        same = statistics.mean(a == b for a, b in zip(labels[name], labels[first], strict=True))
        per_second = 1 / statistics.mean(seconds for one in times[name] for seconds in one)
        rows.append(Labelling(name, per_second, speed.median, speed.low, speed.high, same))
    return rows


def _labelling(way: Way, blocks: Sequence[list[Path]], labels: list[str]) -> timing.Turn:
    """A turn that labels the next of `blocks`, and gives the seconds of a file of it."""
    waiting = iter(blocks)

    def run() -> list[float]:
        block = next(waiting)
        return [timing.seconds_of(lambda: labels.extend(way(block))) / len(block)]

    return run


def ours(classifier: Classifier) -> Way:
    """Files to labels as `audiorep predict` does."""

    def label(files: Sequence[Path]) -> list[str]:
        return [result.label if isinstance(result, Recording) else "" for result in classifier.files(files)]

    return label


def usual(source: Checkpoint, threads: int | None = None) -> Way:
    """Files to labels as a practitioner writes it, for a checkpoint of an AudioRepInceptionNeXt.

    Raises:
        MissingExtraError: torch or librosa is not installed.
    """
    torch, librosa = require("torch", extra="train"), require("librosa", extra="dev")
    from audiorep import models

    if threads:
        torch.set_num_threads(threads)
    info, settings = source.info, source.front_end.config
    network = models.merge_branches(source.network) if isinstance(source.network, models.Arin) else source.network
    bands = {"n_mels": settings.mels, "fmin": settings.lowest_hz, "fmax": settings.top_hz}
    mel = librosa.filters.mel(sr=info.sample_rate, n_fft=settings.n_fft, htk=True, norm=None, **bands)
    frames = {"hop_length": settings.hop, "win_length": settings.window, "center": settings.centered, "pad_mode": "constant"}
    head, names = next(iter(info.labels.items()))

    def one(path: Path) -> str:
        sound, _ = librosa.load(path, sr=info.sample_rate)
        sound = np.pad(sound, (0, max(0, info.window_samples - len(sound))))
        starts = range(0, len(sound) - info.window_samples + 1, info.hop_samples)
        windows = np.stack([sound[start : start + info.window_samples] for start in starts])
        magnitude = np.abs(librosa.stft(windows, n_fft=settings.n_fft, **frames))
        log_mel = torch.from_numpy(np.log(mel @ magnitude + settings.log_offset).astype(np.float32)).transpose(1, 2)[:, None]
        with torch.inference_mode():
            return names[int(network(log_mel)[head].softmax(-1).mean(0).argmax())]

    return lambda files: [one(path) for path in files]


def sounds_in(folder: Path, most: int) -> list[Path]:
    """Up to `most` sound files below `folder` that can be read, evenly spread.

    Raises:
        DataError: there are none.
    """
    from audiorep import audio

    found = list(audio.find([str(folder)]))
    chosen = [found[round(place)] for place in np.linspace(0, len(found) - 1, min(most, len(found)))]
    readable = []
    for path in chosen:
        try:
            audio.probe(path)
        except AudioError:
            continue
        readable.append(path)
    if not readable:
        raise DataError(f"{folder} holds no sound that can be read.")
    return readable


def cold_start(model: Path, sound: Path, runtime: str, rounds: int = 7) -> ColdStart:
    """The cost of `audiorep predict` as whole processes.

    Raises:
        AudiorepError: the command fails.
    """
    command = [sys.executable, "-m", "audiorep.cli", "predict", str(sound), "-m", str(model), "--runtime", runtime]
    return whole_processes({runtime: command}, rounds)[0]


def whole_processes(commands: dict[str, list[str]], rounds: int) -> list[ColdStart]:
    """The cost of each command from start to end, all taking turns; a first round is left out.

    Raises:
        AudiorepError: one fails.
    """
    memory: dict[str, list[float]] = {name: [] for name in commands}

    def turn(name: str) -> timing.Turn:
        def run() -> list[float]:
            seconds, megabytes = whole_process(commands[name])
            memory[name].append(megabytes)
            return [seconds]

        return run

    times = timing.in_turns([turn(name) for name in commands], rounds + 1)
    return [
        ColdStart(name, timing.median(taken[1:]), max(memory[name][1:])) for name, taken in zip(commands, times, strict=True)
    ]


def whole_process(command: list[str]) -> tuple[float, float]:
    """The seconds and the peak memory in MB of a command.

    A small process starts it, since Linux counts the memory of what starts a process as its own.

    Raises:
        AudiorepError: it fails.
    """
    start = (
        "import os, subprocess, sys, time; t = time.perf_counter(); "
        "p = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL); _, s, u = os.wait4(p.pid, 0); "
        "print(time.perf_counter() - t, u.ru_maxrss / (1e6 if sys.platform == 'darwin' else 1e3), os.waitstatus_to_exitcode(s))"
    )
    done = subprocess.run([sys.executable, "-c", start, *command], capture_output=True, text=True, check=True)
    seconds, memory, status = done.stdout.split()
    if status != "0":
        raise AudiorepError(f"{' '.join(command)} fails: {done.stderr.strip()}")
    return float(seconds), float(memory)


def ways_of(model: Path, runtimes: Sequence[str], threads: int | None, exported: dict[str, Path]) -> dict[str, Way]:
    """The usual way, if it can be had, and each runtime's, by name; `exported` has each runtime's file."""
    from audiorep.models import checkpoint

    ways: dict[str, Way] = {}
    if model.is_dir():
        with contextlib.suppress(MissingExtraError):
            ways[USUAL] = usual(checkpoint.load(model), threads)
    for runtime in runtimes:
        ways[runtime] = ours(Classifier.load(exported[runtime], threads, runtime))
    return ways


def exported(source: Path, runtimes: Sequence[str], folder: Path) -> dict[str, Path]:
    """The checkpoint in `source` written for each runtime, checked on noises: {runtime: file}.

    Raises:
        BundleError: a file's scores are not the checkpoint's.
        MissingExtraError: a runtime is not installed.
    """
    from audiorep.export import sounds, writer
    from audiorep.models import checkpoint
    from audiorep.runtimes import RUNTIMES

    model = checkpoint.load(source)
    clips, _ = sounds.parity_clips(source, model.info, None)
    files = {}
    for runtime in runtimes:
        files[runtime] = folder / f"model{RUNTIMES[runtime].writes}"
        writer(runtime)(model, files[runtime], clips)
    return files
