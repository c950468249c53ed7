"""Compressed networks and files are smaller, compute nearly the same, reload as they are, and refuse what cannot be."""

from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from audiorep import models
from audiorep.compress import low_rank
from audiorep.compress.prune import prune
from audiorep.errors import BundleError, CheckpointError, ConfigError, DataError
from audiorep.export import onnx as onnx_export
from audiorep.export import qdq, ranges, weights
from audiorep.export.fourier import tabulate
from audiorep.export.names import shorten
from audiorep.export.precision import Quantizer, Setting, best, nearness, scores, stored
from audiorep.info.model_info import ModelInfo
from audiorep.models import checkpoint
from audiorep.models.checkpoint import Checkpoint
from audiorep.models.front_end import FrontEndConfig, LogMel
from audiorep.models.layers import SubsampledConv2d
from audiorep.models.resized import Factored, change_layers, changed_layers
from audiorep.runtimes.onnx import LOG_MEL, OnnxSession, session

FRONT_END = {"sample_rate": 4000, "window_ms": 32.0, "hop_ms": 16.0, "n_fft": 128, "mels": 16}
SIZES = {"width": 16, "depths": [1, 2], "time_kernels": [3, 5], "frequency_kernels": [3]}


@pytest.fixture(scope="module")
def model() -> Checkpoint:
    """A network of random weights whose norms have seen something, so that channels differ."""
    torch.manual_seed(0)
    network = models.build("arin_nano", {"label": 5}, SIZES).train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.2, 1.5)
            nn.init.uniform_(module.bias, -0.3, 0.3)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.5)
    front_end = LogMel(FrontEndConfig(**FRONT_END))
    with torch.no_grad():
        for _ in range(20):
            network(front_end(_sound(8)))
    info = ModelInfo("test", {"label": list("abcde")}, 4000, 0.5, 0.5, FRONT_END)
    return Checkpoint(network.eval(), front_end.eval(), info, "arin_nano")


def _sound(count: int, seed: int | None = None) -> torch.Tensor:
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    times = torch.arange(1999) / 4000
    hertz = 100 + 1500 * torch.rand(count, 1, generator=generator)
    return 0.3 * torch.sin(2 * torch.pi * hertz * times) + 0.02 * torch.randn(count, 1999, generator=generator)


@pytest.fixture(scope="module")
def content(model) -> bytes:
    return onnx_export.bundle(model, model.fuse().model, "quarters")


@pytest.fixture(scope="module")
def clips() -> list[np.ndarray]:
    return list(_sound(24, seed=1).numpy())


def macs(network: nn.Module) -> float:
    return float(models.cost(network, (1, 1, 32, 16)).macs)


