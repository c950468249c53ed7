"""Of OpenVINO's two files nothing leaves the graph of one model beside another's weights unnoticed."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.info import make_info

from audiorep.errors import BundleError
from audiorep.files import WriteError
from audiorep.info.model_info import PREFIX
from audiorep.runtimes import open_session, pair
from audiorep.runtimes.openvino import SECTION, core

openvino = pytest.importorskip("openvino", reason="openvino is not installed")

WAVEFORM = np.full((1, 999), 0.5, np.float32)

SEAL = re.compile(rb"\n<!-- audiorep: weights of \d+ bytes, CRC-32 [0-9a-f]{8} -->\n\Z")


class Killed(BaseException):
    """In place of a kill."""


def written(path: Path, seed: int) -> Path:
    """A model whose scores are a window's mean times two matrices."""
    nodes = [
        helper.make_node("ReduceMean", ["waveform"], ["mean"], axes=[1], keepdims=1),
        helper.make_node("MatMul", ["mean", "first"], ["wide"]),
        helper.make_node("MatMul", ["wide", "second"], ["label"]),
    ]
    draw = np.random.default_rng(seed).standard_normal
    weights = {"first": draw((1, 64)).astype(np.float32), "second": draw((64, 3)).astype(np.float32)}
    ports = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", size])
        for name, size in (("waveform", "n"), ("label", 3))
    ]
    tensors = [numpy_helper.from_array(values, name) for name, values in weights.items()]
    graph = helper.make_graph(nodes, "made", ports[:1], ports[1:], tensors)
    onnx_model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    model = core().read_model(onnx_model.SerializeToString())
    for key, value in make_info().to_metadata().items():
        model.set_rt_info(value, [SECTION, key.removeprefix(PREFIX)])
    openvino.save_model(model, path.with_name("made.xml"), compress_to_fp16=False)
    pair.move(path.with_name("made.xml"), path)
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> tuple[Path, Path]:
    """Two models of the same shapes and other weights."""
    folder = tmp_path_factory.mktemp("pairs")
    return written(folder / "old.xml", 0), written(folder / "new.xml", 1)


def scores(path: Path) -> bytes:
    return open_session(path)(WAVEFORM)["label"].tobytes()


def placed(source: Path, path: Path, sealed: bool = True) -> Path:
    content = source.read_bytes()
    path.write_bytes(content if sealed else SEAL.sub(b"", content))
    shutil.copy(source.with_suffix(".bin"), path.with_suffix(".bin"))
    return path


def test_a_graph_tells_its_weights(models):
    for path in models:
        assert SEAL.search(path.read_bytes())
        pair.check(path)
    assert scores(models[0]) != scores(models[1])


@pytest.mark.slow
@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("step", range(7))
def test_a_kill_at_any_step_leaves_the_old_the_new_or_a_refusal(models, tmp_path, monkeypatch, sealed, step):
    old, new = models
    path = placed(old, tmp_path / "m.xml", sealed)
    steps = iter(range(100))

    def counted(name: str):
        original = getattr(Path, name)

        def call(self: Path, *given: object) -> object:
            if next(steps) == step:
                raise Killed
            return original(self, *given)

        return call

    with monkeypatch.context() as patched:
        for name in ("replace", "write_bytes"):
            patched.setattr(Path, name, counted(name))
        try:
            pair.move(new, path)
            finished = True
        except Killed:
            finished = False
    known = {scores(old): "old", scores(new): "new"}
    try:
        found = known[scores(path)]
    except BundleError as error:
        found = str(error).removeprefix(f"{tmp_path}/").partition(": ")[0]
    refusal = "m.xml and m.bin are not of one model"  # the two may differ in the form of their front end, and so in size
    assert found in (("new",) if finished else ("old", refusal))
    pair.move(new, path)
    assert known[scores(path)] == "new"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.bin", "m.xml"]


def test_weights_that_were_cut_off_are_refused(models, tmp_path):
    path = placed(models[0], tmp_path / "m.xml")
    content = path.with_suffix(".bin").read_bytes()
    for damaged in (content[:-1], content[:100], b"", content + b"\0", content[:-1] + bytes([content[-1] ^ 1])):
        path.with_suffix(".bin").write_bytes(damaged)
        with pytest.raises(BundleError, match=r"m\.xml and m\.bin"):
            open_session(path)


def test_weights_that_are_missing_are_named(models, tmp_path):
    path = placed(models[0], tmp_path / "m.xml")
    path.with_suffix(".bin").unlink()
    with pytest.raises(BundleError, match=r"\.bin"):
        open_session(path)


@pytest.mark.slow
def test_a_pair_of_before_runs_on_and_a_renamed_one_too(models, tmp_path):
    assert scores(placed(models[0], tmp_path / "older.xml", sealed=False)) == scores(models[0])
    assert scores(placed(models[1], tmp_path / "renamed.xml")) == scores(models[1])


def test_a_full_disk_leaves_the_older_pair(models, tmp_path, monkeypatch):
    path = placed(models[0], tmp_path / "m.xml")

    def full(self: Path, content: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", full)
        with pytest.raises(WriteError, match=r"m\.bin.*No space left"):
            pair.move(models[1], path)
    assert scores(path) == scores(models[0])
    assert sorted(file.name for file in tmp_path.iterdir()) == ["m.bin", "m.xml"]
