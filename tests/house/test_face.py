"""The public face: its names and signatures, every example in its docstrings, and what it gives and refuses."""

from __future__ import annotations

import doctest
import inspect
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
import tomlkit
from support import SAMPLES, shared
from support.training import QUICK

import audiorep
from audiorep.serve import browser_runtime

SIGNATURES = {
    "load": "(path, threads, runtime, precision, unknown)",
    "check_data": "(data, *, shortest_seconds, say, progress)",
    "prepare_data": "(data, output, *, sample_rate, shard_clips, workers, say, progress)",
    "train": "(data, output, recipe, *, say, progress, **settings)",
    "train_every_fold": "(data, output, recipe, *, say, progress, **settings)",
    "search": ("(data, output, space, *, recipe, settings, trials, seconds, workers, command, say, progress, **rules)"),
    "embed": "(paths, folder, model, on_progress)",
    "similar": "(folder, sound, count, model, per_sound, approximate)",
    "teach": "(model, classes, output, *, background, instead, say, on_progress)",
    "evaluate": "(model, data, split, *, views, unknown, say, on_progress)",
    "calibrate": "(model, data, output, split, *, thresholds, precision, say, on_progress)",
    "tune_events": (
        "(model, data, output, split, *, false_alarms, precision, hours, noise, seed, hop_seconds, say, on_progress)"
    ),
    "compare": "(first, second, data, split, *, loss, agreement, rounds, say, on_progress)",
    "bench": "(networks, *, rounds, threads, say, on_turn, **settings)",
    "export": "(model, output, *, to, precision, clips, calibration, say)",
    "quantize": "(model, data, output, *, loss, keep_float, sensitivity, say)",
    "prune": "(model, data, output, *, tune, say, **settings)",
    "low_rank": "(model, data, output, *, tune, say, **settings)",
    "compress": "(model, data, recipe, output, *, threads, say)",
    "serve": "(models, config, on_start)",
    "fuse": "(network, *inputs, weights, output, say)",
    "web": "(models, output, *, webgpu, runtime, say)",
}
CLASSES = [
    "Classifier",
    "Data",
    "Detection",
    "Embedding",
    "EventConfig",
    "EventTracker",
    "Failure",
    "Index",
    "Match",
    "Recording",
    "Results",
    "ServeConfig",
    "Stretch",
    "Waveform",
]
ERRORS = ["AudioError", "AudiorepError", "BrokenPackageError", "BundleError", "CheckpointError", "ConfigError", "DataError"]
ERRORS += ["FuseError", "MissingExtraError"]
MODULES = ["datasets", "models", "reparam"]


def shape(function: object) -> str:
    """The names of a function's parameters; those behind `*` are given by name only."""
    plain = inspect.Signature(
        [p.replace(default=p.empty, annotation=p.empty) for p in inspect.signature(function).parameters.values()]
    )
    return str(plain)


def test_public_names_and_signatures_are_these():
    assert sorted(audiorep.__all__) == sorted([*SIGNATURES, *CLASSES, *ERRORS, *MODULES, "__version__"])
    assert {name: shape(getattr(audiorep, name)) for name in SIGNATURES} == SIGNATURES
    assert [getattr(audiorep, name).__name__ for name in CLASSES] == CLASSES
    assert all(issubclass(getattr(audiorep, name), audiorep.AudiorepError) for name in ERRORS)
    assert dir(audiorep) == sorted(audiorep.__all__)


def test_functions_keep_their_names_when_folders_of_these_names_are_imported():
    import audiorep.compress.prune
    import audiorep.export.onnx

    assert inspect.isfunction(audiorep.export)
    assert inspect.isfunction(audiorep.compress)


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="nothing_like_this"):
        audiorep.nothing_like_this  # noqa: B018


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> dict[str, object]:
    """Made-up clips of two classes, a checkpoint trained on them in seconds, and a copy of it to compare with."""
    folder = tmp_path_factory.mktemp("face")
    generator = np.random.default_rng(0)
    for label, hertz in {"low": 200, "high": 1500}.items():
        (folder / "clips" / label).mkdir(parents=True)
        for number in range(20):
            times = np.arange(2400) / 4000
            clip = 0.3 * np.sin(2 * np.pi * hertz * generator.uniform(0.9, 1.1) * times)
            clip += 0.01 * generator.standard_normal(len(times))
            soundfile.write(folder / "clips" / label / f"{number}.wav", clip, 4000)
    tiny = {key: QUICK[key] for key in ("architecture", "network", "front_end", "window_seconds", "batch_size")}
    (folder / "tiny.toml").write_text(tomlkit.dumps(tiny))
    audiorep.train(folder / "clips", folder / "trained", recipe=folder / "tiny.toml", epochs=6)
    (folder / "space.toml").write_text('[space]\n"network.width" = [4, 8]\n')
    (folder / "chain.toml").write_text('rounds = 2\n[[steps]]\ndo = "export"\n')
    rows = [f"clips/{label}/{n}.wav,{label},{1 + n % 2}" for label in ("low", "high") for n in range(20)]
    (folder / "folds.csv").write_text("\n".join(["path,label,fold", *rows]))
    (folder / "samples").symlink_to(SAMPLES)
    shutil.copytree(folder / "clips", folder / "more_clips")
    for path in (folder / "more_clips").rglob("*.wav"):
        samples, rate = soundfile.read(path)
        soundfile.write(path, 0.7 * samples, rate)
    (folder / "dist").mkdir()  # of a made-up ONNX Runtime for browsers
    (folder / "dist" / browser_runtime.SCRIPT).write_text("export {};")
    (folder / "dist" / browser_runtime.BINARY).write_bytes(b"\0asm")
    names = {
        "browser_runtime": "dist",
        "more_clips": "more_clips",
        "clips": "clips",
        "checkpoint": "trained",
        "model": "trained",
    }
    return {"folder": folder, "names": names}


def documented() -> dict[str, object]:
    names = {name: getattr(audiorep, name) for name in [*SIGNATURES, *CLASSES]}
    methods = {"__call__": audiorep.Classifier.__call__, "embed": audiorep.Classifier.embed}
    return {"audiorep": audiorep, **names, **methods, "overview": audiorep.models.overview}


@pytest.mark.slow
@pytest.mark.parametrize("name", documented())
def test_every_public_thing_has_an_example_that_runs(name, place, monkeypatch):
    monkeypatch.chdir(place["folder"])
    thing = documented()[name]
    doc = inspect.getdoc(thing) or ""
    assert ">>> " in doc, f"{name} has no example"
    given = {"audiorep": audiorep, "np": np, "soundfile": soundfile, "Path": Path, "os": os, **place["names"]}
    test = doctest.DocTestParser().get_doctest(doc, given, name, None, None)
    heard: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE, verbose=False)
    with shared.checkpoints():
        assert runner.run(test, out=heard.append).failed == 0, "".join(heard)