def logits(network: nn.Module, spectrogram: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return network(spectrogram)["label"]


def save_and_load(model: Checkpoint, network: nn.Module, folder) -> Checkpoint:
    checkpoint.save(folder, network, model.info, model.architecture)
    return checkpoint.load(folder)


# --- layers of other sizes


def test_a_network_as_configured_has_no_changed_layers(model, tmp_path):
    loaded = save_and_load(model, model.network, tmp_path)
    assert loaded.layers == {}
    assert "layers" not in checkpoint.read_json(tmp_path / checkpoint.CONFIG)


@pytest.mark.parametrize(
    ("layers", "text"),
    [
        ({"nowhere": {"num_features": 4}}, "no layer 'nowhere'"),
        ({"stem.bn": {"num_features": 4000}}, "num_features 4000; 1 to 16"),
        ({"stem.bn": {"num_features": True}}, "num_features True"),
        ({"stem.bn": {"channels": 4}}, "BatchNorm2d"),
        ({"stem.conv": {"in_channels": 1, "out_channels": 8, "groups": 1, "rank": 1}}, "no plain pointwise"),
        ({"heads.label": {"in_features": 32, "out_features": 5, "rank": 6}}, "rank 6; 1 to 5"),
        ({"stages.0.0.time.k3.conv": {"in_channels": 16, "out_channels": 16, "groups": 3}}, "cannot be made"),
        ({"stages": {"num_features": 4}}, "is a Sequential"),
    ],
)
def test_sizes_that_a_layer_cannot_have_are_refused(model, layers, text):
    with pytest.raises(ConfigError, match=text):
        change_layers(copy.deepcopy(model.network), layers)


def test_a_checkpoint_with_impossible_layers_is_refused_with_its_path(model, tmp_path):
    save_and_load(model, model.network, tmp_path)
    values = checkpoint.read_json(tmp_path / checkpoint.CONFIG)
    for layers in ({"stem.bn": {"num_features": 1 << 40}}, ["stem.bn"], {"stem.bn": 3}):
        checkpoint.write_json(tmp_path / checkpoint.CONFIG, {**values, "layers": layers})
        with pytest.raises(CheckpointError, match=checkpoint.CONFIG):
            checkpoint.load(tmp_path)


# --- pruning


@pytest.mark.parametrize("importance", ["magnitude", "norm", "taylor"])
@pytest.mark.parametrize("scope", ["global", "stage"])
def test_a_pruned_network_fits_its_share_and_reloads_from_its_folder(model, tmp_path, importance, scope):
    def gradients(network):
        network(model.example())["label"].square().sum().backward()

    before = {name: tensor.clone() for name, tensor in model.network.state_dict().items()}
    made = prune(model.network, model.example(), macs, 0.5, importance, scope, gradients=gradients)
    assert 0.35 * macs(model.network) < macs(made) <= 0.5 * macs(model.network)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.network.state_dict().items())
    assert all(parameter.grad is None for parameter in made.parameters())
    widths = {m.out_channels for m in made.modules() if isinstance(m, nn.Conv2d)}
    assert all(width % 4 == 0 for width in widths)
    loaded = save_and_load(model, made, tmp_path)
    assert loaded.layers == changed_layers(made, model.network)
    assert torch.equal(logits(loaded.network, model.example()), logits(made, model.example()))
    fused = loaded.fuse().model
    assert torch.allclose(logits(fused, model.example()), logits(made, model.example()), atol=1e-4)


def test_importances_choose_different_channels(model):
    def gradients(network):
        network(model.example())["label"].square().sum().backward()

    kinds = ("magnitude", "norm", "taylor")
    made = [prune(model.network, model.example(), macs, 0.5, kind, gradients=gradients) for kind in kinds]
    found = [logits(network, model.example()) for network in made]
    assert not torch.allclose(found[0], found[1])
    assert not torch.allclose(found[0], found[2])


def test_channels_of_no_use_are_the_first_to_go(model):
    network = copy.deepcopy(model.network)
    with torch.no_grad():
        for block in network.stages.modules():
            if hasattr(block, "expand"):
                block.expand.bn.weight[::2], block.expand.bn.bias[::2] = 0, 0
                block.project.conv.weight[:, ::2] = 0
                block.expand.conv.weight[::2] = 0
    made = prune(network, model.example(), macs, 0.85, "magnitude")
    assert torch.allclose(logits(made, model.example()), logits(network, model.example()), atol=1e-4)


def test_a_network_whose_layers_would_lose_all_their_channels_together_is_pruned_less():
    network = models.build(
        "yamnet", {"label": 3}, {"widths": [16, 32, 32, 64], "strides": [1, 2, 1, 2], "stem_width": 16}
    ).eval()
    example = torch.randn(1, 1, 96, 64)
    made = prune(network, example, macs, 0.5)
    assert 0.3 < macs(made) / macs(network) <= 0.5
    assert logits(made, example).shape == (1, 3)


