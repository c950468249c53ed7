"""An index: what is in it stays in it, whatever happens, and what is not of its model is refused."""

from __future__ import annotations

import os
import signal
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support import SAMPLES, processes
from support.info import RATE, FakeSession, make_info

from audiorep.embeddings import index as module
from audiorep.embeddings.api import collect
from audiorep.embeddings.index import Index
from audiorep.errors import BundleError, ConfigError, DataError
from audiorep.predict.classifier import Classifier
from audiorep.predict.results import Embedding


@pytest.fixture
def classifier() -> Classifier:
    return Classifier(FakeSession())


@pytest.fixture
def sounds(tmp_path) -> list[Path]:
    """Three files of 1.5 s, three windows each."""
    paths = [tmp_path / "sounds" / f"{name}.wav" for name in "abc"]
    paths[0].parent.mkdir()
    for number, path in enumerate(paths):
        noise = np.random.default_rng(number).uniform(-0.1, 0.1, round(1.5 * RATE)) + 0.2 * number
        soundfile.write(path, noise, RATE, "FLOAT")
    return paths


def test_sounds_are_added_once_and_again_when_they_changed(tmp_path, classifier, sounds):
    done = collect(sounds, tmp_path / "index", classifier, "fake")
    assert (done.added, done.kept, done.failures) == (3, 0, [])
    assert collect(sounds, tmp_path / "index", classifier, "fake").kept == 3
    soundfile.write(sounds[1], np.full(RATE, 0.5), RATE, "FLOAT")
    done = collect(sounds, tmp_path / "index", classifier, "fake")
    assert (done.added, done.kept) == (1, 2)
    with Index(tmp_path / "index") as index:
        assert index.paths() == sounds
        assert index.model == "fake"
        [place] = index.rows_of(sounds[1])
        assert (place.start, place.end) == (0.0, 1.0)
        assert len(index) == 5
        assert index.written == 7
        assert np.abs(index.vectors([place.row])[0] - classifier.embed(sounds[1]).vectors[0]).max() < 0.01


def test_vectors_come_back_as_the_model_gave_them(tmp_path, classifier, sounds):
    collect(sounds, tmp_path / "index", classifier, "")
    with Index(tmp_path / "index") as index:
        for path in sounds:
            rows = index.rows_of(path)
            assert [(place.start, place.end) for place in rows] == [(0.0, 1.0), (0.5, 1.5)]
            given = classifier.embed(path).vectors
            found = index.vectors([place.row for place in rows])
            assert found == pytest.approx(given, rel=2e-3, abs=1e-5)
        units = np.concatenate([block for _, block in index.blocks(2)]).astype(np.float32)
        assert np.linalg.norm(units, axis=1) == pytest.approx(1.0, abs=2e-3)


def test_vectors_are_spread_over_files(tmp_path, classifier, sounds, monkeypatch):
    monkeypatch.setattr(module, "SHARD_ROWS", 4)
    collect(sounds, tmp_path / "index", classifier, "")
    assert sorted(path.name for path in (tmp_path / "index").glob("vectors*")) == ["vectors-0000.f16", "vectors-0001.f16"]
    with Index(tmp_path / "index") as index:
        expected = np.concatenate([classifier.embed(path).vectors for path in sounds])
        assert index.vectors(range(6)) == pytest.approx(expected, rel=2e-3, abs=1e-5)
        assert index.vectors([5, 0, 3]) == pytest.approx(expected[[5, 0, 3]], rel=2e-3, abs=1e-5)
        assert [first for first, _ in index.blocks(3)] == [0, 3, 4]


def test_what_was_not_committed_is_not_in_it_and_is_overwritten(tmp_path, classifier, sounds):
    collect(sounds[:1], tmp_path / "index", classifier, "")
    with Index(tmp_path / "index", writable=True) as index:
        index.add(classifier.embed(sounds[1]))
        index._write(2, np.ones((5, index.size), np.float32))  # as if killed between the vectors and the table
    collect(sounds[2:], tmp_path / "index", classifier, "")
    with Index(tmp_path / "index") as index:
        assert index.paths() == [sounds[0], sounds[2]]
        assert index.vectors([2, 3]) == pytest.approx(classifier.embed(sounds[2]).vectors, rel=2e-3, abs=1e-5)


def test_an_unreadable_sound_is_told_and_tried_again(tmp_path, classifier, sounds):
    sounds[1].write_bytes(b"no sound")
    for _ in range(2):
        [failure] = collect(sounds, tmp_path / "index", classifier, "").failures
        assert failure.path == sounds[1]


