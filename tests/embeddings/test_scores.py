"""Scores of what lies in an index are those that the model gives when it hears the sounds."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import SAMPLES

import audiorep
from audiorep.embeddings import scores
from audiorep.embeddings.index import Index
from audiorep.errors import ConfigError


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Indices of the samples by both models in the package, and a model that was taught one of them."""
    made = tmp_path_factory.mktemp("scores")
    for name in ("nano", "esc50"):
        audiorep.embed([SAMPLES], made / name, name)
    audiorep.teach("nano", {"my crow": SAMPLES / "crow.flac"}, made / "mine.onnx")
    return made


@pytest.mark.parametrize(
    ("name", "label", "model"), [("nano", "Siren", None), ("nano", "my crow", "mine.onnx"), ("esc50", "siren", None)]
)
def test_they_are_those_of_the_sounds(folder, name, label, model):
    path = model and folder / model
    heard = audiorep.load(path or name)
    place = heard.info.labels["label"].index(label)
    with Index(folder / name) as index:
        score = scores.of_label(index, label, path)
        for sound in index.paths():
            vectors = index.vectors([row.row for row in index.rows_of(sound)])
            assert score(vectors) == pytest.approx(heard(sound).scores["label"][:, place], abs=0.01), sound


def test_what_gives_no_scores_is_refused(folder, tmp_path):
    with Index(folder / "nano") as index:
        with pytest.raises(ConfigError, match="dragon is no label of nano; audiorep models info nano lists them"):
            scores.of_label(index, "dragon")
        with pytest.raises(ConfigError, match="made with another model, nano; give that one"):
            scores.of_label(index, "siren", "esc50")
