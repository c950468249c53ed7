"""What a network asks of its sizes stays; what only the exporter asks goes, told apart by solving it."""

from __future__ import annotations

import itertools
import types

import pytest
import sympy
import torch
import torch.nn.functional as F
from support.networks import randomize
from torch import nn
from torch.utils._sympy.functions import FloorDiv, Mod

from audiorep.errors import FuseError
from audiorep.reparam import conditions as solver
from audiorep.reparam import fuse

S, T = sympy.symbols("s t", integer=True, positive=True)


@pytest.mark.parametrize(
    ("relation", "ones"),
    [
        (sympy.Ne(S, 1), {"s"}),
        (sympy.Ne(1, S), {"s"}),
        (S > 1, {"s"}),
        (sympy.Lt(37632, 37632 * S), {"s"}),
        (sympy.Ge(3 * S, 6), {"s"}),
        (sympy.Ne(8 * S, 8), {"s"}),
        (sympy.Ne(S * T * 8, 8 * T), {"s"}),
        (sympy.Ne(S**2, 1), {"s"}),
        (sympy.Lt(1, S * T), {"s", "t"}),
        (sympy.Lt(1, 3 * S * T), set()),
        (sympy.Ne(Mod(S, 2), 0), None),
        (sympy.Eq(Mod(S, 2), 0), None),
        (sympy.Ne(1 + FloorDiv(S - 1, 4), 1), None),
        (sympy.Ge(S, 3), None),
        (sympy.Ne(S, 2), None),
        (S < 50, None),
        (sympy.Eq(S, 20), None),
        (sympy.Ne((S - 1) * (T - 1), 0), None),
        (sympy.Or(sympy.Ne(S, 1), T < 50), None),
        (sympy.Ne(S, T), None),
    ],
)
def test_solving_tells_what_sizes_of_one_alone_break(relation, ones):
    found = solver._ones(relation)
    assert found == (None if ones is None else frozenset(ones))
    if ones is not None:  # and so it is for every small size
        for s, t in itertools.product(range(1, 12), repeat=2):
            broken = not bool(relation.subs({S: s, T: t}))
            assert broken == (bool(ones) and all({"s": s, "t": t}[name] == 1 for name in ones))


def test_conditions_read_as_sentences():
    assert solver.sentence(sympy.Ne(Mod(S, 2), 0)) == "s is odd"
    assert solver.sentence(sympy.Eq(Mod(S, 8), 0)) == "s is a multiple of 8"
    assert solver.sentence(sympy.Eq(FloorDiv(S + 31, 32), 1)) == "(31 + s) divided (rounded down) by 32 equals 1"
    assert solver.sentence(sympy.Lt(3, S)) == "s is greater than 3"


class Net(nn.Module):
    """Convolution → norm → what the test asks, with recurrent layers to ask it of."""

    def __init__(self, last) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.bn, self.last = nn.Conv1d(8, 8, 3, padding=1), nn.BatchNorm1d(8), last
        self.lstm, self.gru = nn.LSTM(8, 4, batch_first=True, bidirectional=True), nn.GRU(8, 8, batch_first=True)
        self.rnn, self.head = nn.RNN(8, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self, x, self.bn(self.conv(x)))


def steps(layer):
    def run(self, y):
        return getattr(self, layer)(y.transpose(1, 2))[0]

    return run


