"""One odd operator costs that operator: the network around it is merged, and gives what the original gives."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import threading
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from support.networks import randomize
from torch import nn

from audiorep.reparam import FuseResult, fuse, lift, rule_failures

MAP = (2, 8, 12, 12)


def leaves(output) -> list[torch.Tensor]:
    return torch.utils._pytree.tree_leaves(output)


def norms(module: nn.Module) -> int:
    return sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules())


def fused(network: nn.Module, *inputs) -> FuseResult:
    """The fused network, checked against its original and in one piece."""
    result = fuse(network, *inputs)
    with torch.no_grad():
        expected, found = leaves(network(*inputs)), leaves(result.model(*inputs))
    for a, b in zip(expected, found, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert (a - b).abs().max() <= 2e-5 * a.abs().max().clamp_min(1)
    assert result.parts == ("",), result.skipped
    return result


# --- copies of networks that keep what cannot be copied


class Keeping(nn.Module):
    """Keeps an activation, as networks do whose attention is looked at."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.attention = nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), None
        self.maps: list[torch.Tensor] = []

    def forward(self, x):
        y = self.norm(self.conv(x))
        self.attention = y.softmax(1)
        self.maps = [y, self.attention]
        return y * self.attention


@pytest.mark.slow
def test_a_network_that_was_called_with_gradients_and_keeps_an_activation_is_merged():
    network, x = randomize(Keeping()), torch.randn(MAP)
    network(x)
    assert network.attention.grad_fn is not None
    assert norms(fused(network, x).model) == 0


@pytest.mark.slow
def test_a_network_that_holds_what_cannot_be_copied_shares_it():
    network = randomize(nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8)))
    network.lock, network.lines = threading.Lock(), (line for line in ())
    assert norms(fused(network, torch.randn(MAP)).model) == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
def test_old_weight_norm_is_computed_once():
    network = randomize(nn.Sequential(nn.utils.weight_norm(nn.Conv1d(8, 8, 3)), nn.BatchNorm1d(8), nn.ReLU()))
    network(torch.randn(2, 8, 9))
    result = fused(network, torch.randn(2, 8, 9))
    assert norms(result.model) == 0
    assert set(result.model.state_dict()) == {"0.weight", "0.bias"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated")
@pytest.mark.parametrize("make", [torch.jit.script, lambda m: torch.jit.trace(m, torch.randn(MAP))])
def test_scripted_and_traced_children_are_merged_with_the_rest(make):
    child = make(randomize(nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.Sigmoid())))
    network = randomize(nn.Sequential(nn.Conv2d(8, 8, 1), nn.ReLU(), child, nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8)))
    result = fused(network, torch.randn(MAP))
    assert norms(result.model) == 0
    assert set(result.model.state_dict()) == {f"{path}.{name}" for path in ("0", "2", "3") for name in ("weight", "bias")}
    assert sum(p.numel() for p in result.model.parameters()) == 3 * (64 + 8)


# --- operators around which everything merges


class Between(nn.Module):
    """An operator between two convolutions with norms, which both have to go."""

    def __init__(self, operator, channels: int = 8) -> None:
        super().__init__()
        self.before = nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1))
        self.after = nn.Sequential(nn.Conv2d(channels, 8, 1), nn.BatchNorm2d(8))
        self.operator = operator

    def forward(self, x):
        return self.after(self.operator(self.before(x), x))


def written(y: torch.Tensor) -> torch.Tensor:
    y = y.clone()
    y[:, :2] *= 2
    return y


def packed(layer: nn.Module, y: torch.Tensor) -> torch.Tensor:
    return layer(y.mean(2).mT)[0].mT[:, :, None].expand(-1, -1, y.shape[2], -1)


