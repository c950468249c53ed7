"""A merged network takes the calls that its example showed, and refuses any other in a sentence."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections import OrderedDict

import pytest
import torch
from support.networks import randomize
from torch import nn

from audiorep.errors import FuseError
from audiorep.reparam import fuse

OUTSIDE = "outside what the network was fused for"


class Net(nn.Module):
    """Linear → norm → whatever the test asks, given all arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.lin, self.bn = nn.Linear(8, 8), nn.BatchNorm1d(8)

    def body(self, x):
        return self.bn(self.lin(x))


def made(forward) -> nn.Module:
    torch.manual_seed(0)
    return randomize(type("Net", (Net,), {"forward": forward})())


X, Y = torch.randn(4, 8), torch.rand(4, 8) + 0.1


def close(a, b) -> bool:
    pairs = zip(torch.utils._pytree.tree_leaves(a), torch.utils._pytree.tree_leaves(b), strict=True)
    return all(torch.allclose(x, y, atol=1e-5) for x, y in pairs)


def masked(self, x, mask=None, scale=None):
    y = self.body(x)
    y = y if mask is None else y * mask
    return y if scale is None else y / scale


def test_a_keyword_of_the_example_keeps_its_place_in_the_signature():
    network = made(masked)
    fused = fuse(network, X, scale=Y).model
    assert str(inspect.signature(fused.forward)) == "(x, mask=None, scale=None)"
    assert close(fused(X, scale=Y), network(X, scale=Y))
    assert close(fused(X, None, Y), network(X, None, Y))
    assert close(fused(scale=Y, x=X), network(X, scale=Y))
    for call, named in (((X, Y), {}), ((X,), {}), ((X,), {"mask": Y}), ((X, Y, Y), {})):
        with pytest.raises(FuseError, match=OUTSIDE):
            fused(*call, **named)


@pytest.mark.slow
def test_the_order_of_the_examples_keywords_does_not_swap_arguments():
    network = made(lambda self, a, b: self.body(a) - 2 * b)
    fused = fuse(network, b=X, a=Y).model
    assert close(fused(X, Y), network(X, Y))
    assert close(fused(b=X, a=Y), network(Y, X))


def keyword_only(self, x, *, gain=2.0, bias):
    return self.body(x) * gain + bias


def positional_only(self, x, shift=1.0, /, gain=3.0):
    return self.body(x) * gain + shift


def any_number(self, *inputs, **more):
    return sum(self.body(x) for x in inputs) * more.get("gain", torch.ones(1))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("forward", "args", "kwargs", "signature"),
    [
        (keyword_only, (X,), {"bias": Y}, "(x, *, gain=2.0, bias)"),
        (keyword_only, (X,), {"bias": Y, "gain": 1.5}, "(x, *, gain=2.0, bias)"),
        (positional_only, (X,), {}, "(x, shift=1.0, /, gain=3.0)"),
        (positional_only, (X, 2.0), {"gain": 2.0}, "(x, shift=1.0, /, gain=3.0)"),
        (any_number, (X, Y), {}, "(*inputs, **more)"),
        (any_number, (X, Y), {"gain": Y}, "(*inputs, **more)"),
    ],
)
def test_every_kind_of_argument_is_called_as_in_the_original(forward, args, kwargs, signature):
    network = made(forward)
    fused = fuse(network, *args, **kwargs).model
    assert str(inspect.signature(fused.forward)) == signature
    assert close(fused(*args, **kwargs), network(*args, **kwargs))
    assert close(pickle.loads(pickle.dumps(fused))(*args, **kwargs), network(*args, **kwargs))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("forward", "example", "call"),
    [
        (keyword_only, ((X,), {"bias": Y}), ((X,), {"bias": Y, "gain": 3.0})),
        (keyword_only, ((X,), {"bias": Y}), ((X,), {"bias": 1.0})),
        (positional_only, ((X,), {}), ((X, 2.0), {})),
        (positional_only, ((X,), {}), ((X, 1), {})),
        (any_number, ((X, Y), {}), ((X, Y, X), {})),
        (any_number, ((X, Y), {}), ((X,), {})),
        (any_number, ((X,), {}), ((X,), {"gain": Y})),
        (any_number, ((X,), {"gain": Y}), ((X,), {"gain": Y, "more": Y})),
    ],
)
def test_what_the_example_left_out_or_gave_otherwise_is_refused(forward, example, call):
    fused = fuse(made(forward), *example[0], **example[1]).model
    with pytest.raises(FuseError, match=OUTSIDE):
        fused(*call[0], **call[1])