ASKS = {
    "parity": lambda self, x, y: y.roll(2, 2) if x.shape[2] % 2 != 0 else y,
    "padded-to-a-multiple": lambda self, x, y: F.pad(y, (0, 4 - y.shape[2] % 4)) if y.shape[2] % 4 else y,
    "floor-division": lambda self, x, y: y * 2 if x.shape[2] // 8 == 2 else y,
    "split": lambda self, x, y: torch.stack([piece.mean() for piece in y.split(32, 2)]),
    "chunk": lambda self, x, y: torch.stack([piece.mean() for piece in y.chunk(4, 2)]),
    "above": lambda self, x, y: y * 2 if x.shape[2] > 40 else y,
    "product": lambda self, x, y: y * 2 if x.shape[0] * x.shape[2] > 40 else y,
    "batch-and-length": lambda self, x, y: y * 3 if x.shape[0] == 1 and x.shape[2] > 50 else y,
    "even-batch": lambda self, x, y: y * 2 if x.shape[0] % 2 == 0 else y,
    "equal-sizes": lambda self, x, y: y * 2 if x.shape[0] == x.shape[2] else y,
    "loop": lambda self, x, y: sum(y[:, :, t] for t in range(y.shape[2])),
    "square-root": lambda self, x, y: y * int(y.shape[2] ** 0.5),
    "slice": lambda self, x, y: y[:, :, :30].reshape(y.shape[0], -1),
    "max-pool": lambda self, x, y: F.max_pool1d(y, 2),
    "lstm-split": lambda self, x, y: torch.stack([self.head(p).mean(1) for p in steps("lstm")(self, y).split(32, 1)], 1),
    "gru-parity": lambda self, x, y: steps("gru")(self, y)[:, :: 1 + x.shape[2] % 2],
    "gru-if-odd": lambda self, x, y: steps("gru")(self, y)[:, ::2] if x.shape[2] % 2 else steps("gru")(self, y),
    "rnn-chunk": lambda self, x, y: torch.stack([self.head(p).mean(1) for p in steps("rnn")(self, y).chunk(3, 1)]),
    "lstm-middle": lambda self, x, y: steps("lstm")(self, y)[:, x.shape[2] // 2],
}
FREE = {"max-pool": 2, "gru-parity": 1, "lstm-middle": 1}  # taken at every length from this one on


@pytest.mark.slow
@pytest.mark.parametrize("batch", [2, 1])
@pytest.mark.parametrize("name", ASKS)
def test_at_every_size_a_merged_network_equals_the_original_or_refuses(name, batch):
    network = randomize(Net(ASKS[name]).double())
    example = torch.randn(batch, 8, 20, dtype=torch.float64)
    result = fuse(network, example)
    assert result.merges
    assert result.verification.passed
    taken = 0
    for size in itertools.product((1, 2, 3, 20), (1, 2, 5, 19, 20, 21, 32, 33, 64, 100)):
        x = torch.randn(size[0], 8, size[1], dtype=torch.float64)
        try:
            found = result.model(x)
        except FuseError:
            assert size != (batch, 20)
            assert name not in FREE or size[1] < FREE[name]
            continue
        taken += 1
        assert torch.allclose(found, network(x), rtol=1e-9, atol=1e-9), size
    assert taken >= 4


@pytest.mark.slow
def test_a_condition_of_the_networks_own_on_a_batch_of_one_stays_even_if_nothing_follows_from_it_there():
    network = randomize(Net(lambda self, x, y: y * 3 if x.shape[0] == 1 and x.shape[2] > 50 else y))
    fused = fuse(network, torch.randn(2, 8, 20)).model
    with pytest.raises(FuseError, match=r"x\.size\(\)\[0\] != 1"):
        fused(torch.randn(1, 8, 60))


def grown(self, x, y):
    scale = torch.arange(1.0, y.shape[1] + 1, dtype=y.dtype)[None, :, None]
    return y * (scale.expand(x.shape[0], -1, -1) if x.shape[0] != 1 else scale)


@pytest.mark.slow
@pytest.mark.parametrize("batch", [2, 1])
def test_a_question_about_one_that_changes_nothing_binds_nobody(batch):
    network = randomize(Net(grown).double())
    fused = fuse(network, torch.randn(batch, 8, 20, dtype=torch.float64))
    assert fused.merges
    for rows, length in itertools.product((1, 2, 3), (7, 20, 33)):
        x = torch.randn(rows, 8, length, dtype=torch.float64)
        assert torch.allclose(fused.model(x), network(x), rtol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize(
    "last",
    [
        lambda self, x, y: y.clamp(-1e3, 1e3) if x.shape[0] == 1 else y,  # noise does not reach it
        lambda self, x, y: grown(self, x, y) * (1e-3 if x.shape[0] == 1 and x.shape[2] > 500 else 1),
        lambda self, x, y: y * 2 if x.shape[0] == 1 and (y > 1e9).any() else y,
    ],
)
def test_a_question_about_one_that_matters_for_some_values_stays(last):
    fused = fuse(randomize(Net(last)), torch.randn(2, 8, 20)).model
    with pytest.raises(FuseError, match=r"x\.size\(\)\[0\] != 1"):
        fused(torch.randn(1, 8, 20))


@pytest.mark.slow
def test_two_questions_that_matter_only_together_stay():
    def last(self, x, y):
        y = grown(self, x, y)
        return y.clamp(-1e3, 1e3) if x.shape[2] == 1 and x.shape[0] == 1 else y

    fused = fuse(randomize(Net(last)), torch.randn(2, 8, 20)).model
    with pytest.raises(FuseError):
        fused(torch.randn(1, 8, 1))


class Expanded(nn.Module):
    """A position table grown to the batch, as ConViT grows it, which the exporter takes for a question about one."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.lin, self.position = nn.LayerNorm(8), nn.Linear(8, 8), nn.Linear(3, 2)
        self.register_buffer("table", torch.randn(1, 6, 6, 3))

    def forward(self, x):
        y = self.lin(self.norm(x)).reshape(x.shape[0], 6, 2, 4).permute(0, 2, 1, 3)
        weights = self.position(self.table.expand(x.shape[0], -1, -1, -1)).permute(0, 3, 1, 2).softmax(-1)
        return (weights @ y).transpose(1, 2).reshape(x.shape)


class Windowed(nn.Module):
    """Attention's windows of two, padded, parted and put together again, as EfficientViT does it."""

    def __init__(self) -> None:
        super().__init__()
        self.lin, self.norm, self.out = nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 8)

    def forward(self, x):
        batch, rows, width = x.shape
        more = -rows % 4
        y = F.pad(self.lin(x), (0, 0, 0, more)).view(batch, (rows + more) // 4, 4, width)
        y = self.out(self.norm(y.reshape(-1, 4, width))).permute(0, 2, 1).contiguous().permute(0, 2, 1)
        return y.reshape(batch, rows + more, width)[:, :rows].contiguous()


@pytest.mark.slow
@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("kind", [Expanded, Windowed])
def test_a_batch_of_one_works_where_only_the_exporter_asks(kind, batch):
    network = randomize(kind())
    fused = fuse(network, torch.randn(batch, 6, 8)).model
    for n in (1, 2, 5):
        x = torch.randn(n, 6, 8)
        assert torch.allclose(fused(x), network(x), atol=1e-5)


@pytest.mark.slow
def test_sizes_stay_fixed_where_torch_does_not_say_what_it_asks_of_them(monkeypatch):
    def lost(symbols, *rest):
        if symbols:
            raise AttributeError("guards")
        return []

    network = randomize(Net(ASKS["parity"]))
    with monkeypatch.context() as patched:
        patched.setattr("audiorep.reparam.sizes._conditions", lost)
        fused = fuse(network, torch.randn(2, 8, 20)).model
    assert torch.allclose(fused(torch.ones(2, 8, 20)), network(torch.ones(2, 8, 20)), atol=1e-5)
    for shape in ((2, 8, 22), (3, 8, 20)):
        with pytest.raises(FuseError, match="was fused for"):
            fused(torch.randn(shape))


def test_a_torch_without_the_switch_for_sizes_of_one_is_refused(monkeypatch):
    network = randomize(Net(ASKS["parity"]))
    monkeypatch.setattr("torch.fx.experimental._config", types.SimpleNamespace())
    result = fuse(network, torch.randn(2, 8, 20))
    assert not result.merges
    assert any("torch.export cannot capture it" in skip.reason and "'patch'" in skip.reason for skip in result.skipped)
