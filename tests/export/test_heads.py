"""The heads of a deployed model, cut out of its file, give its scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from support import SAMPLES

import audiorep
from audiorep import shipped
from audiorep.errors import BundleError
from audiorep.export.classes import with_classes
from audiorep.export.heads import heads_of
from audiorep.runtimes import sealed

SOUND = SAMPLES / "siren.flac"


@pytest.mark.parametrize("name", ["nano", "esc50"])
@pytest.mark.parametrize("taught", [False, True])
def test_scores_are_those_of_the_file(name, taught, tmp_path):
    path, model = shipped.SHIPPED[name].file, audiorep.load(name)
    if taught:
        weight, bias = np.random.default_rng(0).standard_normal((1, 128)).astype(np.float32), np.zeros(1, np.float32)
        info, content = model.info, path.read_bytes()
        content = with_classes(content, "label", info.activation, len(info.labels["label"]), weight, bias)
        info = replace(info, labels={"label": [*info.labels["label"], "mine"]}, thresholds={}, calibration={})
        path = tmp_path / "mine.onnx"
        path.write_bytes(sealed.described(content, info.to_metadata()))
        model = audiorep.load(path)
    made = heads_of(path.read_bytes(), 128, ["label"])
    onnx.checker.check_model(onnx.load_from_string(made))
    assert len(made) < 0.2 * path.stat().st_size
    [found] = onnxruntime.InferenceSession(made).run(None, {"embedding": model.embed(SOUND).vectors})
    assert found == pytest.approx(model.uncalibrated()(SOUND).scores["label"], abs=1e-6)


def test_scores_that_need_the_sound_are_refused():
    node = onnx.helper.make_node("Sigmoid", ["waveform"], ["label"])
    value = onnx.helper.make_tensor_value_info
    sides = [[value(name, onnx.TensorProto.FLOAT, ["batch", 4])] for name in ("waveform", "label")]
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "sound", *sides))
    with pytest.raises(BundleError, match="Scores of label do not follow from the file's embedding"):
        heads_of(model.SerializeToString(), 4, ["label"])
