"""A checkpoint comes back as it was saved, and a wrong one is refused in words."""

from __future__ import annotations

import copy
import json
import resource
from dataclasses import asdict, replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from audiorep import models, reparam
from audiorep.errors import BundleError, CheckpointError
from audiorep.info.model_info import ModelInfo
from audiorep.models import checkpoint
from audiorep.models.front_end import FRONT_ENDS
from audiorep.runtimes.torch import TorchSession

INFO = ModelInfo("arin_pico", {"label": ["a", "b", "c"]}, 16_000, 1.0, 0.5, asdict(FRONT_ENDS["light"]), license="CC0")


SETTINGS = {"width": 4, "depths": [1, 1]}


@pytest.fixture
def folder(tmp_path):
    checkpoint.save(tmp_path, models.build("arin_pico", {"label": 3}, {**SETTINGS, "dropout": 0.0}), INFO, "arin_pico")
    return tmp_path


@pytest.mark.slow
def test_a_checkpoint_comes_back_as_it_was(folder):
    network = models.build("arin_pico", {"label": 3}, SETTINGS)
    checkpoint.save(folder, network, INFO, "arin_pico")
    loaded = checkpoint.load(folder)
    x = torch.randn(1, 1, 50, 64)
    assert torch.equal(network.eval()(x)["label"], loaded.network(x)["label"])
    assert loaded.info == replace(INFO, embedding_size=8)
    assert loaded.front_end.config == FRONT_ENDS["light"]
    assert not loaded.network.training
    assert not list(folder.glob(".*"))


@pytest.mark.slow
def test_a_network_is_merged_once_and_again_in_a_copy(folder, monkeypatch):
    model, calls = checkpoint.load(folder), []
    monkeypatch.setattr(reparam, "fuse", lambda *given, fuse=reparam.fuse: calls.append(given) or fuse(*given))
    merged = model.fuse().model
    strides = [tensor.stride() for tensor in merged.parameters()]
    TorchSession(model)  # it puts a network in channels-last, which must be its own
    assert [tensor.stride() for tensor in merged.parameters()] == strides
    assert len(calls) == 1
    changed = copy.deepcopy(model)
    torch.nn.init.ones_(changed.network.heads["label"].bias)
    assert torch.allclose(changed.fuse().model(model.example())["label"], merged(model.example())["label"] + 1, atol=1e-5)
    assert len(calls) == 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda f: (f / "config.json").unlink(), "no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "config.json"),
        (lambda f: (f / "config.json").write_text("[1]"), "not a JSON object"),
        (lambda f: (f / "config.json").write_text("{}"), "configuration"),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\x80\x04pickle"), "model.safetensors"),
        (lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-100]), "model.safetensors"),
    ],
)
def test_missing_and_damaged_files_are_refused(folder, change, reason):
    change(folder)
    with pytest.raises(CheckpointError, match=reason):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("architecture", "resnet", "'resnet'"),
        ("network", {**SETTINGS, "width": 8, "heads": {"label": 3}}, "another network"),
        ("format_version", 99, "Upgrade"),
        ("front_end", {"mels": 5000}, "mels is 5000"),
        ("sample_rate", -1, "sample_rate is -1"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(folder, key, value, reason):
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, key: value}))
    with pytest.raises((CheckpointError, BundleError), match=reason):
        checkpoint.load(folder)


def changed(folder, **values):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **values}))


