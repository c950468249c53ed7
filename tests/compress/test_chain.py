"""A chain of compressions proves every step, goes on where it stopped, keeps the last good model and touches no other."""

from __future__ import annotations

import dataclasses
import json
import re
import shutil
from dataclasses import asdict

import pytest
from support import ROOT
from support.commands import audiorep

from audiorep import config
from audiorep.benchmark.measure import Timing
from audiorep.compress import chain
from audiorep.compress.chain import ChainConfig
from audiorep.errors import ConfigError, DataError
from audiorep.evaluation.evaluate import evaluate
from audiorep.models import checkpoint
from audiorep.predict.classifier import Classifier
from audiorep.runtimes import open_session

RECIPE = """
limit = 1.0
rounds = 1

[[steps]]
do = "fuse"

[[steps]]
do = "prune"
keep = 0.7
importance = "taylor"
multiple = 1

[[steps]]
do = "tune"
epochs = 1
teacher = true
set = { "augment.noise" = 0.0 }

[[steps]]
do = "low_rank"
energy = 0.95

[[steps]]
do = "export"
name = "codebooks"
precision = "shared8"

[[steps]]
do = "quantize"
loss = 1.0
sensitivity = true

[[steps]]
do = "prune"
name = "too_small"
keep = 0.25
multiple = 1
limit = 0.01

[[steps]]
do = "fuse"
"""

NAMES = ["00_original", "01_fuse", "02_prune", "03_tune", "04_low_rank", "05_codebooks", "06_quantize", "07_too_small"]


@pytest.fixture(scope="module")
def done(run, tones, examples, tmp_path_factory):
    """The recipe carried out: (folder, chain, what was said)."""
    folder = tmp_path_factory.mktemp("chain")
    (folder / "recipe.toml").write_text(RECIPE)
    said: list[str] = []
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    made = chain.run(run, chain.load_recipe(folder / "recipe.toml"), examples, tones, folder / "out", 1, said.append)
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before
    return folder, made, said


@pytest.fixture
def untimed(monkeypatch) -> None:
    """No time is measured: each model would have a process of its own."""
    taken = Timing(1.0, 1.0, 1000.0, 1.0, 1.0, 1.0, 1.0)
    monkeypatch.setattr(chain, "timed", lambda models, rounds, threads: [taken] * len(models))


@pytest.mark.slow
def test_every_step_has_a_row_with_its_model(done):
    folder, made, _ = done
    assert [row.name for row in made.rows] == NAMES
    original, fused, pruned, tuned, thin, shared, quantized, _ = made.rows
    assert (fused.parameters, fused.change, fused.agreement) == (original.parameters, 0.0, 1.0)
    assert pruned.macs <= 0.7 * original.macs
    assert tuned.parameters == pruned.parameters
    assert thin.parameters <= tuned.parameters
    assert shared.parameters == quantized.parameters == thin.parameters
    assert quantized.file_bytes < thin.file_bytes
    assert shared.file_bytes < 0.6 * thin.file_bytes
    assert all(row.low <= row.accuracy <= row.high for row in made.rows)
    assert all(row.timings["onnx"]["median_ms"] > 0 for row in made.rows)
    assert original.timings["onnx"]["ratio"] == 1.0
    assert made.best is quantized
    assert "conv" in (folder / "out" / "01_fuse" / "merges.txt").read_text()
    assert (folder / "out" / "06_quantize" / "sensitivity.csv").read_text().startswith("layer,change,agreement")


@pytest.mark.slow
def test_a_row_says_what_its_file_does(done, examples):
    folder, made, _ = done
    test = [example for example in examples if example.split == "test"]
    for row in (made.rows[0], made.best):
        path = folder / "out" / row.files["onnx"]
        found = evaluate(Classifier(open_session(path)), test, "test")
        assert found.heads["label"].summary["top1"] == pytest.approx(row.accuracy)
        assert path.stat().st_size == row.file_bytes


