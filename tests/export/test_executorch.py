"""A `.pte` computes what its checkpoint does, and foreign or damaged files are refused."""

from __future__ import annotations

import copy
import os
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from support import ROOT, processes

pytest.importorskip("executorch", reason="needs the extra executorch")

import soundfile
import torch
from support.models import LABELS, SHALLOW, clips, lively, made, pitched, telling

from audiorep import models
from audiorep.errors import BundleError
from audiorep.export import executorch as executorch_export
from audiorep.export.executorch import export
from audiorep.export.fixed_program import fixed_program
from audiorep.export.parity import PARITY_LIMIT, compare
from audiorep.info import model_info
from audiorep.info.model_info import ModelInfo
from audiorep.models import checkpoint
from audiorep.models.front_end import FRONT_ENDS, LogMel
from audiorep.predict.classifier import Classifier
from audiorep.runtimes import Checked, fixed_shape, open_session
from audiorep.runtimes.executorch import ExecuTorchSession
from audiorep.runtimes.torch import TorchSession

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("executorch") / "tiny.pte"
    return path, export(made(depths=SHALLOW), path, clips())


@pytest.fixture(scope="module")
def int8(tmp_path_factory):
    path = tmp_path_factory.mktemp("int8") / "telling.pte"
    return path, export(telling(), path, pitched(20, seed=1), "int8", pitched(40))


def without_metadata(path: Path) -> bytes:
    content = path.read_bytes()
    return content[: content.rindex(b"PK\x03\x04")]


def test_an_export_agrees_with_its_checkpoint(exported):
    path, parity = exported
    assert parity.clips == 4
    assert 0 < parity.largest <= PARITY_LIMIT
    assert parity.agreement == 1.0
    assert [file.name for file in path.parent.iterdir()] == ["tiny.pte"]


def test_one_file_holds_everything(exported):
    session = open_session(exported[0])
    assert isinstance(session, Checked)
    assert isinstance(session.session, ExecuTorchSession)
    assert session.info == made(depths=SHALLOW).info
    assert session.device.startswith("ExecuTorch 1.")


def test_it_holds_no_path_of_the_machine_that_made_it(exported):
    content = exported[0].read_bytes()
    for path in (ROOT, Path(torch.__file__).parent, Path.home()):
        assert os.fsencode(path) not in content


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_any_batch_gives_the_checkpoints_scores(exported, batch):
    waveform = np.stack(clips(batch))
    found, expected = ExecuTorchSession(exported[0])(waveform), TorchSession(made(depths=SHALLOW))(waveform)
    assert list(found) == list(LABELS)
    for head, labels in LABELS.items():
        assert found[head].shape == (batch, len(labels))
        assert found[head].dtype == np.float32
        assert np.abs(found[head] - expected[head]).max() <= PARITY_LIMIT


def test_two_sessions_do_not_share_their_scores(exported):
    first, second = ExecuTorchSession(exported[0]), ExecuTorchSession(exported[0])
    one, other = clips(2)
    before = first(one[None])["noun"]
    second(other[None])
    assert np.array_equal(before, first(one[None])["noun"])
    assert not np.array_equal(before, first(other[None])["noun"])


def test_heads_of_equal_size_are_told_apart(tmp_path):
    model = made(depths=SHALLOW)
    torch.manual_seed(1)
    labels = {"verb": ["a", "b", "c"], "noun": LABELS["noun"], "a head": ["d", "e", "f"]}
    network = lively(models.build("arin_pico", dict.fromkeys(labels, 3), {"depths": list(SHALLOW)}))
    model = replace(model, network=network, info=replace(model.info, labels=labels))
    assert export(model, tmp_path / "three.pte", clips()).largest <= PARITY_LIMIT
    expected = TorchSession(model)(clips(1)[0][None])
    found = ExecuTorchSession(tmp_path / "three.pte")(clips(1)[0][None])
    for head in labels:
        assert np.abs(found[head] - expected[head]).max() <= PARITY_LIMIT
        assert all(np.abs(found[head] - expected[other]).max() > 0.01 for other in labels if other != head)


