"""Evaluation goes through the classifier, names its split, and survives bad clips."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audiorep.datasets import Example, trained_clips
from audiorep.errors import DataError
from audiorep.evaluation import evaluate, scored
from audiorep.info.model_info import ModelInfo
from audiorep.predict.classifier import Classifier
from audiorep.runtimes import Session

RATE = 1000
INFO = ModelInfo("loudness", {"label": ["quiet", "loud"]}, RATE, 1.0, 1.0, {})


class Loudness(Session):
    """Says how loud a window's first half is; a stand-in for a network."""

    info = INFO
    device = "test"

    def run(self, waveform: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        loud = np.abs(waveform[:, : waveform.shape[1] // 2]).max(axis=1)
        return dict.fromkeys(outputs, np.stack([1 - loud, loud], axis=1).astype(np.float32))


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
    split = scored.describe_split(tmp_path, "test", examples)
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
    with pytest.raises(DataError, match=r"'shrill'.* quiet, loud"):
        evaluate.evaluate(classifier, [clip(tmp_path / "a.wav", 0.5, "shrill")], "all")
    with pytest.raises(DataError, match=r"'label'.*verb"):
        evaluate.evaluate(classifier, [Example(tmp_path / "a.wav", {"verb": ("cut",)})], "all")
    with pytest.raises(DataError, match="1 clips of all"):
        evaluate.evaluate(classifier, [Example(tmp_path / "gone.wav", {"label": ("quiet",)})], "all")


def test_views_are_averaged_and_named(classifier, tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.concatenate([np.full(RATE, 0.2), np.full(2 * RATE, 0.8)]).astype(np.float32), RATE)
    examples = [Example(path, {"label": ("loud",)}), clip(tmp_path / "b.wav", 0.1, "quiet")]
    evaluation = evaluate.evaluate(classifier, examples, "test split", views=2)
    assert evaluation.title == "test split (2 clips, 2 views each)"
    assert evaluation.heads["label"].summary["top1"] == 0.5  # (0.2 + 0.8) / 2 is no longer loud by a hair
    [recording, _] = classifier.files([path, tmp_path / "b.wav"], views=2)
    assert recording.starts.tolist() == pytest.approx([0.0, 2.001])


def test_no_number_is_given_for_clips_that_were_trained_on(tmp_path):
    examples = [clip(tmp_path / f"{n}.wav", 0.9 * (n % 2), ("quiet", "loud")[n % 2]) for n in range(10)]
    session = Loudness()
    session.info = replace(INFO, provenance={"seen": trained_clips.filter_of(examples[:6])})
    with pytest.raises(DataError, match="6 of the 10 clips of some split"):
        evaluate.evaluate(Classifier(session), examples, "some split")
    assert evaluate.evaluate(Classifier(session), examples[6:], "the others").clips == 4


@pytest.mark.slow
def test_what_was_seen_is_known_again_elsewhere_and_little_else(tmp_path):
    examples = [Example(Path(f"data/dog/{n}.wav"), {}, start=n / 7) for n in range(3000)]
    memory = json.loads(json.dumps(trained_clips.filter_of(examples)))
    moved = [replace(e, path=Path("/elsewhere") / e.path) for e in examples]
    assert trained_clips.count_trained(memory, moved) == 3000
    others = [replace(e, start=e.start + 0.01) for e in examples]
    assert trained_clips.count_trained(memory, others) <= trained_clips.most_false_matches(3000)
    assert (
        trained_clips.count_trained({}, examples)
        == trained_clips.count_trained({"clips": 1, "bits": 8, "filter": "?"}, examples)
        == 0
    )
    assert len(memory["filter"]) < 4 * len(examples)


def test_heads_are_judged_alone_and_together(tmp_path):
    class Two(Loudness):
        info = ModelInfo("two", {"verb": ["quiet", "loud"], "noun": ["a", "b"]}, RATE, 1.0, 1.0, {})

    loud = clip(tmp_path / "x.wav", 0.9, "loud")
    examples = [replace(loud, labels={"verb": ("loud",), "noun": (noun,)}) for noun in ("a", "b", "b", "b")]
    evaluation = evaluate.evaluate(Classifier(Two()), examples, "test split")
    assert evaluation.heads["verb"].summary["top1"] == 1.0
    assert evaluation.joint["top1"] == evaluation.summary()["joint"]["top1"] == 0.75
