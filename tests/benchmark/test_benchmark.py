"""A benchmark's rows are what was asked for, its counts are the networks', its files say all, and refusals are sentences."""

from __future__ import annotations

import csv
import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from support import ROOT
from support.commands import Done, audiorep
from support.models import lively

from audiorep import models
from audiorep.benchmark import end_to_end, layers, table
from audiorep.benchmark.cases import Case, Missing, Plan, cases, made_up
from audiorep.benchmark.engines import ENGINES
from audiorep.benchmark.environment import environment, in_words
from audiorep.benchmark.measure import Timing, timings
from audiorep.errors import ConfigError, DataError
from audiorep.models import checkpoint
from audiorep.predict.classifier import Classifier
from audiorep.shipped import SHIPPED

SMALL = Plan(("mobilenetv3",), front_end="light", seconds=1.0, classes=5, batches=(1, 3))


@pytest.fixture(scope="module")
def network(tmp_path_factory) -> Path:
    """A checkpoint of random weights that is named like an architecture, and shallower."""
    folder = tmp_path_factory.mktemp("networks") / "arin_pico"
    model = made_up("arin_pico", "light", 1.0, 5)
    torch.manual_seed(0)
    shallow = lively(models.build("arin_pico", {"label": 5}, {"depths": [1, 1]}))
    checkpoint.save(folder, shallow, model.info, "arin_pico")
    return folder


@pytest.fixture(scope="module")
def plan(network) -> Plan:
    return replace(SMALL, networks=(str(network),))


@pytest.fixture(scope="module")
def ready(plan, tmp_path_factory) -> list[Case]:
    plan = replace(plan, forms=("training", "merged", "fused"), runtimes=("eager", "channels_last", "onnx", "openvino"))
    found = list(cases(plan, tmp_path_factory.mktemp("cases"), 1))
    assert not [case for case in found if isinstance(case, Missing)]
    return [case for case in found if isinstance(case, Case)]


@pytest.mark.slow
def test_every_combination_is_made_ready_once(ready):
    keys = [(case.form, case.runtime, case.precision, case.batch) for case in ready]
    assert len(set(keys)) == len(keys) == 3 * 4 * 2
    assert len({case.path for case in ready}) == 3 * 4


@pytest.mark.slow
def test_every_form_and_runtime_gives_the_same_logits(ready):
    outputs: dict[int, list[np.ndarray]] = {1: [], 3: []}
    for case in ready:
        found = case.candidate(1, 0).load()(case.input)
        values = next(iter(found.values())) if hasattr(found, "values") else found[0]
        outputs[case.batch].append(np.asarray(values))
    for batch, values in outputs.items():
        assert len(values) == 12
        assert values[0].shape == (batch, 5)
        assert max(float(np.abs(value - values[0]).max()) for value in values) < 1e-4
        assert np.ptp(values[0]) > 1e-3  # and they say something


@pytest.mark.slow
def test_costs_are_those_of_the_form(ready):
    costs = {case.form: case.cost for case in ready}
    network = models.build("arin_pico", {"label": 5}, {"depths": [1, 1]})
    assert costs["training"] == models.cost(network, (1, 1, 50, 64))
    assert costs["fused"].macs < costs["merged"].macs < costs["training"].macs
    assert costs["fused"].parameters < costs["merged"].parameters < costs["training"].parameters


@pytest.mark.slow
def test_activations_are_counted_at_every_convolution_and_product():
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3, padding=1), torch.nn.Flatten(), torch.nn.Linear(4 * 6 * 5, 7))
    assert models.cost(network, (1, 1, 6, 5)).activations == 4 * 6 * 5 + 7


@pytest.fixture(scope="module")
def measured(network, tmp_path_factory) -> tuple[Path, Done]:
    """The folder in which the command was run, and its end."""
    folder = tmp_path_factory.mktemp("measured")
    (folder / "arin_pico").symlink_to(network)
    given = ["--quick", "--rounds", 2, "--forms", "merged", "--precisions", "fp32,bf16,int8", "--threads", 1]
    return folder, audiorep("bench", "arin_pico", *given, "-o", "results/quick", cwd=folder)


@pytest.mark.slow
def test_a_run_has_a_row_each_and_says_what_is_missing(measured):
    folder, done = measured
    assert done.returncode == 0, done.stderr
    assert "Measuring 4 cases in 2 rounds" in done.stderr
    record = json.loads((folder / "results" / "quick.json").read_text())
    rows = {(row["form"], row["runtime"], row["precision"]): row for row in record["rows"]}
    asked = [("eager", "fp32"), ("eager", "bf16"), ("onnx", "fp32"), ("onnx", "int8")]
    assert set(rows) == {("merged", runtime, precision) for runtime, precision in asked}
    assert {(row["runtime"], row["precision"]) for row in record["missing"]} == {("eager", "int8"), ("onnx", "bf16")}
    assert record["baseline"] == "arin_pico:merged:eager:fp32"
    assert rows["merged", "eager", "fp32"]["ratio"] == 1
    assert rows["merged", "onnx", "int8"]["file_bytes"] < 0.6 * rows["merged", "onnx", "fp32"]["file_bytes"]
    for row in record["rows"]:
        assert 0 < row["median_ms"] <= row["p90_ms"]
        assert row["throughput"] == pytest.approx(1000 / row["median_ms"], rel=1e-3)
        assert row["ratio_low"] <= row["ratio"] <= row["ratio_high"]


