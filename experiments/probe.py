"""What embeddings are worth: a linear classifier on them, on ESC-50's fold 5, which no embedding here was trained on.

python experiments/probe.py ESC50_FOLDER results/probe.json NAME=CHECKPOINT …

An embedding is the mean over a clip's windows, half a window apart. Its classifier is a logistic regression on
standardized values; its penalty is chosen on fold 4 after training on folds 1 to 3, and it is trained again on 1 to 4.
"""

from __future__ import annotations

import argparse
import json
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from audiorep import audio, datasets
from audiorep.files import write_json
from audiorep.models import checkpoint

PENALTIES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Inverse strengths of the penalty."""
SHOTS, DRAWS = 5, 10
TOGETHER = 64  # windows


def main() -> None:
    """A row a checkpoint."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("output", type=Path)
    parser.add_argument("models", nargs="+", metavar="NAME=CHECKPOINT")
    given = parser.parse_args()
    clips = datasets.listed_examples(given.data)
    rows = json.loads(given.output.read_text())["rows"] if given.output.exists() else {}
    for name, _, folder in (text.partition("=") for text in given.models):
        rows[name] = measure(embeddings(folder, clips), clips)
        print(name, json.dumps(rows[name]))
        about = {"command": " ".join(["python", *sys.argv]), "date": date.today().isoformat()}
        write_json(given.output, {**about, "rows": rows})


@torch.no_grad()
def embeddings(folder: str, clips: list[datasets.Example]) -> np.ndarray:
    """(clips, C) log(1 + mean embedding), which is never negative."""
    model = checkpoint.load(folder)
    network, window = model.network.eval(), model.info.window_samples
    found = []
    for clip in clips:
        waveform = np.pad(sound := audio.read(clip.path, model.info.sample_rate), (0, max(0, window - len(sound))))
        windows = np.lib.stride_tricks.sliding_window_view(waveform, window)[:: window // 2]
        parts = [
            network.pool(network.forward_features(model.front_end(torch.from_numpy(part.copy()))))
            for part in np.array_split(windows, -(-len(windows) // TOGETHER))
        ]
        found.append(torch.cat(parts).mean(0).clamp_min(0).log1p().numpy())
    return np.stack(found)


def measure(values: np.ndarray, clips: list[datasets.Example]) -> dict[str, Any]:
    """Accuracies on fold 5: of all clips of the others, and of a few a class."""
    folds, names = np.array([clip.fold for clip in clips]), np.array([clip.all_labels[0] for clip in clips])

    def accuracy(train: np.ndarray, test: np.ndarray, penalty: float) -> float:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=2000))
        return float(model.fit(values[train], names[train]).score(values[test], names[test]))

    chosen = max(PENALTIES, key=lambda penalty: accuracy(folds < 4, folds == 4, penalty))
    few = [accuracy(few_of(names, folds < 5, seed), folds == 5, chosen) for seed in range(DRAWS)]
    return {
        "size": values.shape[1],
        "penalty": chosen,
        "fold_4": accuracy(folds < 4, folds == 4, chosen),
        "fold_5": accuracy(folds < 5, folds == 5, chosen),
        "clips": int((folds == 5).sum()),
        f"fold_5_of_{SHOTS}_a_class": {"mean": float(np.mean(few)), "deviation": float(np.std(few, ddof=1)), "draws": DRAWS},
    }


def few_of(names: np.ndarray, allowed: np.ndarray, seed: int) -> np.ndarray:
    """The numbers of `SHOTS` clips of each class, drawn from those that are allowed."""
    generator = np.random.default_rng(seed)
    return np.concatenate([generator.permutation(np.flatnonzero(allowed & (names == n)))[:SHOTS] for n in np.unique(names)])


if __name__ == "__main__":
    main()
