"""Merges that are not equal are rolled back, and the report says what was done."""

from __future__ import annotations

import copy
import gc
import json

import pytest
import torch
from support import networks as zoo
from support.fusing import MAP, assert_equal, kinds, norms
from support.networks import randomize
from torch import nn

from audiorep import models
from audiorep.models.arin import Block
from audiorep.reparam import Parallel, fuse, plan


@pytest.mark.slow
def test_a_merge_that_is_not_equal_is_rolled_back_and_reported(monkeypatch):
    from audiorep.reparam import algebra

    scale = algebra.scale
    monkeypatch.setattr(algebra, "scale", lambda taps, gain, *rest: scale(taps, gain * (1 + 1e-8), *rest))
    network = randomize(nn.Sequential(zoo.conv_bn(8, 8, 3), nn.ReLU()).double())
    result = fuse(network, torch.randn(MAP, dtype=torch.float64))
    assert not result.merges
    assert any("rolled back: its float64 error is" in skip.reason for skip in result.skipped)
    assert_equal(network, result.model, torch.randn(MAP, dtype=torch.float64))


def test_a_merge_that_loses_float32_precision_is_rolled_back():
    network = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)).eval()
    with torch.no_grad():
        network[0].weight.normal_()
        network[0].bias.fill_(1e6)
        network[1].running_mean.fill_(1e6)  # the difference of two large numbers, now in one weight's rounding
    result = fuse(network, torch.randn(MAP))
    assert result.verification.passed


def test_the_report_reads_as_a_table_and_as_json():
    result = fuse(randomize(zoo.Asymmetric()), torch.randn(MAP))
    text = str(result)
    assert "parameters  1,008    584" in text
    assert "conv 3×3 + 3 batch norm + conv 3×1 + conv 1×3" in text
    assert "float64 difference" in text
    values = json.loads(json.dumps(result.to_dict()))
    assert values["verification"]["passed"] is True
    assert values["after"]["operations"] == {"conv": 1}
    branches = [merge for merge in values["merges"] if merge["kind"] == "parallel branches"]
    assert len(branches) == 1
    assert branches[0]["weight_range"] > 0
    assert branches[0]["error"] <= 1e-10
    assert all(merge["into"] == "square.0" or merge["members"] for merge in values["merges"])


def test_a_plan_computes_no_weights():
    class Untouchable(nn.Conv2d):
        pass

    network = randomize(nn.Sequential(Untouchable(8, 8, 3), nn.BatchNorm2d(8)))
    before = copy.deepcopy(network.state_dict())
    dry = plan(network, torch.randn(MAP))
    assert (dry.before.operations, dry.after.operations) == ({"conv": 1, "batch norm": 1}, {"conv": 1})
    assert dry.merges[0].error is None
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())


@pytest.mark.slow
@pytest.mark.parametrize("depths", [(1, 1, 1, 1), pytest.param((3, 4, 6, 3), marks=pytest.mark.full)])
def test_our_networks_fuse_completely_within_both_gates(depths):
    network = randomize(models.build("arin_pico", {"verb": 7, "noun": 5}, {"depths": list(depths)}))
    result = fuse(network, torch.randn(1, 1, 65, 64))
    assert result.verification.passed
    assert result.verification.float64 <= 1e-10
    assert result.after.operations["conv"] == 1 + sum(depths) * 5 + 3
    assert result.after.operations["add"] == sum(depths)
    assert norms(result.model) == 0
    assert kinds(result.model, Block, Parallel) == 0
    assert isinstance(result.model.get_submodule("stages.0.0.time"), nn.Conv2d)
    x = torch.randn(3, 1, 40, 48)
    expected, found = network(x), result.model(x)
    assert all((expected[h] - found[h]).abs().max() < 1e-5 * expected[h].abs().max() for h in ("verb", "noun"))


@pytest.mark.slow
def test_weights_that_were_merged_on_are_freed():
    from audiorep.reparam.affine import Affine
    from audiorep.reparam.capture import capture
    from audiorep.reparam.engine import Engine

    network = randomize(nn.Sequential(zoo.Asymmetric(), nn.ReLU(), zoo.PoolBranches()))
    engine = Engine(capture(network, (torch.randn(MAP),), {}), dry=False)
    engine.run()
    gc.collect()
    alive = {id(node.target) for node in engine.captured.graph.nodes}
    held = [o for o in gc.get_objects() if type(o) is Affine and not o.taps.weight.is_meta and len(o.members) > 1]
    assert not [o for o in held if id(o) not in alive]
