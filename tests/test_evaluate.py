"""Evaluation goes through the classifier, names its split, and survives bad clips."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiorep import evaluate
from audiorep.bundle import ModelInfo
from audiorep.datasets import Example
from audiorep.errors import DataError
from audiorep.predict import Classifier

RATE = 1000
INFO = ModelInfo("loudness", {"label": ["quiet", "loud"]}, RATE, 1.0, 1.0, {})


class Loudness:
    """Says how loud a window's first half is; a stand-in for a network."""

    info = INFO
    device = "test"

    def __call__(self, waveform: np.ndarray) -> dict[str, np.ndarray]:
        loud = np.abs(waveform[:, : waveform.shape[1] // 2]).max(axis=1)
        return {"label": np.stack([1 - loud, loud], axis=1).astype(np.float32)}


@pytest.fixture
def classifier():
    return Classifier(Loudness())


def clip(path: Path, level: float, label: str, seconds: float = 1.0, **more) -> Example:
    soundfile.write(path, np.full(int(RATE * seconds), level, np.float32), RATE, subtype="FLOAT")
    return Example(path, {"label": (label,)}, **more)


def test_scores_become_metrics_of_the_named_split(classifier, tmp_path):
    examples = [
        clip(tmp_path / "a.wav", 0.9, "loud", fold=5),
        clip(tmp_path / "b.wav", 0.1, "quiet", fold=5),
        clip(tmp_path / "c.wav", 0.2, "loud", fold=5),
        clip(tmp_path / "d.wav", 0.3, "quiet", fold=5),
    ]
    split = evaluate.describe_split(tmp_path, "test", examples)
    assert split == f"test split of {tmp_path.name}, fold 5"
    evaluation = evaluate.evaluate(classifier, examples, split)
    card = evaluation.heads["label"]
    assert card.summary["top1"] == 0.75
    assert card.confusion.tolist() == [[2, 0], [1, 1]]
    assert evaluation.summary()["split"] == split
    assert evaluation.summary()["heads"]["label"]["classes"][1]["mistaken_for"] == "quiet"


def test_clips_of_recordings_that_were_trained_on_are_counted(classifier, tmp_path):
    tests = [clip(tmp_path / f"{n}.wav", 0.9, "loud", group=g) for n, g in (("a", "1"), ("b", "2"), ("c", ""))]
    trained = [Example(tmp_path / n, {"label": ("loud",)}, split="train", group=g) for n, g in (("d", "1"), ("e", ""))]
    evaluation = evaluate.evaluate(classifier, tests, "test", trained)
    assert evaluation.title == "test (3 clips, 1 of them from recordings that were trained on)"
    assert evaluation.summary()["from_trained_recordings"] == 1
    assert evaluation.summary()["heads"]["label"]["confusion"] == [[0, 0], [0, 3]]


def test_a_long_clip_is_the_mean_of_its_windows(classifier, tmp_path):
    waveform = np.concatenate([np.full(RATE, 0.9), np.full(2 * RATE, 0.2)]).astype(np.float32)
    soundfile.write(tmp_path / "long.wav", waveform, RATE, subtype="FLOAT")
    recording = classifier.file(tmp_path / "long.wav")
    assert recording.mean()[1] == pytest.approx((0.9 + 0.2 + 0.2) / 3, abs=1e-3)
    evaluation = evaluate.evaluate(classifier, [Example(tmp_path / "long.wav", {"label": ("quiet",)})], "all")
    assert evaluation.heads["label"].summary["top1"] == 1.0


def test_stretches_of_one_file_are_clips_of_their_own(classifier, tmp_path):
    waveform = np.concatenate([np.full(RATE, 0.9), np.full(RATE, 0.1)]).astype(np.float32)
    soundfile.write(tmp_path / "two.wav", waveform, RATE, subtype="FLOAT")
    examples = [
        Example(tmp_path / "two.wav", {"label": ("loud",)}, 0.0, 1.0),
        Example(tmp_path / "two.wav", {"label": ("quiet",)}, 1.0, 2.0),
    ]
    assert evaluate.evaluate(classifier, examples, "all").heads["label"].summary["top1"] == 1.0


def test_unreadable_clips_are_counted_and_the_rest_measured(classifier, tmp_path):
    examples = [clip(tmp_path / "a.wav", 0.9, "loud"), Example(tmp_path / "gone.wav", {"label": ("quiet",)})]
    evaluation = evaluate.evaluate(classifier, examples, "all")
    assert evaluation.clips == 1
    assert evaluation.title == "all (1 clips, 1 more unreadable)"
    assert [failure.path.name for failure in evaluation.failures] == ["gone.wav"]
    assert "does not exist" in evaluation.summary()["unreadable"][0]


def test_labels_and_heads_that_the_model_lacks_are_refused(classifier, tmp_path):
    with pytest.raises(DataError, match="labelled 'shrill', which the model does not know; it knows 2: quiet, loud"):
        evaluate.evaluate(classifier, [clip(tmp_path / "a.wav", 0.5, "shrill")], "all")
    with pytest.raises(DataError, match="has no label for the model's head 'label'; it has verb"):
        evaluate.evaluate(classifier, [Example(tmp_path / "a.wav", {"verb": ("cut",)})], "all")
    with pytest.raises(DataError, match="None of the 1 clips of all can be read"):
        evaluate.evaluate(classifier, [Example(tmp_path / "gone.wav", {"label": ("quiet",)})], "all")
