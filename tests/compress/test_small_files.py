"""Model files in fewer bytes compute nearly the same, as int8 or with weights stored in fewer bytes."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.compressed import sweeps

from audiorep.errors import BundleError, ConfigError, DataError
from audiorep.export import onnx as onnx_export
from audiorep.export import qdq, ranges, weights
from audiorep.export.fourier import tabulate
from audiorep.export.names import shorten
from audiorep.export.precision import Quantizer, Setting, best, nearness, scores, stored
from audiorep.runtimes.onnx import LOG_MEL, OnnxSession, session


@pytest.fixture(scope="module")
def content(model) -> bytes:
    return onnx_export.bundle(model, model.fuse().model, "radix_4")


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    return list(sweeps(24, seed=1).numpy())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "share", "error"),
    [
        ("fp16", 0.62, 1e-3),
        ("int8_weights", 0.38, 0.05),
        ("int4_weights", 0.33, 0.3),
        ("shared8", 0.47, 0.05),
        ("shared4", 0.3, 0.2),
    ],
)
def test_stored_weights_take_fewer_bytes_and_score_nearly_alike(content, clips, kind, share, error):
    made = stored(content, kind)
    onnx.checker.check_model(onnx.load_from_string(made))
    assert len(made) < share * len(content)
    assert np.abs(scores(made, clips)["label"] - scores(content, clips)["label"]).max() < error


@pytest.mark.slow
def test_decoding_is_done_when_the_file_is_loaded(content, tmp_path):
    """The optimized graph has the operators of the float32 bundle's: nothing is decoded at a call."""
    import onnxruntime

    def operators(model: bytes) -> list[str]:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        options.log_severity_level = 3
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return sorted(node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node)

    assert all(operators(stored(content, kind)) == operators(content) for kind in weights.KINDS)


def test_a_codebook_is_the_best_of_few_values():
    centers, index = weights.codebook(np.array([[0.0, 0.1, 1.0], [1.1, 5.0, 0.05]], np.float32), 3)
    assert centers == pytest.approx([0.05, 1.05, 5.0])
    assert index.tolist() == [[0, 0, 1], [1, 2, 0]]
    assert index.dtype == np.uint8


def test_int4_of_widths_that_no_block_divides_decodes_to_its_shape():
    values = np.random.default_rng(0).standard_normal((6, 50, 1, 1)).astype(np.float32)
    made = weights.encode(_model_of(values), "int4_weights")
    found = session(made.SerializeToString()).run(None, {"x": np.eye(50, dtype=np.float32).reshape(50, 50, 1, 1)})[0]
    assert found.shape == (50, 6, 1, 1)
    assert np.abs(found[:, :, 0, 0].T - values[:, :, 0, 0]).max() <= np.abs(values).max() / 14 + 1e-6


def _model_of(values: np.ndarray):
    node = onnx.helper.make_node("Conv", ["x", "w"], ["y"])
    shapes = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in "xy"]
    graph = onnx.helper.make_graph([node], "g", shapes[:1], shapes[1:], [numpy_helper.from_array(values, "w")])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 20)], ir_version=10)


@pytest.mark.slow
def test_an_unknown_form_of_weights_is_refused(content):
    with pytest.raises(ConfigError, match="int3"):
        weights.encode(onnx.load_from_string(content), "int3")


@pytest.mark.slow
@pytest.mark.parametrize("form", ["halves", "radix_4"])
def test_tabulated_transforms_are_the_front_ends_matrices(model, clips, form):
    whole = onnx.load_from_string(onnx_export.bundle(model, model.fuse().model, form))
    made = tabulate(whole, model.front_end.config)
    assert len(made.SerializeToString()) < len(whole.SerializeToString()) - 4 * 30 * 60
    both = [scores(m.SerializeToString(), clips)["label"] for m in (whole, made)]
    assert np.abs(both[0] - both[1]).max() < 1e-5


@pytest.mark.slow
def test_short_names_change_nothing_but_names(content, clips):
    short = shorten(onnx.load_from_string(content), [LOG_MEL])
    assert np.array_equal(scores(short.SerializeToString(), clips)["label"], scores(content, clips)["label"])
    values = {name for node in short.graph.node for name in node.output}
    assert LOG_MEL in values
    assert max(len(name) for name in values - {LOG_MEL, "label", "embedding"}) <= 2
    bytes_of = [tensor.SerializeToString() for tensor in short.graph.initializer]
    assert len(set(bytes_of)) == len(bytes_of)


