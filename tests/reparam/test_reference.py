"""The proof is about the original: what its captured graph does otherwise is refused, with the cause."""

from __future__ import annotations

import math

import pytest
import torch
from support.networks import randomize
from torch import nn

from audiorep.reparam import Verification, fuse
from audiorep.reparam.compare import difference, largest_error, relative_error

X = torch.randn(4, 8)


class Net(nn.Module):
    """Linear → norm → whatever the test asks."""

    def __init__(self, last, **state) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.lin, self.bn, self.last = nn.Linear(8, 8), nn.BatchNorm1d(8), last
        for key, value in state.items():
            setattr(self, key, value)

    def forward(self, x):
        return self.last(self, x, self.bn(self.lin(x)))


def refused(network: nn.Module, *example: torch.Tensor) -> str:
    """Why nothing was merged; the result is the original."""
    result = fuse(network, *example)
    assert not result.merges
    assert type(result.model) is type(network)
    return " ".join(map(str, result.skipped))


# --- the captured graph against the original


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), 2)
        self.head = nn.Linear(16, 3)

    def forward(self, x, padding=None):
        return self.head(self.encoder(x, src_key_padding_mask=padding).mean(1))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*nested tensors is in prototype stage")
def test_the_fast_path_of_a_transformer_is_the_reference_and_not_its_capture():
    torch.manual_seed(0)
    network, x = Tagger().eval(), torch.randn(2, 7, 16)
    padding = torch.arange(7)[None] >= torch.tensor([[3], [5]])
    for dtype in (torch.float32, torch.float64):
        network, x = network.to(dtype), x.to(dtype)
        result = fuse(network, x, padding)
        with torch.no_grad():
            assert torch.equal(network(x, padding), result.model(x, padding))
        assert any("gives something else than the network itself" in skip.reason for skip in result.skipped)
        assert any("`encoder` runs on a fast path" in skip.reason for skip in result.skipped)
    assert fuse(network, x).verification.captured <= 1e-12  # without a mask both ways agree


def counted(self, x, y):
    self.calls += 1
    return y * min(1.0, self.calls / 10)


def counted_and_cast(self, x, y):
    return counted(self, x, y) * (x > 0).to(x.dtype)


def late(self, x, y):
    self.calls += 1
    return y * 2 if self.calls > 5 else y


def remembered(self, x, y):
    if self.seen is None:
        self.seen = x.mean()
    return y + self.seen


def listed(self, x, y):
    self.history.append(1)
    return y * len(self.history)


def switched(self, x, y):
    first, self.first = self.first, False
    return y * 2 if first else y


STATES = {
    "warm-up": (counted, {"calls": 0}, "it keeps `calls` from one call to the next"),
    "warm-up-that-casts": (counted_and_cast, {"calls": 0}, "it keeps `calls` from one call to the next"),
    "a-threshold-far-off": (late, {"calls": 0}, "it keeps `calls` from one call to the next and computes with it"),
    "first-input": (remembered, {"seen": None}, "gives something else than the network itself"),
    "list": (listed, {"history": []}, "it keeps something from one call to the next"),
    "flag": (switched, {"first": True}, "it keeps `first` from one call to the next"),
    "random": (lambda self, x, y: y + torch.rand(1), {}, r"it draws at random (aten.rand"),
    "dropout": (lambda self, x, y: nn.functional.dropout(y, 0.5, True), {}, "it draws at random (aten.dropout"),
}


@pytest.mark.parametrize("name", STATES)
def test_what_remembers_or_draws_is_refused_with_the_cause(name):
    last, state, cause = STATES[name]
    assert cause in refused(randomize(Net(last, **state)), X)


def shaped(self, x, y):
    self.height = x.shape[0]
    return y.reshape(self.height, -1)


def counting_only(self, x, y):
    self.calls += 1
    self.kept = y
    return y