@pytest.mark.slow
def test_the_report_is_written_for_people_and_programs(done):
    folder, made, _ = done
    values = json.loads((folder / "out" / "report.json").read_text())
    assert [row["name"] for row in values["rows"]] == [row.name for row in made.rows]
    assert values["clips"] == made.clips == 6
    text = (folder / "out" / "report.md").read_text()
    assert text.count("\n| 0") == 8
    assert "`06_quantize/model.onnx`" in text
    assert (folder / "out" / "report.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_step_that_loses_too_much_ends_the_chain_and_the_last_good_model_is_kept(done):
    folder, made, said = done
    refused = made.rows[-1]
    assert refused.change < -0.01
    assert f"{-100 * refused.change:.1f} points; 1 are allowed" in refused.refused
    assert any("07_too_small" in line and "06_quantize" in line for line in said)
    assert not list((folder / "out").glob("08_*"))


@pytest.mark.slow
def test_the_command_does_not_run_a_finished_chain_again_and_says_how_it_ended(run, tones, done, tmp_path):
    folder, made, _ = done
    out = tmp_path / "out"
    shutil.copytree(folder / "out", out)
    ended = audiorep("compress", run, tones, "--recipe", folder / "recipe.toml", "-o", out)
    assert ended.returncode == 1, ended.stderr
    assert sum(line.endswith("done before") for line in ended.stderr.splitlines()) == len(NAMES)
    assert f"07_too_small was refused: {made.rows[-1].refused}" in ended.stderr
    assert str(out / "06_quantize") in ended.stderr
    again = json.loads((out / "report.json").read_text())["rows"]
    assert [{**row, "timings": {}} for row in again] == [{**asdict(row), "timings": {}} for row in made.rows]
    assert all(row["timings"]["onnx"]["median_ms"] > 0 for row in again)


@pytest.mark.slow
def test_a_stopped_chain_goes_on_with_the_step_it_stopped_in(run, tones, examples, done, untimed, tmp_path):
    folder, made, _ = done
    shutil.copytree(folder / "out", tmp_path / "out")
    for name in NAMES[5:]:
        shutil.rmtree(tmp_path / "out" / name)
    (tmp_path / "out" / "05_codebooks").mkdir()
    (tmp_path / "out" / "05_codebooks" / "half.onnx").write_bytes(b"half")
    said: list[str] = []
    whole = chain.load_recipe(folder / "recipe.toml")
    settings = dataclasses.replace(whole, steps=whole.steps[:5])
    again = chain.run(run, settings, examples, tones, tmp_path / "out", 1, said.append)
    assert sum(line.endswith("done before") for line in said) == 5
    assert not (tmp_path / "out" / "05_codebooks" / "half.onnx").exists()
    assert [row.accuracy for row in again.rows] == [row.accuracy for row in made.rows[:6]]


@pytest.mark.slow
def test_another_recipe_does_not_go_on_there(run, tones, examples, done):
    folder, _, _ = done
    other = config.load(ChainConfig, {"steps": [{"do": "fuse"}, {"do": "prune", "keep": 0.6}]}, "other")
    with pytest.raises(ConfigError, match="02_prune"):
        chain.run(run, other, examples, tones, folder / "out", 1)


@pytest.mark.slow
def test_other_clips_and_runtimes_do_not_go_on_there_but_another_limit_does(run, tones, examples, done, untimed, tmp_path):
    folder, made, _ = done
    settings = chain.load_recipe(folder / "recipe.toml")
    fewer = [e for e in examples if e.split != "test"] + [e for e in examples if e.split == "test"][1:]
    for clips, chosen in ((fewer, settings), (examples, dataclasses.replace(settings, runtimes=("onnx", "openvino")))):
        with pytest.raises(ConfigError, match="00_original"):
            chain.run(run, chosen, clips, tones, folder / "out", 1)
    shutil.copytree(folder / "out", tmp_path / "out")
    row = tmp_path / "out" / "04_low_rank" / "row.json"
    row.write_text(json.dumps({**json.loads(row.read_text()), "change": -0.5}))
    ended = chain.run(run, dataclasses.replace(settings, limit=0.1), examples, tones, tmp_path / "out", 1)
    assert ended.rows[-1].name == "04_low_rank"
    assert ended.rows[-1].refused == "accuracy falls by 50.0 points; 10 are allowed"
    assert len(chain.run(run, settings, examples, tones, tmp_path / "out", 1).rows) == len(made.rows)


@pytest.mark.slow
def test_the_checkpoint_itself_is_never_the_output_and_never_in_it(run, tones, examples, tmp_path):
    with pytest.raises(ConfigError, match=re.escape(str(run))):
        chain.run(run, ChainConfig(steps=({"do": "fuse"},)), examples, tones, run, 1)
    shutil.copytree(run, tmp_path / "out" / "01_fuse")
    with pytest.raises(ConfigError, match=re.escape(str(tmp_path / "out"))):
        chain.run(tmp_path / "out" / "01_fuse", ChainConfig(steps=({"do": "fuse"},)), examples, tones, tmp_path / "out", 1)
    checkpoint.load(tmp_path / "out" / "01_fuse")


@pytest.mark.slow
def test_without_test_clips_there_is_nothing_to_judge_by(run, tones, examples, tmp_path):
    train = [e for e in examples if e.split == "train"]
    with pytest.raises(DataError, match="test clips"):
        chain.run(run, ChainConfig(steps=({"do": "fuse"},)), train, tones, tmp_path / "out", 1)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "steps"),
        ({"steps": [{"do": "shrink"}]}, r"step 1: .*'shrink'.* prune, low_rank"),
        ({"steps": [{"do": "fuse"}, {"do": "prune", "kep": 0.5}]}, r"step 2 .*kep "),
        ({"steps": [{"do": "prune", "by": "weight"}]}, "by .*'weight'"),
        ({"steps": [{"do": "export", "to": "tensorrt"}]}, "to .*'tensorrt'.* onnx"),
        ({"steps": [{"do": "export", "to": "coreml", "precision": "int8"}]}, "coreml .* fp32"),
        ({"steps": [{"do": "fuse", "limit": "abc"}]}, "step 1: limit .*'abc'.* 0 to 1"),
        ({"steps": [{"do": "fuse", "limit": -3}]}, "step 1: limit .*-3.* 0 to 1"),
        ({"steps": [{"do": "fuse", "name": "../out"}]}, r"step 1: name .*'\.\./out'"),
        ({"steps": [{"do": "fuse"}], "limit": 3, "runtimes": ["torch"]}, "limit .*3.*runtimes torch"),
    ],
)
def test_wrong_recipes_are_refused_with_what_is_wrong(values, text):
    with pytest.raises(ConfigError, match=text):
        config.load(ChainConfig, values, "recipe")


@pytest.mark.parametrize("path", sorted((ROOT / "recipes" / "compress").glob("*.toml")), ids=lambda p: p.stem)
def test_recipes_of_chains_load(path):
    assert len(chain.load_recipe(path).steps) >= 2
