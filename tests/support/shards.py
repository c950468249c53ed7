"""Plain data sets to make shards of."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import numpy as np
import soundfile

RATE = 8000


def noise(seed: int, samples: int = 2000) -> np.ndarray:
    """Another for each seed, from full scale to full scale but not clipped."""
    sound = np.random.default_rng(seed).integers(-30_000, 30_000, samples).astype(np.int16)
    sound[:2] = -32768, 32767
    return sound


def folder(root: Path, count: int = 10, rate: int = RATE, samples: int = 2000) -> Path:
    """A plain folder of two classes."""
    for k in range(count):
        path = root / ["cat", "dog"][k % 2] / f"{k:03d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, noise(k, samples), rate)
    return root


def manifest(root: Path, rows: list[dict[str, object]]) -> Path:
    with (root / "clips.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, ("path", "label", "start", "end", "split", "fold", "group", "license"), restval="")
        table.writeheader()
        table.writerows(rows)
    return root / "clips.csv"


def digests(root: Path) -> dict[str, str]:
    """{name: SHA-256} of everything in a folder of shards, hidden or not."""
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in root.iterdir()}