def test_sigmoid_scores_are_independent_and_short_clips_filled_as_the_model_fills_them(tmp_path):
    model = made("sigmoid", SHALLOW)
    model = replace(model, info=replace(model.info, padding="edge_frames"))
    shorter = [clip[:samples] for clip, samples in zip(clips(), (1, 320, 9_000, 15_999), strict=True)]
    assert 0 < export(model, tmp_path / "multi.pte", shorter).largest <= PARITY_LIMIT
    scores = Classifier.load(tmp_path / "multi.pte").scores(shorter[2])
    assert scores["noun"].sum() != pytest.approx(1, abs=1e-3)
    with pytest.raises(BundleError, match="takes at most 1 s"):
        ExecuTorchSession(tmp_path / "multi.pte")(np.zeros((1, 16_000), np.float32))


def test_files_of_any_length_are_heard_in_windows(exported, tone):
    classifier = Classifier.load(exported[0])
    recording = classifier.file(tone("long.wav", seconds=3.2, sample_rate=44_100))
    assert len(recording.starts) == 6
    assert recording.scores["noun"].shape == (6, 3)
    assert len(classifier.file(tone("short.wav", seconds=0.3)).starts) == 1
    with pytest.raises(BundleError, match=r"takes 1 s \(15999 samples\) at a time; 2 s \(31999\) were given.*\.onnx"):
        classifier.with_windows(2.0).file(tone("long.wav", seconds=3.2))


@pytest.mark.parametrize("threads", [1, 2])
def test_it_runs_quietly_with_the_first_sessions_threads(exported, threads):
    code = (
        "import sys; import numpy as np; from audiorep.errors import ConfigError; from audiorep.runtimes import open_session\n"
        "path, threads = sys.argv[1], int(sys.argv[2]); first = open_session(path, threads=threads)\n"
        "try: open_session(path, threads=threads + 1)\n"
        "except ConfigError as error: print(error)\n"
        "again = open_session(path), open_session(path, threads=threads)\n"
        "print([session(np.zeros((2, 15999), np.float32))['noun'].shape for session in (first, *again)])"
    )
    done = processes.run(processes.python(code, exported[0], threads))
    refusal = f"ExecuTorch has one pool of threads, which has {threads} in this process; {threads + 1} were asked for."
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{refusal} Use another process.\n[(2, 3), (2, 3), (2, 3)]\n"


def test_an_export_is_quiet(tmp_path, capfd):
    export(made(depths=SHALLOW), tmp_path / "tiny.pte", clips(1))
    assert capfd.readouterr() == ("", "")


def test_an_export_that_is_not_its_checkpoint_is_not_left_behind(tmp_path):
    model = made(depths=SHALLOW)
    model.network.heads["verb"].bias.data.fill_(float("nan"))
    (tmp_path / "model.pte").write_bytes(b"an older model")
    with pytest.raises(BundleError, match=r"model\.pte was not written: .* up to nan"):
        export(model, tmp_path / "model.pte", clips(1))
    assert (tmp_path / "model.pte").read_bytes() == b"an older model"
    assert len(list(tmp_path.iterdir())) == 1


def test_compare_counts_labels_that_agree(exported):
    other = made(depths=SHALLOW)
    other.network.heads["verb"].bias.data += torch.tensor([50.0, 0.0])
    parity = compare(other, ExecuTorchSession(exported[0]), clips())
    assert parity.largest > 0.1
    assert 0 <= parity.agreement < 1


