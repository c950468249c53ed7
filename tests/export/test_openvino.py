"""OpenVINO runs bundles and its own files with the checkpoint's scores, in float32 and int8."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support import processes
from support.models import LABELS, clips, made, tiny

from audiorep.errors import BundleError, ConfigError
from audiorep.export import parity as parity_check
from audiorep.export.parity import LIMITS, PARITY_LIMIT, Parity, compare
from audiorep.runtimes import RUNTIMES, files_of, open_session

openvino = pytest.importorskip("openvino", reason="openvino is not installed")

from audiorep.export import openvino as openvino_export  # noqa: E402
from audiorep.runtimes import openvino as runtime  # noqa: E402


@pytest.fixture(scope="module")
def files(bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("openvino")
    parity = openvino_export.export(tiny(), folder / "tiny.xml", clips())
    shutil.copy(bundle[0], folder)
    return folder, parity


@pytest.mark.slow
def test_its_own_file_agrees_with_the_checkpoint(files):
    folder, parity = files
    assert 0 < parity.largest <= PARITY_LIMIT
    assert parity.agreement == 1
    assert 0 < parity.embedding <= PARITY_LIMIT
    assert sorted(path.name for path in folder.iterdir()) == ["tiny.bin", "tiny.onnx", "tiny.xml"]
    assert files_of(folder / "tiny.xml") == [folder / "tiny.xml", folder / "tiny.bin"]


@pytest.mark.slow
def test_its_own_file_describes_itself(files):
    info = open_session(files[0] / "tiny.xml").info
    expected = tiny().info
    form = info.provenance["front_end_form"]
    assert info == replace(expected, provenance={**expected.provenance, "front_end_form": form})


@pytest.mark.slow
def test_a_bundle_runs_in_it(files):
    session = open_session(files[0] / "tiny.onnx", "openvino", threads=1)
    assert session.device.startswith("OpenVINO 20")
    assert compare(tiny(), session, clips()).largest <= PARITY_LIMIT
    assert session.info == open_session(files[0] / "tiny.onnx").info


@pytest.mark.slow
@pytest.mark.parametrize(("batch", "samples"), [(1, 15_999), (3, 15_999), (1, 320), (2, 40_000)])
def test_batch_and_length_are_dynamic(files, batch, samples):
    waveform = (0.1 * np.random.default_rng(1).standard_normal((batch, samples))).astype(np.float32)
    installed = open_session(files[0] / "tiny.xml")(waveform)
    expected = open_session(files[0] / "tiny.onnx")(waveform)
    for head, labels in LABELS.items():
        assert installed[head].shape == (batch, len(labels))
        assert np.abs(installed[head] - expected[head]).max() <= PARITY_LIMIT
    found, theirs = (open_session(files[0] / name).embed(waveform) for name in ("tiny.xml", "tiny.onnx"))
    assert (found.shape, found.dtype) == ((batch, 16), np.float32)
    assert np.linalg.norm(found - theirs) <= PARITY_LIMIT * np.linalg.norm(theirs)


@pytest.mark.slow
def test_scores_survive_the_next_call(files):
    session = open_session(files[0] / "tiny.xml")
    first = session(clips()[0][None])["noun"]
    kept = first.copy()
    session(clips()[-1][None])
    assert (first == kept).all()


@pytest.mark.slow
def test_int8_keeps_the_labels_and_leaves_the_front_end_alone(tmp_path):
    generator = np.random.default_rng(3)
    sounds = [(level * generator.standard_normal(15_999)).astype(np.float32) for level in np.geomspace(1e-3, 0.5, 30)]
    parity = openvino_export.export(tiny(), tmp_path / "small.xml", sounds[::3], "int8", sounds)
    assert parity.largest > PARITY_LIMIT
    assert parity.agreement >= 0.9
    assert runtime.OpenVinoSession(tmp_path / "small.xml").info.provenance["precision"] == "int8"
    model = runtime.core().read_model(tmp_path / "small.xml")
    front_end = set(openvino_export.front_end_of(model))
    quantized = [node.get_friendly_name() for node in model.get_ops() if node.get_type_name() == "FakeQuantize"]
    assert len(quantized) > 10
    assert not front_end & set(quantized)


@pytest.mark.slow
def test_int8_needs_clips(tmp_path):
    with pytest.raises(BundleError, match="--calibration"):
        openvino_export.export(tiny(), tmp_path / "m.xml", clips(), "int8")
    assert not list(tmp_path.iterdir())


def test_int8_is_judged_by_labels_and_float_by_scores():
    assert Parity(10, 0.3, 0.1, 0.9, 0.4).refusal("int8") is None
    assert "on 80% of the clips; 90% is needed" in (Parity(10, 0.0, 0.0, 0.8, 0.0).refusal("int8") or "")
    assert Parity(10, 0.01, 0.001, 1.0, 0.01).refusal("bf16") is None
    assert Parity(10, 0.01, 0.001, 1.0, 0.0).refusal("fp32")
    assert Parity(10, float("nan"), 0.0, 1.0, 0.0).refusal("bf16")


@pytest.mark.parametrize(("precision", "allowed"), [("fp32", 1e-3), ("fp16", 0.01), ("int8", 0.5)])
def test_the_embedding_is_judged_by_its_relative_difference(precision, allowed):
    assert Parity(10, 0.0, 0.0, 1.0, allowed).refusal(precision) is None
    for far in (1.01 * allowed, float("nan")):
        assert "embedding differs" in (Parity(10, 0.0, 0.0, 1.0, far).refusal(precision) or "")


@pytest.mark.slow
def test_a_model_split_behind_the_log_mel_gives_the_same_scores(files):
    exact = {"INFERENCE_PRECISION_HINT": "f32"}  # left to itself OpenVINO computes in bf16 where the processor has it
    front_end, network = (
        runtime.core().compile_model(part, "CPU", exact).create_infer_request()
        for part, _ in runtime._parts(runtime.core().read_model(files[0] / "tiny.xml"), "bf16")
    )
    waveform = clips()[0][None]
    expected = open_session(files[0] / "tiny.xml")(waveform)
    scores = network.infer([front_end.infer([waveform])[0]])
    for head in LABELS:
        assert np.abs(scores[head] - expected[head]).max() <= PARITY_LIMIT
    assert scores["embedding"].shape == (1, 16)


@pytest.mark.slow
def test_bf16_leaves_the_front_end_in_float32(files):
    (front_end, first), (network, second) = runtime._parts(runtime.core().read_model(files[0] / "tiny.xml"), "bf16")
    assert (first, second) == ("f32", "bf16")
    assert front_end.get_parameters()[0].get_friendly_name() == "waveform"
    log_mel = front_end.output(0).get_partial_shape()
    assert network.get_parameters()[0].get_partial_shape() == log_mel
    assert tiny().front_end.config.mels in [size.get_length() for size in log_mel if size.is_static]


@pytest.mark.slow
def test_signals_reach_a_process_whose_sessions_ended_in_any_order(files):
    """OpenVINO gives the thread another signal stack, which must not go before the signals do."""
    code = (
        "import gc, os, signal, sys\n"
        "from audiorep.runtimes.openvino import OpenVinoSession\n"
        "signal.signal(signal.SIGTERM, lambda *given: print('heard'))\n"
        "first, second = OpenVinoSession(sys.argv[1]), OpenVinoSession(sys.argv[1])\n"
        "del first\ngc.collect()\ndel second\ngc.collect()\n"
        "os.kill(os.getpid(), signal.SIGTERM)"
    )
    ended = processes.run(processes.python(code, files[0] / "tiny.xml"))
    assert (ended.returncode, ended.stdout) == (0, "heard\n"), ended.stderr


@pytest.mark.slow
def test_bf16_is_real_within_its_own_bound_or_refused_where_the_processor_lacks_it(files):
    if "BF16" in runtime.core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        session = runtime.OpenVinoSession(files[0] / "tiny.xml", precision="bf16")
        hints = [stage.get_property("INFERENCE_PRECISION_HINT").to_string() for stage in session._stages]
        assert hints == ["f32", "bf16"]
        parity = compare(tiny(), session, clips())
        assert PARITY_LIMIT < parity.largest <= LIMITS["bf16"]  # not float32 under another name, and near enough
        assert parity.refusal("bf16") is None
    else:
        with pytest.raises(ConfigError, match=r"bf16.*fp32"):
            open_session(files[0] / "tiny.xml", precision="bf16")


@pytest.mark.slow
def test_an_export_that_differs_is_not_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(parity_check, "_parity", lambda expected, session, clips: Parity(len(clips), 0.01, 0.001, 1.0, 0.0))
    (tmp_path / "m.xml").write_text("older")
    with pytest.raises(BundleError, match=r"0\.01"):
        openvino_export.export(tiny(), tmp_path / "m.xml", clips())
    assert [path.read_text() for path in tmp_path.iterdir()] == ["older"]


@pytest.mark.slow
def test_no_room_for_a_model_in_the_making_is_a_sentence(tmp_path, monkeypatch):
    def full(*given: object, **settings: object) -> None:
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setattr(openvino, "save_model", full)
    with pytest.raises(BundleError, match="iostream error"):
        openvino_export.export(tiny(), tmp_path / "m.xml", clips())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_foreign_files_are_refused(tmp_path, files):
    with pytest.raises(BundleError, match=r"none\.xml"):
        open_session(tmp_path / "none.xml")
    (tmp_path / "text.xml").write_text("hello")
    with pytest.raises(BundleError, match=r"text\.xml"):
        open_session(tmp_path / "text.xml")
    (tmp_path / "alone.xml").write_bytes((files[0] / "tiny.xml").read_bytes())
    with pytest.raises(BundleError, match=r"\.bin"):
        open_session(tmp_path / "alone.xml")
    parameter = openvino.opset13.parameter([1, 4], np.float32, "waveform")
    openvino.save_model(openvino.Model([openvino.opset13.relu(parameter)], [parameter]), tmp_path / "foreign.xml")
    with pytest.raises(BundleError, match=r"foreign\.xml"):
        open_session(tmp_path / "foreign.xml")


@pytest.mark.slow
def test_runtimes_are_chosen_by_file_and_checked(files, tmp_path):
    with pytest.raises(ConfigError, match=r"tensorrt.*onnx, torch"):
        open_session(files[0] / "tiny.onnx", "tensorrt")
    with pytest.raises(ConfigError, match=r"onnx.*\.onnx"):
        open_session(files[0] / "tiny.xml", "onnx")
    with pytest.raises(ConfigError, match=r"torch.*checkpoint folder"):
        open_session(files[0] / "tiny.onnx", "torch")
    with pytest.raises(ConfigError, match=r"fp32.*bf16"):
        open_session(files[0] / "tiny.onnx", "onnx", precision="bf16")
    with pytest.raises(BundleError, match=r"none\.onnx"):
        open_session(tmp_path / "none.onnx", "openvino")


def test_every_runtime_is_found_or_says_how_to_get_it():
    from audiorep.runtimes import installed

    rows = {row.name: row for row in installed.runtimes()}
    assert set(rows) == set(RUNTIMES)
    assert "CPU" in rows["onnx"].hardware
    assert "cores" in rows["torch"].hardware
    assert rows["openvino"].hardware.startswith("CPU: ")
    for row in rows.values():
        assert bool(row.version) != bool(row.install)


@pytest.mark.slow
def test_torch_runs_in_bf16_near_float32():
    from audiorep.runtimes.torch import TorchSession

    parity = compare(tiny(), TorchSession(tiny(), precision="bf16"), clips())
    assert 0 < parity.largest < 0.05
    assert 0 < parity.embedding < 0.05


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the compiler itself
@pytest.mark.parametrize("small", [True, pytest.param(False, marks=pytest.mark.full)])
def test_torch_compiled_gives_the_same_scores(small):
    from audiorep.runtimes.torch import CompiledTorchSession

    model = made(depths=(1,)) if small else made()
    session = CompiledTorchSession(model)
    assert session.device.endswith("compiled")
    assert compare(model, session, clips()).largest <= PARITY_LIMIT
    torch._dynamo.reset()


@pytest.mark.slow
def test_a_file_holds_no_path_of_the_machine_that_made_it(files):
    content = (files[0] / "tiny.xml").read_bytes()
    assert str(Path(torch.__file__).parent).encode() not in content


@pytest.mark.slow
def test_int8_under_control_leaves_what_it_is_told_and_loses_no_more_than_allowed(files, tmp_path):
    sounds = [clip[None] for clip in clips()]
    model = tiny()
    exact = open_session(files[0] / "tiny.xml")
    wanted = [{head: int(values.argmax()) for head, values in exact(clip).items()} for clip in sounds]
    targets = [{head: np.eye(len(LABELS[head]))[k] for head, k in labels.items()} for labels in wanted]
    control = openvino_export.Control(list(zip(sounds, targets, strict=True)), 0.0, ("stem.conv",))
    with pytest.raises(ConfigError, match=r"stem\.none.*stem\.conv, stages"):
        openvino_export.export(model, tmp_path / "small.xml", clips(), "int8", clips(), replace(control, left=("stem.none",)))
    parity = openvino_export.export(model, tmp_path / "small.xml", clips(), "int8", clips(), control)
    installed = open_session(tmp_path / "small.xml")
    assert [{head: int(values.argmax()) for head, values in installed(clip).items()} for clip in sounds] == wanted
    assert parity.agreement == 1.0
    graph = runtime.core().read_model(tmp_path / "small.xml")
    stem = next(node for node in graph.get_ordered_ops() if node.get_type_name() == "Convolution")
    assert "stem.conv" in stem.get_friendly_name()
    above = {node.get_type_name() for node in openvino_export.ancestors(stem.output(0)).values()}
    assert "FakeQuantize" not in above
    assert any(node.get_type_name() == "FakeQuantize" for node in graph.get_ops()) or parity.largest < PARITY_LIMIT
