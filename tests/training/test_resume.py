"""A run that is stopped anywhere, or simply repeated, gives the weights of an unbroken one, to the byte."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import resource
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import tomlkit
from support import processes
from support.commands import audiorep
from support.training import epoch_of, kill_within

from audiorep import config, datasets
from audiorep.files import WriteError
from audiorep.models import checkpoint
from audiorep.training import fit
from audiorep.training.recipe import TrainConfig

RATE = 4000
AUGMENT = {"speed": 0.1, "mixup": 0.5, "noise": 0.3, "time_masks": 1}
QUICK: dict[str, Any] = {
    "architecture": "arin_pico",
    "network": {"depths": [1, 1], "time_kernels": [3], "frequency_kernels": [3], "dropout": 0.1, "stochastic_depth": 0.1},
    "front_end": {"sample_rate": RATE, "window_ms": 32, "hop_ms": 16, "n_fft": 128, "mels": 16},
    "window_seconds": 0.5,
    "cut_seconds": 0.25,
    "epochs": 2,
    "batch_size": 8,
    "precise_norms": 3,
    "augment": AUGMENT,
}


@pytest.fixture(scope="module")
def clips(tmp_path_factory) -> Path:
    """Two classes of twelve clips each."""
    root = tmp_path_factory.mktemp("clips")
    generator = np.random.default_rng(0)
    for label, hertz in {"low": 150, "high": 1500}.items():
        (root / label).mkdir()
        for number in range(12):
            times = np.arange(int(RATE * generator.uniform(0.4, 0.9))) / RATE
            clip = 0.3 * np.sin(2 * np.pi * hertz * times) + 0.01 * generator.standard_normal(len(times))
            soundfile.write(root / label / f"{number}.wav", clip, RATE)
    return root


@pytest.fixture(scope="module")
def earlier(clips, tmp_path_factory) -> Path:
    """A finished run, to start from and to learn from."""
    return fit.fit(quick(epochs=1), datasets.examples(clips), tmp_path_factory.mktemp("earlier"))


@pytest.fixture
def recipe(tmp_path) -> Path:
    """The settings of `quick` as a file."""
    path = tmp_path / "recipe.toml"
    path.write_text(tomlkit.dumps(QUICK))
    return path


def quick(**changes: Any) -> TrainConfig:
    return config.load(TrainConfig, {**QUICK, **changes}, where="test")


def digest(folder: Path) -> str:
    return hashlib.sha256((folder / checkpoint.WEIGHTS).read_bytes()).hexdigest()


RECIPES: dict[str, Callable[[Path, Path], dict[str, Any]]] = {
    "precise norms": lambda clips, earlier: {},
    "averaged weights": lambda clips, earlier: {"ema_decay": 0.9, "keep": "last"},
    "frozen norms": lambda clips, earlier: {"start": str(earlier), "freeze_norms": True},
    "balanced classes": lambda clips, earlier: {"balance": "sampling"},
    "recorded noise": lambda clips, earlier: {"augment": {**AUGMENT, "noise": 1.0, "noise_folder": str(clips / "low")}},
    "teacher": lambda clips, earlier: {"distil": {"teachers": [str(earlier)], "features": 0.5}},
    "kept scores": lambda clips, earlier: {"distil": {"teachers": [str(earlier)], "cache": True}, "cut_seconds": 0.5},
}
pytestmark = pytest.mark.usefixtures("merged_once")
LONG = ("recorded noise", "kept scores")  # of the same code as others here but for what test_fit and test_distil prove


class _Stop(Exception):  # noqa: N818
    pass


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [pytest.param(name, marks=pytest.mark.full if name in LONG else ()) for name in RECIPES])
def test_a_run_that_is_repeated_or_resumed_anywhere_gives_the_same_bytes(clips, earlier, tmp_path, recipe):
    settings = quick(**RECIPES[recipe](clips, earlier))
    examples = datasets.examples(clips, splits=settings.splits)
    unbroken = digest(fit.fit(settings, examples, tmp_path / "unbroken"))
    assert digest(fit.fit(settings, examples, tmp_path / "unbroken")) == unbroken

    (tmp_path / "unbroken" / checkpoint.WEIGHTS).unlink()  # as of a kill between the last epoch and the end
    (tmp_path / "unbroken" / checkpoint.CONFIG).unlink()
    assert digest(fit.fit(settings, examples, tmp_path / "unbroken")) == unbroken

    def stop(epoch: int, values: dict[str, float]) -> None:
        if epoch == 1:
            raise _Stop

    with pytest.raises(_Stop):
        fit.fit(settings, examples, tmp_path / "stopped", on_epoch=stop)
    assert digest(fit.fit(settings, examples, tmp_path / "stopped")) == unbroken


def fit_and_die(settings: TrainConfig, examples: list[datasets.Example], output: Path) -> None:
    """Trains, in a process group of its own, that is killed when its second epoch ends."""

    def die(epoch: int, values: dict[str, float]) -> None:
        if epoch == 1:
            os.killpg(0, signal.SIGKILL)

    os.setsid()
    fit.fit(settings, examples, output, on_epoch=die)


@pytest.mark.full
@pytest.mark.slow
def test_a_run_that_is_killed_with_its_workers_goes_on_as_if_it_had_not_been(clips, tmp_path):
    settings, examples = quick(epochs=3, workers=2), datasets.examples(clips)
    killed = multiprocessing.get_context("fork").Process(target=fit_and_die, args=(settings, examples, tmp_path / "killed"))
    killed.start()
    killed.join(processes.SECONDS)
    assert killed.exitcode == -signal.SIGKILL
    assert not (tmp_path / "killed" / checkpoint.WEIGHTS).exists()
    assert epoch_of(tmp_path / "killed" / fit.LAST) < 2
    (tmp_path / "killed" / "last.part.ckpt").write_bytes(b"half a checkpoint")  # what a kill while writing leaves
    resumed, unbroken = (digest(fit.fit(settings, examples, tmp_path / name)) for name in ("killed", "unbroken"))
    assert resumed == unbroken
    assert len(list((tmp_path / "killed" / "logs").iterdir())) == 2


@pytest.mark.full
@pytest.mark.parametrize("workers", [0, 2])
def test_a_command_that_is_killed_anywhere_goes_on_as_if_it_had_not_been(clips, recipe, tmp_path, workers):
    settings, examples, killed = quick(epochs=40, workers=workers), datasets.examples(clips), tmp_path / "killed"
    command = processes.audiorep("train", clips, "--recipe", recipe, "--set", "epochs=40", "--set", f"workers={workers}")
    kill_within([*command, "-o", str(killed)], killed, epochs=40)
    resumed, unbroken = (digest(fit.fit(settings, examples, folder)) for folder in (killed, tmp_path / "unbroken"))
    assert resumed == unbroken


@pytest.mark.slow
def test_workers_give_precise_norms_the_same_cuts(clips, tmp_path):
    examples = datasets.examples(clips)
    digests = {digest(fit.fit(quick(epochs=1, workers=n), examples, tmp_path / str(n))) for n in (0, 1)}
    assert len(digests) == 1


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file may grow beyond 60 kB, less than a checkpoint."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    answer = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    signal.signal(signal.SIGXFSZ, answer)


@pytest.mark.slow
def test_a_disk_that_fills_during_a_checkpoint_is_one_sentence(clips, recipe, tmp_path, small_files):
    done = audiorep("train", clips, "-o", tmp_path / "run", "--recipe", recipe)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1] == f"Error: {tmp_path / 'run' / 'best.ckpt'} cannot be written: File too large."
    assert "Traceback" not in done.stderr
    assert not list((tmp_path / "run").glob("*.ckpt")) + list((tmp_path / "run").glob(".*"))


@pytest.mark.slow
def test_a_full_disk_leaves_the_epoch_before(clips, tmp_path, monkeypatch):
    settings = quick(splits={"valid_fraction": 0.0})
    examples = datasets.examples(clips, splits=settings.splits)
    written = os.fsync
    saved: list[int] = []

    def fsync(number: int) -> None:
        saved.append(number)
        if len(saved) == 2:
            raise OSError(28, os.strerror(28))
        written(number)

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(WriteError, match=r"last\.ckpt .* No space left"):
        fit.fit(settings, examples, tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").glob("*.ckpt")] == ["last.ckpt"]
    resumed = digest(fit.fit(settings, examples, tmp_path / "run"))
    assert resumed == digest(fit.fit(settings, examples, tmp_path / "unbroken"))


ENDS = [
    ("SIGTERM", 143, 0),
    ("SIGTERM", 143, 2),
    ("SIGHUP", 129, 0),
    ("SIGHUP", 129, 2),
    ("SIGINT", 130, 0),
    ("SIGINT", 130, 2),
]


@pytest.mark.full  # Ctrl-C by default: cli/test_own_model.py
@pytest.mark.parametrize(("name", "status", "workers"), ENDS)
def test_a_training_that_is_ended_says_how_to_go_on(clips, recipe, tmp_path, name, status, workers):
    settings = ["--recipe", recipe, "--set", "epochs=9999", "--set", f"workers={workers}"]
    command = processes.audiorep("train", clips, "-o", tmp_path / "run", *settings)
    with processes.started(command, stderr=subprocess.PIPE) as process:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith("epoch 2/"):
                os.killpg(process.pid, getattr(signal, name))
        process.wait(timeout=60)
    assert process.returncode == status, lines
    assert lines[-1].startswith("Stopped.")
    assert str(tmp_path / "run") in lines[-1]
    assert "Traceback" not in "".join(lines)
    assert (tmp_path / "run" / fit.LAST).exists()
