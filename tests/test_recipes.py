"""Every recipe loads, says what the paper says, and takes a step on made-up data in its set's own layout."""

from __future__ import annotations

import csv
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from test_train import pytestmark as quiet

from audiorep import config, datasets, models
from audiorep.datasets import vggsound
from audiorep.errors import ConfigError
from audiorep.info.model_info import ModelInfo
from audiorep.models import checkpoint
from audiorep.training import fit, workflow
from audiorep.training.recipe import PROTOCOLS, TrainConfig, configure

pytestmark = quiet
RECIPES = Path(__file__).parent.parent / "recipes"
PAPER = ("vggsound", "epic_kitchens", "epic_sounds", "speech_commands", "urbansound8k", "nsynth", "esc50")
NARROW = {"width": 8, "depths": [1, 1, 1, 1]}
H5 = pytest.importorskip("h5py")


def load(*names: str, **changes: object) -> TrainConfig:
    values: dict = {}
    for name in names:
        values = config.merged(values, config.read_toml(RECIPES / f"{name}.toml"))
    if values.get("freeze_norms"):
        values.setdefault("start", "somewhere")
    return configure(config.merged(values, changes), names[0])


def noise(path: Path, seconds: float, rate: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(zlib.crc32(str(path).encode()))
    soundfile.write(path, 0.1 * generator.standard_normal(int(seconds * rate)), rate)


def table(path: Path, header: Sequence[str] | None, rows: Sequence[Sequence[object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows] if header else rows)


def make_vggsound(root: Path) -> None:
    rows = [(f"video-{n}", 10 * n, vggsound.labels(root)["label"][n % 3], "test" if n == 5 else "train") for n in range(6)]
    table(root / "vggsound.csv", None, rows)
    for n, (name, start, *_) in enumerate(rows):
        noise(root / "audio" / f"{name}_{start:06d}.wav", (10.0, 3.0)[n % 2], 16_000)


def make_epic_kitchens(root: Path) -> None:
    for head, count in PROTOCOLS["epic_kitchens"].heads.items():
        names = [(k, f"{head}{k}", "[]", "x") for k in range(count)]
        table(root / f"EPIC_100_{head}_classes.csv", ("id", "key", "instances", "category"), names)
    header = ("narration_id", "video_id", "start_timestamp", "stop_timestamp", "verb_class", "noun_class")
    for name, video, count in (("train", "P01_11", 6), ("validation", "P02_01", 2)):
        rows = [(n, video, f"00:00:0{n}.500", f"00:00:0{n + 1 + n % 3}.25", n % 97, 299 - n) for n in range(count)]
        table(root / f"EPIC_100_{name}.csv", header, rows)
    with H5.File(root / "EPIC_audio.hdf5", "w") as file:
        for video in ("P01_11", "P02_01"):
            file[video] = (0.1 * np.random.default_rng(0).standard_normal(12 * 24_000)).astype(np.float32)


def make_epic_sounds(root: Path) -> None:
    header = ("annotation_id", "video_id", "start_sample", "stop_sample", "class", "class_id")
    rows = [(n, "P01_11", 24_000 * (n % 8), 24_000 * (n % 8) + 30_000, f"class {n}", n) for n in range(44)]
    table(root / "EPIC_Sounds_train.csv", header, rows)
    table(root / "EPIC_Sounds_validation.csv", header, [(n, "P02_01", *rest) for n, _, *rest in rows[:3]])
    for video in ("P01_11", "P02_01"):
        noise(root / f"{video}.flac", 12, 24_000)


def make_speech_commands(root: Path) -> None:
    for n in range(35):
        for speaker in "abc"[: 3 if n < 3 else 1]:
            noise(root / f"word{n:02}" / f"{speaker}_nohash_0.wav", (1.0, 0.7)[n % 2], 16_000)
    (root / "validation_list.txt").write_text("word00/b_nohash_0.wav\n")
    (root / "testing_list.txt").write_text("word01/c_nohash_0.wav\n")
    noise(root / "_background_noise_" / "hum.wav", 20, 16_000)


def make_urbansound8k(root: Path) -> None:
    rows = [(f"{n}-{n % 10}-0-0.wav", n, 0.0, 4.0, 1, n % 10 + 1, n % 10, f"class{n % 10}") for n in range(20)]
    table(
        root / "metadata/UrbanSound8K.csv",
        ("slice_file_name", "fsID", "start", "end", "salience", "fold", "classID", "class"),
        rows,
    )
    for name, *_, fold, _, _ in rows:
        noise(root / f"audio/fold{fold}" / name, 1.5, 22_050)


def make_nsynth(root: Path) -> None:
    for split in ("train", "valid", "test"):
        names = [f"{family}_acoustic_00{n}" for n in range(2) for family in ("bass", "synth_lead", "vocal")]
        notes = {f"{name}-060-100": {"instrument_family_str": name[:-13], "instrument_str": name} for name in names}
        for key in notes:
            noise(root / f"nsynth-{split}/audio/{key}.wav", 4, 16_000)
        (root / f"nsynth-{split}/examples.json").write_text(json.dumps(notes))


def make_esc50(root: Path) -> None:
    rows = [
        (f"{fold}-{fold}{n}-A-{n}.wav", fold, n, f"class{n}", "False", f"{fold}{n}", "A")
        for fold in range(1, 6)
        for n in range(2)
    ]
    table(root / "meta/esc50.csv", ("filename", "fold", "target", "category", "esc10", "src_file", "take"), rows)
    for name, *_ in rows:
        noise(root / "audio" / name, 5, 16_000)


MAKERS: dict[str, Callable[[Path], None]] = {name: globals()[f"make_{name}"] for name in PAPER}
FOLDS = {"urbansound8k": (10,), "esc50": (5,)}


@pytest.fixture(scope="module")
def start(tmp_path_factory) -> Path:
    """A checkpoint of other classes to fine-tune, as narrow as the networks here."""
    folder = tmp_path_factory.mktemp("start")
    settings = load("vggsound", network=NARROW)
    network = models.build("arin_base", {"label": 5}, NARROW)
    info = ModelInfo("start", {"label": list("abcde")}, 16_000, 1.0, 1.0, asdict(settings.front_end_config))
    checkpoint.save(folder, network, info, "arin_base")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", PAPER)
def test_recipe_takes_a_step_on_its_sets_own_layout(name, start, tmp_path):
    root = tmp_path / name
    MAKERS[name](root)
    assert datasets.detect(root) == name
    settings = load(
        name, network=NARROW, epochs=1, batch_size=2, start="" if name == "vggsound" else str(start), precise_norms=1
    )
    splits = replace(settings.splits, test_folds=FOLDS.get(name, ()))
    examples = datasets.examples(root, splits=splits)
    output = tmp_path / "run"
    said: list[str] = []
    workflow.train(replace(settings, splits=splits), examples, root, output, say=said.append, classes=datasets.labels(root))
    assert not [line for line in said if line.startswith("Left out")]
    info = checkpoint.load(output).info
    if name in PROTOCOLS:
        assert {head: len(names) for head, names in info.labels.items()} == PROTOCOLS[name].heads
        assert (info.views, info.padding) == (PROTOCOLS[name].views, PROTOCOLS[name].padding)
    measured = json.loads((output / "metrics.json").read_text())
    assert measured
    assert all(values["views"] == info.views for values in measured.values())
    assert ("joint" in next(iter(measured.values()))) == (name == "epic_kitchens")


PAPER_TABLE = {  # sample rate, window, hop in ms, frames, views
    "vggsound": (16_000, 20, 10, 512, 2),
    "epic_kitchens": (24_000, 10, 5, 416, 10),
    "epic_sounds": (24_000, 10, 5, 416, 5),
    "speech_commands": (16_000, 5, 2, 512, 1),
    "urbansound8k": (16_000, 20, 10, 416, 2),
    "nsynth": (16_000, 20, 10, 416, 1),
}


@pytest.mark.parametrize("name", PAPER)
def test_recipe_has_the_papers_numbers(name):
    settings = load(name)
    front, scratch = settings.front_end_config, name == "vggsound"
    frames = front.frames(front.samples(settings.window_seconds))
    if name in PAPER_TABLE:
        assert (front.sample_rate, front.window_ms, front.hop_ms, frames, settings.views) == PAPER_TABLE[name]
    assert settings.architecture == "arin_base"
    assert (front.mels, front.n_fft, settings.network, settings.batch_size) == (128, 2048, {}, 32)
    optimizer = settings.optimizer
    assert (optimizer.name, optimizer.momentum, optimizer.weight_decay) == ("sgd", 0.9, 1e-4)
    assert (optimizer.learning_rate, settings.epochs) == ((0.01, 50) if scratch else (0.001, 30))
    stones = (30, 40) if scratch else (20, 25)
    assert settings.schedule.name == "step"
    assert (settings.schedule.milestones, settings.schedule.factors) == (stones, (0.1, 0.01))
    assert (settings.freeze_norms, settings.precise_norms, settings.keep) == (not scratch, 200, "last")
    masks = settings.augment
    assert (masks.time_warp, masks.frequency_masks, masks.time_masks) == (5, 2, 2)
    assert masks.frequency_mask * front.mels == pytest.approx(27)
    assert masks.time_mask * frames == pytest.approx(25, abs=1e-3)
    assert not any((masks.mixup, masks.speed, masks.gain_db, masks.noise, settings.ema_decay, settings.label_smoothing))


def test_every_recipe_loads_alone_and_the_modern_one_on_top_of_each():
    names = sorted(path.stem for path in RECIPES.glob("*.toml"))
    assert set(PAPER) <= set(names)
    for name in names:
        load(name)
    for name in PAPER:
        modern = load(name, "modern", "small")
        assert (modern.optimizer.name, modern.architecture, modern.freeze_norms) == ("adamw", "arin_nano", False)
        assert modern.views == load(name).views


def test_unknown_protocol_and_frozen_norms_of_nothing_are_refused():
    with pytest.raises(ConfigError, match="protocol is 'epic'; there are vggsound, epic_kitchens"):
        configure({"protocol": "epic"}, "mine.toml")
    with pytest.raises(ConfigError, match="name them with start"):
        configure({"freeze_norms": True}, "mine.toml")


def test_learning_rate_falls_at_the_start_of_an_epoch():
    settings = load("vggsound", epochs=50)
    factors = [settings.schedule.factor((step + 1) / 10, 50) for step in range(500)]
    assert factors[299] == 1
    assert factors[300] == 0.1
    assert factors[399] == 0.1
    assert factors[400] == 0.01


def test_masks_and_momentum_reach_the_optimizer(tmp_path):
    optimizer = fit.Trainee(load("vggsound", network=NARROW), {"label": ["a", "b"]}, 10, {}).configure_optimizers()["optimizer"]
    assert isinstance(optimizer, torch.optim.SGD)
    assert all(group["nesterov"] and group["momentum"] == 0.9 for group in optimizer.param_groups)
    assert sorted(group["weight_decay"] for group in optimizer.param_groups) == [0, 1e-4]
