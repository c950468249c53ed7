"""Training from clips on the device, with recorded passes, is the training from clips in memory."""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest
import torch
from support.teaching import LABELS, WHOLE
from support.training import quick, weights

from audiorep.datasets.resident import resident
from audiorep.models import checkpoint
from audiorep.training import capture, fit, loaders
from audiorep.training.module import Trainee


@pytest.mark.slow
def test_where_cuts_are_whole_clips_both_ways_give_the_same_weights(examples, tmp_path, monkeypatch):
    settings = quick(**{**WHOLE, "network": {**quick().network, "dropout": 0.0, "stochastic_depth": 0.0}}, keep="last")
    fit.fit(settings, examples, tmp_path / "memory")
    monkeypatch.setattr(loaders, "on_device", lambda clips, config: resident(clips, torch.device("cpu")))
    fit.fit(settings, examples, tmp_path / "device")
    memory, device = weights(tmp_path / "memory"), weights(tmp_path / "device")
    assert all(torch.allclose(memory[name], device[name], atol=2e-3) for name in memory)


@pytest.mark.slow
def test_a_training_from_the_device_resumes_as_if_it_had_not_stopped(examples, tmp_path, monkeypatch):
    monkeypatch.setattr(loaders, "on_device", lambda clips, config: resident(clips, torch.device("cpu")))

    def stop(epoch: int, values: dict[str, float]) -> None:
        if epoch == 1:
            raise KeyboardInterrupt

    settings = quick(cuts=2, precise_norms=2, keep="last")
    fit.fit(settings, examples, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        fit.fit(settings, examples, tmp_path / "stopped", on_epoch=stop)
    fit.fit(settings, examples, tmp_path / "stopped")
    assert all(torch.equal(value, weights(tmp_path / "whole")[name]) for name, value in weights(tmp_path / "stopped").items())


@pytest.mark.filterwarnings("ignore:User provided device_type of 'cuda'")
def test_recording_leaves_the_norms_as_they_were(monkeypatch):
    network = Trainee(quick(), LABELS, 4, {}).network.train()
    runs = []

    def graphed(module, samples, allow_unused_input):
        runs.extend(module(*samples) for _ in range(3))
        return module

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", graphed)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    example = torch.randn(4, 1, 16, 16)
    replay = capture.recorded(network, example)
    assert len(runs) == 3
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert replay(example).shape == network.forward_features(example).shape


def test_on_a_processor_the_last_map_takes_the_plain_way(monkeypatch):
    monkeypatch.setattr(capture, "recorded", None)
    network = Trainee(quick(), LABELS, 4, {}).network.eval()
    example = torch.randn(4, 1, 16, 16)
    assert torch.equal(capture.LastMap(network)(example), network.forward_features(example))


@pytest.mark.full
def test_the_job_of_the_taggers_runs_in_miniature(audiorep_data, tmp_path, monkeypatch):
    root = Path(__file__).parents[2]
    monkeypatch.syspath_prepend(root)
    monkeypatch.chdir(root)
    monkeypatch.setattr(loaders, "clips_of", loaders.clips_of)  # which the job replaces
    pack = ["--data", audiorep_data, "--out", tmp_path / "pack", "--every", 100]
    settings = '{"batch_size": 4, "cuts": 1, "network": {"depths": [1, 1], "time_kernels": [3], "frequency_kernels": [3]}}'
    job = ["--minutes", 0.6, "--data", tmp_path / "pack", "--out", tmp_path / "out", "--settings", settings]
    for name, given in (("pack", pack), ("taught", job)):
        monkeypatch.setattr(sys, "argv", [name, *map(str, given)])
        runpy.run_module(f"experiments.gpu.{name}", run_name="__main__")
    for size in ("arin_nano", "arin_small"):
        assert len(checkpoint.load(tmp_path / "out" / size).info.labels["label"]) == 521
