"""A merged network learns under int8's rounding, and what it learned is what is quantized."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from support.training import epoch_of, quick

from audiorep import datasets
from audiorep.compress import qat, steps
from audiorep.errors import ConfigError, MissingExtraError
from audiorep.models import checkpoint
from audiorep.runtimes import open_session
from audiorep.training import fit, workflow

pytestmark = pytest.mark.slow

installed = pytest.mark.skipif(importlib.util.find_spec("torchao") is None, reason="torchao is not installed")


@pytest.fixture(scope="module")
def run(tones, tmp_path_factory):
    output = tmp_path_factory.mktemp("run") / "tones"
    settings = quick(epochs=6, augment={}, keep="last")
    workflow.train(settings, datasets.examples(tones), tones, output)
    return output


@pytest.fixture
def work(run, tones, tmp_path) -> steps.Work:
    return steps.Work(checkpoint.load(run), run, run, datasets.examples(tones), tones, tmp_path / "qat")


@installed
def test_the_rounded_copy_has_the_same_parameters_and_rounds(work):
    fused = work.model.fuse().model
    pair = torch.cat([work.model.example()] * 2)
    rounded = qat.Rounding(fused, pair)
    here, there = dict(fused.named_parameters()), dict(rounded.program.named_parameters())
    assert here.keys() == there.keys()
    assert all(torch.equal(here[name], there[name]) for name in here)
    three = torch.cat([pair, pair[:1]])
    for _ in range(4):
        found = rounded(three)["label"]  # any batch; ranges follow what they see
    difference = (found - fused(three)["label"]).abs().max()
    assert 1e-6 < difference < 0.5 * fused(three)["label"].abs().max()
    found.sum().backward()
    assert all(parameter.grad is not None for parameter in rounded.parameters())
    assert all(parameter.grad is None for parameter in fused.parameters())


@installed
def test_ranges_follow_values_in_training_alone(work):
    pair = torch.cat([work.model.example()] * 2)
    rounded = qat.Rounding(work.model.fuse().model, pair)
    rounded(pair)
    before = {name: value.clone() for name, value in rounded.state_dict().items() if name.endswith("_val")}
    rounded.eval()(100 * pair)
    assert all(torch.equal(value, before[name]) for name, value in rounded.state_dict().items() if name in before)
    rounded.train()(100 * pair)
    assert not all(torch.equal(value, before[name]) for name, value in rounded.state_dict().items() if name in before)


@installed
def test_training_moves_a_copy_and_lowers_the_loss(work):
    before = {name: tensor.clone() for name, tensor in work.model.network.state_dict().items()}
    said: list[str] = []
    settings = replace(steps.Qat(epochs=4, learning_rate=3e-3).settings(work), ema_decay=0.0)
    made = qat.fit(work.model, settings, work.examples, work.output, said.append)
    losses = [float(line.split("train loss ")[1].split(",")[0]) for line in said if "train loss" in line]
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    assert all("valid accuracy" in line for line in said if "train loss" in line)
    assert all(torch.equal(tensor, before[name]) for name, tensor in work.model.network.state_dict().items())
    fused = work.model.fuse().model
    assert {name for name, _ in made.named_parameters()} == {name for name, _ in fused.named_parameters()}
    assert not torch.equal(made(work.model.example())["label"], fused(work.model.example())["label"])
    assert not made.training


def stopping(epoch: int) -> Callable[[str], None]:
    def say(text: str) -> None:
        if text.startswith(f"epoch {epoch}/"):
            raise RuntimeError("cut off")

    return say


@installed
@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_a_resumed_training_ends_where_an_unbroken_one_does(work, decay):
    settings = replace(steps.Qat(epochs=3).settings(work), ema_decay=decay)
    whole = qat.fit(work.model, settings, work.examples, work.output / "whole")
    with pytest.raises(RuntimeError, match="cut off"):
        qat.fit(work.model, settings, work.examples, work.output / "broken", stopping(3))
    assert epoch_of(work.output / "broken" / fit.LAST) < 2
    resumed = qat.fit(work.model, settings, work.examples, work.output / "broken")
    for (name, one), other in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other), name
    with pytest.raises(ConfigError, match="epochs changed"):
        qat.fit(work.model, replace(settings, epochs=5), work.examples, work.output / "broken")


@installed
def test_the_step_leaves_an_int8_file(work):
    path = steps.Qat(epochs=1, loss=1.0).run(work)
    assert open_session(path).info.provenance["precision"] == "int8"
    settings = steps.Qat(epochs=1, learning_rate=1e30).settings(work)
    with pytest.raises(ConfigError, match="diverged"):
        qat.fit(work.model, settings, work.examples, work.output / "other")


@pytest.mark.skipif(importlib.util.find_spec("torchao") is not None, reason="torchao is installed")
def test_without_torchao_the_command_to_install_it_is_named(work):
    with pytest.raises(MissingExtraError, match=r"pip install 'audiorep\[qat\]'"):
        qat.Rounding(work.model.fuse().model, torch.cat([work.model.example()] * 2))