def cached(self, x, y):
    if self.size != x.shape[0]:
        self.size, self.table = x.shape[0], torch.arange(float(x.shape[0]))[:, None]
    return y + self.table


@pytest.mark.parametrize(
    ("last", "state"),
    [(shaped, {"height": 0}), (counting_only, {"calls": 0}), (cached, {"size": -1, "table": None})],
    ids=["a-size-on-the-way", "a-counter-nobody-reads", "a-table-made-again"],
)
def test_what_is_kept_and_does_not_matter_is_merged(last, state):
    network = randomize(Net(last, **state).double())
    x = X.double()
    result = fuse(network, x)
    assert result.merges
    assert torch.allclose(result.model(x), network(x), rtol=1e-10)


def test_casts_of_the_network_are_measured_against_the_network():
    network = randomize(Net(lambda self, x, y: (y.half() * (x > 0).half()).to(x.dtype)))
    result = fuse(network, X)
    assert result.merges
    assert result.verification.passed
    assert result.verification.captured == 0
    assert 0 < result.verification.unfused_float32 < 1e-3


def test_own_rounding_that_leaves_nothing_to_show_is_refused():
    network = randomize(Net(lambda self, x, y: (y * 1e9).sin()))
    assert "its own rounding is" in refused(network, X)


def test_an_output_of_nan_alone_is_refused_and_nan_elsewhere_must_stay_in_place():
    network = Net(lambda self, x, y: y).eval()
    network.lin.weight.data.fill_(math.nan)
    assert "nothing but NaN" in refused(network, X)
    network = randomize(Net(lambda self, x, y: y))
    network.lin.weight.data[3] = math.nan
    result = fuse(network, X)
    assert result.merges
    assert torch.equal(result.model(X).isnan(), network(X).isnan())


def test_a_wrong_merge_is_found_beside_nan(monkeypatch):
    from audiorep.reparam import algebra

    scale = algebra.scale
    monkeypatch.setattr(algebra, "scale", lambda taps, gain, *rest: scale(taps, gain * (1 + 1e-8), *rest))
    network = randomize(Net(lambda self, x, y: torch.where(x.mean() > 5, y, x)))  # the branch is not seen at the example
    network.lin.weight.data[3] = math.nan
    result = fuse(network, X)
    assert not result.merges
    assert any("rolled back: its float64 error is" in skip.reason for skip in result.skipped)


# --- integers


@pytest.mark.slow
def test_flipped_integers_open_no_other_gate():
    def last(self, x, y):
        y = y * 3 if x.shape[0] == 1 else y
        return y, (y * 1e6).round().long()

    network = randomize(Net(last))
    result = fuse(network, torch.randn(64, 8))
    gates = result.verification
    assert gates.passed
    assert gates.float32 < 1e-6
    assert 0 < gates.unfused_flipped < 1
    assert gates.flipped64 == 0
    assert "integer outputs that differ" in str(result)
    with pytest.raises(Exception, match=r"x\.size\(\)\[0\] != 1"):
        result.model(torch.randn(1, 8))


@pytest.mark.parametrize(
    ("gates", "reason"),
    [
        ({"unfused_float32": math.inf}, "the original's own rounding is inf"),
        ({"unfused_float32": math.nan}, "the original's own rounding is nan"),
        ({"unfused_float32": 0.6, "float32": 0.6}, "the original's own rounding is 6.0e-01"),
        ({"float64": math.nan}, "its float64 difference is nan"),
        ({"float32": math.nan}, "its difference in its own precision is nan"),
        ({"flipped64": 0.01}, "1.00% of its integer outputs differ in float64"),
        ({"flipped": 0.5, "unfused_flipped": 0.01}, "50.00% of its integer outputs differ"),
        ({"refused": "it does not run on the example: no"}, "it does not run on the example: no"),
    ],
)
def test_no_gate_is_passed_by_what_is_not_a_number_or_too_large(gates, reason):
    values = {"float64": 0.0, "float32": 0.0, "unfused_float32": 0.0, **gates}
    found = Verification(**values)
    assert not found.passed
    assert reason in found.failure