def test_pruning_refuses_what_cannot_be(model):
    with pytest.raises(ConfigError, match=r"to 1% of the cost is not possible; the least is \d+%"):
        prune(model.network, model.example(), macs, 0.01)
    with pytest.raises(ConfigError, match=r"between 0 and 1; 1\.5 was asked for"):
        prune(model.network, model.example(), macs, 1.5)
    with pytest.raises(ConfigError, match="needs gradients"):
        prune(model.network, model.example(), macs, 0.5, "taylor")
    with pytest.raises(ConfigError, match="'random'; there are magnitude, norm, taylor"):
        prune(model.network, model.example(), macs, 0.5, "random")
    normed = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4))
    with pytest.raises(ConfigError, match="LayerNorm cannot be pruned"):
        prune(normed, torch.zeros(1, 4), macs, 0.5)


def test_a_layer_stays_safe_to_train_when_its_sizes_change(model):
    layers = {"stages.1.0.shortcut.conv": {"in_channels": 16, "out_channels": 6, "groups": 1}}
    network = change_layers(copy.deepcopy(model.network), layers)
    assert type(network.get_submodule("stages.1.0.shortcut.conv")) is SubsampledConv2d
    factored = change_layers(copy.deepcopy(model.network), {"stages.1.0.shortcut.conv": {**layers.popitem()[1], "rank": 3}})
    assert type(factored.get_submodule("stages.1.0.shortcut.conv.first")) is SubsampledConv2d
    assert changed_layers(factored, model.network)["stages.1.0.shortcut.conv"]["rank"] == 3


# --- low rank


def test_low_rank_of_all_energy_computes_the_same(model):
    made = low_rank.low_rank(model.network, 1.0)
    assert torch.allclose(logits(made, model.example()), logits(model.network, model.example()), atol=1e-5)


def test_low_rank_factors_only_where_it_pays_and_reloads(model, tmp_path):
    made = low_rank.low_rank(model.network, 0.6)
    factored = {name: module for name, module in made.named_modules() if isinstance(module, Factored)}
    assert factored
    for name, module in factored.items():
        layer = model.network.get_submodule(name)
        assert sum(p.numel() for p in module.parameters()) < sum(p.numel() for p in layer.parameters())
    loaded = save_and_load(model, made, tmp_path)
    assert set(loaded.layers) == set(factored)
    assert torch.equal(logits(loaded.network, model.example()), logits(made, model.example()))
    assert torch.allclose(logits(loaded.fuse().model, model.example()), logits(made, model.example()), atol=1e-4)


def test_a_matrix_of_low_rank_is_found_exactly():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(32, 24))
    network[0].weight.data = torch.randn(24, 3) @ torch.randn(3, 32)
    made = low_rank.low_rank(network, 0.999999)
    assert made[0].first.out_features == 3
    x = torch.randn(5, 32)
    assert torch.allclose(made(x), network(x), atol=1e-4)


def test_measured_inputs_make_low_rank_nearer_to_what_the_network_does(model):
    spectrograms = model.front_end(_sound(64, seed=2))
    moments = low_rank.input_moments(model.network, spectrograms.split(16))
    cost = lambda network: float(sum(p.numel() for p in network.parameters()))  # noqa: E731
    blind, _ = low_rank.low_rank_to(model.network, cost, 0.6)
    seeing, energy = low_rank.low_rank_to(model.network, cost, 0.6, moments)
    assert cost(blind) <= 0.6 * cost(model.network)
    assert cost(seeing) <= 0.6 * cost(model.network)
    assert 0.5 < energy < 1
    test = model.front_end(_sound(64, seed=3))
    expected = logits(model.network, test)
    assert (logits(seeing, test) - expected).norm() < 0.7 * (logits(blind, test) - expected).norm()


def test_low_rank_refuses_what_cannot_be(model):
    with pytest.raises(ConfigError, match=r"energy.*1\.2 was asked for"):
        low_rank.low_rank(model.network, 1.2)
    with pytest.raises(ConfigError, match=r"cannot bring the cost down to 1%; the least is \d+%"):
        low_rank.low_rank_to(model.network, macs, 0.01)
    with pytest.raises(ConfigError, match="needs clips"):
        low_rank.input_moments(model.network, [])


# --- weights in fewer bytes


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


