"""A merged part of a network that is not captured whole: called like the original, and refused to whoever reaches into it."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from support.networks import randomize
from torch import nn

from audiorep.errors import FuseError
from audiorep.reparam import Fused, FuseResult, fuse, trainable

MAP = (2, 3, 9, 9)


class Block(nn.Sequential):
    """A convolution and its norm, with what a network may ask of it."""

    expansion = 4

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.out_channels, self.calls, self.mode = 8, 0, "sum"
        self.last: torch.Tensor | None = None

    def forward(self, x):
        self.calls += 1
        self.last = super().forward(x)
        return self.last

    def first(self, x):
        return self[0](x)


class Network(nn.Module):
    """Decides on data whether `reach` is done to its encoder; the example decides against it."""

    def __init__(self, reach=None, always=None) -> None:
        super().__init__()
        self.encoder = Block()
        self.reach, self.always = reach, always

    def forward(self, x):
        y = self.encoder(x)
        if self.always is not None:
            y = y * self.always(self, x)
        if y.max().item() > 1e3:
            y = y + self.reach(self, x)
        return y


def fused(network: nn.Module, x: torch.Tensor) -> FuseResult:
    result = fuse(network, x)
    with torch.no_grad():
        assert torch.allclose(network(x), result.model(x), atol=1e-5)
    return result


def norms(module: nn.Module) -> int:
    return sum(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules())


REACHES = {
    "a child by index": lambda n, x: n.encoder[0](x).abs(),
    "a slice": lambda n, x: n.encoder[:2](x),
    "all its children": lambda n, x: sum(layer(x).sum() for layer in n.encoder if isinstance(layer, nn.Conv2d)),
    "how many there are": lambda n, x: len(n.encoder),
    "children()": lambda n, x: next(n.encoder.children())(x),
    "named_children()": lambda n, x: dict(n.encoder.named_children())["0"](x),
    "modules()": lambda n, x: sum(1 for _ in n.encoder.modules()),
    "modules() of the network": lambda n, x: sum(isinstance(m, nn.BatchNorm2d) for m in n.modules()),
    "parameters()": lambda n, x: sum(p.sum() for p in n.encoder.parameters()),
    "the first parameter": lambda n, x: next(n.encoder.parameters()).sum(),
    "the first parameter of the network": lambda n, x: next(n.parameters()) * 2,
    "state_dict()": lambda n, x: n.encoder.state_dict()["1.running_mean"].sum(),
    "_modules": lambda n, x: n.encoder._modules["0"](x),
    "getattr": lambda n, x: getattr(n.encoder, "0")(x),
    "get_submodule": lambda n, x: n.get_submodule("encoder.0")(x),
    "a method of its own": lambda n, x: n.encoder.first(x),
    "what it keeps": lambda n, x: n.encoder.last.sum(),
    "what it counts": lambda n, x: n.encoder.calls,
    "whether it has something": lambda n, x: float(hasattr(n.encoder, "last")),
    "another mode": lambda n, x: setattr(n.encoder, "mode", "mean") or 0,
    "another attribute": lambda n, x: setattr(n.encoder, "unheard", 1) or 0,
    "apply": lambda n, x: n.apply(lambda module: None) and 0,
}


@pytest.fixture(scope="module")
def reaching() -> nn.Module:
    """A network whose encoder is merged, before anything reached into it."""
    result = fused(randomize(Network()), torch.randn(MAP))
    assert result.parts == ("encoder",)
    assert norms(result.model) == 0
    return result.model


@pytest.mark.slow
@pytest.mark.parametrize("name", REACHES)
def test_code_that_reaches_into_a_part_is_refused(reaching, name):
    model = copy.deepcopy(reaching)
    model.reach = REACHES[name]
    with pytest.raises(FuseError, match="merged part"):
        model(1e5 * torch.randn(MAP))
    with torch.no_grad():  # and once refused it goes on
        assert torch.isfinite(model(torch.randn(MAP))).all()


BEHAVIORS = {
    "plain attributes": lambda n, x: n.encoder.out_channels * n.encoder.expansion + float(n.encoder.mode == "sum"),
    "its class": lambda n, x: float(isinstance(n.encoder, Block)) + float(n.encoder.__class__ is Block),
    "its precision": lambda n, x: torch.ones(1, dtype=next(n.encoder.parameters()).dtype),
    "the network's device": lambda n, x: next(n.parameters()).new_zeros(1) + x.to(next(n.parameters())).sum(),
    "what it has not": lambda n, x: float(hasattr(n.encoder, "unheard_of")) + getattr(n.encoder, "unheard_of", 2.0),
    "eval()": lambda n, x: float(n.encoder.eval().training),
    "forward()": lambda n, x: n.encoder.forward(x),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BEHAVIORS)
def test_what_does_not_depend_on_its_inside_is_as_in_the_original(name):
    network = randomize(Network(reach=BEHAVIORS[name], always=BEHAVIORS[name]))
    result = fused(network, torch.randn(MAP))
    assert result.parts == ("encoder",)
    x = 1e5 * torch.randn(MAP)
    with torch.no_grad():
        expected, found = network(x), result.model(x)
    assert (expected - found).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.slow
def test_a_part_that_is_reached_into_on_the_example_is_left_with_the_reason():
    result = fused(randomize(Network(always=REACHES["a child by index"])), torch.randn(2, 3, 9, 9))
    assert result.parts == ()
    assert [skip.path for skip in result.skipped] == ["", "encoder"]
    assert "asks a merged part for `__getitem__`" in result.skipped[1].reason


@pytest.mark.slow
def test_methods_beside_forward_are_held_to_it_too():
    class More(Network):
        def early(self, x):
            return self.encoder[0](x)

    model = fused(randomize(More(reach=REACHES["a slice"])), torch.randn(MAP)).model
    with pytest.raises(FuseError, match="`__getitem__`"):
        model.early(torch.randn(MAP))


@pytest.mark.slow
def test_from_outside_a_part_is_a_module_like_any_other():
    network, x = randomize(Network(reach=REACHES["a slice"])), torch.randn(MAP)
    model = fused(network, x).model
    assert isinstance(model.encoder, Fused)
    assert set(model.state_dict()) == {"encoder.0.weight", "encoder.0.bias"}
    assert [name for name, _ in model.named_modules()] == ["", "encoder", "encoder.0"]
    assert isinstance(model.encoder.part("0"), nn.Conv2d)
    assert "Conv2d" in str(model)
    with torch.no_grad():
        expected = model(x)
        for copied in (copy.deepcopy(model), copy.deepcopy(model).double()):
            assert torch.allclose(copied(x.to(next(copied.parameters()).dtype)).float(), expected, atol=1e-5)
            with pytest.raises(FuseError, match="merged part"):
                copied.encoder[0]
    model.load_state_dict(copy.deepcopy(model).state_dict())
    with pytest.raises(FuseError, match="trainable"):
        model.train()
    trainable(model.encoder)
    assert model.train().encoder.training


class Decided(nn.Module):
    """As `Network`, of a class that pickle finds."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = Block()

    def forward(self, x):
        y = self.encoder(x)
        return y if y.max().item() < 1e3 else y + self.encoder[0](x)