def test_differences_are_told_by_kind():
    whole = torch.tensor([1, 2, 3, 4])
    assert difference([whole], [torch.tensor([1, 2, 3, 5])]).flipped == 0.25
    assert difference([whole], [whole.double()]).value == math.inf
    assert difference([X], [X, X]).value == math.inf
    assert difference([None, 2, math.nan], [None, 2, math.nan]).flipped == 0
    assert difference([1], [True]).flipped == 1
    nan = torch.tensor([1.0, math.nan, math.inf])
    assert relative_error(nan, nan.clone()) == 0
    assert relative_error(nan, torch.tensor([1.5, math.nan, math.inf])) == 0.5
    assert relative_error(nan, torch.tensor([math.nan, 1.0, math.inf])) == math.inf
    assert relative_error(torch.full((2,), math.nan), torch.full((2,), math.nan)) == math.inf
    assert largest_error([whole], [whole + 1]) == math.inf


# --- sizes and the report


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.bool])
def test_integers_and_booleans_are_measured_at_a_second_size_too(dtype):
    class Embedded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.norm, self.lin = nn.Embedding(20, 8), nn.LayerNorm(8), nn.Linear(8, 8)

        def forward(self, index):
            return self.lin(self.norm(self.embed(index.long())))

    result = fuse(randomize(Embedded()), torch.randint(0, 2, (4, 9)).to(dtype))
    assert result.verification.sizes == ("4×9", "3×3")


@pytest.mark.slow
def test_what_failed_its_check_is_not_called_passed(monkeypatch):
    from audiorep.reparam import fuse as _  # noqa: F401
    from audiorep.reparam import verify

    monkeypatch.setattr(verify, "FLOAT64_LIMIT", -1.0)
    result = fuse(randomize(Net(lambda self, x, y: y)), X)
    assert not result.merges
    assert not result.verification.passed
    assert result.to_dict()["verification"]["passed"] is False
    assert "The merged form did not pass: its float64 difference is" in str(result)
    assert any("its merged form failed the check: its float64 difference" in skip.reason for skip in result.skipped)
    assert torch.equal(result.model(X), randomize(Net(lambda self, x, y: y))(X))


def test_what_was_not_measured_is_not_given_as_a_number():
    text = str(fuse(randomize(Net(lambda self, x, y: y + torch.rand(1))), X))
    assert "Nothing was merged, so that nothing was measured." in text
    assert "float64 difference" not in text


def test_errors_name_no_file_of_the_machine_that_built_torch():
    from audiorep.reparam.rule_failures import first_line

    error = RuntimeError(
        'r.dim() INTERNAL ASSERT FAILED at "/pytorch/aten/src/ATen/X.cpp":12, please report a bug to PyTorch. Oh'
    )
    assert first_line(error) == "r.dim() an assertion inside torch failed. Oh"
    assert first_line(RuntimeError("in /pytorch/torch/csrc/a.cpp:7 and\nmore")) == "in a.cpp:7 and"


@pytest.mark.slow
def test_a_second_size_is_found_for_inputs_that_speak_of_each_other():
    class Last(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.lin = nn.LayerNorm(8), nn.Linear(8, 8)

        def forward(self, x, lengths):
            return self.lin(self.norm(x)).gather(1, (lengths - 1)[:, None, None].expand(-1, 1, 8))[:, 0]

    network, lengths = randomize(Last()), torch.tensor([9, 7, 3, 1])
    result = fuse(network, torch.randn(4, 9, 8), lengths)
    assert result.verification.sizes == ("4×9×8, 4", "3×10×8, 3")  # shorter ones have no ninth step
    x = torch.randn(1, 9, 8)
    assert torch.allclose(network(x, lengths[:1]), result.model(x, lengths[:1]), atol=1e-5)
