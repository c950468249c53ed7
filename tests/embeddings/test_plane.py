"""A collection in a plane, and its vectors for other programs."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from support.info import FakeSession, make_info

from audiorep.embeddings import export, plane
from audiorep.embeddings.index import Index
from audiorep.errors import ConfigError, DataError
from audiorep.predict.classifier import Classifier
from audiorep.predict.results import Embedding


@pytest.fixture
def index(tmp_path) -> Index:
    """Two groups of ten sounds, of two windows each, far from each other."""
    random = np.random.default_rng(0)
    found = Index.create(tmp_path / "index", Classifier(FakeSession(make_info(embedding_size=2))))
    for number in range(20):
        path = tmp_path / ("left" if number < 10 else "right") / f"{number:02d}.wav"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"")
        centre = np.array([1.0, 0.1] if number < 10 else [0.1, 1.0])
        found.add(Embedding(path, 1.5, np.array([0.0, 0.5]), (centre + 0.05 * random.random((2, 2))).astype(np.float32)))
    found.commit()
    return found


def test_sounds_that_are_alike_lie_together(index):
    made = plane.of_index(index)
    assert made.labels == ["left"] * 10 + ["right"] * 10
    assert made.points.min() == 0
    assert made.points.max() == 1
    across = made.points[:, 0]
    assert max(across[:10].max() - across[:10].min(), across[10:].max() - across[10:].min()) < 0.3
    assert abs(across[:10].mean() - across[10:].mean()) > 0.6
    assert made.scores is None


def test_labels_colour_it(index, tmp_path):
    (tmp_path / "labels.csv").write_text(f"path,label\n{tmp_path / 'left' / '00.wav'},wren\n")
    made = plane.of_index(index, plane.labels_of(tmp_path / "labels.csv"))
    assert made.labels[:2] == ["wren", "left"]
    (tmp_path / "wrong.csv").write_text("a,b\n1,2\n")
    for name, reason in (("wrong.csv", "columns path and label are needed"), ("none.csv", "No such file")):
        with pytest.raises(DataError, match=reason):
            plane.labels_of(tmp_path / name)


def test_few_sounds_make_no_map(tmp_path):
    few = Index.create(tmp_path / "few", Classifier(FakeSession(make_info(embedding_size=2))))
    with few, pytest.raises(DataError, match="holds 0 sounds; a map needs three"):
        plane.of_index(few)


def test_a_sound_has_the_score_of_its_best_window(index):
    made = plane.of_index(index, score=lambda vectors: vectors[:, 0] / 2)
    expected = [index.vectors([place.row for place in index.rows_of(path)])[:, 0].max() / 2 for path in made.paths]
    assert made.scores.tolist() == pytest.approx(expected)


@pytest.mark.slow
@pytest.mark.parametrize("sounds", [3, 20])
def test_umap_keeps_groups_apart_and_gives_the_same_map_again(index, sounds, monkeypatch):
    pytest.importorskip("umap", reason="needs the extra umap", exc_type=ImportError)
    paths = index.paths()
    monkeypatch.setattr(index, "paths", lambda: paths if sounds == 20 else [*paths[:2], paths[-1]])
    made = plane.of_index(index, method="umap")
    assert made.points.shape == (sounds, 2)
    assert np.isfinite(made.points).all()
    assert np.array_equal(made.points, plane.of_index(index, method="umap").points)
    if sounds == 20:
        left, right = made.points[:10], made.points[10:]
        spread = max(np.linalg.norm(own - own.mean(0), axis=1).max() for own in (left, right))
        assert np.linalg.norm(left.mean(0) - right.mean(0)) > 2 * spread


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_vectors_are_written_for_other_programs(index, tmp_path, suffix):
    path = tmp_path / f"all{suffix}"
    export.check(path)
    assert export.write(index, path) == 40
    places = [place for sound in index.paths() for place in index.rows_of(sound)]
    expected = index.vectors([place.row for place in places])
    if suffix == ".npy":
        vectors = np.load(path)
        rows = list(csv.DictReader((tmp_path / "all.csv").read_text().splitlines()))
    else:
        import pyarrow.parquet

        rows = pyarrow.parquet.read_table(path).to_pylist()
        vectors = np.array([row["embedding"] for row in rows], np.float32)
    assert np.array_equal(vectors, expected)
    assert [(row["path"], float(row["start"]), float(row["end"])) for row in rows] == [
        (str(place.path), place.start, place.end) for place in places
    ]
    with pytest.raises(ConfigError, match=r"must end in \.npy or \.parquet"):
        export.check(tmp_path / "all.txt")
