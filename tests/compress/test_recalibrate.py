"""A compressed model of a calibrated one is calibrated anew on validation clips, or says that it is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import soundfile

from audiorep import datasets
from audiorep.compress import steps
from audiorep.compress.recalibrate import recalibrate
from audiorep.datasets import Splits
from audiorep.export import described
from audiorep.export.onnx import export
from audiorep.export.sounds import noises
from audiorep.models import checkpoint
from audiorep.predict.classifier import Classifier

WRONG = {"label": {"window": {"temperature": 9.0}, "file": {"temperature": 9.0}}}


@pytest.fixture(scope="module")
def calibrated(trained, tmp_path_factory):
    """The checkpoint of tones with a calibration that does not fit it."""
    folder = tmp_path_factory.mktemp("calibrated") / "run"
    info = checkpoint.load(trained[0]).info
    limits = {head: [0.1] * len(names) for head, names in info.labels.items()}
    info = replace(info, calibration=WRONG, thresholds=limits).with_provenance(
        calibrated={"thresholds": "precision", "precision": 0.6}
    )
    described.write(trained[0], info, folder)
    return folder


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Tones that the model does not know, half of them to validate on."""
    root, generator = tmp_path_factory.mktemp("others"), np.random.default_rng(5)
    for label, hertz in {"low": 150, "middle": 500, "high": 1500}.items():
        (root / label).mkdir()
        for number in range(20):
            times = np.arange(2000) / 4000
            clip = 0.1 * np.sin(2 * np.pi * hertz * generator.uniform(0.9, 1.1) * times)
            soundfile.write(root / label / f"other{number}.wav", clip + 0.01 * generator.standard_normal(2000), 4000)
    return datasets.examples(root, splits=Splits(valid_fraction=0.5, test_fraction=0.0))


@pytest.mark.slow
def test_a_file_is_calibrated_anew_by_the_same_rule(calibrated, others, tmp_path):
    model, heard = checkpoint.load(calibrated), []
    path = tmp_path / "model.onnx"
    export(model, path, noises(model.info)[:2])
    assert Classifier.load(path).info.calibration == WRONG
    recalibrate(path, model.info, others, heard.append)
    info = Classifier.load(path).info
    assert info.calibration["label"]["file"]["temperature"] < 5
    assert info.provenance["calibrated"]["precision"] == 0.6
    assert "30 validation clips" in heard[0]


@pytest.mark.slow
def test_where_there_are_no_such_clips_it_is_kept_and_said(calibrated, trained, tmp_path):
    heard: list[str] = []
    folder = tmp_path / "copy"
    described.write(calibrated, checkpoint.load(trained[0]).info, folder)  # as a training leaves it
    recalibrate(folder, checkpoint.load(calibrated).info, [], heard.append)
    assert checkpoint.load(folder).info.calibration == WRONG
    assert "kept" in heard[0]


def test_a_model_that_is_not_calibrated_is_left_alone(trained, tmp_path):
    recalibrate(tmp_path / "nothing.onnx", checkpoint.load(trained[0]).info, [], pytest.fail)


@pytest.mark.slow
def test_steps_that_keep_the_scores_keep_the_calibration(calibrated, others, tmp_path):
    model = checkpoint.load(calibrated)
    made = steps.perform(steps.Export(), steps.Work(model, calibrated, calibrated, others, tmp_path, tmp_path))
    assert Classifier.load(made).info.calibration == WRONG


@pytest.mark.slow
def test_a_step_that_changes_scores_ends_with_a_calibration_of_its_own(calibrated, others, tmp_path):
    model = checkpoint.load(calibrated)
    work = steps.Work(model, calibrated, calibrated, others, tmp_path, tmp_path / "out")
    made = steps.perform(steps.LowRank(energy=0.95), work)
    assert checkpoint.load(made).info.calibration["label"]["file"]["temperature"] < 5
    work = steps.Work(model, calibrated, calibrated, others, tmp_path, tmp_path)
    made = steps.perform(steps.Quantize(loss=1.0), work)
    assert Classifier.load(made).info.calibration["label"]["file"]["temperature"] < 5
