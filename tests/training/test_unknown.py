"""A model that was taught sounds of no class tells them from those of its classes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from support.commands import audiorep as command
from support.info import make_info
from support.teaching import LABELS
from support.training import RATE, quick

import audiorep
from audiorep import datasets
from audiorep.datasets.clips import Clips, EpochSampler
from audiorep.errors import BundleError, ConfigError, DataError
from audiorep.evaluation import rejection
from audiorep.models import checkpoint
from audiorep.training import fit, unknown, workflow
from audiorep.training.recipe import TrainConfig
from audiorep.training.unknown import UnknownConfig


@pytest.fixture(scope="module")
def chirps(tmp_path_factory) -> Path:
    """Sounds of no class: sweeps over the band of the tones."""
    folder = tmp_path_factory.mktemp("chirps")
    seconds = np.arange(RATE) / RATE
    for number in range(12):
        sweep = np.sin(2 * np.pi * (100 * seconds + (100 + 100 * number) * seconds**2 / 2))
        soundfile.write(folder / f"{number}.wav", 0.3 * sweep, RATE)
    return folder


@pytest.fixture(scope="module")
def run(tones, examples, chirps, tmp_path_factory) -> Path:
    """A model of the tones that heard half of the sweeps, and synthetic sounds."""
    output = tmp_path_factory.mktemp("runs") / "rejecting"
    heard = [str(chirps / f"{number}.wav") for number in range(0, 12, 2)]
    settings = quick(epochs=25, cuts=6, augment={}, keep="last", unknown={"folders": heard, "share": 0.25, "synthetic": 0.25})
    workflow.train(settings, examples, tones, output)
    return output


@pytest.mark.slow
def test_sounds_of_no_class_are_called_unknown(run, tones, chirps):
    classifier = audiorep.load(run)
    assert classifier.info.labels["label"] == [*LABELS["label"], "unknown"]
    assert classifier.info.unknown == "unknown"
    others = [chirps / f"{number}.wav" for number in range(1, 12, 2)]
    result = audiorep.evaluate(classifier, tones, unknown=others)
    assert result.heads["label"].summary["top1"] > 0.9
    assert result.rejection.sounds == 6
    assert result.rejection.auroc > 0.9
    assert result.rejection.rejected > 0.5 > result.rejection.lost
    noise = np.random.default_rng(0).normal(0, 0.1, 2 * RATE)
    assert classifier(noise, RATE).label == "unknown"
    assert classifier(np.full(2 * RATE, 5e-4), RATE).top(1) == [("unknown", 1.0)]


@pytest.mark.slow
def test_without_the_class_the_best_other_one_wins(run, chirps, tones):
    every, known = audiorep.load(run), audiorep.load(run, unknown=False)
    file = chirps / "3.wav"
    assert known.info.labels == LABELS
    assert known.info.unknown == ""
    scores, left = every(file).scores["label"], known(file).scores["label"]
    np.testing.assert_allclose(left, scores[:, :3] / scores[:, :3].sum(1, keepdims=True), rtol=1e-5)
    shown = command("predict", file, "--model", run, "--json", "--no-unknown")
    assert shown.returncode == 0, shown.stderr
    assert {row["label"] for row in json.loads(shown.stdout)["labels"]} <= set(LABELS["label"])


@pytest.mark.slow
def test_the_command_reports_how_many_are_told_apart(run, tones, chirps, tmp_path):
    measured = command("evaluate", run, tones, "--unknown", chirps, "-o", tmp_path / "result.json")
    assert measured.returncode == 0, measured.stderr
    assert "12 sounds of no class" in measured.stdout
    assert json.loads((tmp_path / "result.json").read_text())["rejection"]["sounds"] == 12
    (tmp_path / "empty").mkdir()
    refused = command("evaluate", run, tones, "--unknown", tmp_path / "empty")
    assert refused.returncode != 0
    assert "empty" in refused.stderr


def test_a_tagger_rejects_what_reaches_no_threshold():
    info = make_info(activation="sigmoid", thresholds={"label": [0.9, 0.2, 0.9]}, unknown="unknown")
    scores = np.array([[0.8, 0.1, 0.1], [0.8, 0.3, 0.1], [0.95, 0.1, 0.1]])
    assert rejection.is_rejected(scores, info).tolist() == [True, False, False]
    np.testing.assert_allclose(rejection.unknown_scores(scores, info), [0.2, 0.2, 0.05])


@pytest.mark.slow
def test_the_description_goes_with_the_exported_file(run, tmp_path):
    audiorep.export(run, tmp_path / "model.onnx")
    info = audiorep.load(tmp_path / "model.onnx").info
    assert (info.unknown, info.silence) == ("unknown", 0.001)
    config = json.loads((run / checkpoint.CONFIG).read_text())
    assert config["provenance"]["of_no_class"] == {"clips": 6, "synthetic": 0.25}
    damaged = tmp_path / "damaged"
    damaged.mkdir()
    for name in (checkpoint.WEIGHTS, checkpoint.CONFIG):
        (damaged / name).write_bytes((run / name).read_bytes())
    for wrong in ("cat", 3):
        (damaged / checkpoint.CONFIG).write_text(json.dumps({**config, "unknown": wrong}))
        with pytest.raises((BundleError, audiorep.AudiorepError)):
            checkpoint.load(damaged)


def test_scores_of_models_without_the_class_count_too():
    from support.info import make_info

    info = make_info(labels={"label": ["a", "b"]}, activation="softmax")
    scores = np.array([[0.9, 0.1], [0.5, 0.5]])
    np.testing.assert_allclose(rejection.unknown_scores(scores, info), [0.1, 0.5])
    assert rejection.is_rejected(scores, info).tolist() == [False, False]


@pytest.mark.parametrize("kind", range(len(unknown._KINDS)))
def test_synthetic_sounds_are_varied_bounded_and_repeatable(kind):
    draw = unknown._KINDS[kind]
    sounds = draw(200, 4000, 16_000, torch.Generator().manual_seed(0))
    assert torch.equal(sounds, draw(200, 4000, 16_000, torch.Generator().manual_seed(0)))
    assert sounds.isfinite().all()
    assert sounds.abs().max() <= 1
    assert len({sound.numpy().tobytes() for sound in sounds}) > 100


def test_replaced_clips_are_of_the_last_class_alone():
    waveform, targets = torch.ones(400, 1000), {"label": torch.eye(3)[torch.arange(400) % 2]}
    changed, labels = unknown.replace_some(waveform, targets, 0.25, RATE, torch.Generator().manual_seed(0))
    replaced = labels["label"][:, 2] == 1
    assert 60 < replaced.sum() < 140
    assert (labels["label"][replaced].sum(1) == 1).all()
    assert torch.equal(changed[~replaced], waveform[~replaced])
    assert torch.equal(labels["label"][~replaced], targets["label"][~replaced])
    assert not (changed[replaced] == 1).all(1).any()
    assert waveform.eq(1).all()


def test_an_epoch_takes_a_share_of_the_outliers_and_all_of_them_in_turn(examples):
    labels = {"label": [*LABELS["label"], "unknown"]}
    chosen = [example for example in examples if example.split == "train"]
    clips = Clips(chosen, labels, RATE, 1000, random_cuts=True)
    count = len(clips)
    sampler = EpochSampler(clips, 0, cuts=2, outliers=8, share=0.5)
    drawn = list(sampler)
    assert len(drawn) == len(sampler) == 3 * (count - 8)
    outliers = [number for number in drawn if number % count >= count - 8]
    assert len(outliers) == len(set(outliers)) == count - 8
    assert sorted(number for number in drawn if number % count < count - 8) == [
        *range(count - 8), *range(count, 2 * count - 8)
    ]  # fmt: skip


def test_bad_settings_and_folders_are_refused(tmp_path, examples):
    for wrong in ({"folders": ("",)}, {"share": 0.0}, {"synthetic": 1.0}):
        with pytest.raises(ConfigError):
            UnknownConfig(**wrong)
    with pytest.raises(ConfigError, match="cache"):
        quick(distil={"teachers": ["a"], "cache": True}, unknown={"synthetic": 0.1})
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "missing"):
        with pytest.raises(DataError, match=folder):
            fit.fit(quick(unknown={"folders": [str(tmp_path / folder)]}), examples, tmp_path / "run")


def test_a_class_that_the_data_calls_unknown_is_that_class():
    given = {"label": ["cat", "unknown", "dog"]}
    assert unknown.labels_with(UnknownConfig(synthetic=0.1), given) == {"label": ["cat", "dog", "unknown"]}
    assert unknown.labels_with(UnknownConfig(), given) == given
    assert TrainConfig().unknown.is_taught is False
    assert datasets.Example(Path("a"), given).labels == given


def test_level_of_silence_is_a_setting():
    assert UnknownConfig().silence == 0  # nothing is taught
    assert UnknownConfig(synthetic=0.1).silence == 0.001
    assert UnknownConfig(synthetic=0.1, silence_db=-40.0).silence == 0.01
    for wrong in (0.0, 3.0, -300.0, float("nan")):
        with pytest.raises(ConfigError, match="silence_db is"):
            UnknownConfig(synthetic=0.1, silence_db=wrong)
