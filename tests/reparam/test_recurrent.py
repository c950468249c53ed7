"""Recurrent layers take in the linear layers and norms that feed them."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from support import unusual_networks
from support.fusing import assert_equal, parameters
from support.networks import randomize
from torch import nn

from audiorep.reparam import fuse


@pytest.mark.slow
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("more", [{}, {"bidirectional": True}, {"bias": False}], ids=["plain", "both-ways", "no-bias"])
def test_recurrent_layers_take_in_what_feeds_them(kind, more):
    network = randomize(unusual_networks.Classifier(kind, **more).double())
    if more.get("bias") is False:
        network.norm.bias = None
    index = torch.randint(0, 50, (2, 7))
    result = fuse(network, index)
    assert not any("norm" in name for name in result.model.state_dict())
    assert parameters(result.model) <= parameters(network)
    if kind is nn.LSTM and "bias" not in more:
        assert not any("bias_hh" in name for name, _ in result.model.named_parameters())
    for length, batch in ((7, 2), (3, 1), (12, 4)):
        assert_equal(network, result.model, torch.randint(0, 50, (batch, length)))
    assert_equal(network, copy.deepcopy(result.model), index)
    assert_equal(network, pickle.loads(pickle.dumps(result.model)), index)


@pytest.mark.slow
def test_a_linear_layer_before_an_lstm_folds_where_it_saves():
    class Projected(nn.Module):
        def __init__(self, width) -> None:
            super().__init__()
            self.linear, self.rnn = nn.Linear(6, width), nn.LSTM(width, 4, batch_first=True)

        def forward(self, x):
            return self.rnn(self.linear(x))

    x = torch.randn(2, 5, 6, dtype=torch.float64)
    for width, folds in ((12, True), (2, False)):
        network = Projected(width).double().eval()
        result = fuse(network, x)
        assert ("linear.weight" not in result.model.state_dict()) == folds
        assert_equal(network, result.model, x)