OPERATORS = {
    "a size that is asked for": lambda y, x: F.interpolate(y[:, :, ::2, ::2], size=x.shape[2:], mode="bilinear") + x,
    "a size that is computed": lambda y, x: F.interpolate(y, size=(y.shape[2] * 2, y.shape[3] // 2), mode="bilinear"),
    "an area": lambda y, x: F.interpolate(y, size=(5, 7), mode="area"),
    "einsum": lambda y, x: torch.einsum("bchw,bdhw->bcd", y, x).softmax(-1)[..., None].expand(-1, -1, -1, 5),
    "stack": lambda y, x: torch.stack([y, x, y.relu()], -1).mean(-1),
    "repeat_interleave": lambda y, x: y.repeat_interleave(2, dim=2),
    "pixel_shuffle": lambda y, x: F.pixel_unshuffle(F.pixel_shuffle(y, 2), 2),
    "complex numbers": lambda y, x: (torch.fft.fft2(y) * torch.fft.fft2(x)).abs().log1p(),
    "topk": lambda y, x: y.topk(8, dim=1).values,
    "sort and gather": lambda y, x: y.gather(1, y.argsort(1)) + y.sort(1)[0],
    "scatter": lambda y, x: torch.zeros_like(y).scatter(1, y.argmax(1, keepdim=True), 1.0) + y,
    "cumsum": lambda y, x: y.cumsum(1),
    "grid_sample": lambda y, x: F.grid_sample(y, x[:, :2].permute(0, 2, 3, 1).tanh(), align_corners=False),
    "unfold and fold": lambda y, x: F.fold(F.unfold(y, 3, padding=1), y.shape[-2:], 3, padding=1),
    "unpool": lambda y, x: F.max_unpool2d(*F.max_pool2d(y, 2, return_indices=True), 2),
    "a roll of all": lambda y, x: y.roll(3),
    "a roll of channels": lambda y, x: torch.roll(y, (1, -1), (1, 2)),
    "how many are not zero": lambda y, x: y + (x > 0).nonzero().float().mean() + y[x > 0].mean(),
    "unique": lambda y, x: y + (x * 2).long().unique().sum(),
    "bincount": lambda y, x: y + torch.bincount((x[:, 0, 0, 0] * 0).long() + 2, minlength=8)[None, :8, None, None],
    "a ramp": lambda y, x: y * torch.linspace(0, 1, y.shape[-1]) + torch.arange(y.shape[-1]) * 0.1,
    "vmap": lambda y, x: torch.vmap(lambda a: a * 2 + 1)(y),
    "a write": lambda y, x: written(y),
    "views": lambda y, x: y.movedim(1, -1).swapaxes(1, 2).movedim(-1, 1).contiguous().view_as(x),
    "determinants": lambda y, x: y * torch.linalg.det(y)[:, :, None, None].tanh(),
    "stft": lambda y, x: torch.stft(y.flatten(0, 2), 8, window=torch.hann_window(8), return_complex=True).abs()[None, :8],
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", OPERATORS)
def test_everything_around_an_odd_operator_is_merged(name):
    network = randomize(Between(OPERATORS[name]))
    assert norms(fused(network, torch.randn(MAP)).model) == 0


class Layered(Between):
    """A whole layer between the two."""

    def __init__(self, layer: nn.Module, call) -> None:
        super().__init__(call)
        self.layer = layer

    def forward(self, x):
        return self.after(self.operator(self.layer, self.before(x)))


LAYERS = {
    "attention": (nn.MultiheadAttention(8, 2, batch_first=True), lambda m, y: m(*[y.flatten(2).mT] * 3)[0].mT.reshape(y.shape)),
    "GRU both ways": (nn.GRU(8, 4, 2, bidirectional=True, batch_first=True), packed),
    "LSTM with projections": (nn.LSTM(8, 16, proj_size=4, bidirectional=True, batch_first=True), packed),
    "spectral norm": (nn.utils.parametrizations.spectral_norm(nn.Conv2d(8, 8, 1)), lambda m, y: m(y)),
    "orthogonal": (nn.utils.parametrizations.orthogonal(nn.Conv2d(8, 8, 1)), lambda m, y: m(y)),
    "bag": (nn.EmbeddingBag(10, 8), lambda m, y: y + m((y[:, 0, 0] * 0).long() + 3)[:, :, None, None]),
    "bilinear": (nn.Bilinear(8, 8, 8), lambda m, y: m(*[y.permute(0, 2, 3, 1).contiguous()] * 2).permute(0, 3, 1, 2)),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("name", LAYERS)
def test_everything_around_an_odd_layer_is_merged(name):
    assert norms(fused(randomize(Layered(*LAYERS[name])), torch.randn(MAP)).model) == 0


@pytest.mark.slow
def test_a_transposed_convolution_to_a_size_that_is_asked_for_is_left_alone():
    class Up(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.down = nn.Sequential(nn.Conv2d(8, 8, 3, 2, 1), nn.BatchNorm2d(8))
            self.up = nn.ConvTranspose2d(8, 8, 3, 2, 1)

        def forward(self, x):
            return self.up(self.down(x).relu(), output_size=x.shape[2:]) + x

    result = fused(randomize(Up()), torch.randn(2, 8, 9, 10))
    assert norms(result.model) == 0
    assert [(skip.path, skip.reason.split(",")[0]) for skip in result.skipped] == [("up", "its output's size is asked for")]


@pytest.mark.slow
def test_a_rule_that_fails_costs_its_operator_and_is_told(monkeypatch):
    def failing(lifter, node):
        raise KeyError("unheard of")

    monkeypatch.setitem(lift._RULES, torch.ops.aten.linear.default, failing)
    monkeypatch.setattr(rule_failures, "reason", ORIGINAL_REASON)
    network = randomize(nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.Flatten(2), nn.Linear(100, 4), nn.ReLU()))
    result = fused(network, torch.randn(MAP))
    assert norms(result.model) == 0
    assert [str(skip) for skip in result.skipped] == ["3 (linear): the engine's own rule failed on it (KeyError: 'unheard of')"]


ORIGINAL_REASON = rule_failures.reason


class Standardized(nn.Conv2d):
    """A convolution whose weight is standardized by a batch norm of one (NFNet, BiT)."""

    def forward(self, x):
        weight = self.weight.reshape(1, self.out_channels, -1)
        weight = F.batch_norm(weight, None, None, training=True, momentum=0.0).reshape_as(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding)


@pytest.mark.slow
def test_weight_standardization_is_computed_once():
    network = randomize(nn.Sequential(Standardized(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU()))
    result = fused(network, torch.randn(MAP))
    assert result.after.operations == {"conv": 1, "other": 1}
    assert not result.skipped


@pytest.mark.parametrize("weight", [lambda w: torch.linalg.qr(w)[0], lambda w: torch.cat(w.chunk(2)[::-1])])
def test_weights_from_operations_with_several_results_are_computed_once(weight):
    class Derived(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.norm = nn.Parameter(torch.randn(8, 8)), nn.BatchNorm2d(8)

        def forward(self, x):
            return self.norm(F.conv2d(x, weight(self.weight)[:, :, None, None]))

    assert fused(randomize(Derived()), torch.randn(MAP)).after.operations == {"conv": 1}


@pytest.mark.slow
def test_complex_outputs_are_verified_in_double_precision():
    class Spectrum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.block = nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))
            self.gain = nn.Parameter(torch.randn(8, 1, 1, dtype=torch.complex64))

        def forward(self, x):
            return torch.fft.rfft(self.block(x)) * self.gain

    result = fused(randomize(Spectrum()), torch.randn(MAP))
    assert norms(result.model) == 0
    assert 0 < result.verification.float64 < 1e-13
    assert result.verification.passed


@pytest.mark.slow
@dataclasses.dataclass(frozen=True)
class Scores:
    logits: torch.Tensor
    more: dict
    classes: int = 8


class Telling(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.structure = nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))

    def forward(self, x):
        y = self.structure(x)
        return Scores(y, {"maps": [y.relu(), None, SimpleNamespace(most=y.amax())]})


def test_dataclasses_and_namespaces_come_out_as_they_are():
    network, x = randomize(Telling()), torch.randn(MAP)
    result = fuse(network, x)
    expected = network(x)
    for model in (result.model, pickle.loads(pickle.dumps(result.model)), copy.deepcopy(result.model)):
        found = model(x)
        assert type(found) is Scores
        assert found.classes == 8
        assert torch.allclose(found.logits, expected.logits, atol=1e-5)
        maps = found.more["maps"]
        assert torch.equal(maps[0], found.logits.relu())
        assert maps[1] is None
        assert torch.allclose(maps[2].most, expected.more["maps"][2].most, atol=1e-6)
    assert norms(result.model) == 0


# --- names


NAMES = [
    "graph",
    "require",
    "code",
    "part",
    "structure",
    "torch",
    "self",
    "0",
    "²",
    "lambda",
    "größe",
    "a b",
    "quote'\"",
    "relu",
]


class Named(nn.Module):
    """Blocks and parameters of any name."""

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        for name in names:
            self._modules[name] = nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.ReLU())
            self._modules[name]._parameters["code"] = nn.Parameter(torch.rand(8, 1, 1))
            self._modules[name]._buffers["part"] = torch.rand(8, 1, 1)

    def forward(self, x):
        for block in self._modules.values():
            x = block(x) * block._parameters["code"] + block._buffers["part"].relu() * x
        return x


@pytest.mark.slow
def test_children_and_tensors_may_have_any_name():
    network, x = randomize(Named(NAMES)), torch.randn(MAP)
    result = fused(network, x)
    assert norms(result.model) == 0
    assert {name.split(".")[0] for name in result.model.state_dict()} >= set(NAMES)
    assert torch.equal(pickle.loads(pickle.dumps(result.model))(x), result.model(x))


# --- recurrent layers in other precisions


class Recurrent(nn.Module):
    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.scale, self.layer = nn.Parameter(torch.rand(6)), layer

    def forward(self, x):
        return self.layer(x * self.scale)


@pytest.mark.slow
@pytest.mark.parametrize("precision", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN, nn.LSTMCell, nn.GRUCell])
def test_merged_recurrent_networks_change_precision_as_the_original_does(kind, precision):
    network = Recurrent(kind(6, 4)).eval()
    x = torch.randn(3, 6) if kind.__name__.endswith("Cell") else torch.randn(5, 3, 6)
    merged = fuse(network, x).model
    try:
        expected = leaves(copy.deepcopy(network).to(precision)(x.to(precision)))
    except RuntimeError:
        pytest.skip("this processor has no such layer in this precision")
    found = leaves(copy.deepcopy(merged).to(precision)(x.to(precision)))
    for a, b in zip(expected, found, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert torch.allclose(a.double(), b.double(), atol=1e-6 if precision is torch.float64 else 3e-2)


# --- what things are called


@pytest.mark.slow
def test_a_pointwise_convolution_is_not_called_linear():
    network = randomize(nn.Sequential(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv1d(8, 8, 1), nn.BatchNorm1d(8)))
    network[2] = nn.Sequential(nn.ReLU(), nn.Flatten(2))
    assert [merge.result for merge in fused(network, torch.randn(MAP)).merges] == ["conv 1×1", "conv 1"]
    network = randomize(nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8), nn.ReLU()))
    assert [merge.result for merge in fused(network, torch.randn(2, 3, 8)).merges] == ["linear"]