def test_foreign_files_are_refused_with_their_path(tmp_path, exported):
    with pytest.raises(BundleError, match=r"none\.pte does not exist"):
        ExecuTorchSession(tmp_path / "none.pte")
    with pytest.raises(BundleError, match="is a folder"):
        ExecuTorchSession(tmp_path)
    text = tmp_path / "text.pte"
    text.write_text("hello")
    with pytest.raises(BundleError, match=r"text\.pte is not an audiorep model"):
        ExecuTorchSession(text)
    model_info.append(text, made(depths=SHALLOW).info)
    with pytest.raises(BundleError, match=r"text\.pte is not a model that ExecuTorch reads \(.*\)\."):
        ExecuTorchSession(text)
    foreign = tmp_path / "foreign.pte"
    foreign.write_bytes(without_metadata(exported[0]))
    with pytest.raises(BundleError, match=r"foreign\.pte is not an audiorep model.*audiorep export"):
        ExecuTorchSession(foreign)


@pytest.mark.parametrize("kept", [0, 8, 5_000, 0.5, 0.99, -1])
def test_a_file_cut_short_is_refused(tmp_path, exported, kept):
    content = exported[0].read_bytes()
    (tmp_path / "cut.pte").write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
    with pytest.raises(BundleError, match=r"cut\.pte is not an audiorep model, or was cut short"):
        ExecuTorchSession(tmp_path / "cut.pte")


def test_a_damaged_file_is_refused(tmp_path, exported):
    content = bytearray(exported[0].read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "damaged.pte").write_bytes(content)
    with pytest.raises(BundleError, match=r"damaged\.pte is damaged"):
        ExecuTorchSession(tmp_path / "damaged.pte")


@pytest.mark.parametrize(
    "changes",
    [{"labels": {**LABELS, "verb": ["cut", "wash", "peel"]}}, {"labels": {"verb": LABELS["verb"]}}, {"window_seconds": 2.0}],
    ids=["another size", "a head less", "another window"],
)
def test_metadata_that_does_not_fit_the_graph_is_refused(tmp_path, exported, changes):
    (tmp_path / "wrong.pte").write_bytes(without_metadata(exported[0]))
    model_info.append(tmp_path / "wrong.pte", replace(made(depths=SHALLOW).info, **changes))
    with pytest.raises(BundleError, match=r"wrong\.pte: its program has shapes .* are needed\. Export the model again\."):
        ExecuTorchSession(tmp_path / "wrong.pte")


def test_int8_keeps_the_labels_and_what_the_model_says_of_itself(int8):
    path, parity = int8
    session = open_session(path)
    assert isinstance(session, Checked)
    assert isinstance(session.session, ExecuTorchSession)
    assert session.info == telling().info.with_precision("int8")
    assert parity.clips == 20
    assert parity.agreement == 1.0
    assert 1e-5 < parity.mean < 0.02
    assert [file.name for file in path.parent.iterdir()] == ["telling.pte"]
    fresh = compare(telling(), session, pitched(50, seed=2))
    assert fresh.agreement >= 0.96
    assert fresh.mean < 0.02


def test_int8_is_a_fraction_of_the_weights_in_float32(int8):
    weights = 4 * sum(parameter.numel() for parameter in telling().network.parameters())
    assert 0.25 * weights < int8[0].stat().st_size < 0.45 * weights


def test_int8_weights_have_a_scale_for_each_channel_and_no_offset():
    model = telling()
    network = executorch_export._quantized(*fixed_program(model, small=True), fixed_shape.inputs(model.info, pitched(10)))
    weights = [node.args for node in network.graph.nodes if "dequantize_per_channel" in str(node.target)]
    assert len(weights) == 1 + 4 * 5 + 3 + 1
    for held, scales, offsets, axis, *_ in weights:
        weight = getattr(network, held.target)
        assert weight.dtype == torch.int8
        assert (axis, len(getattr(network, scales.target))) == (0, len(weight))
        assert not getattr(network, offsets.target).any()
    inner = [node for node in network.graph.nodes if "conv2d" in str(node.target) or "linear" in str(node.target)]
    assert len(inner) == len(weights)
    assert all("dequantize_per_tensor" in str(node.args[0].target) for node in inner)


