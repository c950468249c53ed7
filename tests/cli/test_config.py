"""Settings from files and the command line reach their fields, and every wrong one is named at once."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from support import ROOT
from support.processes import python, run

from audiorep import models
from audiorep.config import Config, from_plain, load, override, read_toml
from audiorep.errors import AudiorepError, BrokenPackageError, ConfigError, MissingExtraError, require
from audiorep.shipped import SHIPPED


@dataclass(frozen=True)
class Optimizer(Config):
    learning_rate: float = 1e-3
    name: Literal["adamw", "sgd"] = "adamw"
    betas: tuple[float, float] = (0.9, 0.999)

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise ConfigError(f"learning_rate is {self.learning_rate}; it must be above 0.")


@dataclass(frozen=True)
class Recipe(Config):
    epochs: int = 10
    mixed: bool = False
    labels: tuple[str, ...] = ()
    optimizer: Optimizer = field(default_factory=Optimizer)


# ---------------------------------------------------------------- load


def test_values_reach_their_fields_and_the_rest_keep_their_defaults():
    recipe = load(Recipe, {"epochs": 3, "labels": ["a", "b"], "optimizer": {"learning_rate": 0.1}}, "recipe.toml")
    assert recipe == Recipe(3, False, ("a", "b"), Optimizer(0.1))


def test_nothing_given_is_all_defaults():
    assert load(Recipe, {}, "settings") == Recipe()


def test_all_problems_are_named_in_one_error_with_where_they_are():
    values = {"epochs": "many", "epoch": 3, "optimizer": {"name": "adam", "learning_rate": -1, "momentum": 0.9}}
    with pytest.raises(ConfigError) as caught:
        load(Recipe, values, "recipes/my.toml")
    text = str(caught.value)
    assert text.startswith("recipes/my.toml: ")
    assert "epochs is 'many'" in text
    assert "epoch is not a setting" in text
    assert "optimizer.name is 'adam': input should be 'adamw' or 'sgd'" in text
    assert "optimizer.momentum is not a setting" in text


def test_value_that_a_class_refuses_keeps_the_classes_own_words():
    with pytest.raises(ConfigError) as caught:
        load(Recipe, {"optimizer": {"learning_rate": -1.0}}, "settings")
    assert "learning_rate is -1.0" in str(caught.value)


def test_value_in_place_of_a_section_is_refused():
    with pytest.raises(ConfigError, match=r"settings: optimizer is 3"):
        load(Recipe, {"optimizer": 3}, "settings")


def test_refusal_is_one_of_ours_and_a_value_error():
    with pytest.raises(AudiorepError):
        load(Recipe, {"x": 1}, "settings")
    with pytest.raises(ValueError, match="x"):
        load(Recipe, {"x": 1}, "settings")


def test_plain_values_that_we_wrote_become_tuples_and_unknown_ones_are_left_out():
    assert from_plain(Recipe, {"epochs": 2, "labels": ["a"], "of_the_future": 1}) == Recipe(2, labels=("a",))


# ---------------------------------------------------------------- override


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("a=1", {"a": 1}),
        ("a=1e-3", {"a": 1e-3}),
        ("a=true", {"a": True}),
        ("a=text", {"a": "text"}),
        ('a="text"', {"a": "text"}),
        ("a=", {"a": ""}),
        ("a=[1, 2]", {"a": [1, 2]}),
        ('a=["x", "y"]', {"a": ["x", "y"]}),
        ("a = two words ", {"a": "two words"}),
        ("a=b=c", {"a": "b=c"}),
        ("a=path/to.wav", {"a": "path/to.wav"}),
        ("a.b.c=1", {"a": {"b": {"c": 1}}}),
    ],
)
def test_setting_is_put_in(setting, expected):
    assert override({}, [setting]) == expected


def test_later_settings_win_and_neighbors_and_the_original_stay():
    values = {"optimizer": {"learning_rate": 0.1, "name": "sgd"}, "epochs": 3}
    changed = override(values, ["optimizer.learning_rate=0.2", "optimizer.learning_rate=0.3", "seed=1"])
    assert changed == {"optimizer": {"learning_rate": 0.3, "name": "sgd"}, "epochs": 3, "seed": 1}
    assert values == {"optimizer": {"learning_rate": 0.1, "name": "sgd"}, "epochs": 3}


@pytest.mark.parametrize("setting", ["epochs", "", "=3", "optimizer.=3", "optimizer..rate=3", ".rate=3"])
def test_setting_without_a_name_or_value_is_refused_with_an_example(setting):
    with pytest.raises(ConfigError, match=r"section\.key=value") as caught:
        override({}, [setting])
    assert repr(setting) in str(caught.value)


def test_path_through_a_value_is_refused():
    with pytest.raises(ConfigError, match=r"'epochs\.first=1': epochs "):
        override({"epochs": 3}, ["epochs.first=1"])


# ---------------------------------------------------------------- read_toml


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_toml_file_becomes_its_tables(tmp_path, encoding):
    (tmp_path / "a.toml").write_text('name = "größe"\n[optimizer]\nlearning_rate = 0.1\n', encoding=encoding)
    assert read_toml(tmp_path / "a.toml") == {"name": "größe", "optimizer": {"learning_rate": 0.1}}


def test_missing_toml_file_is_refused_with_its_path(tmp_path):
    with pytest.raises(ConfigError, match=r"gone\.toml .*No such file") as caught:
        read_toml(tmp_path / "gone.toml")
    assert str(tmp_path) in str(caught.value)


def test_folder_in_place_of_a_toml_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="Is a directory"):
        read_toml(tmp_path)


@pytest.mark.parametrize("content", [b"epochs: 3\n", b"epochs = 3\nepochs = 4\n", b"\xff\xfe\x00binary", b"name = 'open"])
def test_file_that_is_no_toml_is_refused_with_its_path_and_the_reason(tmp_path, content):
    (tmp_path / "a.toml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"a\.toml") as caught:
        read_toml(tmp_path / "a.toml")
    assert str(tmp_path) in str(caught.value)


# ---------------------------------------------------------------- require


def test_optional_package_that_is_installed_is_given():
    assert require("json.decoder", extra="any").__name__ == "json.decoder"


@pytest.mark.parametrize("package", ["no_such_package", "no_such_package.part"])
def test_missing_package_is_one_sentence_with_the_command(package):
    with pytest.raises(MissingExtraError) as caught:
        require(package, extra="openvino")
    assert str(caught.value) == f"This needs the package {package}. Install it with: pip install 'audiorep[openvino]'"


def test_package_that_is_broken_inside_is_not_said_to_be_missing(tmp_path, monkeypatch):
    (tmp_path / "broken_inside.py").write_text("import no_such_dependency\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BrokenPackageError, match=r"broken_inside .*no_such_dependency"):
        require("broken_inside", extra="openvino")


def test_an_error_stays_short_whatever_it_is_about():
    with pytest.raises(ConfigError) as caught:
        models.configure("arin_pico", {"label": 3}, {"time_kernels": ["x" * 1000] * 1000, "width": "y" * 10_000})
    assert len(str(caught.value)) < 2500
    assert "and 989 more like these" in str(caught.value)
    with pytest.raises(ConfigError) as caught:
        models.configure("x" * 100_000, {"label": 3})
    assert len(str(caught.value)) < 1000


@pytest.fixture
def other_torchvision(tmp_path) -> Path:
    """A folder with a torchvision that was made for another torch, as such a one behaves."""
    folder = tmp_path / "site"
    (folder / "torchvision").mkdir(parents=True)
    (folder / "torchvision" / "__init__.py").write_text("raise RuntimeError('operator torchvision::nms does not exist')\n")
    (folder / "torchvision-0.99.0.dist-info").mkdir()
    (folder / "torchvision-0.99.0.dist-info" / "METADATA").write_text("Name: torchvision\nVersion: 0.99.0\n")
    return folder


# One process for all commands, each of which finds no package loaded that a torchvision could have kept from loading.
COMMANDS = """
import contextlib, io, json, sys
from audiorep.cli.main import main
import torch
before, ends = set(sys.modules), []
for words in json.loads(sys.argv[1]):
    sys.argv = ["audiorep", *words]
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
        try:
            main()
            status = 0
        except SystemExit as end:
            status = end.code or 0
    ends.append([status, " ".join(said.getvalue().split())])
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("lightning", "torchmetrics", "torchvision", "audiorep"):
            del sys.modules[name]
print(json.dumps(ends))
"""


@pytest.mark.full
@pytest.mark.slow
def test_a_torchvision_of_another_torch_is_one_sentence(other_torchvision, tmp_path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(other_torchvision), str(ROOT)])}
    (tmp_path / "clips").mkdir()
    bundle = str(SHIPPED["esc50"].file)
    commands = [["train", "clips", "-o", "run"], ["evaluate", bundle, "clips"], ["doctor"]]
    done = run(python(COMMANDS, json.dumps(commands)), cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    ends = json.loads(done.stdout)
    assert [status for status, _ in ends] == [2, 2, 0]
    for _, said in ends:
        assert "torchvision 0.99.0 does not fit torch" in said
        assert "pip uninstall torchvision" in said
        assert "Traceback" not in said
