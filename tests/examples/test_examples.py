"""Every script in examples/ runs, is short, and prints what it is for."""

from __future__ import annotations

import sys

import pytest
from support import ROOT, processes

PRINTS = {
    "label_a_file": "siren: ",
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
SHARED = "made_up_clips"
LONGEST = 30


def test_there_are_these_examples_and_each_is_short():
    scripts = {path.stem: len(path.read_text().splitlines()) for path in (ROOT / "examples").glob("*.py")}
    assert scripts.keys() == {*PRINTS, SHARED}
    assert max(scripts.values()) <= LONGEST


@pytest.mark.parametrize("name", PRINTS)
def test_example_runs(name, tmp_path):
    done = processes.run([sys.executable, str(ROOT / "examples" / f"{name}.py")], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert PRINTS[name] in done.stdout
    assert not list(tmp_path.iterdir())