def test_ranges_of_known_values():
    generator = np.random.default_rng(0)
    values = np.concatenate([generator.standard_normal(100_000), [50.0, -50.0]]).astype(np.float32)
    found = ranges.measure(lambda clip: [clip, np.full(3, 2.0)], ["x", "same"], [values])
    assert found["minmax"]["x"] == (-50.0, 50.0)
    low, high = found["percentile"]["x"]
    assert -4.5 < low < -3
    assert 3 < high < 4.5
    low, high = found["entropy"]["x"]
    assert -10 < low < -2
    assert 2 < high < 10
    assert found["minmax"]["same"] == (2.0, 2.0)


def test_ranges_refuse_no_clips_and_values_out_of_range():
    with pytest.raises(DataError, match="clips"):
        ranges.measure(lambda clip: [clip], ["x"], [])
    with pytest.raises(DataError, match="NaN"):
        ranges.measure(lambda clip: [clip], ["x"], [np.array([1.0, np.nan])])


@pytest.fixture(scope="module")
def quantizer(content, clips) -> Quantizer:
    return Quantizer(content, clips)


@pytest.mark.slow
def test_static_int8_keeps_labels_and_leaves_the_front_end_alone(model, content, quantizer, clips, tmp_path):
    setting = best(quantizer, nearness(content, clips))
    made = quantizer.make(setting)
    graph = onnx.load_from_string(made)
    onnx.checker.check_model(graph)
    before = qdq.above(graph_of_layers := qdq.prepared(onnx.load_from_string(content)), LOG_MEL)
    assert before
    assert not set(qdq.layers(graph_of_layers, LOG_MEL)) & before
    position = next(i for i, node in enumerate(graph.graph.node) if LOG_MEL in node.output)
    makers = {name: node for node in graph.graph.node for name in node.output}
    waiting, kinds = [LOG_MEL], set()
    while waiting:
        if (node := makers.get(waiting.pop())) is not None:
            kinds.add(node.op_type)
            waiting += node.input
    assert position
    assert "DequantizeLinear" not in kinds
    expected, found = scores(content, clips)["label"], scores(made, clips)["label"]
    assert (expected.argmax(1) == found.argmax(1)).mean() >= 0.9
    assert len(made) < 0.7 * len(content)
    path = tmp_path / "int8.onnx"
    path.write_bytes(made)
    about = OnnxSession(path).info.provenance
    assert about["precision"] == "int8"
    assert about["quantization"]["clips"] == len(clips)
    weights_of = {t.name: t for t in graph.graph.initializer}
    channels = [
        len(numpy_helper.to_array(weights_of[node.input[1]]).ravel())
        for node in graph.graph.node
        if node.op_type == "DequantizeLinear" and node.input[0] in weights_of and len(weights_of[node.input[0]].dims) == 4
    ]
    assert channels
    assert min(channels) > 1  # a scale a channel


@pytest.mark.slow
def test_layers_bear_the_names_of_the_network_and_can_be_left_in_float32(quantizer):
    assert quantizer.layers[0] == "stem.conv"
    assert "heads.label" in quantizer.layers
    whole, left = (
        onnx.load_from_string(quantizer.make(Setting("minmax", True, names))) for names in ((), ("stem.conv", "heads.label"))
    )
    count = [sum(node.op_type == "DequantizeLinear" for node in m.graph.node) for m in (whole, left)]
    assert count[1] < count[0]
    with pytest.raises(ConfigError, match=r"stem\.nothing; its layers are stem\.conv"):
        quantizer.make(Setting("minmax", True, ("stem.nothing",)))


@pytest.mark.slow
def test_one_layer_alone_changes_the_scores_less_than_all(content, quantizer, clips):
    setting = Setting("minmax", True)
    expected = scores(content, clips)["label"]
    alone = np.abs(scores(quantizer.make_one("heads.label", setting), clips)["label"] - expected).mean()
    together = np.abs(scores(quantizer.make(setting), clips)["label"] - expected).mean()
    assert 0 < alone < together
    assert set(quantizer.channel_spreads()) == set(quantizer.layers)
    assert all(spread >= 1 for spread in quantizer.channel_spreads().values())


@pytest.mark.slow
def test_a_model_that_does_not_say_where_its_front_end_ends_is_refused(content):
    with pytest.raises(BundleError, match="Export"):
        qdq.above(onnx.load_from_string(content), "nothing")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8", "int8_weights", "shared8"])
def test_small_bundles_are_written_checked_and_run(model, clips, tmp_path, precision):
    path = tmp_path / "model.onnx"
    parity = onnx_export.export(model, path, clips, precision, clips if precision == "int8" else ())
    assert parity.agreement >= 0.9
    info = OnnxSession(path).info
    assert info.provenance["precision"] == precision
    assert info.labels == model.info.labels


@pytest.mark.slow
def test_int8_without_calibration_is_refused_and_leaves_nothing(model, clips, tmp_path):
    with pytest.raises(DataError, match="clips"):
        onnx_export.export(model, tmp_path / "model.onnx", clips, "int8")
    assert list(tmp_path.iterdir()) == []
