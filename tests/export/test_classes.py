"""Classes that are appended to a deployed model: the file is a valid one, and says what was asked."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import soundfile
from support import SAMPLES

import audiorep
from audiorep import shipped
from audiorep.errors import BundleError
from audiorep.export.classes import with_classes
from audiorep.runtimes import sealed

WEIGHT = 0.1 * np.random.default_rng(0).standard_normal((3, 128)).astype(np.float32)
BIAS = np.array([-3.0, -2.0, 0.0], np.float32)


def written(name: str, instead: bool, folder: Path) -> audiorep.Classifier:
    """The model of that name with three more classes."""
    info = audiorep.load(name, threads=1).info
    known = info.labels["label"]
    content = with_classes(shipped.SHIPPED[name].file.read_bytes(), "label", info.activation, len(known), WEIGHT, BIAS, instead)
    onnx.checker.check_model(onnx.load_from_string(content))
    rest = ["rest"] if instead and info.activation == "softmax" else []
    labels = [*([] if instead else known), "x", "y", "z", *rest]
    told = replace(info, labels={"label": labels}, thresholds={}, calibration={}, unknown="", silence=0.0)
    (folder / "made.onnx").write_bytes(sealed.described(content, told.to_metadata()))
    return audiorep.load(folder / "made.onnx", threads=1)


@pytest.mark.parametrize("name", ["esc50", "nano"])
@pytest.mark.parametrize("instead", [False, True])
def test_scores_are_those_of_the_layer(name, instead, tmp_path):
    made, before = written(name, instead, tmp_path), audiorep.load(name, threads=1)
    path = SAMPLES / "siren.flac"
    scores = made(path).scores["label"]
    logits = made.embed(path).vectors @ WEIGHT.T + BIAS
    known = 0 if instead else len(before.info.labels["label"])
    new = scores[:, known : known + 3]
    old = before.session(windows(before, path))["label"]
    if made.info.activation == "sigmoid":
        assert new == pytest.approx(1 / (1 + np.exp(-logits)), abs=1e-5)
        assert instead or np.array_equal(scores[:, :known], old)
        return
    odds = np.exp(logits)
    left = 1 / (1 + odds.sum(1, keepdims=True))
    assert new == pytest.approx(odds * left, abs=1e-5)
    assert scores[:, 3 if instead else 0 : known or 4] == pytest.approx(left if instead else old * left, abs=1e-5)


def windows(classifier: audiorep.Classifier, path: Path) -> np.ndarray:
    samples, _ = soundfile.read(path, dtype="float32")
    info = classifier.info
    starts = (np.array(classifier(path).starts) * info.sample_rate).round().astype(int)
    padded = np.pad(samples, (0, info.window_samples))
    return np.stack([padded[first : first + info.window_samples] for first in starts])


def test_a_file_without_such_an_output_is_refused():
    content = shipped.SHIPPED["nano"].file.read_bytes()
    with pytest.raises(BundleError, match="no output verb that classes could be added to"):
        with_classes(content, "verb", "sigmoid", 5, WEIGHT, BIAS)
    with pytest.raises(BundleError, match="no ONNX graph"):
        with_classes(b"", "label", "sigmoid", 5, WEIGHT, BIAS)