def test_an_index_of_another_model_is_refused(tmp_path, classifier, sounds):
    class Other(FakeSession):
        def run(self, waveform, outputs):
            return {name: -values for name, values in super().run(waveform, outputs).items()}

    collect(sounds, tmp_path / "index", classifier, "")
    with pytest.raises(ConfigError, match="was made with another model; give that one"):
        Index.create(tmp_path / "index", Classifier(Other()))
    with pytest.raises(ConfigError, match=r"holds windows of 1 s every 0.5 s, the model gives 1 s every 0.25 s"):
        Index.create(tmp_path / "index", classifier.with_windows(None, 0.25))
    with pytest.raises(BundleError, match="no embedding"):
        Index.create(tmp_path / "other", Classifier(FakeSession(make_info())))
    assert not (tmp_path / "other").exists()


def test_what_is_no_index_is_refused(tmp_path, classifier, sounds):
    with pytest.raises(ConfigError, match="is no index"):
        Index(tmp_path)
    with pytest.raises(ConfigError, match="exists and is no index"):
        collect(sounds, tmp_path / "sounds", classifier, "")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "index.db").write_bytes(b"SQLite format 3\0 and no more")
    with pytest.raises(ConfigError, match="or it is damaged"):
        Index(tmp_path / "broken")
    collect(sounds, tmp_path / "index", classifier, "")
    with sqlite3.connect(tmp_path / "index" / "index.db") as table:
        table.execute("UPDATE about SET value = '9' WHERE key = 'format'")
    table.close()
    with pytest.raises(ConfigError, match="is an index of format 9; this version of audiorep reads 1"):
        Index(tmp_path / "index")


def test_missing_vectors_are_said(tmp_path, classifier, sounds):
    collect(sounds, tmp_path / "index", classifier, "")
    os.truncate(tmp_path / "index" / "vectors-0000.f16", 3)
    with Index(tmp_path / "index") as index, pytest.raises(DataError, match=r"vectors-0000\.f16 is missing or cut short"):
        index.vectors([0])


def test_only_one_process_writes(tmp_path, classifier, sounds):
    with Index.create(tmp_path / "index", classifier):
        with pytest.raises(ConfigError, match="is being written by another process"):
            Index.create(tmp_path / "index", classifier)
        with Index(tmp_path / "index") as reader:
            assert len(reader) == 0
    Index.create(tmp_path / "index", classifier).close()


def test_a_sound_that_is_gone_is_an_error(tmp_path, classifier, sounds):
    found = classifier.embed(sounds[0])
    sounds[0].unlink()
    with Index.create(tmp_path / "index", classifier) as index, pytest.raises(DataError, match=r"a.wav is gone"):
        index.add(found)


KILLED = """
import os, signal, sys
import numpy as np
from pathlib import Path
import audiorep
from audiorep.embeddings.index import Index
from audiorep.predict.results import Embedding
index = Index.create(sys.argv[1], audiorep.load("nano", threads=1))
for number in range(10_000):
    path = Path(sys.argv[2]) / f"{number}.wav"
    path.write_bytes(b"")
    index.add(Embedding(path, 5.0, np.arange(50) / 10, np.full((50, 128), 1 + number, np.float32)))
    index.commit()
    print(number, flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("lines", [1, 7, 40])
def test_killed_at_any_moment_it_holds_all_that_was_reported(tmp_path, lines):
    (tmp_path / "sounds").mkdir()
    command = processes.python(KILLED, tmp_path / "index", tmp_path / "sounds")
    with processes.started(command, stdout=-1) as process:
        told = [int(process.stdout.readline()) for _ in range(lines)]
        os.kill(process.pid, signal.SIGKILL)
        told += [int(line) for line in process.stdout if line.strip()]
    with Index(tmp_path / "index", writable=True) as index:
        known = {path.stem for path in index.paths()}
        assert known >= {str(number) for number in told}
        for number in told[-3:]:
            rows = [place.row for place in index.rows_of(tmp_path / "sounds" / f"{number}.wav")]
            assert np.abs(index.vectors(rows) / (1 + number) - 1).max() < 2e-3
        late = tmp_path / "sounds" / "late.wav"
        late.write_bytes(b"")
        index.add(Embedding(late, 1.0, np.zeros(1), np.ones((1, 128), np.float32)))
        index.commit()
        assert late in index.paths()


@pytest.mark.slow
def test_ctrl_c_keeps_what_was_heard(tmp_path):
    many = tmp_path / "many"
    many.mkdir()
    for number in range(300):
        (many / f"{number:03d}.flac").symlink_to(SAMPLES / "crow.flac")
    command = processes.audiorep("embed", many, "-o", tmp_path / "index")
    with processes.started(command, stdout=-1, stderr=-1) as process:
        processes.wait_until(lambda: (tmp_path / "index" / "vectors-0000.f16").exists(), process)
        process.send_signal(signal.SIGINT)
        _, said = processes.ended(process)
    assert process.returncode == 130
    assert "are in the index" in said
    with Index(tmp_path / "index") as index:
        assert 0 < len(index.paths()) < 300
        assert len(index) == 10 * len(index.paths())