def test_a_default_that_cannot_be_written_down_must_be_left_out():
    kind = object()
    network = made(lambda self, x, kind=kind: self.body(x))
    fused = fuse(network, X).model
    assert close(fused(X), network(X))
    with pytest.raises(FuseError, match="kind == OMITTED"):
        fused(X, None)


# --- containers


def of_batch(self, batch):
    y = self.body(batch["x"])
    return y * batch["mask"] if "mask" in batch else y


def of_list(self, images):
    return sum(self.body(image).mean() for image in images) / len(images)


def nested(self, batch):
    return self.body(batch["a"][0]) + batch["a"][1]["b"]


FORMS = {
    "extra-key": (of_batch, {"x": X}, {"x": X, "mask": Y}, "the example lacked 'mask'"),
    "missing-key": (of_batch, {"x": X, "mask": Y}, {"x": X}, "it lacks 'mask'"),
    "other-class": (of_batch, {"x": X}, OrderedDict(x=X), "is a OrderedDict and was a dict"),
    "longer": (of_list, [X, X + 1], [X, X, X], "has 3 entries and had 2"),
    "shorter": (of_list, [X, X + 1], [X], "has 1 entries and had 2"),
    "tuple": (of_list, [X, X + 1], (X, X + 1), "is a tuple and was a list"),
    "none-inside": (of_list, [X, X + 1], [X, None], "is a tensor"),
    "deep": (nested, {"a": [X, {"b": Y}]}, {"a": [X, {"b": Y, "c": Y}]}, "the example lacked 'c'"),
    "tensor-for-list": (of_list, [X, X + 1], torch.stack([X, X]), "is a single value and was a list"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMS)
def test_other_containers_are_refused_with_the_difference(name):
    forward, example, call, reason = FORMS[name]
    network = made(forward)
    fused = fuse(network, example).model
    assert close(fused(example), network(example))
    with pytest.raises(FuseError, match=f"{OUTSIDE}.*{reason}"):
        fused(call)
    for other in (copy.deepcopy(fused), pickle.loads(pickle.dumps(fused))):
        with pytest.raises(FuseError, match=reason):
            other(call)


@pytest.mark.slow
def test_the_order_of_keys_is_free_unless_the_network_goes_by_it():
    example, turned = {"a": [X, {"b": Y}], "c": Y}, {"c": Y, "a": [X, {"b": Y}]}
    network = made(nested)
    assert close(fuse(network, example).model(turned), network(turned))
    by_order = made(lambda self, batch: self.body(torch.cat(list(batch.values()), 0)))
    fused = fuse(by_order, {"a": X, "b": Y}).model
    with pytest.raises(FuseError, match="order"):
        fused({"b": Y, "a": X})


# --- values


def test_a_mask_of_another_type_is_refused():
    def forward(self, x, mask):
        return self.body(x) * (mask if mask.dtype == torch.bool else mask == 0)[:, None]

    network, mask = made(forward), torch.tensor([True, True, False, True])
    fused = fuse(network, X, mask).model
    assert close(fused(X, mask), network(X, mask))
    for other in (mask.long(), mask.int(), mask.float(), mask.to(torch.uint8)):
        with pytest.raises(FuseError, match=r"mask\.dtype == torch\.bool"):
            fused(X, other)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_precisions_are_held_to_and_follow_the_network_when_it_is_cast(dtype):
    fused = fuse(made(lambda self, x: self.body(x)), X).model
    with pytest.raises(FuseError, match=r"x\.dtype == torch\.float32"):
        fused(X.to(dtype))
    cast = copy.deepcopy(fused).to(dtype)
    assert cast(X.to(dtype)).dtype == dtype
    with pytest.raises(FuseError, match=rf"x\.dtype == {dtype}"):
        cast(X)
    assert close(pickle.loads(pickle.dumps(cast)).float()(X), fused(X)) == (dtype == torch.float64)
    assert close(fused(X), copy.deepcopy(fused).double()(X.double()).float())


@pytest.mark.parametrize(
    ("example", "others"),
    [(True, (False, 1, None)), (1, (2, True, 1.0)), (1.0, (1, 2.0)), ("a", ("b", None)), (None, (0, X)), (0, (False, 0.0))],
)
def test_plain_values_are_held_to_with_their_types(example, others):
    network = made(lambda self, x, value: self.body(x) + (1 if value else 0))
    fused = fuse(network, X, example).model
    assert close(fused(X, example), network(X, example))
    for other in others:
        with pytest.raises(FuseError, match=OUTSIDE):
            fused(X, other)


def test_one_tensor_in_two_places_must_be_one_again():
    network = made(lambda self, q, k: self.body(q) * (2 if k is q else 1) + k)
    fused = fuse(network, X, X).model
    assert close(fused(Y, Y), network(Y, Y))
    with pytest.raises(FuseError, match="k is q"):
        fused(X, Y)


@pytest.mark.slow
def test_self_attention_that_was_captured_as_one_product_takes_no_keys_of_their_own():
    class Attention(nn.MultiheadAttention):
        def __init__(self) -> None:
            super().__init__(8, 2, batch_first=True)
            self.bn = nn.BatchNorm1d(8)

        def forward(self, query, key, value):
            return self.bn(super().forward(query, key, value)[0].transpose(1, 2))

    torch.manual_seed(0)
    network, x = randomize(Attention()), torch.randn(2, 5, 8)
    fused = fuse(network, x, x, x).model
    with torch.no_grad():
        assert close(fused(x, x, x), network(x, x, x))
    for call in ((x, x + 1, x + 2), (x, x + 1, x), (x, x, x.clone())):
        with pytest.raises(FuseError, match=r"(key|value) is query"):
            fused(*call)


def test_no_size_of_a_call_may_be_zero():
    fused = fuse(made(lambda self, x: self.body(x)), X).model
    with pytest.raises(FuseError, match=r"x\.size\(\)\[0\] >= 1"):
        fused(X[:0])


def test_the_report_says_in_words_which_calls_are_taken():
    def forward(self, x, gain=1.0, mask=None):
        y = self.body(x) * gain
        return y.flip(0) if x.shape[0] % 2 == 0 else y

    result = fuse(made(forward), X, 2.0)
    assert result.conditions == ("x is float32, any × 8", "gain is 2.0", "mask left out", "size 0 of x is even")
    assert "It takes calls in which:\n  x is float32, any × 8\n  gain is 2.0" in str(result)
    assert result.to_dict()["conditions"][-1] == "size 0 of x is even"


# --- outputs


OUTPUTS = {
    "constant": lambda self, x, y: torch.tensor([1.0, 2.0]),
    "contiguous": lambda self, x, y: x.t().contiguous(),
    "contiguous-already": lambda self, x, y: x.contiguous(),
    "copy": lambda self, x, y: x.to(x.dtype, copy=True),
    "no-copy": lambda self, x, y: x.to(x.dtype),
    "clone-seen-through-views": lambda self, x, y: x.clone().view(-1)[1:],
    "buffer": lambda self, x, y: self.bn.running_mean,
    "buffer-copied": lambda self, x, y: self.bn.running_mean.clone(),
    "times-one": lambda self, x, y: x * 1,
    "plus-zero": lambda self, x, y: x + 0,
    "padding-of-nothing": lambda self, x, y: nn.functional.pad(x, (0, 0)),
    "twice": lambda self, x, y: (y.clone(), y * 1, y),
    "dropout": lambda self, x, y: nn.functional.dropout(x, 0.5, self.training),
    "channels-last": lambda self, x, y: x[None, :, :, None].contiguous(memory_format=torch.channels_last),
}


def memory(network, x) -> list:
    """Of each output: its strides, and whether it shares memory with the input, with another call, with an earlier output."""
    given = x.clone()
    first, second = (torch.utils._pytree.tree_leaves(network(each)) for each in (given, given.clone()))
    where = [leaf.untyped_storage().data_ptr() for leaf in first]
    input_at, again = given.untyped_storage().data_ptr(), [leaf.untyped_storage().data_ptr() for leaf in second]
    return [
        (leaf.stride(), where[i] == input_at, where[i] == again[i], where.index(where[i]) < i) for i, leaf in enumerate(first)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs_that_were_new_stay_new(name):
    def forward(self, x):
        y = self.body(x)
        return y, OUTPUTS[name](self, x, y)

    network = made(forward)
    with torch.no_grad():
        result = fuse(network, X)
        assert result.merges
        assert memory(network, X) == memory(result.model, X)
