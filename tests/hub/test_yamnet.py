"""YAMNet's published file gives the same scores here, and whatever else a `.tflite` may be is refused in words."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from support.commands import audiorep
from support.their_yamnet import Step, TheirYamNet, Values, rounded

from audiorep.errors import CheckpointError, ConfigError
from audiorep.export.onnx import export
from audiorep.hub import imported, tflite_file, yamnet
from audiorep.info.front_end import FRONT_ENDS
from audiorep.models import checkpoint
from audiorep.models.checkpoint import Checkpoint
from audiorep.models.front_end import mel_filters
from audiorep.predict.classifier import Classifier

PATCH = (1, 1, 96, 64)


@pytest.fixture
def made(tmp_path) -> tuple[TheirYamNet, Path]:
    theirs = TheirYamNet()
    return theirs, theirs.save(tmp_path / "made.tflite")


@pytest.fixture(scope="module")
def published(audiorep_data, tmp_path_factory) -> tuple[Path, Checkpoint]:
    """The published file, and a checkpoint of it."""
    path = audiorep_data / "yamnet" / "yamnet.tflite"
    if not path.exists():
        pytest.skip(f"{path} is not there")
    folder = tmp_path_factory.mktemp("published") / "yamnet"
    imported.convert(path, folder)
    return path, checkpoint.load(folder)


# --- what is read


@pytest.mark.parametrize("sizes", [{}, {"widths": (5,), "strides": (2,)}, {"classes": 2, "stem": 3, "strides": (2, 1, 1)}])
def test_their_scores_are_ours_for_even_and_odd_sizes(tmp_path, sizes):
    theirs = TheirYamNet(**sizes)
    network = yamnet.read(theirs.save(tmp_path / "a.tflite"))
    for shape in [PATCH, (2, 1, 97, 64), (1, 1, 95, 63), (1, 1, 1, 2)]:
        x = torch.randn(shape) * 2 - 3
        with torch.no_grad():
            torch.testing.assert_close(network(x)["label"], theirs.logits(x), atol=1e-5, rtol=0)
    assert not network.training


def test_weights_are_decoded_exactly(made, tmp_path):
    theirs, path = made
    network = yamnet.read(path)
    weight = theirs.trunk[2].constants[0]  # (O, 1, 1, I)
    assert weight.stored.dtype == np.int8
    assert np.array_equal(network.layers[0].project.conv.weight.detach()[:, :, 0, 0], weight.exact[:, 0, 0])
    kernel = theirs.trunk[1].constants[0].exact[0]  # (3, 3, C)
    assert np.array_equal(network.layers[0].mix.conv.weight.detach()[:, 0], kernel[::-1, ::-1].transpose(2, 0, 1))


def test_scales_of_channels_and_zeros_beside_zero_are_decoded_exactly(tmp_path):
    theirs, generator = TheirYamNet(), np.random.default_rng(1)
    stored = generator.integers(-128, 128, (6, 1, 1, 4)).astype(np.int8)
    scales, zeros = generator.uniform(0.001, 0.1, 6).astype(np.float32), generator.integers(-128, 128, 6)
    theirs.trunk[2].constants[0] = Values(stored, scales, zeros)
    network = yamnet.read(theirs.save(tmp_path / "a.tflite"))
    found = network.layers[0].project.conv.weight.detach()[:, :, 0, 0]
    assert np.array_equal(found, theirs.trunk[2].constants[0].exact[:, 0, 0])
    x = torch.randn(PATCH)
    assert torch.allclose(network(x)["label"], theirs.logits(x), rtol=1e-4, atol=1e-4)


def test_a_checkpoint_says_what_it_is_and_numbers_its_classes(made, tmp_path):
    sentences = imported.convert(made[1], tmp_path / "out")
    info = checkpoint.load(tmp_path / "out").info
    assert (info.activation, info.license, info.window_samples, info.hop_seconds) == ("sigmoid", "Apache-2.0", 15_600, 0.48)
    assert info.provenance["data_set"] == "AudioSet"
    assert info.labels["label"] == [f"label_{number}" for number in range(5)]
    assert sentences[0].startswith("YAMNet without norms, ")
    assert "The classes are called label_0 to label_4, since the file has no names." in sentences[1]
    assert "--labels yamnet_class_map.csv" in sentences[1]


@pytest.mark.parametrize("named", [True, False])
def test_names_come_from_the_map_beside_the_file_or_from_a_named_one(made, tmp_path, named):
    names = ["Speech", "Child speech, kid speaking", "Dog", "Cat", "Silence"]
    rows = "".join(f'{number},/m/0{number},"{name}"\n' for number, name in enumerate(names))
    table = tmp_path / ("mine.csv" if named else yamnet.CLASS_MAP)
    table.write_text(f"index,mid,display_name\n{rows}")
    yamnet.convert(made[1], tmp_path / "out", [table] if named else [])
    info = checkpoint.load(tmp_path / "out").info
    assert info.labels["label"] == names
    assert info.provenance["class_order"] == f"that of {table.name}"


def test_an_embedding_and_scores_come_from_one_pass(made, tmp_path):
    yamnet.convert(made[1], tmp_path / "out")
    loaded = checkpoint.load(tmp_path / "out")
    outputs = loaded.network(loaded.front_end(0.1 * torch.randn(3, 15_600)))
    assert outputs["embedding"].shape == (3, 8)
    assert torch.equal(loaded.network.heads["label"](outputs["embedding"]), outputs["label"])


# --- what is refused


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda s: s.pop(), "is another network: its operators are RESHAPE, SLICE"),
        (lambda s: s.insert(20, Step("ADD", [])), "is another network: its operators are"),
        (lambda s: s[20].options[1].update(Padding=1), "a DEPTHWISE_CONV_2D with options that YAMNet's have not"),
        (lambda s: s[20].options[1].update(StrideH=2), "with options that YAMNet's have not"),
        (lambda s: s[21].options[1].update(FusedActivationFunction=3), "a CONV_2D with options"),
        (lambda s: s[22].options[1].update(StrideH=3, StrideW=3), "a DEPTHWISE_CONV_2D with options that YAMNet's have not"),
        (lambda s: s[21].options[1].update(StrideH=2, StrideW=2), "a CONV_2D with options"),
        (lambda s: s[5].constants[0].stored.__imul__(1.01), "its front end is not YAMNet's"),
        (lambda s: s[13].constants[1].stored.__imul__(1.01), "its front end is not YAMNet's"),
        (lambda s: s[13].constants.__setitem__(0, rounded(mel_filters_in_hertz())), "its front end is not YAMNet's"),
        (lambda s: s[3].constants[0].stored.__iadd__(1), "its front end is not YAMNet's"),
        (lambda s: s[21].constants.pop(), "it computes what should be its weights"),
        (lambda s: s[21].constants.__setitem__(1, Values(np.ones(5, np.float32))), "does not hold a whole YAMNet"),
        (lambda s: s[21].constants[1].stored.__imul__(np.nan), r"no finite numbers, in layers\.0\.project\.conv\.bias"),
        (lambda s: s[21].constants[0].scales.__imul__(np.inf), "is damaged or cut short"),
        (lambda s: setattr(s[21].constants[0], "scales", np.ones(3, np.float32)), "is damaged or cut short"),
    ],
)
def test_other_networks_are_refused_by_what_sets_them_apart(tmp_path, change, reason):
    theirs = TheirYamNet()
    change(theirs.steps)
    with pytest.raises(CheckpointError, match=rf"a\.tflite .*{reason}"):
        yamnet.read(theirs.save(tmp_path / "a.tflite"))


def mel_filters_in_hertz() -> np.ndarray:
    return mel_filters(replace(FRONT_ENDS["yamnet"], slopes="hertz")).T


@pytest.mark.slow
def test_damaged_files_are_refused_in_a_sentence_or_read(made, tmp_path):
    content, chance = made[1].read_bytes(), random.Random(0)
    path, refused = tmp_path / "damaged.tflite", 0
    tables = 6_000  # the constants behind them lie about nothing
    for _ in range(150):
        damaged = bytearray(content)
        for _ in range(chance.choice([1, 4])):
            damaged[chance.randrange(tables)] = chance.randrange(256)
        path.write_bytes(damaged)
        told = refusal(path)
        refused += bool(told)
        assert not told or (told.startswith(str(path)) and "\n" not in told)
    assert refused > 20


def refusal(path: Path) -> str:
    """Why a file is refused; empty where it is read."""
    try:
        yamnet.read(path)
    except CheckpointError as error:
        return str(error)
    return ""


def test_cut_files_and_other_kinds_are_refused(made, tmp_path):
    content = made[1].read_bytes()
    path = tmp_path / "cut.tflite"
    for part in (0, 3, 8, 100, len(content) // 2, len(content) - 2_000):
        path.write_bytes(content[:part])
        with pytest.raises(CheckpointError, match=r"cut\.tflite is (no TFLite file|damaged or cut short)"):
            yamnet.read(path)
    path.write_bytes(b"\x50\x4b\x03\x04" + bytes(100))
    with pytest.raises(CheckpointError, match=r"is no TFLite file\. YAMNet's own \.tflite is needed: https"):
        yamnet.read(path)
    with pytest.raises(CheckpointError, match=r"none\.tflite cannot be read: No such file"):
        yamnet.read(tmp_path / "none.tflite")
    with pytest.raises(CheckpointError, match="cannot be read: Is a directory"):
        yamnet.read(tmp_path)


def test_a_file_that_names_the_same_values_again_and_again_is_refused(made, tmp_path, monkeypatch):
    monkeypatch.setattr(tflite_file, "SHARED", 0.5)
    with pytest.raises(CheckpointError, match="views of the same few values"):
        yamnet.read(made[1])


def test_what_does_not_fit_is_refused_and_leaves_nothing(made, tmp_path):
    (tmp_path / "names.txt").write_text("a\nb\n")
    with pytest.raises(ConfigError, match="names 2 classes; the output label has 5"):
        imported.convert(made[1], tmp_path / "out", None, [tmp_path / "names.txt"])
    with pytest.raises(ConfigError, match="--data-set is for the checkpoints of the paper's authors"):
        imported.convert(made[1], tmp_path / "out", "nsynth")
    assert {path.name for path in tmp_path.iterdir()} == {"made.tflite", "names.txt"}


def test_the_command_imports_by_content_and_refuses_in_one_sentence(made, tmp_path):
    renamed = made[1].rename(tmp_path / "network.bin")
    done = audiorep("import", renamed, "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("YAMNet without norms, ")
    assert done.stderr.endswith("out -o model.onnx\n")
    (tmp_path / "b.tflite").write_bytes(renamed.read_bytes()[:50_000])
    done = audiorep("import", tmp_path / "b.tflite", "-o", tmp_path / "other")
    assert done.returncode == 2
    assert done.stderr.startswith("Error: ")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "other").exists()


# --- the published network


def windows(root: Path, count: int) -> list[torch.Tensor]:
    """A window out of as many clips of ESC-50, spread over its classes: (1, N) each."""
    files = sorted((root / "esc50" / "audio").glob("*.ogg"))
    chosen = files[:: len(files) // count][:count]
    sounds = [soundfile.read(file, dtype="float32", start=16_000, frames=15_600)[0] for file in chosen]
    return [torch.from_numpy(sound)[None] for sound in sounds]


def scores(model: Checkpoint, log_mel: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        return model.network(log_mel)["label"].sigmoid()[0].numpy()


@pytest.mark.slow
def test_the_published_network_names_real_sounds(published, audiorep_data):
    model, clips = published[1], audiorep_data / "esc50" / "audio"
    assert sum(parameter.numel() for parameter in model.network.parameters()) == 3_729_481
    names = model.info.labels["label"]
    for clip, label in {"1-110389-A-0": "Dog", "1-13571-A-46": "Bell", "1-17150-A-12": "Crackle"}.items():
        sound, _ = soundfile.read(clips / f"{clip}.ogg", dtype="float32")
        parts = torch.from_numpy(sound).unfold(0, 15_600, 7_680)
        with torch.no_grad():
            mean = model.network(model.front_end(parts))["label"].sigmoid().mean(0)
        assert label in [names[index] for index in mean.topk(5).indices]


def test_its_scores_are_litert_s_on_fifty_clips(published, audiorep_data):
    """In float arithmetic: the floats that the file's weights stand for, and Fourier and mel matrices that are not rounded.

    As published, its front end multiplies sounds in int8 by matrices in int8. LiteRT's own two sets of kernels then differ
    by up to 0.99 in a score.
    """
    pytest.importorskip("ai_edge_litert", reason="needs the extra litert")
    from support.float_litert import Running, in_float

    path, model = published
    angles = 2 * np.pi * np.arange(257)[:, None] * np.arange(512) / 512
    tables = {7: np.cos(angles), 9: np.sin(angles), 13: mel_filters(model.front_end.config).T}  # by operator
    operators = tflite_file.read(path).operators
    exact = {operators[place].inputs[1]: table for place, table in tables.items()}
    whole, decoded = (Running(in_float(path.read_bytes(), instead)) for instead in (exact, {}))
    for waveform in windows(audiorep_data, 50):
        log_mel = model.front_end(waveform)
        their_scores, their_log_mel = whole(waveform.numpy())
        assert np.abs(log_mel[0, 0].numpy() - their_log_mel).max() < 1e-3
        assert np.abs(scores(model, log_mel) - their_scores).max() < 1e-4
        their_scores, their_log_mel = decoded(waveform.numpy())
        assert np.abs(scores(model, torch.from_numpy(their_log_mel)[None, None]) - their_scores).max() < 1e-4


def test_its_scores_are_near_litert_s_arithmetic_in_int8_behind_the_same_log_mel(published, audiorep_data):
    pytest.importorskip("ai_edge_litert", reason="needs the extra litert")
    from support.float_litert import Running

    path, model = published
    running, differences = Running(path.read_bytes(), fastest=True), []
    for waveform in windows(audiorep_data, 50):
        their_scores, their_log_mel = running(waveform.numpy())
        differences.append(np.abs(scores(model, torch.from_numpy(their_log_mel)[None, None]) - their_scores).max())
    assert np.median(differences) < 0.01
    assert np.max(differences) < 0.1


def test_its_embedding_is_litert_s(published, audiorep_data):
    pytest.importorskip("ai_edge_litert", reason="needs the extra litert")
    from support.float_litert import Running, in_float

    path, model = published
    running = Running(in_float(path.read_bytes()))
    mean = next(step.outputs[0] for step in tflite_file.read(path).operators if step.kind == "MEAN")
    for waveform in windows(audiorep_data, 5):
        log_mel = torch.from_numpy(running(waveform.numpy())[1])[None, None]
        with torch.no_grad():
            embedding = model.network(log_mel)["embedding"][0].numpy()
        assert np.abs(embedding - running.value(mean)).max() < 1e-4


@pytest.mark.full
@pytest.mark.slow
def test_an_exported_file_gives_its_embedding(published, audiorep_data, tmp_path):
    pytest.importorskip("onnxscript", reason="needs the extra train")
    model, heard = published[1], [waveform[0].numpy() for waveform in windows(audiorep_data, 5)]
    parity = export(model, tmp_path / "yamnet.onnx", heard)
    assert parity.embedding < 1e-5
    found = Classifier.load(tmp_path / "yamnet.onnx").session.embed(np.stack(heard))
    with torch.no_grad():
        expected = model.network(model.front_end(torch.from_numpy(np.stack(heard))))["embedding"].numpy()
    assert found.shape == (5, 1024)
    assert np.abs(found - expected).max() < 1e-4
