"""What is found in a collection: every vector is compared, each sound once, never the sound itself."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support import SAMPLES, processes
from support.info import FakeSession, make_info

import audiorep
from audiorep.embeddings import page, search
from audiorep.embeddings.index import Index
from audiorep.embeddings.search import Query, nearest, similar
from audiorep.errors import AudioError, ConfigError
from audiorep.predict.classifier import Classifier
from audiorep.predict.results import Embedding

SIZE = 16


class Wide(FakeSession):
    """A model whose embedding is wide enough."""

    def __init__(self) -> None:
        super().__init__(make_info(embedding_size=SIZE))

    def run(self, waveform: np.ndarray, outputs: list[str]) -> dict[str, np.ndarray]:
        return {"embedding": waveform[:, :SIZE].astype(np.float32)}


@pytest.fixture
def collection(tmp_path) -> tuple[Index, np.ndarray]:
    """Ten sounds of 30 windows that do not overlap, and their vectors (300, C)."""
    vectors = np.random.default_rng(0).standard_normal((300, SIZE)).astype(np.float32)
    index = Index.create(tmp_path / "index", Classifier(Wide()))
    for number in range(10):
        path = tmp_path / f"{number}.wav"
        path.write_bytes(b"")
        index.add(Embedding(path, 30.0, np.arange(30.0), vectors[30 * number : 30 * number + 30]))
    index.commit()
    return index, vectors


def exact(vectors: np.ndarray, queries: np.ndarray) -> np.ndarray:
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = np.sort(unit @ (queries / np.linalg.norm(queries, axis=1, keepdims=True)).T, axis=1)
    return cosines[:, len(queries) // 2 :].mean(1)


@pytest.mark.parametrize("queries", [1, 2, 5])
@pytest.mark.parametrize(("block", "product"), [(1 << 16, 1 << 18), (7, 100), (1, 1)])
def test_the_nearest_are_those_of_a_plain_computation(collection, queries, block, product, monkeypatch):
    monkeypatch.setattr(search, "BLOCK_ROWS", block)
    monkeypatch.setattr(search, "SMALL_PRODUCT", product)
    index, vectors = collection
    wanted = np.random.default_rng(1).standard_normal((queries, SIZE))
    rows, scores = nearest(index, wanted, 20)
    expected = exact(vectors, wanted)
    assert scores == pytest.approx(np.sort(expected)[::-1][:20], abs=2e-3)
    assert len({*rows.tolist()} & {*np.argsort(-expected)[:20].tolist()}) >= 19  # rounding may swap the last


def test_each_sound_is_found_once_or_at_several_places(collection):
    index, vectors = collection
    wanted = Query(vectors[[42]])
    found = similar(index, wanted, 10)
    assert (found[0].path.name, found[0].start, round(found[0].score, 2)) == ("1.wav", 12.0, 1.0)
    assert len({match.path for match in found}) == 10
    assert [match.score for match in found] == sorted((match.score for match in found), reverse=True)
    places = similar(index, wanted, 300, per_sound=False)
    assert len(places) == 300
    assert len(similar(index, wanted, 50)) == 10  # there are no more sounds


def test_the_sound_itself_is_no_result(collection, tmp_path):
    index, vectors = collection
    wanted = Query(vectors[[42]], tmp_path / "1.wav", 12.0, 13.0)
    assert all((match.path.name, match.start) != ("1.wav", 12.0) for match in similar(index, wanted, 300, per_sound=False))


def test_windows_that_overlap_a_better_one_are_no_results(tmp_path):
    index = Index.create(tmp_path / "index", Classifier(Wide()))
    (tmp_path / "a.wav").write_bytes(b"")
    vectors = np.eye(SIZE, dtype=np.float32)[[0, 0, 1]] + 0.01 * np.arange(3)[:, None].astype(np.float32)
    index.add(Embedding(tmp_path / "a.wav", 2.0, np.array([0.0, 0.5, 1.0]), vectors))
    index.commit()
    found = similar(index, Query(np.eye(SIZE, dtype=np.float32)[:1]), 5, per_sound=False)
    assert [(match.start, match.end) for match in found] == [(0.0, 1.0), (1.0, 2.0)]
    index.close()


def test_sounds_that_changed_are_found_as_they_are_now(collection, tmp_path):
    index, vectors = collection
    index.add(Embedding(tmp_path / "1.wav", 1.0, np.zeros(1), -vectors[[42]]))
    index.commit()
    found = similar(index, Query(vectors[[42]]), 300, per_sound=False)
    assert len(found) == 271
    assert [match.score for match in found if match.path.name == "1.wav"] == [pytest.approx(-1.0, abs=2e-3)]


def test_a_long_query_is_thinned_evenly():
    assert Query(np.arange(1000.0)[:, None]).vectors[[0, -1], 0].tolist() == [0, 999]
    assert len(Query(np.zeros((1000, 2))).vectors) == search.MOST_VECTORS


def test_an_empty_index_has_nothing(tmp_path):
    with Index.create(tmp_path / "index", Classifier(Wide())) as index:
        assert similar(index, Query(np.ones((1, SIZE)))) == []


# ---------------------------------------------------------------- with the general tagger


@pytest.fixture(scope="module")
def samples_index(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("embeddings") / "index"
    assert audiorep.embed([SAMPLES], folder).failures == []
    return folder


def test_a_siren_is_found(samples_index):
    found = audiorep.similar(samples_index, audiorep.Stretch(SAMPLES / "recording.flac", 46.2, 51.2), 3)
    assert found[0].path == SAMPLES / "siren.flac"
    assert found[0].score > 0.95
    samples, rate = soundfile.read(SAMPLES / "siren.flac")
    again = audiorep.similar(samples_index, audiorep.Waveform(samples, rate), 1)
    assert again[0].path == SAMPLES / "siren.flac"


def test_silence_and_another_model_are_refused(samples_index):
    with pytest.raises(AudioError, match="waveform is nothing but silence"):
        audiorep.similar(samples_index, audiorep.Waveform(np.zeros(16_000), 16_000))
    with pytest.raises(ConfigError, match="was made with another model"):
        audiorep.similar(samples_index, SAMPLES / "crow.flac", model="esc50")


def test_an_index_that_names_no_model_needs_one(tmp_path):
    classifier = audiorep.load("nano", threads=1)
    audiorep.embed([SAMPLES / "crow.flac"], tmp_path / "index", classifier)
    with pytest.raises(ConfigError, match="does not name its model; give it"):
        audiorep.similar(tmp_path / "index", SAMPLES / "rain.flac")
    assert audiorep.similar(tmp_path / "index", SAMPLES / "rain.flac", model=classifier)[0].path.name == "crow.flac"


@pytest.mark.slow
def test_the_command_writes_tables_clips_and_a_page(samples_index, tmp_path):
    outputs = [word for name in ("a.csv", "a.jsonl", "a.html", "labels") for word in ("-o", tmp_path / name)]
    words = ["similar", samples_index, SAMPLES / "siren.flac", "--count", 3, *outputs, "--clips", tmp_path / "clips", "--json"]
    done = processes.run(processes.audiorep(*words))
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert len(rows) == 3
    assert str(SAMPLES / "siren.flac") not in {row["path"] for row in rows}
    assert [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()] == rows
    table = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert [row["path"] for row in table] == [row["path"] for row in rows]
    assert len(list((tmp_path / "clips").glob("*.flac"))) == 3
    labels = {path.name: path.read_text() for path in (tmp_path / "labels").iterdir()}
    assert set(labels) == {f"{Path(row['path']).name}.audacity.txt" for row in rows}
    assert f"alike {rows[0]['score']:.2f}" in labels[f"{Path(rows[0]['path']).name}.audacity.txt"]
    text = (tmp_path / "a.html").read_text()
    assert text.count("<audio") == text.count("<img") == 4
    assert "http" not in text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "status", "reason"),
    [
        (["similar", "none", "a.wav"], 2, "none is no index; audiorep embed makes one"),
        (["similar", "INDEX", "none.wav"], 2, "none.wav does not exist"),
        (["similar", "INDEX", "a.wav", "--start", "3", "--end", "2"], 2, "it must end later"),
        (["similar", "INDEX", "a.wav", "-o", "a.txt"], 2, "must end in .csv, .jsonl, .html, or be a folder"),
        (["embed", "none.wav", "-o", "new"], 1, "none.wav does not exist"),
        (["embed", "none.wav", "-o", "INDEX", "--model", "esc50"], 2, "was made with another model, nano; give that one"),
        (["embed", "none.wav"], 2, "Missing option"),
    ],
)
def test_the_commands_refuse_in_one_sentence(words, status, reason, samples_index, tmp_path):
    done = processes.run(processes.audiorep(*(str(samples_index) if word == "INDEX" else word for word in words)), cwd=tmp_path)
    assert done.returncode == status, done.stderr
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


def test_a_page_escapes_what_files_are_called():
    text = page.of_sounds("<b>", [page.Sound("1", "<script>", None, 0, "it's <gone>")])
    assert "<script>" not in text
    assert "it&#x27;s &lt;gone&gt;" in text


def test_a_picture_shows_a_tone_where_it_is():
    rate = 16_000
    tone = np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)
    picture = page.spectrogram(np.concatenate([np.zeros(rate), tone]).astype(np.float32)).sum(-1)
    assert picture.shape == (page.HEIGHT, page.WIDTH)
    assert picture[:, : page.WIDTH // 3].max() < picture[:, -page.WIDTH // 3 :].max()
    brightest = picture[:, -10:].mean(1).argmax()
    assert 0.2 < brightest / page.HEIGHT < 0.8
    assert page.spectrogram(np.zeros(10, np.float32)).shape == (page.HEIGHT, page.WIDTH, 3)


def test_a_png_can_be_read(tmp_path):
    from matplotlib import image

    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    (tmp_path / "a.png").write_bytes(page.png(pixels))
    assert (image.imread(tmp_path / "a.png") * 255).round().astype(np.uint8)[..., :3].tolist() == pixels.tolist()