@pytest.mark.slow
def test_the_command_prints_a_table_and_writes_files(measured):
    folder, done = measured
    assert done.stdout.split()[:2] == ["network", "form"]
    assert "Speed over arin_pico:merged:eager:fp32" in done.stdout
    assert "int8" in done.stdout.split("Not measured:")[1]
    names = [f"quick.{suffix}" for suffix in ("csv", "json", "md", "png")]
    as_csv, as_json, markdown, picture = written = [folder / "results" / name for name in names]
    assert sorted((folder / "results").iterdir()) == written
    record = json.loads(as_json.read_text())
    assert record["command"].startswith("audiorep bench arin_pico --quick")
    assert record["environment"]["threads"] == 1
    assert record["calibration"].startswith("noises")
    with as_csv.open() as file:
        assert len(list(csv.DictReader(file))) == len(record["rows"]) == 4
    assert markdown.read_text().count("\n| arin_pico |") == 4
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_peak_memory_is_of_a_process_without_torch(ready, tmp_path):
    chosen = [next(case for case in ready if case.runtime == name) for name in ("eager", "onnx")]
    eager, onnx = timings([case.candidate(1, 0) for case in chosen], 2, tmp_path)
    assert isinstance(eager, Timing)
    assert isinstance(onnx, Timing)
    assert 20 < onnx.peak_memory_mb < 0.6 * eager.peak_memory_mb
    assert eager.peak_memory_mb < 1500


@pytest.mark.slow
def test_a_file_that_a_runtime_cannot_load_costs_the_others_nothing(ready, tmp_path):
    good = next(case for case in ready if case.runtime == "onnx")
    (tmp_path / "network.onnx").write_text("no network")
    broken = replace(good, path=tmp_path / "network.onnx")
    first, second = timings([good.candidate(1, 0), broken.candidate(1, 0)], 2, tmp_path)
    assert isinstance(first, Timing)
    assert isinstance(second, str)
    assert "network.onnx" in second


@pytest.mark.slow
def test_a_baseline_that_failed_is_an_error(ready, tmp_path):
    good = next(case for case in ready if case.runtime == "onnx")
    (tmp_path / "network.onnx").write_text("no network")
    broken = replace(good, path=tmp_path / "network.onnx")
    with pytest.raises(ConfigError, match=r"arin_pico:training:onnx:fp32.*network\.onnx"):
        timings([good.candidate(1, 1), broken.candidate(1, 1)], 2, tmp_path)


@pytest.mark.slow
def test_a_case_that_cannot_be_exported_costs_the_others_nothing(plan, tmp_path, monkeypatch):
    def fail(job):
        raise RuntimeError("unsupported operator\nand a long story")

    monkeypatch.setitem(ENGINES, "onnx", (fail, ENGINES["onnx"][1]))
    first, second = cases(replace(plan, forms=("training",), batches=(1,)), tmp_path, 1)
    assert isinstance(first, Case)
    assert isinstance(second, Missing)
    assert second.reason == "RuntimeError: unsupported operator"


@pytest.mark.slow
def test_a_network_without_a_merged_form_of_its_own_is_measured_in_the_others(tmp_path):
    plan = replace(SMALL, forms=("training", "merged"), runtimes=("eager",), batches=(1,))
    assert [(case.network, case.form) for case in cases(plan, tmp_path, 1)] == [("mobilenetv3", "training")]


@pytest.mark.full
@pytest.mark.slow
def test_waveforms_go_in_where_they_are_asked_for(plan, tmp_path):
    plan = replace(plan, forms=("fused",), runtimes=("channels_last", "onnx"), batches=(2,), input="waveform")
    first, second = cases(plan, tmp_path, 1)
    assert first.input.shape == (2, 15_999)
    expected, found = first.candidate(1, 0).load()(first.input)["label"].numpy(), second.candidate(1, 0).load()(second.input)[0]
    assert np.abs(found - expected).max() < 1e-4


