"""Embeddings of sounds that `teach` tells new classes from, for each model in the package.

python experiments/background.py AUDIOREP_DATA

They are the sounds that `nano` was taught with, by its ATTRIBUTION.csv: of each clip of ESC-50's folds 1 to 4, and of every
second other one, the loudest of five windows. Fold 5 is not among them.
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from audiorep import load, shipped
from audiorep.embeddings.index import SILENCE, probe
from audiorep.embeddings.teach import BACKGROUND
from audiorep.files import replacing, write_text
from audiorep.predict.classifier import Classifier
from audiorep.predict.results import Failure

CARD = (
    "`background.npz` holds what the model hears in {count:,} of `nano`'s sounds, one window of each. `audiorep teach` tells "
    "new classes from them.\n\n"
)
VIEWS = 5  # windows of a clip, of which the loudest counts


def main() -> None:
    """Writes the file of each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    data = parser.parse_args().data
    with (shipped.SHIPPED["nano"].folder / "ATTRIBUTION.csv").open(newline="") as file:
        clips = [row["clip"] for row in csv.DictReader(file)]
    places = [[folder / clip for folder in folders(data) if (folder / clip).exists()] for clip in clips]
    known = [paths[0] for paths in places if paths and paths[0].parent == data / "esc50" / "audio"]
    others = [paths[0] for paths in places if paths and paths[0].parent != data / "esc50" / "audio"][::2]
    for row in shipped.SHIPPED.values():
        classifier = load(row.name)
        vectors = embeddings(classifier, [*known, *others])
        with replacing(row.folder / BACKGROUND) as partial:
            np.savez_compressed(partial, vectors=vectors, probe=probe(classifier))
        tell(row.folder / "README.md", len(vectors))
        print(row.name, vectors.shape, f"{(row.folder / BACKGROUND).stat().st_size / 1000:.0f} kB")


def tell(card: Path, count: int) -> None:
    """Names the file in a model's card, once."""
    text = card.read_text()
    kept = "".join(f"{part}\n\n" for part in text.split("\n\n") if not part.startswith("`background.npz`")).rstrip() + "\n"
    before, use, after = kept.partition("## Use")
    write_text(card, before + CARD.format(count=count) + use + after)


def folders(data: Path) -> list[Path]:
    """Where the sounds are."""
    return [data / "esc50" / "audio", data / "free_audio" / "audio", data / "speech_commands"]


def embeddings(classifier: Classifier, paths: list[Path]) -> np.ndarray:
    """(clips, C) float16, of clips that are no silence."""
    found = []
    for embedding in classifier.embed_files(paths, views=VIEWS):
        if isinstance(embedding, Failure):
            raise embedding.error
        assert embedding.peaks is not None
        if embedding.peaks.max() >= SILENCE:
            found.append(embedding.vectors[int(embedding.peaks.argmax())])
    return np.stack(found).astype(np.float16)


if __name__ == "__main__":
    main()
