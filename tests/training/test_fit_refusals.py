"""What training cannot use is refused before it begins, and leaves what was there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.training import folded, quick

from audiorep import config, datasets
from audiorep.errors import CheckpointError, ConfigError, DataError
from audiorep.models import checkpoint
from audiorep.training import fit, workflow
from audiorep.training.recipe import OptimizerConfig, ScheduleConfig, TrainConfig


@pytest.mark.slow
def test_a_run_folder_of_other_settings_is_not_overwritten(tones, tmp_path):
    examples = datasets.examples(tones)
    fit.fit(quick(epochs=1), examples, tmp_path)
    with pytest.raises(ConfigError, match=r"\(epochs, batch_size changed\)"):
        fit.fit(quick(epochs=2, batch_size=4), examples, tmp_path)
    renamed = [replace(examples[0], path=examples[0].path.with_name("other.wav")), *examples[1:]]
    for changed in (examples[1:], renamed):
        with pytest.raises(ConfigError, match="clips or labels"):
            fit.fit(quick(epochs=1), changed, tmp_path)
    moved = [replace(e, path=Path("/elsewhere", *e.path.parts[-2:])) for e in examples]
    records = [fit._record(fit.Run(quick(), {}, clips, tmp_path)) for clips in (moved, examples)]
    assert records[0] == records[1]


@pytest.mark.slow
def test_a_damaged_last_checkpoint_is_refused_in_words(tones, tmp_path):
    examples = datasets.examples(tones)
    fit.fit(quick(epochs=1), examples, tmp_path)
    (tmp_path / fit.LAST).write_bytes(b"not a checkpoint")
    real = (tmp_path / fit.LAST).read_bytes()
    for damaged in (b"not a checkpoint", b"abc\n", real[:5000], b""):
        (tmp_path / fit.LAST).write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"last\.ckpt .*Delete"):
            fit.fit(quick(epochs=1), examples, tmp_path)


@pytest.mark.slow
def test_training_that_goes_out_of_range_is_refused(tones, tmp_path):
    settings = quick(
        epochs=2, optimizer={"learning_rate": 1e30}, gradient_clip=0.0, ema_decay=0.0, splits={"valid_fraction": 0}
    )
    with pytest.raises(ConfigError, match="learning_rate"):
        fit.fit(settings, datasets.examples(tones, splits=settings.splits), tmp_path)
    assert not (tmp_path / checkpoint.WEIGHTS).exists()


@pytest.mark.slow
def test_a_refused_setting_leaves_the_folder_free(tones, tmp_path):
    with pytest.raises(ConfigError, match="width is 0"):
        quick(network={"width": 0})
    wrong = quick(epochs=1, augment={"noise": 1.0, "noise_folder": str(tmp_path / "none")})
    with pytest.raises(DataError, match=r"noise_folder .*none"):
        fit.fit(wrong, datasets.examples(tones), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    fit.fit(quick(epochs=1), datasets.examples(tones), tmp_path / "run")


@pytest.mark.slow
def test_training_needs_two_classes_known_labels_and_one_label_a_clip(tones, tmp_path):
    examples = datasets.examples(tones)
    low = [e for e in examples if e.labels["label"] == ("low",)]
    with pytest.raises(DataError, match="two classes"):
        fit.fit(quick(), low, tmp_path)
    with pytest.raises(DataError, match="no training clip"):
        fit.fit(quick(), [e for e in examples if e.split == "test" or e.labels["label"] != ("low",)], tmp_path)
    double = datasets.Example(examples[0].path, {"label": ("low", "high")}, split="train")
    with pytest.raises(DataError, match=r"2 labels.*multi_label"):
        fit.fit(quick(), [*examples, double], tmp_path)


def test_wrong_settings_are_all_named():
    values = {"architecture": "resnet", "epochs": 0, "front_end": "loud"}
    with pytest.raises(ConfigError, match=r"front_end is 'loud'.*architecture is 'resnet'.*epochs"):
        config.load(TrainConfig, values, "recipe")
    with pytest.raises(ConfigError, match=r"augment\.mixupp is not a setting.*epochs is 'many'"):
        config.load(TrainConfig, {"augment": {"mixupp": 1}, "epochs": "many"}, "recipe")
    for rate in (0, float("inf"), float("nan")):
        with pytest.raises(ConfigError, match="learning_rate"):
            OptimizerConfig(learning_rate=rate)
    with pytest.raises(ConfigError, match=r"window_seconds .*3600.*seed"):
        TrainConfig(window_seconds=1e9, seed=-1)
    with pytest.raises(ConfigError, match="milestones"):
        ScheduleConfig("step", milestones=(3,))


@pytest.mark.slow
def test_folds_must_be_named_or_a_random_split_asked_for(tones, tmp_path):
    data = folded(tones, tmp_path / "clips.csv", 3)
    with pytest.raises(DataError, match=r"1, 2, 3.*splits.random=true"):
        fit.fit(quick(), datasets.examples(data), tmp_path / "none")
    drawn = datasets.examples(data, splits=datasets.Splits(random=True))
    assert {e.split for e in drawn} == {"train", "valid", "test"}
    assert all(e.drawn for e in drawn)


@pytest.mark.slow
def test_data_without_folds_or_with_a_gap_cannot_be_cross_validated(tones, tmp_path):
    with pytest.raises(DataError, match="folds"):
        workflow.train_every_fold(quick(), tones, tmp_path)
    data = folded(tones, tmp_path / "clips.csv", 3)
    data.write_text("\n".join(line for line in data.read_text().splitlines() if not line.endswith(",2")) + "\n")
    with pytest.raises(DataError, match="fold 2 of its 3"):
        workflow.train_every_fold(quick(), data, tmp_path)


@pytest.mark.slow
def test_a_checkpoint_that_no_training_made_is_not_trained_over(tones, tmp_path):
    examples = datasets.examples(tones)
    fit.fit(quick(epochs=1), examples, tmp_path / "run")
    (tmp_path / "run" / fit.CONFIG).unlink()
    before = (tmp_path / "run" / checkpoint.WEIGHTS).read_bytes()
    with pytest.raises(ConfigError, match="run holds a checkpoint"):
        fit.fit(quick(epochs=1, start=str(tmp_path / "run")), examples, tmp_path / "run")
    assert (tmp_path / "run" / checkpoint.WEIGHTS).read_bytes() == before
