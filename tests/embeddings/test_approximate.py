"""Approximate search: measured against the exact one, and going on as the index does."""

from __future__ import annotations

import numpy as np
import pytest
from support import processes
from support.info import FakeSession, make_info

from audiorep.embeddings import approximate
from audiorep.embeddings.index import Index
from audiorep.embeddings.search import Query, similar
from audiorep.errors import ConfigError
from audiorep.predict.classifier import Classifier
from audiorep.predict.results import Embedding

SIZE = 32


def add(index: Index, number: int, seed: int) -> np.ndarray:
    """A sound of 500 windows, and its vectors."""
    path = index.folder.parent / f"{number}.wav"
    path.write_bytes(b"")
    vectors = np.abs(np.random.default_rng(seed).standard_normal((500, SIZE))).astype(np.float32)
    index.add(Embedding(path, 500.0, np.arange(500.0), vectors))
    index.commit()
    return vectors


@pytest.fixture
def index(tmp_path) -> Index:
    class Wide(FakeSession):
        def run(self, waveform, outputs):
            return {"embedding": waveform[:, :SIZE].astype(np.float32)}

    return Index.create(tmp_path / "index", Classifier(Wide(make_info(embedding_size=SIZE))))


def test_it_finds_what_the_exact_search_finds(index):
    for number in range(4):
        vectors = add(index, number, number)
    built = approximate.build(index)
    assert (built.rows, built.recall >= approximate.LEAST_RECALL) == (2000, True)
    query = Query(vectors[[3, 77, 200]])
    exact = similar(index, query, 20, per_sound=False)
    found = similar(index, query, 20, per_sound=False, search=approximate.candidates)
    places = [{(match.path, match.start) for match in matches} for matches in (found, exact)]
    assert len(places[0] & places[1]) >= 18
    assert [match.score for match in found] == pytest.approx([match.score for match in exact], abs=0.01)


def test_sounds_that_came_later_are_found_before_and_after_they_are_added(index):
    add(index, 0, 0)
    approximate.build(index)
    vectors = add(index, 1, 1)
    for _ in range(2):
        [best] = similar(index, Query(vectors[[42]]), 1, search=approximate.candidates)
        assert (best.path.name, best.start) == ("1.wav", 42.0)
        assert approximate.build(index).rows == 1000


def test_it_does_not_matter_what_is_loaded_first():
    code = """
import numpy as np
from pathlib import Path
from audiorep.embeddings import approximate
approximate.check()
import audiorep
audiorep.load("nano", threads=1)
print("loaded")
"""
    assert processes.run(processes.python(code)).stdout == "loaded\n"


def test_without_neighbours_or_with_damaged_ones_a_sentence_says_so(index):
    add(index, 0, 0)
    query = Query(np.ones((1, SIZE), np.float32))
    with pytest.raises(ConfigError, match="has no neighbours"):
        approximate.candidates(index, query, 3)
    approximate.build(index)
    (index.folder / approximate.FILE).write_bytes(b"no graph")
    with pytest.raises(ConfigError, match="build the neighbours again"):
        approximate.candidates(index, query, 3)
    (index.folder / approximate.ABOUT).write_text("{}")
    with pytest.raises(ConfigError, match="is damaged; delete it"):
        approximate.candidates(index, query, 3)
