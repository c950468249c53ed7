"""What holds for every file of one fixed shape and its runtime; a room's file of tests inherits it and adds what differs."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from audiorep import models
from audiorep.errors import BundleError
from audiorep.export.parity import PARITY_LIMIT, Parity, compare
from audiorep.info import model_info
from audiorep.info.model_info import ModelInfo
from audiorep.models import checkpoint
from audiorep.models.checkpoint import Checkpoint
from audiorep.models.front_end import FRONT_ENDS, LogMel
from audiorep.predict.classifier import Classifier
from audiorep.runtimes import Checked, open_session
from audiorep.runtimes.torch import TorchSession
from support import ROOT
from support.commands import Done, audiorep
from support.models import LABELS, SHALLOW, clips, lively, made, pitched, telling

LAYERS = 1 + 5 + 1 + 1  # with weights, of the model that tells pitches


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    """The size of the difference as a share of what was expected."""
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def without_metadata(path: Path) -> bytes:
    content = path.read_bytes()
    return content[: content.rindex(b"PK\x03\x04")]


@contextmanager
def all_errors() -> Iterator[Callable[[], str]]:
    """What is written to standard error meanwhile, past Python too."""
    kept = os.dup(2)
    with tempfile.TemporaryFile() as file:
        os.dup2(file.fileno(), 2)

        def told() -> str:
            file.seek(0)
            return file.read().decode()

        try:
            yield told
        finally:
            os.dup2(kept, 2)
            os.close(kept)


class FixedFiles:
    """Each export takes seconds, so that tests share what they can."""

    runtime: str
    """Its key in `runtimes.RUNTIMES`."""
    suffix: str
    session: type
    export: Callable[..., Parity]
    device: str
    """How its device's description begins."""
    largest_int8: float
    """The size of an int8 file over that of the weights in float32."""

    def converted(self, monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
        """From now on every checkpoint becomes the graph `content`."""
        raise NotImplementedError

    @pytest.fixture(scope="class")
    @classmethod
    def exported(cls, tmp_path_factory) -> tuple[Path, Parity]:
        path = tmp_path_factory.mktemp("exported") / f"tiny{cls.suffix}"
        return path, cls.export(made(depths=SHALLOW), path, clips())

    @pytest.fixture(scope="class")
    @classmethod
    def in_torch(cls) -> TorchSession:
        return TorchSession(made(depths=SHALLOW))

    @pytest.fixture(scope="class")
    @classmethod
    def odd(cls, tmp_path_factory) -> tuple[Path, Checkpoint]:
        """The file of a model with three heads of one size, independent scores, and filled short clips."""
        torch.manual_seed(1)
        labels = {"verb": ["a", "b", "c"], "noun": LABELS["noun"], "a head": ["d", "e", "f"]}
        network = lively(models.build("arin_pico", dict.fromkeys(labels, 3), {"depths": list(SHALLOW)}))
        model = made("sigmoid", SHALLOW)
        model = replace(model, network=network, info=replace(model.info, labels=labels, padding="edge_frames"))
        path = tmp_path_factory.mktemp("odd") / f"odd{cls.suffix}"
        assert 0 < cls.export(model, path, cls.shorter()).largest <= PARITY_LIMIT
        return path, model

    @staticmethod
    def shorter() -> list[np.ndarray]:
        return [clip[:samples] for clip, samples in zip(clips(), (1, 320, 9_000, 15_999), strict=True)]

    @pytest.fixture(scope="class")
    @classmethod
    def int8(cls, tmp_path_factory) -> tuple[Path, Done, str]:
        """The file that the command makes of a folder of sounds, the command's end, and all that came to standard error."""
        folder, model = tmp_path_factory.mktemp("int8"), telling()
        checkpoint.save(folder / "run", model.network, model.info, "arin_nano")
        for index, tone in enumerate(pitched(20)):
            path = folder / "sounds" / f"{index}.wav"
            path.parent.mkdir(exist_ok=True)
            soundfile.write(path, tone, 16_000, subtype="FLOAT")
        sounds, path = folder / "sounds", folder / "made" / f"telling{cls.suffix}"
        path.parent.mkdir()
        options = ("--to", cls.runtime, "--precision", "int8", "--calibration", sounds, "--clips", sounds, "--output", path)
        with all_errors() as told:
            done = audiorep("export", folder / "run", *options)
            said = told()
        return path, done, said

    def test_an_export_agrees_with_its_checkpoint(self, exported):
        path, parity = exported
        assert parity.clips == 4
        assert 0 < parity.largest <= PARITY_LIMIT
        assert parity.agreement == 1.0
        assert [file.name for file in path.parent.iterdir()] == [path.name]

    def test_one_file_holds_everything(self, exported):
        session = open_session(exported[0])
        assert isinstance(session, Checked)
        assert isinstance(session.session, self.session)
        assert session.info == made(depths=SHALLOW).info
        assert session.device.startswith(self.device)

    def test_it_holds_no_path_of_the_machine_that_made_it(self, exported):
        content = exported[0].read_bytes()
        for path in (ROOT, Path(torch.__file__).parent, Path.home()):
            assert os.fsencode(path) not in content

    @pytest.mark.parametrize("batch", [1, 2, 5])
    def test_any_batch_gives_the_checkpoints_scores(self, exported, in_torch, batch):
        waveform = np.stack(clips(batch))
        found, expected = self.session(exported[0])(waveform), in_torch(waveform)
        assert list(found) == list(LABELS)
        for head, labels in LABELS.items():
            assert found[head].shape == (batch, len(labels))
            assert found[head].dtype == np.float32
            assert np.abs(found[head] - expected[head]).max() <= PARITY_LIMIT

    @pytest.mark.parametrize("batch", [1, 3])
    def test_any_batch_gives_the_checkpoints_embedding(self, exported, in_torch, batch):
        assert 0 < exported[1].embedding <= PARITY_LIMIT
        waveform = np.stack(clips(batch))
        found, expected = self.session(exported[0]).embed(waveform), in_torch.embed(waveform)
        assert (found.shape, found.dtype) == ((batch, 8), np.float32)
        assert relative(found, expected) <= PARITY_LIMIT

    def test_two_sessions_do_not_share_their_scores(self, exported):
        first, second = self.session(exported[0]), self.session(exported[0])
        one, other = clips(2)
        before = first(one[None])["noun"]
        second(other[None])
        assert np.array_equal(before, first(one[None])["noun"])
        assert not np.array_equal(before, first(other[None])["noun"])

    def test_heads_of_equal_size_are_told_apart(self, odd):
        path, model = odd
        expected, found = TorchSession(model)(clips(1)[0][None]), self.session(path)(clips(1)[0][None])
        for head in model.info.labels:
            assert np.abs(found[head] - expected[head]).max() <= PARITY_LIMIT
            assert all(np.abs(found[head] - expected[other]).max() > 0.01 for other in model.info.labels if other != head)

    def test_sigmoid_scores_are_independent_and_longer_clips_refused(self, odd):
        scores = Classifier.load(odd[0]).scores(self.shorter()[2])
        assert scores["noun"].sum() != pytest.approx(1, abs=1e-3)
        with pytest.raises(BundleError, match=r"at most 1 s"):
            self.session(odd[0])(np.zeros((1, 16_000), np.float32))

    def test_files_of_any_length_are_heard_in_windows(self, exported, tone):
        classifier = Classifier.load(exported[0])
        recording = classifier.file(tone("long.wav", seconds=3.2, sample_rate=44_100))
        assert len(recording.starts) == 6
        assert recording.scores["noun"].shape == (6, 3)
        assert len(classifier.file(tone("short.wav", seconds=0.3)).starts) == 1
        with pytest.raises(BundleError, match=r"15999 .*31999.*\.onnx"):
            classifier.with_windows(2.0).file(tone("long.wav", seconds=3.2))

    def test_an_export_that_is_not_its_checkpoint_is_not_left_behind(self, exported, tmp_path, monkeypatch):
        model, path = made(depths=SHALLOW), tmp_path / f"model{self.suffix}"
        model.network.heads["verb"].bias.data += torch.tensor([0.1, 0.0])
        path.write_bytes(b"an older model")
        self.converted(monkeypatch, without_metadata(exported[0]))
        with pytest.raises(BundleError, match=rf"{re.escape(path.name)} .* 0\.0"):
            self.export(model, path, clips(1))
        assert path.read_bytes() == b"an older model"
        assert len(list(tmp_path.iterdir())) == 1

    def test_compare_counts_labels_that_agree(self, exported):
        other = made(depths=SHALLOW)
        other.network.heads["verb"].bias.data += torch.tensor([50.0, 0.0])
        parity = compare(other, self.session(exported[0]), clips())
        assert parity.largest > 0.1
        assert 0 <= parity.agreement < 1

    def test_foreign_files_are_refused_with_their_path(self, tmp_path, exported):
        for wrong in (tmp_path / f"none{self.suffix}", tmp_path):
            with pytest.raises(BundleError, match=re.escape(str(wrong))):
                self.session(wrong)
        text = tmp_path / f"text{self.suffix}"
        text.write_text("hello")
        with pytest.raises(BundleError, match=re.escape(str(text))):
            self.session(text)
        model_info.append(text, made(depths=SHALLOW).info)
        with pytest.raises(BundleError, match=re.escape(str(text)) + r" .*\(.+\)"):
            self.session(text)
        foreign = tmp_path / f"foreign{self.suffix}"
        foreign.write_bytes(without_metadata(exported[0]))
        with pytest.raises(BundleError, match=re.escape(str(foreign)) + ".*audiorep export"):
            self.session(foreign)

    @pytest.mark.parametrize("kept", [0, 8, 5_000, 0.5, 0.99, -1])
    def test_a_file_cut_short_is_refused(self, tmp_path, exported, kept):
        content, cut = exported[0].read_bytes(), tmp_path / f"cut{self.suffix}"
        cut.write_bytes(content[: int(kept * len(content)) if isinstance(kept, float) else kept])
        with pytest.raises(BundleError, match=re.escape(str(cut)) + ".*cut short"):
            self.session(cut)

    def test_a_damaged_file_is_refused(self, tmp_path, exported):
        content, damaged = bytearray(exported[0].read_bytes()), tmp_path / f"broken{self.suffix}"
        content[len(content) // 2] ^= 1
        damaged.write_bytes(content)
        with pytest.raises(BundleError, match=re.escape(str(damaged)) + ".*damaged"):
            self.session(damaged)

    @pytest.mark.parametrize(
        "changes",
        [
            {"labels": {**LABELS, "verb": ["cut", "wash", "peel"]}},
            {"labels": {"verb": ["a", "b"]}},
            {"window_seconds": 2.0},
            {"embedding_size": 9},
        ],
        ids=["another size", "a head less", "another window", "another embedding"],
    )
    def test_metadata_that_does_not_fit_the_graph_is_refused(self, tmp_path, exported, changes):
        wrong = tmp_path / f"wrong{self.suffix}"
        wrong.write_bytes(without_metadata(exported[0]))
        model_info.append(wrong, replace(made(depths=SHALLOW).info, **changes))
        with pytest.raises(BundleError, match=re.escape(str(wrong)) + ": its (graph|program) has .* needed"):
            self.session(wrong)

    def test_the_command_writes_int8_from_a_folder_of_sounds_and_is_quiet(self, int8):
        path, done, said = int8
        assert (done.returncode, done.stderr, said) == (0, "", "")
        assert "MB, waveform in, pitch and embedding out" in done.stdout
        assert [file.name for file in path.parent.iterdir()] == [path.name]

    def test_int8_keeps_the_labels_and_what_the_model_says_of_itself(self, int8):
        session = open_session(int8[0])
        assert isinstance(session, Checked)
        assert isinstance(session.session, self.session)
        assert session.info == telling().info.with_precision("int8")
        known = compare(telling(), session, pitched(20, seed=1))
        assert known.agreement == 1.0
        assert 1e-5 < known.mean < 0.02
        assert 1e-4 < known.embedding < 0.1
        fresh = compare(telling(), session, pitched(50, seed=2))
        assert fresh.agreement >= 0.96
        assert fresh.mean < 0.02

    def test_int8_is_a_fraction_of_the_weights_in_float32(self, int8):
        weights = 4 * sum(parameter.numel() for parameter in telling().network.parameters())
        assert 0.25 * weights < int8[0].stat().st_size < self.largest_int8 * weights

    @pytest.mark.full
    def test_int8_of_a_model_that_fills_short_clips(self, tmp_path):
        model, path = telling(), tmp_path / f"short{self.suffix}"
        model = replace(model, info=replace(model.info, padding="edge_frames", activation="sigmoid"))
        shorter = [clip[: 3_000 + 1_000 * index] for index, clip in enumerate(pitched(12))]
        parity = self.export(model, path, shorter[::2], "int8", shorter)
        assert parity.agreement == 1.0
        assert Classifier.load(path).scores(shorter[0])["pitch"].shape[-1] == 5

    def test_int8_without_clips_to_calibrate_on_is_refused_and_writes_nothing(self, tmp_path):
        path = tmp_path / f"model{self.suffix}"
        with pytest.raises(BundleError, match=r"--calibration"):
            self.export(telling(), path, clips(1), "int8")
        with pytest.raises(BundleError, match=r"15999 .*\(400\)"):
            self.export(telling(), path, clips(1), "int8", [np.zeros(400, np.float32)])
        assert list(tmp_path.iterdir()) == []

    def refuses_to_calibrate(self, folder: Path, model: Checkpoint) -> None:
        """A network whose scores are NaN becomes no int8 file."""
        path = folder / f"model{self.suffix}"
        path.write_bytes(b"an older model")
        with pytest.raises(BundleError, match="NaN"):
            self.export(model, path, clips(1), "int8", clips(2))
        assert path.read_bytes() == b"an older model"
        assert len(list(folder.iterdir())) == 1

    @pytest.mark.full
    @pytest.mark.parametrize(("name", "front_end"), [("arin_nano", "light"), ("arin_pico", "vggsound")])
    def test_full_size_networks_agree_with_the_light_and_the_papers_front_end(self, tmp_path, name, front_end):
        torch.manual_seed(0)
        labels = {"label": [f"sound {number}" for number in range(50)]}
        info = ModelInfo(name, labels, 16_000, 5.12, 2.56, asdict(FRONT_ENDS[front_end]))
        network = lively(models.build(name, {"label": 50}, {}))
        model: Any = checkpoint.Checkpoint(network, LogMel(FRONT_ENDS[front_end]), info, name)
        generator = np.random.default_rng(0)
        sounds = [(level * generator.standard_normal(info.window_samples)).astype(np.float32) for level in (0.001, 0.03, 0.3)]
        assert self.export(model, tmp_path / f"full{self.suffix}", sounds).largest <= PARITY_LIMIT