def test_an_unknown_form_of_weights_is_refused(content):
    with pytest.raises(ConfigError, match="'int3' was asked for"):
        weights.encode(onnx.load_from_string(content), "int3")


@pytest.mark.parametrize("form", ["halves", "quarters"])
def test_tabulated_transforms_are_the_front_ends_matrices(model, clips, form):
    whole = onnx.load_from_string(onnx_export.bundle(model, model.fuse().model, form))
    made = tabulate(whole, model.front_end.config)
    assert len(made.SerializeToString()) < len(whole.SerializeToString()) - 4 * 30 * 60
    both = [scores(m.SerializeToString(), clips)["label"] for m in (whole, made)]
    assert np.abs(both[0] - both[1]).max() < 1e-5


def test_short_names_change_nothing_but_names(content, clips):
    short = shorten(onnx.load_from_string(content), [LOG_MEL])
    assert np.array_equal(scores(short.SerializeToString(), clips)["label"], scores(content, clips)["label"])
    values = {name for node in short.graph.node for name in node.output}
    assert LOG_MEL in values
    assert max(len(name) for name in values - {LOG_MEL, "label"}) <= 2
    bytes_of = [tensor.SerializeToString() for tensor in short.graph.initializer]
    assert len(set(bytes_of)) == len(bytes_of)


# --- static int8


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
    with pytest.raises(DataError, match="needs clips"):
        ranges.measure(lambda clip: [clip], ["x"], [])
    with pytest.raises(DataError, match="NaN or infinite"):
        ranges.measure(lambda clip: [clip], ["x"], [np.array([1.0, np.nan])])


@pytest.fixture(scope="module")
def quantizer(content, clips) -> Quantizer:
    return Quantizer(content, clips)


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


def test_layers_bear_the_names_of_the_network_and_can_be_left_in_float32(quantizer):
    assert quantizer.layers[0] == "stem.conv"
    assert "heads.label" in quantizer.layers
    whole, left = (
        onnx.load_from_string(quantizer.make(Setting("minmax", True, names))) for names in ((), ("stem.conv", "heads.label"))
    )
    count = [sum(node.op_type == "DequantizeLinear" for node in m.graph.node) for m in (whole, left)]
    assert count[1] < count[0]
    with pytest.raises(ConfigError, match=r"no layer stem\.nothing; its layers are stem\.conv"):
        quantizer.make(Setting("minmax", True, ("stem.nothing",)))


def test_one_layer_alone_changes_the_scores_less_than_all(content, quantizer, clips):
    setting = Setting("minmax", True)
    expected = scores(content, clips)["label"]
    alone = np.abs(scores(quantizer.make_one("heads.label", setting), clips)["label"] - expected).mean()
    together = np.abs(scores(quantizer.make(setting), clips)["label"] - expected).mean()
    assert 0 < alone < together
    assert set(quantizer.channel_spreads()) == set(quantizer.layers)
    assert all(spread >= 1 for spread in quantizer.channel_spreads().values())


def test_a_model_that_does_not_say_where_its_front_end_ends_is_refused(content):
    with pytest.raises(BundleError, match="Export it again"):
        qdq.above(onnx.load_from_string(content), "nothing")


@pytest.mark.parametrize("precision", ["fp16", "int8", "int8_weights", "shared8"])
def test_small_bundles_are_written_checked_and_run(model, clips, tmp_path, precision):
    path = tmp_path / "model.onnx"
    parity = onnx_export.export(model, path, clips, precision, clips if precision == "int8" else ())
    assert parity.agreement >= 0.9
    info = OnnxSession(path).info
    assert info.provenance["precision"] == precision
    assert info.labels == model.info.labels


def test_int8_without_calibration_is_refused_and_leaves_nothing(model, clips, tmp_path):
    with pytest.raises(DataError, match="needs clips"):
        onnx_export.export(model, tmp_path / "model.onnx", clips, "int8")
    assert list(tmp_path.iterdir()) == []
