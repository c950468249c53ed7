"""A calibration is fitted on clips that the model does not know, judged on others, and applied wherever scores are shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support.info import FakeSession, make_info

from audiorep.datasets import Example, trained_clips
from audiorep.errors import ConfigError, DataError
from audiorep.evaluation.calibrate import calibrate, refuse_older_test
from audiorep.evaluation.evaluate import evaluate
from audiorep.evaluation.scored import score_clips
from audiorep.info.model_info import ModelInfo
from audiorep.predict.classifier import Classifier
from audiorep.runtimes import Session

RATE = 1000
LABELS = {"label": ["quiet", "loud"]}
TOO_SURE = 0.2  # of the logits' scale: what the model says is five times as sure as it may be


class Sure(Session):
    """Says how surely a window is loud, far too surely; a stand-in for a network."""

    device = "test"

    def __init__(self, activation: str = "softmax", **more) -> None:
        self.info = ModelInfo("sure", LABELS, RATE, 1.0, 1.0, {}, activation, **more)

    def run(self, waveform: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        level = np.clip(np.abs(waveform).max(axis=1), 0.02, 0.98).astype(np.float64)
        loud = 1 / (1 + ((1 - level) / level) ** (1 / TOO_SURE))
        return {"label": np.stack([1 - loud, loud], 1).astype(np.float32)}


@pytest.fixture(scope="module")
def examples(tmp_path_factory) -> list[Example]:
    """Clips whose level is the probability that they are called loud."""
    folder, generator = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    found = []
    for number in range(200):
        level = float(np.clip(generator.beta(0.5, 0.5), 0.02, 0.98))
        path = folder / f"{number}.wav"
        soundfile.write(path, np.full((1 + number % 2) * RATE, level, np.float32), RATE, subtype="FLOAT")
        found.append(Example(path, {"label": ("loud" if generator.random() < level else "quiet",)}))
    return found


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_scores_become_probabilities(activation, examples):
    found = calibrate(Classifier(Sure(activation)), examples, "valid").heads["label"]
    assert found.file["temperature"] == pytest.approx(1 / TOO_SURE, rel=0.3)
    assert found.window["temperature"] == pytest.approx(1 / TOO_SURE, rel=0.3)
    assert found.before.low > found.after.low
    assert found.after.error < found.before.error
    assert ("bias" in found.file) == (activation == "sigmoid")


def test_a_calibrated_model_of_any_number_of_labels_can_say_that_none_is_there(examples):
    assert calibrate(Classifier(Sure("sigmoid")), examples, "valid").info.unknown == "unknown"
    assert calibrate(Classifier(Sure("softmax")), examples, "valid").info.unknown == ""


def test_what_is_found_is_applied_to_windows_files_and_evaluation(examples, tmp_path):
    plain = Classifier(Sure())
    found = calibrate(plain, examples, "valid")
    session = Sure()
    session.info = found.info
    classifier = Classifier(session)
    soundfile.write(tmp_path / "a.wav", np.repeat([0.6, 0.8], RATE).astype(np.float32), RATE, subtype="FLOAT")
    before, after = plain.file(tmp_path / "a.wav"), classifier.file(tmp_path / "a.wav")
    assert after.scores["label"] == pytest.approx(found.info.calibrated("label", before.scores["label"], "window"))
    assert after.mean() == pytest.approx(found.info.calibrated("label", before.scores["label"].mean(0), "file"))
    assert after.top(1)[0][1] < before.top(1)[0][1]
    assert after.detections(threshold=0)[0].score == pytest.approx(float(after.scores["label"][0].max()))
    waveform = np.full(RATE, 0.6, np.float32)
    assert classifier.scores(waveform)["label"][0] == pytest.approx(after.scores["label"][0])
    assert classifier.session(waveform[None])["label"][0] == pytest.approx(before.scores["label"][0])
    assert classifier.uncalibrated().file(tmp_path / "a.wav").mean() == pytest.approx(before.mean())
    scored = score_clips(classifier, [Example(tmp_path / "a.wav", {"label": ("loud",)})], "some")
    assert scored.scores["label"][0] == pytest.approx(after.mean())


def test_thresholds_leave_out_what_is_not_sure(examples):
    found = calibrate(Classifier(Sure()), examples, "valid", "precision", 0.9)
    head = found.heads["label"]
    assert all(0.5 < limit < 1 for limit in head.thresholds)
    assert 0.82 < head.precision <= 1
    assert 0.1 < head.answered < 0.8
    session = Sure()
    session.info = found.info
    recordings = list(Classifier(session).files([example.path for example in examples]))
    said = [recording.whole()[0].label == example.labels["label"][0]
            for recording, example in zip(recordings, examples, strict=True) if recording.whole()]  # fmt: skip
    assert np.mean(said) >= 0.9


def test_the_description_says_how_and_on_which_clips(examples):
    info = calibrate(Classifier(Sure()), examples, "some clips", "precision", 0.8).info
    about = info.provenance["calibrated"]
    assert (about["split"], about["thresholds"], about["precision"]) == ("some clips", "precision", 0.8)
    assert trained_clips.count_trained(about, examples) == 200
    session = Sure()
    session.info = info
    evaluation = evaluate(Classifier(session), examples[:50], "test")
    assert evaluation.calibrated == evaluation.summary()["calibrated_on"] == 50
    assert "50 of them calibrated on" in evaluation.title


def test_values_for_json_hold_what_was_found(examples):
    values = calibrate(Classifier(Sure()), examples, "valid").summary()
    head = values["heads"]["label"]
    assert values["clips"] == 200
    assert head["after"]["expected_calibration_error"] < head["before"]["expected_calibration_error"]
    assert len(head["thresholds"]) == 2


@pytest.mark.parametrize("use", ["seen", "tested"])
def test_clips_that_were_trained_or_tested_on_are_refused(use, examples):
    session = Sure(provenance={use: trained_clips.filter_of(examples[:30])})
    with pytest.raises(DataError, match=r"30 .*of the 200 clips of valid|30 of the 200"):
        calibrate(Classifier(session), examples, "valid")
    assert calibrate(Classifier(session), examples[30:], "valid").clips == 170


def test_the_test_split_of_an_older_model_is_known_by_its_name():
    info = make_info(provenance={"measured": {"test split of birds, fold 5 (40 clips)": {}}})
    with pytest.raises(DataError, match="test split of birds, fold 5"):
        refuse_older_test(info, "test", "test split of birds, fold 5")
    with pytest.raises(DataError, match="valid split of birds, fold 5"):
        refuse_older_test(info, "valid", "valid split of birds, fold 5")
    refuse_older_test(info, "test", "test split of frogs, fold 5")
    refuse_older_test(info, "test", "test split of birds")
    folder = make_info(provenance={"measured": {"random test split of birds (40 clips)": {}}})
    with pytest.raises(DataError, match="random test split of birds"):
        refuse_older_test(folder, "test", "random test split of birds")
    refuse_older_test(folder, "valid", "random valid split of birds")


def test_too_few_clips_and_impossible_wishes_are_refused(examples):
    classifier = Classifier(Sure())
    with pytest.raises(DataError, match=r"19 clips.* at least 20"):
        calibrate(classifier, examples[:19], "valid")
    one = [replace(example, group="one") for example in examples]
    with pytest.raises(DataError, match="1 recording"):
        calibrate(classifier, one, "valid")
    with pytest.raises(DataError, match=r"precision of 0\.999"):
        calibrate(classifier, examples, "valid", "precision", 0.999)
    with pytest.raises(ConfigError, match="recall"):
        calibrate(classifier, examples, "valid", "recall")
    with pytest.raises(ConfigError, match="precision 2"):
        calibrate(classifier, examples, "valid", "precision", 2)
    with pytest.raises(DataError, match="'shrill'"):
        calibrate(classifier, [Example(Path("a.wav"), {"label": ("shrill",)})] * 20, "valid")


def test_unreadable_clips_are_listed_and_the_rest_used(examples, tmp_path):
    gone = Example(tmp_path / "gone.wav", {"label": ("loud",)})
    found = calibrate(Classifier(Sure()), [*examples, gone], "valid")
    assert found.clips == 200
    assert "gone.wav" in found.summary()["unreadable"][0]


def test_heads_are_calibrated_each_on_its_own(tmp_path):
    info = make_info(labels={"verb": ["a", "b", "c"], "noun": ["d", "e", "f"]})
    generator, clips = np.random.default_rng(0), []
    for number in range(30):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, (generator.uniform(0.1, 0.9) * generator.standard_normal(RATE) / 4).astype(np.float32), RATE)
        verb, noun = generator.choice(["a", "b", "c"]), generator.choice(["d", "e", "f"])
        clips.append(Example(path, {"verb": (verb,), "noun": (noun,)}))
    found = calibrate(Classifier(FakeSession(info)), clips, "valid")
    assert set(found.info.calibration) == set(found.info.thresholds) == {"verb", "noun"}


def test_silence_is_not_calibrated_on(examples, tmp_path):
    gate = {"unknown": "quiet", "silence": 0.01}
    soundfile.write(tmp_path / "half.wav", np.repeat(np.float32([0.9, 0.0]), RATE), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "none.wav", np.zeros(RATE, np.float32), RATE, subtype="FLOAT")
    silent = [Example(tmp_path / name, {"label": ("loud",)}) for name in ("half.wav", "none.wav")]
    soundfile.write(tmp_path / "whole.wav", np.full(RATE, 0.9, np.float32), RATE, subtype="FLOAT")
    whole = Example(tmp_path / "whole.wav", {"label": ("loud",)})
    with_silence = calibrate(Classifier(Sure(**gate)), [*examples, *silent], "valid")
    without = calibrate(Classifier(Sure(**gate)), [*examples, whole], "valid")
    assert with_silence.clips == len(examples) + 1
    assert with_silence.heads["label"].window == pytest.approx(without.heads["label"].window)
    assert with_silence.heads["label"].file == pytest.approx(without.heads["label"].file)