@pytest.mark.slow
def test_a_pickled_part_refuses_as_before():
    x = torch.randn(MAP)
    model = pickle.loads(pickle.dumps(fused(randomize(Decided()), x).model))
    assert torch.isfinite(model(x)).all()
    with pytest.raises(FuseError, match="`__getitem__`"):
        model(1e5 * x)


# --- hooks


@pytest.mark.slow
def test_a_part_with_a_hook_inside_is_left_and_the_hook_goes_on():
    class Two(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder, self.head = Block(), nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))

        def forward(self, x):
            y = self.encoder(x)
            return self.head(y) if y.max().item() < 1e3 else y

    network, seen = randomize(Two()), []
    network.encoder[0].register_forward_hook(lambda module, given, output: seen.append(output.mean()))
    result = fused(network, torch.randn(MAP))
    assert result.parts == ("head",)
    assert any(skip.path == "encoder" and "`0` in it has a hook" in skip.reason for skip in result.skipped)
    seen.clear()
    result.model(torch.randn(MAP))
    assert len(seen) == 1


@pytest.mark.slow
@pytest.mark.parametrize("register", ["register_forward_pre_hook", "register_full_backward_hook", "register_forward_hook"])
def test_hooks_of_every_kind_keep_a_part_as_it_is(register):
    network = randomize(Network())
    getattr(network.encoder, register)(lambda *given: None)
    result = fused(network, torch.randn(MAP))
    assert (result.parts, norms(result.model)) == ((), 1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated")
def test_hooks_that_compute_a_weight_are_merged_in_a_part():
    network = Network()
    nn.utils.weight_norm(network.encoder[0])
    result = fused(randomize(network), torch.randn(MAP))
    assert (result.parts, norms(result.model)) == (("encoder",), 0)


# --- ties, shared modules, odd names


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(n, marks=pytest.mark.full) for n in range(2, 8))])
def test_a_difference_is_not_accepted_because_noise_flips_a_tie(seed):
    class Tied(nn.Module):
        """Which of two equal scores comes first is left to rounding."""

        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(nn.Conv1d(4, 4, 1), nn.BatchNorm1d(4), nn.Conv1d(4, 4, 1), nn.BatchNorm1d(4))

        def forward(self, x):
            y = self.body(x)
            scores = torch.cat([y, y * (1 / 3) * 3], 1).mean((0, 2))
            return scores.argsort().float() if scores.max().item() < 1e3 else scores

    torch.manual_seed(seed)
    network, x = randomize(Tied()), torch.randn(2, 4, 9)
    result = fuse(network, x)
    if result.parts:
        assert torch.equal(network(x), result.model(x))
    else:
        assert any("gives something else" in skip.reason for skip in result.skipped)


@pytest.mark.slow
def test_a_part_whose_child_is_used_elsewhere_too_is_left():
    class Shared(Decided):
        def __init__(self) -> None:
            super().__init__()
            self.first = self.encoder[0]

    result = fused(randomize(Shared()), torch.randn(MAP))
    assert result.parts == ()
    assert sum(p.numel() for p in result.model.parameters()) == sum(p.numel() for p in Shared().parameters())
    assert any("also used outside it" in skip.reason for skip in result.skipped)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["forward", "parameters", "_apply"])
def test_children_with_the_names_of_methods_are_no_reason_to_fail(name):
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self._modules[name] = Block()
            self.head = nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))

        def forward(self, x):
            return self.head(self._modules[name](x))

    result = fused(randomize(Odd()), torch.randn(MAP))
    assert norms(result.model) == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*torch.jit.*is deprecated")
def test_a_scripted_child_stays_beside_merged_parts():
    class Mixed(Decided):
        def __init__(self) -> None:
            super().__init__()
            self.head = torch.jit.script(nn.Sequential(nn.Conv2d(8, 8, 1), nn.Sigmoid()))

        def forward(self, x):
            y = self.head(self.encoder(x))
            return y if y.max().item() < 1e3 else -y

    assert fused(randomize(Mixed()), torch.randn(MAP)).parts == ("encoder",)
