"""Short trainings on folders of tones."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import torch
from safetensors.torch import load_file

from audiorep import config
from audiorep.models import checkpoint
from audiorep.training import fit
from audiorep.training.recipe import TrainConfig
from support import processes

RATE = 4000


QUICK = {
    "architecture": "arin_pico",
    "network": {"depths": [1, 1], "time_kernels": [3], "frequency_kernels": [3], "dropout": 0.1, "stochastic_depth": 0.1},
    "front_end": {"sample_rate": RATE, "window_ms": 32, "hop_ms": 16, "n_fft": 128, "mels": 16},
    "window_seconds": 0.5,
    "cut_seconds": 0.25,
    "epochs": 3,
    "batch_size": 8,
    "ema_decay": 0.9,
    "optimizer": {"learning_rate": 0.01},
    "schedule": {"warmup_epochs": 1},
    "augment": {
        "speed": 0.1,
        "mixup": 0.5,
        "gain_db": 3,
        "noise": 0.3,
        "time_masks": 1,
        "frequency_masks": 1,
        "shift_seconds": 0.05,
    },
}


def quick(**changes) -> TrainConfig:
    return config.load(TrainConfig, {**QUICK, **changes}, where="test")


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / checkpoint.WEIGHTS)


def kill_within(command: list[str], run: Path, epochs: int) -> None:
    """Starts a training of `epochs` epochs into the folder `run` and kills it after its first epochs."""
    with processes.started(command, stderr=subprocess.DEVNULL) as process:
        processes.wait_until((run / fit.LAST).exists, process)
        time.sleep(0.1)
        os.killpg(process.pid, signal.SIGKILL)
        assert process.wait(timeout=30) == -signal.SIGKILL
    assert not (run / checkpoint.WEIGHTS).exists()
    assert epoch_of(run / fit.LAST) < epochs - 1


def epoch_of(path: Path) -> int:
    return torch.load(path, weights_only=True)["epoch"]


def folded(tones: Path, path: Path, folds: int) -> Path:
    rows = [f"{clip},{clip.parent.name},{int(clip.stem) % folds + 1}" for clip in sorted(tones.rglob("*.wav"))]
    path.write_text("\n".join(["path,label,fold", *rows]) + "\n")
    return path