NETWORK = {**SETTINGS, "heads": {"label": 3}}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"front_end": {"n_fft": 10**9}}, "n_fft is 1000000000"),
        ({"front_end": {"mels": 10**9, "n_fft": 2 * 10**9}}, "32768"),
        ({"front_end": []}, r"front_end is \[\]"),
        ({"network": {**NETWORK, "width": 10**9}}, "width is 1000000000.*100000"),
        ({"network": {**NETWORK, "width": 100_000}}, "another network"),
        ({"network": {**NETWORK, "depths": [10**9]}}, r"depths\[0\] is 1000000000"),
        ({"network": {**NETWORK, "depths": [90_000, 90_000]}}, "180000 blocks.*200"),
        ({"network": {**NETWORK, "depths": [1] * 60}}, "depths has 60.*32"),
        ({"network": {**NETWORK, "time_kernels": [10**9 + 1]}}, r"time_kernels\[0\] is 1000000001"),
        ({"network": {**NETWORK, "expansion": 10**30}}, "expansion is 1"),
        ({"network": {**NETWORK, "width": "wide"}}, "width is 'wide'"),
        ({"network": {**NETWORK, "dropout": None}}, "dropout is None"),
        ({"network": {**NETWORK, "heads": {"label": 10**9}}}, "labels {'label': 3} .* heads"),
        ({"network": []}, r"network is \[\]"),
        ({"architecture": ["arin_pico"]}, "architecture is"),
        ({"architecture": "cnn14", "network": {"heads": {"label": 3}, "widths": [100_000] * 6}}, "weights of another network"),
        ({"layers": {"stem.conv": 3}}, "layers are"),
        ({"layers": {"": {"in_channels": 1}}}, "layer"),
        ({"layers": {"stem.conv": {"in_channels": 1, "out_channels": 10**9, "groups": 1}}}, "out_channels 1000000000"),
        ({"labels": {"keys": ["a", "b", "c"]}, "network": {**NETWORK, "heads": {"keys": 3}}}, "'keys'"),
        ({"labels": {"a.b": ["a", "b", "c"]}, "network": {**NETWORK, "heads": {"a.b": 3}}}, r"'a\.b'"),
        ({"labels": None}, "labels are None"),
        ({"sample_rate": 10**400}, "sample_rate is 1"),
    ],
)
def test_sizes_that_a_configuration_only_claims_cost_no_memory(folder, values, reason):
    changed(folder, **values)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=reason) as caught:
        checkpoint.load(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kB
    assert len(str(caught.value)) < 2000


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("[" * 100_000, "64 deep"),
        ('{"a": ' * 200 + "1" + "}" * 200, "64 deep"),
        ("\0", "JSON"),
    ],
)
def test_a_configuration_that_is_no_plain_json_is_refused(folder, content, reason):
    (folder / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=reason):
        checkpoint.load(folder)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_refused(folder, value):
    weights = load_file(folder / "model.safetensors")
    weights["stem.conv.weight"][0] = value
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"finite .*stem\.conv\.weight"):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("stem.conv.weight", torch.int64),
        ("stem.conv.weight", torch.complex64),
        ("stem.bn.num_batches_tracked", torch.complex64),
    ],
)
def test_weights_of_another_type_are_refused(folder, name, dtype):
    weights = load_file(folder / "model.safetensors")
    weights[name] = weights[name].to(dtype)
    save_file(weights, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"type .*{name}"):
        checkpoint.load(folder)


def made(heads: dict[str, list[str]], width: int = 4, **settings: object) -> torch.nn.Module:
    sizes = {"width": width, "depths": [1, 1], **settings}
    network = models.build("arin_pico", {head: len(names) for head, names in heads.items()}, sizes)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.uniform_(0.5, 1.5)
    return network


@pytest.fixture
def source(tmp_path):
    labels = {"verb": ["take", "put"], "noun": ["pan", "lid", "egg"]}
    checkpoint.save(tmp_path, made(labels), replace(INFO, labels=labels), "arin_pico")
    return checkpoint.load(tmp_path)


def test_transfer_copies_all_but_heads_with_other_labels(source):
    labels = {"verb": ["take", "put"], "label": ["dog", "cat", "cow", "hen"]}
    network = made(labels)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    moved = checkpoint.transfer(network, source, labels)
    after, theirs = network.state_dict(), source.network.state_dict()
    assert moved.new == ["heads.label.weight", "heads.label.bias"]
    assert moved.left == ["heads.noun.weight", "heads.noun.bias"]
    assert sorted(moved.taken) == sorted(theirs.keys() - set(moved.left))
    assert all(torch.equal(after[name], theirs[name]) for name in moved.taken)
    assert all(torch.equal(after[name], before[name]) for name in moved.new)
    assert not any(torch.equal(before[name], theirs[name]) for name in moved.taken if "weight" in name)
    assert moved.summary == (
        f"{len(moved.taken)} tensors are taken; new are heads.label.weight (4 × 8), heads.label.bias (4); "
        "left behind are heads.noun.weight, heads.noun.bias."
    )


def test_transfer_to_the_same_labels_takes_every_tensor(source):
    network = made(source.info.labels)
    moved = checkpoint.transfer(network, source, source.info.labels)
    assert moved.summary == f"{len(source.network.state_dict())} tensors are taken."
    x = torch.randn(1, 1, 50, 64)
    assert torch.equal(network.eval()(x)["noun"], source.network(x)["noun"])


@pytest.mark.slow
def test_a_head_with_its_labels_in_another_order_is_new(source):
    labels = {"verb": ["put", "take"], "noun": source.info.labels["noun"]}
    moved = checkpoint.transfer(made(labels), source, labels)
    assert moved.new == moved.left == ["heads.verb.weight", "heads.verb.bias"]


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"width": 8}, r"stem\.conv\.weight is 4 × 1 × 5 × 7, here it is 8 × 1 × 5 × 7"),
        ({"depths": [1, 2]}, r"stages\.1\.1\.reduce\.conv\.weight is missing, here it is 8 × 8 × 1 × 1"),
        ({"time_kernels": [3, 11]}, r"stages\.0\.0\.time\.k21\.conv\.weight is 4 × 1 × 21 × 1, here it is missing"),
    ],
)
def test_transfer_to_another_network_is_refused_and_changes_nothing(source, settings, reason):
    network = made(source.info.labels, **settings)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    with pytest.raises(CheckpointError, match=reason):
        checkpoint.transfer(network, source, source.info.labels)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
