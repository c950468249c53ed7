"""A collection as a map, and its vectors for other programs."""

from __future__ import annotations

import csv
import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest
from support import SAMPLES, processes
from support.info import FakeSession, make_info

import audiorep
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
    assert list(made.colours()) == ["left", "right"]


def test_labels_colour_it(index, tmp_path):
    (tmp_path / "labels.csv").write_text(f"path,label\n{tmp_path / 'left' / '00.wav'},wren\n")
    made = plane.of_index(index, plane.labels_of(tmp_path / "labels.csv"))
    assert made.labels[:2] == ["wren", "left"]
    (tmp_path / "wrong.csv").write_text("a,b\n1,2\n")
    for name, reason in (("wrong.csv", "columns path and label are needed"), ("none.csv", "No such file")):
        with pytest.raises(DataError, match=reason):
            plane.labels_of(tmp_path / name)


def test_a_page_holds_its_sounds_and_nothing_that_runs_away(index, tmp_path):
    (tmp_path / "labels.csv").write_text(f"path,label\n{tmp_path / 'left' / '00.wav'},</script><b>\n")
    text = plane.as_page(plane.of_index(index, plane.labels_of(tmp_path / "labels.csv")))
    points = json.loads(re.search(r"const points = (.*), canvas", text)[1].replace("<\\/", "</"))
    assert len(points) == 20
    assert points[0][3] == "</script><b>"
    assert text.count("</script>") == 1
    assert "<b>" not in text.partition("<script>")[0]


def test_few_sounds_make_no_map(tmp_path):
    few = Index.create(tmp_path / "few", Classifier(FakeSession(make_info(embedding_size=2))))
    with few, pytest.raises(DataError, match="holds 0 sounds; a map needs three"):
        plane.of_index(few)


@pytest.mark.skipif(importlib.util.find_spec("umap") is None, reason="umap-learn is not installed")
def test_umap_keeps_groups_apart(index):
    made = plane.of_index(index, method="umap")
    left, right = made.points[:10].mean(0), made.points[10:].mean(0)
    assert np.linalg.norm(left - right) > 0.3


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


@pytest.mark.slow
def test_the_commands_draw_and_write(tmp_path):
    words = ["embed", SAMPLES, "-o", tmp_path / "index", "--vectors", tmp_path / "all.npy"]
    done = processes.run(processes.audiorep(*words))
    assert done.returncode == 0, done.stderr
    with audiorep.Index(tmp_path / "index") as made:
        assert np.load(tmp_path / "all.npy").shape == (len(made), 128)
    words = ["map", tmp_path / "index", "-o", tmp_path / "map.png", "-o", tmp_path / "map.html"]
    done = processes.run(processes.audiorep(*words))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    assert "siren.flac" in (tmp_path / "map.html").read_text()
    done = processes.run(processes.audiorep("map", tmp_path / "index", "-o", tmp_path / "map.pdf"))
    assert done.returncode == 2
    assert "must end in .png or .html" in done.stderr
    assert not Path(tmp_path / "map.pdf").exists()
