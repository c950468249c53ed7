"""Commands that make models smaller, or compare two, exit by what they find and refuse what cannot be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from support.commands import audiorep

from audiorep import models
from audiorep.compress import int8
from audiorep.export.onnx import export
from audiorep.models import checkpoint

pytestmark = pytest.mark.slow


@pytest.mark.full
def test_a_pruned_checkpoint_is_made_trained_on_and_compared(run, tones, tmp_path):
    ended = audiorep("prune", run, tones, "-o", tmp_path / "small", "--keep", 0.6, "--multiple", 1, "--tune", 1)
    assert ended.returncode == 0, ended.stderr
    assert "MACs" in ended.stdout
    small, whole = checkpoint.load(tmp_path / "small"), checkpoint.load(run)
    shape = tuple(whole.example().shape)
    assert models.cost(small.network, shape).macs <= 0.6 * models.cost(whole.network, shape).macs
    again = audiorep("prune", run, tones, "-o", tmp_path / "small")
    assert again.returncode == 2
    assert str(tmp_path / "small") in again.stderr
    impossible = audiorep("prune", run, tones, "-o", tmp_path / "tiny", "--keep", 0.001)
    assert impossible.returncode == 2
    assert "the least is" in impossible.stderr
    assert not list(tmp_path.glob("tiny/*"))
    trained = audiorep("train", tones, "-o", tmp_path / "more", "--start", tmp_path / "small", *_settings(run))
    assert trained.returncode == 0, trained.stderr
    assert checkpoint.load(tmp_path / "more").layers == small.layers


def _settings(run: Path) -> list[str]:
    values = json.loads((run / "train.json").read_text())["config"]
    kept = {key: values[key] for key in ("architecture", "window_seconds")}
    sizes = ("depths", "time_kernels", "frequency_kernels")
    told = {**kept, **{f"network.{key}": values["network"][key] for key in sizes}, "epochs": 1}
    told |= {f"front_end.{key}": value for key, value in values["front_end"].items()}
    return [word for key, value in told.items() for word in ("--set", f"{key}={json.dumps(value)}")]


@pytest.fixture(scope="module")
def files(loaded, examples, tmp_path_factory) -> tuple[Path, Path]:
    """The checkpoint's bundle, and one that gives each clip the same label."""
    folder = tmp_path_factory.mktemp("files")
    windows = int8.sounds_of(examples, loaded.info).calibration
    export(loaded, folder / "same.onnx", windows)
    model = onnx.load(folder / "same.onnx")
    heads = [tensor for tensor in model.graph.initializer if "heads" in tensor.name]
    assert heads
    for tensor in heads:
        tensor.CopyFrom(numpy_helper.from_array(np.zeros_like(numpy_helper.to_array(tensor)), tensor.name))
    kept = [entry for entry in model.metadata_props if entry.key != "audiorep.seal"]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    onnx.save(model, folder / "silent.onnx")
    return folder / "same.onnx", folder / "silent.onnx"


@pytest.mark.full
def test_verify_exits_by_what_it_finds(run, tones, files, tmp_path):
    bundle, silent = files
    same = audiorep("verify", run, bundle, "--data", tones, "-o", tmp_path / "v.json", "--rounds", 1)
    assert same.returncode == 0, same.stderr
    values = json.loads((tmp_path / "v.json").read_text())
    assert values["passes"]
    assert values["difference"]["agreement"] == 1.0
    assert values["difference"]["largest"] < 1e-4
    first, second = values["costs"]
    assert (first["runtime"], second["runtime"], first["speed"]) == ("torch", "onnx", 1.0)
    assert second["bytes"] == bundle.stat().st_size
    assert min(second["median_ms"], second["peak_memory_mb"], second["speed"]) > 0
    worse = audiorep("verify", bundle, silent, "--data", tones, "--loss", 0, "--json", "--rounds", 1)
    assert worse.returncode == 1
    assert str(silent) in worse.stderr
    assert json.loads(worse.stdout)["passes"] is False


def test_verify_refuses_what_cannot_be(run, tones, files, tmp_path):
    bundle, _ = files
    for option, value in (("--loss", "nan"), ("--loss", -5), ("--agreement", 2)):
        wrong = audiorep("verify", bundle, bundle, "--data", tones, option, value)
        assert wrong.returncode == 2
        assert "0 to 1" in " ".join(wrong.stderr.split())
    kept = tmp_path / "b.onnx"
    shutil.copy(bundle, kept)
    for output in (kept, run / "config.json"):
        over = audiorep("verify", run, kept, "--data", tones, "-o", output)
        assert over.returncode == 2
        assert str(output) in over.stderr
    assert kept.read_bytes() == bundle.read_bytes()
    checkpoint.load(run)
    missing = audiorep("verify", bundle, tmp_path / "nothing.onnx", "--data", tones)
    assert missing.returncode == 2
    assert "nothing.onnx" in missing.stderr


def test_quantize_refuses_unknown_layers_and_other_files(run, tones, tmp_path):
    unknown = audiorep("quantize", run, tones, "-o", tmp_path / "q.onnx", "--keep-float", "stem.nothing")
    assert unknown.returncode == 2
    assert "stem.nothing; the layers are stem.conv" in unknown.stderr
    assert list(tmp_path.iterdir()) == []
    nowhere = audiorep("quantize", run, tones, "-o", "/proc/q.onnx")
    assert nowhere.returncode == 2
    assert "/proc/q.onnx" in nowhere.stderr
    assert "Measuring" not in nowhere.stderr
    unused = audiorep("export", run, "--calibration", tones, "-o", tmp_path / "q.onnx")
    assert unused.returncode == 2
    assert "for int8; fp32" in unused.stderr
    other = audiorep("quantize", run, tones, "-o", tmp_path / "q.tflite")
    assert other.returncode == 2
    assert "audiorep export" in other.stderr
