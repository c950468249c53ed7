"""A stranger's network by name: merged, written and read back, and every wrong word refused in a sentence."""

from __future__ import annotations

import json
import sys

import numpy as np
import onnxruntime
import pytest
import torch
from support.networks import randomize
from torch import nn

from audiorep import models
from audiorep.cli import main
from audiorep.errors import ConfigError
from audiorep.hub import networks
from audiorep.info.model_info import ModelInfo
from audiorep.models import checkpoint

SOURCE = """
import torch
from torch import nn


def image():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 1))
    network[1].running_mean.normal_()
    return network


class Tagger(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.norm, self.head = nn.Embedding(10, 8), nn.LayerNorm(8), nn.Linear(8, 3)

    def forward(self, tokens):
        return self.head(self.norm(self.embed(tokens)))


def text():
    return "a network"


def fails():
    raise RuntimeError("no weights here")


number = 3
"""


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "strangers.py").write_text(SOURCE)
    sys.modules.pop("strangers", None)

    def command(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["audiorep", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main.main()
        printed = capsys.readouterr()
        return int(stopped.value.code or 0), printed.out, printed.err

    return command


@pytest.mark.slow
def test_a_function_of_the_users_is_merged_and_reported(run, tmp_path):
    status, out, err = run("fuse", "strangers:image", "--input", "1x3x16x16", "--report", "report.json")
    assert (status, err) == (0, "")
    assert "conv 3×3 + batch norm" in out
    assert "float64 difference" in out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["verification"]["passed"] is True
    assert report["after"]["operations"] == {"conv": 2, "other": 1}
    assert json.loads(run("fuse", "strangers:Tagger", "--input", "2x5:int64", "--json")[1])["after"]["parameters"] < 131


@pytest.mark.slow
def test_a_plan_says_the_same_and_checks_nothing(run):
    status, out, _ = run("fuse", "strangers:image", "--input", "1x3x16x16", "--plan")
    assert status == 0
    assert "conv 3×3 + batch norm" in out
    assert "float64" not in out.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".pt2", ".onnx"])
def test_the_merged_network_is_written_with_its_free_sizes(run, tmp_path, suffix):
    path = tmp_path / f"merged{suffix}"
    assert run("fuse", "strangers:image", "--input", "1x3x16x16", "-o", path)[0] == 0
    network = networks.network("strangers:image")
    x = torch.randn(5, 3, 9, 12)
    if suffix == ".pt2":
        found = torch.export.load(path).module()(x)
    else:
        session = onnxruntime.InferenceSession(path)
        assert [node.op_type for node in __import__("onnx").load(path).graph.node] == ["Conv", "Relu", "Conv"]
        found = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: x.numpy()})[0])
    assert torch.allclose(found, network(x), atol=1e-5)
    assert sorted(p.name for p in tmp_path.iterdir() if p.name != "__pycache__") == [path.name, "strangers.py"]


@pytest.mark.parametrize("name", ["weights.safetensors", "weights.pt", "nested.pt"])
def test_weights_are_read_safely(run, tmp_path, name):
    from safetensors.torch import save_file

    state = {
        key: tensor + 1 if tensor.is_floating_point() else tensor
        for key, tensor in networks.network("strangers:image").state_dict().items()
    }
    if name.endswith(".safetensors"):
        save_file(state, tmp_path / name)
    else:
        torch.save({"state_dict": state} if name.startswith("nested") else state, tmp_path / name)
    made = networks.network("strangers:image", tmp_path / name)
    assert all(torch.equal(made.state_dict()[key], value) for key, value in state.items())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prefix", "wrap"),
    [
        ("module.", lambda state: state),
        ("_orig_mod.", lambda state: state),
        ("model.", lambda state: {"epoch": 3, "pytorch-lightning_version": "2.6", "state_dict": state}),
        ("model._orig_mod.", lambda state: {"state_dict": {**state, "loss.weight": torch.ones(2)}}),
    ],
)
def test_weights_with_the_usual_prefixes_load_with_a_line_that_says_so(run, tmp_path, prefix, wrap):
    plain = {key: tensor + 1 for key, tensor in networks.network("strangers:image").state_dict().items()}
    torch.save(wrap({f"{prefix}{key}": tensor for key, tensor in plain.items()}), tmp_path / "w.ckpt")
    made = networks.network("strangers:image", tmp_path / "w.ckpt")
    assert all(torch.equal(made.state_dict()[key], value) for key, value in plain.items())
    status, _, err = run("fuse", "strangers:image", "--input", "1x3x16x16", "--weights", "w.ckpt")
    assert status == 0
    left = "; 1 others are left out: loss.weight" if prefix == "model._orig_mod." else ""
    assert err == f"w.ckpt: the names of its 8 tensors were taken without the prefix {prefix}{left}\n"


