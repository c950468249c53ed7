"""From files on disk to labels, and from a cold start: whole paths as a user runs them."""

from __future__ import annotations

import contextlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from audiorep.errors import AudioError, AudiorepError, DataError, MissingExtraError, require
from audiorep.predict.classifier import Classifier, Recording

MOST = 200
"""Files that are labelled."""
USUAL = "usual way"
"""librosa for the sound and its log-mel, the network in the authors' merged form in eager PyTorch, a file at a time."""


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


def files_to_labels(
    ways: dict[str, Callable[[Sequence[Path]], list[str]]],
    files: Sequence[Path],
    rounds: int,
    advance: Callable[[float], None] = lambda amount: None,
) -> list[Labelling]:
    """Each way of labelling the same files; all take turns on a block of them, in every round another block."""
    blocks = [list(files[i::rounds]) for i in range(min(rounds, len(files)))]
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    labels: dict[str, list[str]] = {name: [] for name in ways}
    for way in ways.values():
        way(blocks[0][:2])  # the first call of some allocates and compiles
    for block in blocks:
        for name, way in ways.items():
            start = time.perf_counter()
            labels[name] += way(block)
            seconds[name].append((time.perf_counter() - start) / len(block))
            advance(1.0)
    first = next(iter(ways))
    reference = seconds[USUAL if USUAL in ways else first]
    rows = []
    for name in ways:
        ratios = [slow / fast for slow, fast in zip(reference, seconds[name], strict=True)]
        low, middle, high = (float(value) for value in np.quantile(ratios, [0.1, 0.5, 0.9]))
        same = statistics.mean(a == b for a, b in zip(labels[name], labels[first], strict=True))
        rows.append(Labelling(name, 1 / statistics.mean(seconds[name]), middle, low, high, same))
    return rows


def ours(classifier: Classifier) -> Callable[[Sequence[Path]], list[str]]:
    """Files to labels as `audiorep predict` does."""

    def label(files: Sequence[Path]) -> list[str]:
        return [result.label if isinstance(result, Recording) else "" for result in classifier.files(files)]

    return label


def usual(folder: Path, threads: int | None = None) -> Callable[[Sequence[Path]], list[str]]:
    """Files to labels as a practitioner writes it, for a checkpoint of an AudioRepInceptionNeXt.

    Raises:
        MissingExtraError: torch or librosa is not installed.
    """
    torch, librosa = require("torch", extra="train"), require("librosa", extra="dev")
    from audiorep import models
    from audiorep.models import checkpoint

    if threads:
        torch.set_num_threads(threads)
    source = checkpoint.load(folder)
    info, settings = source.info, source.front_end.config
    network = models.merge_branches(source.network) if isinstance(source.network, models.Arin) else source.network
    mel = librosa.filters.mel(sr=info.sample_rate, n_fft=settings.n_fft, n_mels=settings.mels, htk=True, norm=None)
    head, names = next(iter(info.labels.items()))

    def one(path: Path) -> str:
        sound, _ = librosa.load(path, sr=info.sample_rate)
        sound = np.pad(sound, (0, max(0, info.window_samples - len(sound))))
        starts = range(0, len(sound) - info.window_samples + 1, info.hop_samples)
        windows = np.stack([sound[start : start + info.window_samples] for start in starts])
        spectrum = librosa.stft(
            windows, n_fft=settings.n_fft, hop_length=settings.hop, win_length=settings.window, pad_mode="constant"
        )
        log_mel = torch.from_numpy(np.log(mel @ np.abs(spectrum) + 1e-6).astype(np.float32)).transpose(1, 2)[:, None]
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
    """Whole processes of `audiorep predict`, the first left out.

    Raises:
        AudiorepError: the command fails.
    """
    command = [sys.executable, "-m", "audiorep.cli", "predict", str(sound), "-m", str(model), "--runtime", runtime]
    runs = [_process(command) for _ in range(rounds + 1)][1:]
    return ColdStart(runtime, statistics.median(run[0] for run in runs), max(run[1] for run in runs))


def _process(command: list[str]) -> tuple[float, float]:
    """(wall seconds, peak memory in MB) of a whole process, which a small one starts: Linux counts a parent's memory too."""
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


def ways_of(model: Path, runtimes: Sequence[str], threads: int | None, exported: dict[str, Path]) -> dict[str, Any]:
    """The usual way, if it can be had, and each runtime's, by name; `exported` has each runtime's file."""
    ways: dict[str, Any] = {}
    if model.is_dir():
        with contextlib.suppress(MissingExtraError):
            ways[USUAL] = usual(model, threads)
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
