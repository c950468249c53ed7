"""A chain of compressions proves every step, goes on where it stopped, keeps the last good model and touches no other."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from support import ROOT
from support.commands import audiorep

from audiorep import config, datasets, models
from audiorep.compress import chain, int8, steps
from audiorep.compress.chain import ChainConfig
from audiorep.datasets import Splits
from audiorep.errors import ConfigError, DataError
from audiorep.evaluation.evaluate import evaluate
from audiorep.models import checkpoint
from audiorep.predict.classifier import Classifier
from audiorep.runtimes import open_session

RECIPE = """
limit = 1.0
rounds = 2

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
"""


@pytest.fixture(scope="module")
def run(trained) -> Path:
    """A small network that was trained on the tones."""
    return trained[0]


@pytest.fixture(scope="module")
def examples(tones):
    return datasets.examples(tones)


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


@pytest.mark.slow
def test_every_step_has_a_row_with_its_model(done):
    folder, made, _ = done
    names = [row.name for row in made.rows]
    assert names == ["00_original", "01_fuse", "02_prune", "03_tune", "04_low_rank", "05_codebooks", "06_quantize"]
    original, fused, pruned, tuned, thin, shared, quantized = made.rows
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
    for row in (made.rows[0], made.rows[-1]):
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
    assert text.count("\n| 0") == 7
    assert "Kept: `06_quantize/model.onnx`" in text
    assert (folder / "out" / "report.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_finished_chain_is_not_run_again(run, tones, examples, done):
    folder, made, _ = done
    said: list[str] = []
    settings = chain.load_recipe(folder / "recipe.toml")
    again = chain.run(run, settings, examples, tones, folder / "out", 1, said.append)
    assert sum(line.endswith("done before") for line in said) == 7
    plain = [dataclasses.replace(row, timings={}) for row in made.rows]
    assert [dataclasses.replace(row, timings={}) for row in again.rows] == plain


@pytest.mark.slow
def test_a_stopped_chain_goes_on_with_the_step_it_stopped_in(run, tones, examples, done, tmp_path):
    folder, made, _ = done
    shutil.copytree(folder / "out", tmp_path / "out")
    for name in ("05_codebooks", "06_quantize"):
        shutil.rmtree(tmp_path / "out" / name)
    (tmp_path / "out" / "05_codebooks").mkdir()
    (tmp_path / "out" / "05_codebooks" / "half.onnx").write_bytes(b"half")
    said: list[str] = []
    again = chain.run(run, chain.load_recipe(folder / "recipe.toml"), examples, tones, tmp_path / "out", 1, said.append)
    assert sum(line.endswith("done before") for line in said) == 5
    assert not (tmp_path / "out" / "05_codebooks" / "half.onnx").exists()
    assert [row.accuracy for row in again.rows] == [row.accuracy for row in made.rows]


@pytest.mark.slow
def test_another_recipe_does_not_go_on_there(run, tones, examples, done):
    folder, _, _ = done
    other = config.load(ChainConfig, {"steps": [{"do": "fuse"}, {"do": "prune", "keep": 0.6}]}, "other")
    with pytest.raises(ConfigError, match="another chain of compressions \\(02_prune differs\\)"):
        chain.run(run, other, examples, tones, folder / "out", 1)


@pytest.mark.slow
def test_other_clips_and_runtimes_do_not_go_on_there_but_another_limit_does(run, tones, examples, done, tmp_path):
    folder, made, _ = done
    settings = chain.load_recipe(folder / "recipe.toml")
    fewer = [e for e in examples if e.split != "test"] + [e for e in examples if e.split == "test"][1:]
    for clips, chosen in ((fewer, settings), (examples, dataclasses.replace(settings, runtimes=("onnx", "openvino")))):
        with pytest.raises(ConfigError, match=r"another chain of compressions \(00_original differs\)"):
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
    with pytest.raises(ConfigError, match="never overwritten"):
        chain.run(run, ChainConfig(steps=({"do": "fuse"},)), examples, tones, run, 1)
    shutil.copytree(run, tmp_path / "out" / "01_fuse")
    with pytest.raises(ConfigError, match="holds the checkpoint itself, which is never overwritten"):
        chain.run(tmp_path / "out" / "01_fuse", ChainConfig(steps=({"do": "fuse"},)), examples, tones, tmp_path / "out", 1)
    checkpoint.load(tmp_path / "out" / "01_fuse")


@pytest.mark.slow
def test_without_test_clips_there_is_nothing_to_judge_by(run, tones, examples, tmp_path):
    train = [e for e in examples if e.split == "train"]
    with pytest.raises(DataError, match="judged on test clips"):
        chain.run(run, ChainConfig(steps=({"do": "fuse"},)), train, tones, tmp_path / "out", 1)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({}, "steps are missing"),
        ({"steps": [{"do": "shrink"}]}, "step 1: do is 'shrink'; there are prune, low_rank"),
        ({"steps": [{"do": "fuse"}, {"do": "prune", "kep": 0.5}]}, r"step 2 \(prune\): kep is not a setting"),
        ({"steps": [{"do": "prune", "by": "weight"}]}, "by is 'weight'"),
        ({"steps": [{"do": "export", "to": "tensorrt"}]}, "to is 'tensorrt'; there are onnx"),
        ({"steps": [{"do": "export", "to": "coreml", "precision": "int8"}]}, "coreml files are written in fp32"),
        ({"steps": [{"do": "fuse", "limit": "abc"}]}, "step 1: limit is 'abc'; 0 to 1 is allowed"),
        ({"steps": [{"do": "fuse", "limit": -3}]}, "step 1: limit is -3; 0 to 1 is allowed"),
        ({"steps": [{"do": "fuse", "name": "../out"}]}, r"step 1: name is '\.\./out'; letters, digits, _ and - are allowed"),
        ({"steps": [{"do": "fuse"}], "limit": 3, "runtimes": ["torch"]}, "limit is 3.*runtimes torch"),
    ],
)
def test_wrong_recipes_are_refused_with_what_is_wrong(values, text):
    with pytest.raises(ConfigError, match=text):
        config.load(ChainConfig, values, "recipe")


# --- commands


@pytest.mark.slow
def test_a_step_that_loses_too_much_ends_the_chain_and_the_last_good_model_is_kept(run, tones, tmp_path):
    recipe = tmp_path / "recipe.toml"
    steps_of = ['do = "fuse"', 'do = "low_rank"\nenergy = 0.0001\nresponse = false\nlimit = 0.01', 'do = "fuse"']
    recipe.write_text("rounds = 1\n" + "\n".join(f"[[steps]]\n{lines}" for lines in steps_of))
    ended = audiorep("compress", run, tones, "--recipe", recipe, "-o", tmp_path / "out")
    assert ended.returncode == 1, ended.stderr
    assert "02_low_rank was refused: accuracy falls by" in ended.stderr
    assert f"Kept: {tmp_path / 'out' / '01_fuse'}" in ended.stderr
    assert not (tmp_path / "out" / "03_fuse").exists()
    values = json.loads((tmp_path / "out" / "report.json").read_text())
    assert values["rows"][-1]["refused"].startswith("accuracy falls by")


@pytest.mark.slow
def test_a_pruned_checkpoint_is_made_trained_on_and_compared(run, tones, tmp_path):
    ended = audiorep("prune", run, tones, "-o", tmp_path / "small", "--keep", 0.6, "--multiple", 1, "--tune", 1)
    assert ended.returncode == 0, ended.stderr
    assert "MACs" in ended.stdout
    small, whole = checkpoint.load(tmp_path / "small"), checkpoint.load(run)
    shape = tuple(whole.example().shape)
    assert models.cost(small.network, shape).macs <= 0.6 * models.cost(whole.network, shape).macs
    again = audiorep("prune", run, tones, "-o", tmp_path / "small")
    assert again.returncode == 2
    assert "is not empty; name a new folder" in again.stderr
    impossible = audiorep("prune", run, tones, "-o", tmp_path / "tiny", "--keep", 0.001)
    assert impossible.returncode == 2
    assert "is not possible; the least is" in impossible.stderr
    assert not list(tmp_path.glob("tiny/*"))
    trained = audiorep("train", tones, "-o", tmp_path / "more", "--start", tmp_path / "small", *_settings(run))
    assert trained.returncode == 0, trained.stderr
    assert checkpoint.load(tmp_path / "more").layers == small.layers


def _settings(run: Path) -> list[str]:
    values = json.loads((run / "train.json").read_text())["config"]
    kept = {key: values[key] for key in ("architecture", "window_seconds")}
    sizes = ("depths", "time_kernels", "frequency_kernels")
    told = {**kept, **{f"network.{key}": values["network"][key] for key in sizes}, "epochs": 1}
    told |= {f"front_end.{key}": value for key, value in values["front_end"].items()}
    return [word for key, value in told.items() for word in ("--set", f"{key}={json.dumps(value)}")]


@pytest.mark.slow
def test_verify_exits_by_what_it_finds(run, tones, done, tmp_path):
    folder, made, _ = done
    same = audiorep("verify", run, folder / "out" / made.rows[0].files["onnx"], "--data", tones, "-o", tmp_path / "v.json")
    assert same.returncode == 0, same.stderr
    values = json.loads((tmp_path / "v.json").read_text())
    assert values["passes"]
    assert values["difference"]["agreement"] == 1.0
    assert values["difference"]["largest"] < 1e-4
    first, second = values["costs"]
    assert (first["runtime"], second["runtime"], first["speed"]) == ("torch", "onnx", 1.0)
    assert second["bytes"] == (folder / "out" / made.rows[0].files["onnx"]).stat().st_size
    assert min(second["median_ms"], second["peak_memory_mb"], second["speed"]) > 0
    thin = quick_copy(folder / "out" / "02_prune", tmp_path / "silent")
    worse = audiorep("verify", run, thin, "--data", tones, "--loss", 0, "--json", "--rounds", 1)
    assert worse.returncode == 1
    assert "does not pass for" in worse.stderr
    assert json.loads(worse.stdout)["passes"] is False
    for option, value in (("--loss", "nan"), ("--loss", -5), ("--agreement", 2)):
        wrong = audiorep("verify", run, run, "--data", tones, option, value)
        assert wrong.returncode == 2
        assert "is not a share; 0 to 1 is allowed" in " ".join(wrong.stderr.split())
    kept = tmp_path / "b.onnx"
    shutil.copy(folder / "out" / made.rows[0].files["onnx"], kept)
    for output in (kept, run / "config.json"):
        over = audiorep("verify", run, kept, "--data", tones, "-o", output)
        assert over.returncode == 2
        assert "never overwritten" in over.stderr
    assert kept.read_bytes() == (folder / "out" / made.rows[0].files["onnx"]).read_bytes()
    checkpoint.load(run)
    missing = audiorep("verify", run, tmp_path / "nothing.onnx", "--data", tones)
    assert missing.returncode == 2
    assert "nothing.onnx does not exist" in missing.stderr


def quick_copy(folder: Path, output: Path) -> Path:
    """A copy of a checkpoint whose network gives every clip the same label."""
    model = checkpoint.load(folder)
    for values in model.network.parameters():
        values.data.zero_()
    checkpoint.save(output, model.network, model.info, model.architecture)
    return output


@pytest.mark.slow
def test_quantize_refuses_unknown_layers_and_other_files(run, tones, tmp_path):
    unknown = audiorep("quantize", run, tones, "-o", tmp_path / "q.onnx", "--keep-float", "stem.nothing")
    assert unknown.returncode == 2
    assert "There is no layer stem.nothing; the layers are stem.conv" in unknown.stderr
    assert list(tmp_path.iterdir()) == []
    nowhere = audiorep("quantize", run, tones, "-o", "/proc/q.onnx")
    assert nowhere.returncode == 2
    assert "/proc/q.onnx cannot be written" in nowhere.stderr
    assert "Measuring" not in nowhere.stderr
    unused = audiorep("export", run, "--calibration", tones, "-o", tmp_path / "q.onnx")
    assert unused.returncode == 2
    assert "Sounds to calibrate on are for int8; fp32 was asked for" in unused.stderr
    other = audiorep("quantize", run, tones, "-o", tmp_path / "q.tflite")
    assert other.returncode == 2
    assert "audiorep export" in other.stderr


# --- what int8 is chosen by


@pytest.mark.slow
def test_clips_that_int8_is_chosen_by_are_neither_calibrated_on_nor_tested(run, tones, examples):
    info = checkpoint.load(run).info
    sounds = int8.sounds_of(examples, info)
    assert sounds.origin == "validation clips"
    assert {example.split for example in sounds.choice} == {"valid"}
    assert all(window.shape == (info.window_samples,) for window in sounds.calibration)
    only = datasets.examples(tones, splits=Splits(valid_fraction=0.0))
    with pytest.raises(DataError, match="besides those it is calibrated on"):
        int8.sounds_of([e for e in only if e.split == "train"], info)  # so few that all are calibrated on
    with pytest.raises(DataError, match="needs training clips to calibrate on"):
        int8.sounds_of([e for e in examples if e.split == "test"], info)


@pytest.mark.slow
def test_sounds_of_a_lower_rate_than_the_model_hears_are_told_of(run, tones, examples):
    info = checkpoint.load(run).info
    said: list[str] = []
    int8.sounds_of(examples, info, said.append)
    assert not said
    front_end = {**info.front_end, **{key: 2 * info.front_end[key] for key in ("sample_rate", "n_fft")}}
    higher = dataclasses.replace(info, sample_rate=2 * info.sample_rate, front_end=front_end)
    int8.sounds_of(examples, higher, said.append)
    assert len(said) == 1
    assert f"of a lower rate (down to {info.sample_rate} Hz) than the model's {2 * info.sample_rate} Hz" in said[0]


@pytest.mark.slow
def test_openvinos_int8_is_judged_and_a_wrong_label_refused(run, examples, tmp_path):
    model = checkpoint.load(run)
    sounds = int8.sounds_of(examples, model.info)
    assert int8.write_openvino(model, sounds, tmp_path / "q.xml", 0.2) > 0
    assert {path.name for path in tmp_path.iterdir()} == {"q.xml", "q.bin"}
    provenance = open_session(tmp_path / "q.xml").info.provenance
    assert provenance["precision"] == "int8"
    assert "measured_in_float32" in provenance
    assert "measured" not in provenance
    wrong = [dataclasses.replace(sounds.choice[0], labels={"label": ("zebra",)}), *sounds.choice[1:]]
    with pytest.raises(DataError, match="is labelled 'zebra', which the model does not know"):
        int8.write_openvino(model, dataclasses.replace(sounds, choice=wrong), tmp_path / "w.xml")


@pytest.mark.slow
def test_layers_that_cost_most_stay_in_float32_where_int8_loses_too_much(run, examples):
    model = checkpoint.load(run)
    sounds = int8.sounds_of(examples, model.info)
    made = int8.quantize(model, sounds, loss=1.0, left=("heads.label",), sensitivity=True)
    assert made.setting.left == ("heads.label",)
    assert len(made.tried) == 6
    assert made.speed > 0
    costs = [row.change for row in made.sensitivities]
    assert costs == sorted(costs, reverse=True)
    assert {row.layer for row in made.sensitivities} >= {"stem.conv", "heads.label"}
    with pytest.raises(ConfigError, match=r"int8 costs too much even with \d+ of \d+ layers in float32: accuracy falls"):
        int8.quantize(model, sounds, loss=-2.0)


@pytest.mark.slow
def test_steps_leave_their_history(run, tones, examples, tmp_path):
    model = checkpoint.load(run)
    work = steps.Work(model, run, run, examples, tones, tmp_path / "thin")
    made = checkpoint.load(steps.LowRank(energy=0.5).run(work))
    assert made.info.provenance["compressed"] == ["low rank with 50.000% of the energy"]
    assert "measured" not in made.info.provenance
    assert made.info.provenance["seen"] == model.info.provenance["seen"]


@pytest.mark.parametrize("path", sorted((ROOT / "recipes" / "compress").glob("*.toml")), ids=lambda p: p.stem)
def test_recipes_of_chains_load(path):
    assert len(chain.load_recipe(path).steps) >= 2