def test_odd_tensors_among_weights_are_refused_in_a_sentence(run, tmp_path):
    torch.save({"state_dict": {"0.weight": torch.ones(1).expand(10**12)}}, tmp_path / "w.pt")
    status, _, err = run("fuse", "strangers:image", "--input", "1x3x16x16", "--weights", "w.pt")
    assert status == 2
    assert "w.pt holds no weights that can be read safely: it holds 'state_dict.0.weight', an expanded tensor" in err


@pytest.mark.slow
def test_a_checkpoint_of_ours_is_merged(run, tmp_path):
    settings = {"width": 4, "depths": [1, 1]}
    network = randomize(models.build("arin_pico", {"label": 3}, settings))
    front = {"sample_rate": 16_000, "mels": 32, "window_ms": 40, "hop_ms": 20, "n_fft": 640}
    info = ModelInfo(
        name="arin_pico",
        labels={"label": list("abc")},
        sample_rate=16_000,
        window_seconds=1.0,
        hop_seconds=0.5,
        front_end=front,
    )
    checkpoint.save(tmp_path / "mine", network, info, "arin_pico")
    status, out, _ = run("fuse", "mine")
    assert status == 0
    assert "stages.0.0.time" in out
    assert "7 identity" not in out
    assert run("fuse", "mine", "--input", "1x3")[2].startswith("Error: a checkpoint has its own weights and input")


REFUSALS = [
    (["strangers:image"], "the shape of an input is needed, for example --input 1x3x224x224"),
    (["strangers:image", "--input", "1x3x"], "input '1x3x' is no shape; write 1x3x224x224"),
    (["strangers:image", "--input", "1x3x8x8:int65"], "is no shape"),
    (["strangers:image", "--input", "1x4x8x8"], "the network does not run on this example: RuntimeError"),
    (["strangers:image", "--input", "1x3x8x8", "-o", "merged.pth"], "written as .pt2 (torch.export) or .onnx"),
    (["strangers:image", "--input", "1x3x8x8", "-o", "merged.pt2", "--plan"], "--plan"),
    (["strangers:picture", "--input", "1x3"], "strangers has no picture"),
    (["strangers:text", "--input", "1x3"], "strangers:text makes a str; a torch.nn.Module is needed"),
    (["strangers:number", "--input", "1x3"], "strangers:number is a int; a function that makes a network is needed"),
    (["strangers:fails", "--input", "1x3"], "strangers:fails fails: RuntimeError: no weights here"),
    (["stranger:image", "--input", "1x3"], "there is no Python module 'stranger'"),
    (["strangers", "--input", "1x3"], "is neither a checkpoint folder nor package.module:factory"),
    (["runs/none", "--input", "1x3"], "runs/none does not exist"),
    (["empty"], "is not a checkpoint: it has no config.json"),
    (["strangers:image", "--input", "1x3x8x8", "--weights", "none.pt"], "none.pt does not exist"),
    (["strangers:image", "--input", "1x3x8x8", "--weights", "bad.pt"], "bad.pt holds no weights that can be read safely"),
    (["strangers:image", "--input", "1x3x8x8", "--weights", "evil.pt"], "evil.pt holds no weights that can be read safely"),
    (["strangers:image", "--input", "1x3x8x8", "--weights", "other.pt"], "other.pt holds the weights of another network"),
]


class Evil:
    def __reduce__(self):
        return (open, ("stolen", "w"))


@pytest.mark.slow
@pytest.mark.parametrize(("arguments", "sentence"), REFUSALS, ids=[" ".join(words) for words, _ in REFUSALS])
def test_wrong_words_are_refused_in_a_sentence(run, tmp_path, arguments, sentence):
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.pt").write_bytes(b"no weights")
    torch.save(Evil(), tmp_path / "evil.pt")
    torch.save(nn.Linear(2, 2).state_dict(), tmp_path / "other.pt")
    status, _, err = run("fuse", *arguments)
    assert status == 2
    assert err.startswith("Error: ")
    assert sentence in err
    assert not (tmp_path / "stolen").exists()
    assert not list(tmp_path.glob("*merged*"))


def test_an_example_has_the_shape_and_type_asked_for():
    assert networks.example("2×3x4:float16").shape == (2, 3, 4)
    tokens = networks.example("2x3:int64")
    assert tokens.dtype == torch.int64
    assert set(np.unique(tokens.numpy())) <= {0, 1}
    with pytest.raises(ConfigError, match="no shape"):
        networks.example("0x3")