@pytest.mark.slow
def test_a_checkpoint_is_measured_as_it_is(tmp_path):
    made = made_up("arin_pico", "light", 1.0, 4)
    checkpoint.save(tmp_path / "mine", made.network, made.info, "arin_pico")
    (tmp_path / "work").mkdir()
    plan = replace(SMALL, networks=(str(tmp_path / "mine"),), forms=("training",), runtimes=("eager",), batches=(1,))
    (case,) = cases(plan, tmp_path / "work", 1)
    assert case.network == "mine"
    given = torch.from_numpy(case.input)
    assert np.allclose(case.candidate(1, 0).load()(case.input)["label"], made.network(given)["label"].detach(), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", ["eager", "onnx", "openvino"])
def test_layers_sum_to_the_whole(ready, runtime):
    case = next(case for case in ready if (case.runtime, case.form, case.batch) == (runtime, "fused", 1))
    found = layers.layers(case, 1)
    assert len(found) >= 1 + 2 * 5 + 1 + 1  # those with weights
    assert sum(layer.share for layer in found) == pytest.approx(1)
    kinds = layers.by_kind(found)
    assert sum(kind.milliseconds for kind in kinds) == pytest.approx(sum(layer.milliseconds for layer in found))
    assert "conv" in " ".join(kind.kind for kind in kinds[:3]).lower()


@pytest.mark.slow
def test_wrong_plans_are_refused_in_a_sentence(plan, ready):
    with pytest.raises(ConfigError, match=r"'tflite'.* eager.*; .* 0 "):
        Plan(runtimes=("tflite",), batches=(0,))
    with pytest.raises(ConfigError, match="arin_huge"):
        made_up("arin_huge", "light", 1.0, 5)
    with pytest.raises(ConfigError, match=r"resnet50:eager.*arin_pico:training:eager:fp32"):
        table._named(ready, "resnet50:eager")
    with pytest.raises(ConfigError, match=r"onnx .*bf16"):
        table.run(replace(plan, runtimes=("onnx",), precisions=("bf16",)), rounds=2, threads=1)


def test_the_environment_names_what_speeds_depend_on():
    about = environment(3)
    assert about["threads"] == 3
    assert about["packages"]["torch"] == torch.__version__
    assert about["processor"] in in_words(about)


@pytest.fixture
def sounds(tmp_path):
    folder = tmp_path / "sounds"
    folder.mkdir()
    generator = np.random.default_rng(0)
    for number in range(6):
        soundfile.write(folder / f"{number}.wav", 0.1 * generator.standard_normal(16_000 * (1 + number % 3)), 16_000)
    (folder / "broken.wav").write_text("no sound")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("usual", [pytest.param(True, marks=pytest.mark.full), False])  # librosa compiles at its first call
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of what librosa reads sounds with
def test_every_way_gives_the_labels_that_we_give(network, sounds, tmp_path, monkeypatch, usual):
    if usual:
        pytest.importorskip("librosa", reason="librosa is not installed")
    else:
        monkeypatch.setitem(sys.modules, "librosa", None)
    exported = end_to_end.exported(network, ["onnx", "openvino"], tmp_path)
    ways = end_to_end.ways_of(network, ["onnx", "openvino"], 1, exported)
    rows = end_to_end.files_to_labels(ways, end_to_end.sounds_in(sounds, 50), rounds=2)
    assert [row.name for row in rows] == [*([end_to_end.USUAL] if usual else []), "onnx", "openvino"]
    assert {row.same_label for row in rows} == {1}
    assert rows[0].ratio == 1
    assert all(row.files_per_second > 0 for row in rows)


@pytest.mark.slow
def test_a_cold_start_is_a_whole_process():
    start = end_to_end.cold_start(SHIPPED["esc50"].file, ROOT / "samples" / "siren.flac", "onnx", rounds=1)
    assert 0.05 < start.seconds < 60
    assert 30 < start.peak_memory_mb < 400


def test_a_folder_without_sounds_is_refused(tmp_path):
    (tmp_path / "a.wav").write_text("no sound")
    with pytest.raises(DataError, match=re.escape(str(tmp_path))):
        end_to_end.sounds_in(tmp_path, 5)


@pytest.mark.slow
def test_the_command_refuses_in_a_sentence(tmp_path):
    for given, text in (
        (["--runtimes", "tensorrt"], "'tensorrt'"),
        (["--batches", "1,two"], "whole numbers"),
        (["arin_pico", "-o", "/proc/nothing/x"], "/proc/nothing/x"),
        (["arin_pico", "-o", "."], "a name "),
        (["nothing"], "'nothing'"),
        (["arin_pico", "--end-to-end", "."], "no sound"),
    ):
        done = audiorep("bench", *given, cwd=tmp_path)
        assert done.returncode == 2, done.stderr
        assert text in done.stderr.splitlines()[-1]


def test_doctor_names_every_runtime_and_the_command_for_the_rest(tmp_path):
    rows = json.loads(audiorep("doctor", "--json", cwd=tmp_path).stdout)["runtimes"]
    text = audiorep("doctor", cwd=tmp_path).stdout
    for row in rows:
        assert row["name"] in text
        assert row["version"] in text
        assert (row["install"] or row["hardware"]) in text


@pytest.mark.slow
def test_a_model_is_run_in_the_runtime_that_is_asked_for(tmp_path):
    assert Classifier.load(None, 1, "openvino").session.device.startswith("OpenVINO")
    done = audiorep("predict", ROOT / "samples" / "siren.flac", "--model", "esc50", "--runtime", "openvino", cwd=tmp_path)
    assert done.stdout.startswith("siren")
    wrong = audiorep("predict", ROOT / "samples" / "siren.flac", "--runtime", "litert", cwd=tmp_path)
    assert wrong.returncode == 2
    assert ".tflite" in wrong.stderr
