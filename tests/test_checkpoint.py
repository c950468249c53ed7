"""A checkpoint comes back as it was saved, and a wrong one is refused in words."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import torch

from audiorep import checkpoint, models
from audiorep.bundle import ModelInfo
from audiorep.errors import BundleError, CheckpointError
from audiorep.frontend import FRONT_ENDS

INFO = ModelInfo("arin_pico", {"label": ["a", "b", "c"]}, 16_000, 1.0, 0.5, asdict(FRONT_ENDS["light"]), licence="CC0")


@pytest.fixture
def folder(tmp_path):
    checkpoint.save(tmp_path, models.build("arin_pico", {"label": 3}, {"width": 4, "dropout": 0.0}), INFO, "arin_pico")
    return tmp_path


def test_a_checkpoint_comes_back_as_it_was(folder):
    network = models.build("arin_pico", {"label": 3}, {"width": 4})
    checkpoint.save(folder, network, INFO, "arin_pico")
    loaded = checkpoint.load(folder)
    x = torch.randn(1, 1, 50, 64)
    assert torch.equal(network.eval()(x)["label"], loaded.network(x)["label"])
    assert loaded.info == INFO
    assert loaded.front_end.config == FRONT_ENDS["light"]
    assert not loaded.network.training
    assert not list(folder.glob(".*"))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda f: (f / "config.json").unlink(), "is not a checkpoint: it has no config.json"),
        (lambda f: (f / "config.json").write_text("{"), "config.json cannot be read"),
        (lambda f: (f / "config.json").write_text("[1]"), "not a JSON object"),
        (lambda f: (f / "config.json").write_text("{}"), "not a checkpoint's configuration"),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors cannot be read"),
        (lambda f: (f / "model.safetensors").write_bytes(b"\x80\x04pickle"), "model.safetensors cannot be read"),
        (lambda f: (f / "model.safetensors").write_bytes((f / "model.safetensors").read_bytes()[:-100]), "cannot be read"),
    ],
)
def test_missing_and_damaged_files_are_refused(folder, change, reason):
    change(folder)
    with pytest.raises(CheckpointError, match=reason):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("architecture", "resnet", "'resnet' is not an architecture"),
        ("network", {"width": 8, "heads": {"label": 3}}, "holds the weights of another network"),
        ("format_version", 99, "Upgrade audiorep"),
        ("front_end", {"mels": 5000}, "mels is 5000"),
        ("sample_rate", -1, "sample_rate is -1"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(folder, key, value, reason):
    values = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**values, key: value}))
    with pytest.raises((CheckpointError, BundleError), match=reason):
        checkpoint.load(folder)
