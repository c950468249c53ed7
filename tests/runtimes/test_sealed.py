"""A sealed bundle that was damaged anywhere is refused before a runtime sees its graph, and scores are numbers or an error."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.info import make_info

from audiorep.errors import BundleError
from audiorep.info.model_info import ModelInfo
from audiorep.predict.classifier import Classifier
from audiorep.runtimes import Session, open_session, sealed
from audiorep.runtimes.onnx import OnnxSession
from audiorep.shipped import SHIPPED

NAMES = ["mean", "peak", "rest"]


def graph(
    weights: list[float], classes: int = 3, kind: int = TensorProto.FLOAT, axes: int = 2, operator: str = ""
) -> onnx.ModelProto:
    """Scores (B, K) that are a window's mean times `weights`."""
    nodes = [
        helper.make_node("ReduceMean", ["waveform"], ["mean"], axes=[axes - 1], keepdims=1),
        helper.make_node("Mul", ["mean", "weights"], ["label" if not operator else "scores"]),
    ]
    if operator:
        nodes.append(helper.make_node(operator, ["scores", "shape"], ["label"]))
    shape = ["batch", "samples", 1, 1][:axes]
    made = helper.make_graph(
        nodes,
        "made",
        [helper.make_tensor_value_info("waveform", kind, shape)],
        [helper.make_tensor_value_info("label", kind, ["batch", classes])],
        [
            numpy_helper.from_array(np.array([weights], helper.tensor_dtype_to_np_dtype(kind)), "weights"),
            *([numpy_helper.from_array(np.array([7, 3]), "shape")] if operator else []),
        ],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def written(path: Path, model: onnx.ModelProto, info: ModelInfo | None = None, seal: bool = True) -> Path:
    for key, value in (info or make_info()).to_metadata().items():
        model.metadata_props.add(key=key, value=value)
    content = model.SerializeToString()
    path.write_bytes(sealed.seal(content) if seal else content)
    return path


@pytest.fixture
def bundle(tmp_path):
    return written(tmp_path / "model.onnx", graph([0.1, 0.2, 0.3]))


WAVEFORM = np.full((2, 999), 0.5, np.float32)


def test_a_seal_changes_nothing_that_a_runtime_sees(bundle, tmp_path):
    plain = written(tmp_path / "plain.onnx", graph([0.1, 0.2, 0.3]), seal=False)
    for session in (OnnxSession(bundle), OnnxSession(plain)):  # files of earlier versions have none
        assert np.allclose(session(WAVEFORM)["label"], [[0.05, 0.1, 0.15]] * 2)
        assert session.info == make_info()
    assert sealed.seal(bundle.read_bytes()) == bundle.read_bytes()
    model = onnx.load(bundle)
    onnx.checker.check_model(model)
    assert json.loads({e.key: e.value for e in model.metadata_props}["audiorep.seal"])["graph"][0] > 100
    onnx.save(model, tmp_path / "again.onnx")  # in another order
    assert OnnxSession(tmp_path / "again.onnx").info == make_info()


def test_the_model_in_the_package_is_sealed():
    for row in SHIPPED.values():
        assert sealed.seal(row.file.read_bytes()) == row.file.read_bytes()


def test_no_truncation_is_accepted(bundle):
    whole = bundle.read_bytes()
    for size in range(len(whole)):
        with pytest.raises(BundleError, match=r"model\.onnx"):
            sealed.information(whole[:size], bundle)


@pytest.mark.slow
def test_no_flipped_bit_is_accepted_with_other_scores_or_labels(bundle):
    whole, expected = bundle.read_bytes(), OnnxSession(bundle)(WAVEFORM)["label"]
    accepted = 0
    for place in range(len(whole)):
        content = bytearray(whole)
        content[place] ^= 1 << place % 8
        try:
            sealed.information(bytes(content), bundle)
            accepted += 1
            bundle.write_bytes(content)
            session = OnnxSession(bundle)
        except BundleError:
            continue
        assert session.info == make_info()
        assert np.array_equal(session(WAVEFORM)["label"], expected)
    assert accepted < 40  # in the name of the seal itself


def test_stretches_of_noise_are_refused(bundle):
    whole, draw = bundle.read_bytes(), random.Random(0)
    for _ in range(300):
        content, place = bytearray(whole), draw.randrange(100, len(whole) - 20)
        content[place : place + draw.randint(2, 20)] = draw.randbytes(draw.randint(0, 30))
        bundle.write_bytes(content)
        with pytest.raises(BundleError):
            OnnxSession(bundle)


def test_metadata_changed_on_purpose_is_refused_with_what_to_remove(bundle):
    model = onnx.load(bundle)
    entry = next(e for e in model.metadata_props if e.key == "audiorep.labels")
    entry.value = json.dumps({"label": ["other", "peak", "rest"]})
    onnx.save(model, bundle)
    with pytest.raises(BundleError, match=r"metadata.*audiorep\.seal"):
        OnnxSession(bundle)
    kept = [e for e in model.metadata_props if e.key != "audiorep.seal"]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    onnx.save(model, bundle)
    assert OnnxSession(bundle).info.labels == {"label": ["other", "peak", "rest"]}


def test_a_changed_graph_is_refused_as_such(bundle):
    model = onnx.load(bundle)
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(np.array([[9, 9, 9]], np.float32), "weights"))
    onnx.save(model, bundle)
    with pytest.raises(BundleError, match=r"damaged"):
        OnnxSession(bundle)


@pytest.mark.parametrize("weight", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_scores_that_are_no_numbers_name_the_model(tmp_path, weight, activation):
    path = written(tmp_path / "nan.onnx", graph([0.1, weight, 0.3]), make_info(activation=activation))
    for classifier in (Classifier.load(path), Classifier.load(path), Classifier(OnnxSession(path))):
        with pytest.raises(BundleError, match=r"(nan\.onnx|model fake) .*NaN"):
            classifier.with_windows(0.5).scores(WAVEFORM)
    with pytest.raises(BundleError, match="label in 2 of 2 windows"):
        open_session(path)(WAVEFORM)


def test_a_graph_that_fails_when_it_is_run_is_a_sentence(tmp_path):
    path = written(tmp_path / "fails.onnx", graph([0.1, 0.2, 0.3], operator="Reshape"))
    with pytest.raises(BundleError, match=r"fails\.onnx .*\(.+\)"):
        Classifier.load(path).scores(WAVEFORM)


@pytest.mark.parametrize(
    "model",
    [
        graph([1.0, 2.0], classes=2),
        graph([1.0, 2.0, 3.0], kind=TensorProto.DOUBLE),
        graph([1.0, 2.0, 3.0], axes=3),
    ],
)
def test_a_graph_that_is_not_what_its_metadata_say_is_refused_when_it_is_opened(tmp_path, model):
    with pytest.raises(BundleError, match=r"odd\.onnx"):
        OnnxSession(written(tmp_path / "odd.onnx", model))


def test_a_session_that_gives_other_shapes_is_an_error():
    class Odd(Session):
        device, info = "none", make_info()

        def run(self, waveform: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
            return {"label": np.zeros((len(waveform), 2), np.float32)}

    with pytest.raises(BundleError, match="2 × 2 for label; 2 × 3"):
        Classifier(Odd()).scores(WAVEFORM)