@pytest.mark.parametrize("level", [0.3, 0.001])
def test_int8_hears_quiet_sounds_as_loud_ones(int8, level):
    heard = np.stack(pitched(10, seed=3, levels=(level, level)))
    found, expected = ExecuTorchSession(int8[0])(heard)["pitch"], TorchSession(telling())(heard)["pitch"]
    assert np.abs(found - expected).max() < 0.1


@pytest.mark.full
def test_int8_of_a_model_that_fills_short_clips(tmp_path):
    model = telling()
    model = replace(model, info=replace(model.info, padding="edge_frames", activation="sigmoid"))
    shorter = [clip[: 3_000 + 1_000 * index] for index, clip in enumerate(pitched(12))]
    parity = export(model, tmp_path / "short.pte", shorter[::2], "int8", shorter)
    assert parity.agreement == 1.0
    assert Classifier.load(tmp_path / "short.pte").scores(shorter[0])["pitch"].shape[-1] == 5


def test_int8_without_clips_to_calibrate_on_is_refused_and_writes_nothing(tmp_path):
    with pytest.raises(BundleError, match=r"^int8 needs clips to measure the ranges .* --calibration\.$"):
        export(telling(), tmp_path / "model.pte", clips(1), "int8")
    with pytest.raises(BundleError, match=r"takes 1 s \(15999 samples\) at a time; .* \(400\) were given"):
        export(telling(), tmp_path / "model.pte", clips(1), "int8", [np.zeros(400, np.float32)])
    assert list(tmp_path.iterdir()) == []


def test_int8_of_a_broken_network_is_refused_and_leaves_the_older_file(tmp_path):
    model = copy.deepcopy(telling())
    model.network.heads["pitch"].bias.data.fill_(float("nan"))
    (tmp_path / "model.pte").write_bytes(b"an older model")
    with pytest.raises(BundleError, match=r"gives NaN or infinite values on a clip to calibrate on"):
        export(model, tmp_path / "model.pte", clips(1), "int8", pitched(5))
    assert (tmp_path / "model.pte").read_bytes() == b"an older model"
    assert len(list(tmp_path.iterdir())) == 1


def test_the_command_writes_int8_from_a_folder_of_sounds(tmp_path):
    model = telling()
    checkpoint.save(tmp_path / "run", model.network, model.info, "arin_nano")
    (tmp_path / "sounds").mkdir()
    for index, tone in enumerate(pitched(20)):
        soundfile.write(tmp_path / "sounds" / f"{index}.wav", tone, 16_000, subtype="FLOAT")
    sounds, path = str(tmp_path / "sounds"), tmp_path / "model.pte"
    options = ["--to", "executorch", "--precision", "int8", "--calibration", sounds, "--clips", sounds, "--output", str(path)]
    done = processes.run(processes.audiorep("export", tmp_path / "run", *options))
    assert (done.returncode, done.stderr) == (0, "")
    assert "MB, waveform in, pitch out" in done.stdout
    assert open_session(path).info == model.info.with_precision("int8")


@pytest.mark.full
@pytest.mark.parametrize(("name", "front_end"), [("arin_nano", "light"), ("arin_pico", "vggsound")])
def test_full_size_networks_agree_with_the_light_and_the_papers_front_end(tmp_path, name, front_end):
    torch.manual_seed(0)
    labels = {"label": [f"sound {number}" for number in range(50)]}
    info = ModelInfo(name, labels, 16_000, 5.12, 2.56, asdict(FRONT_ENDS[front_end]))
    network = lively(models.build(name, {"label": 50}, {}))
    model = checkpoint.Checkpoint(network, LogMel(FRONT_ENDS[front_end]), info, name)
    generator = np.random.default_rng(0)
    sounds = [(level * generator.standard_normal(info.window_samples)).astype(np.float32) for level in (0.001, 0.03, 0.3)]
    assert export(model, tmp_path / "full.pte", sounds).largest <= PARITY_LIMIT
