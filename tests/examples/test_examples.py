"""Every script in examples/ runs, is short, and prints what it is for."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from support import ROOT, processes, shared

import audiorep

PRINTS = {
    "label_a_file": "Siren: ",
    "times_in_a_recording": " s: siren (",
    "array_at_another_rate": "clock_alarm",
    "train_a_model": "low",
    "evaluate_a_model": "middle: ",
    "export_a_model": "mine.onnx: ",
    "int8": "times the speed of float32",
    "fuse_a_network": "torch.Size([4, 8, 32, 32])",
    "compare_two_models": "half.onnx: ",
    "folder_to_table": "church_bells",
}
TRAINING = ("train_a_model", "evaluate_a_model", "export_a_model", "int8", "compare_two_models", "fuse_a_network")
SHARED = "made_up_clips"
LONGEST = 30


def script(name: str) -> str:
    return str(ROOT / "examples" / f"{name}.py")


def test_there_are_these_examples_and_each_is_short():
    scripts = {path.stem: len(path.read_text().splitlines()) for path in (ROOT / "examples").glob("*.py")}
    assert scripts.keys() == {*PRINTS, SHARED}
    assert max(scripts.values()) <= LONGEST


@pytest.fixture(scope="module")
def trained_once(tmp_path_factory):
    """`audiorep.train`, which gives a copy of what it gave before where it is called again with the same clips and settings."""
    kept: dict[str, tuple[Path, Any]] = {}

    def train(data: Path, output: Path, **settings: Any) -> Any:
        say = settings.pop("say", print)
        clips = {path.relative_to(data).as_posix(): path.read_bytes().hex() for path in sorted(data.rglob("*.wav"))}
        key = json.dumps([clips, settings])
        if key not in kept:
            folder = tmp_path_factory.mktemp("trained") / "mine"
            kept[key] = folder, audiorep.training.api.train(data, folder, say=say, **settings)
        shutil.copytree(kept[key][0], output)
        return kept[key][1]

    return train


@pytest.mark.parametrize("name", [pytest.param(name, marks=[pytest.mark.slow] * (name in TRAINING)) for name in PRINTS])
def test_example_runs(name, tmp_path, monkeypatch, capsys, trained_once):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT / "examples")
    monkeypatch.setattr(sys, "argv", [script(name)])
    monkeypatch.setattr(audiorep, "train", trained_once, raising=False)
    with shared.checkpoints():
        runpy.run_path(script(name), run_name="__main__")
    assert PRINTS[name] in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


@pytest.mark.full
@pytest.mark.slow
@pytest.mark.parametrize("name", PRINTS)
def test_example_runs_as_it_is_typed(name, tmp_path):
    done = processes.run([sys.executable, script(name)], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert PRINTS[name] in done.stdout
    assert not list(tmp_path.iterdir())
