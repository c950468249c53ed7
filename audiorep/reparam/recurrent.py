"""LSTM and GRU layers as operations: their two biases can be added, and a map before them folded into their weights."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx

from audiorep.errors import FuseError
from audiorep.reparam.affine import Affine, Constants, module_path
from audiorep.reparam.layout import example_size
from audiorep.reparam.nodes import argument, arguments, operation, rank, shape

aten = torch.ops.aten
KINDS = {aten.lstm.input: "LSTM", aten.gru.input: "GRU"}


@dataclass(frozen=True, eq=False, repr=False)
class Recurrent:
    """An operation of a node: an LSTM or GRU. Calling it with (x, *states) gives (output, *states)."""

    label: str
    """LSTM or GRU."""
    weights: tuple[Tensor, ...]
    """For each direction of each layer: input weight, hidden weight and two biases, if it has biases."""
    biased: bool
    layers: int
    bidirectional: bool
    batch_first: bool
    names: frozenset[str]
    dtype: torch.dtype
    members: tuple[tuple[str, str], ...]
    merged: bool = False
    """Whether the two biases were added. The second then holds the rest, which cannot move."""
    raw: bool = True
    projected: bool = False
    steps: int = 1
    """Batch size × time steps in the example."""

    def __call__(self, x: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """The outputs and last states."""
        weights = [weight.to(x.dtype) for weight in self.weights]
        states = states or self._zeros(x)
        more = (self.biased, self.layers, 0.0, False, self.bidirectional, self.batch_first)
        if self.label == "LSTM":
            return aten.lstm.input(x, list(states), weights, *more)
        return aten.gru.input(x, states[0], weights, *more)

    def _zeros(self, x: Tensor) -> tuple[Tensor, ...]:
        """The initial states where none are given."""
        count, batch = self.layers * (1 + self.bidirectional), x.shape[0 if self.batch_first else 1]
        cell = self.weights[0].shape[0] // (4 if self.label == "LSTM" else 3)
        sizes = (self.weights[1].shape[1], cell) if self.label == "LSTM" else (cell,)
        return tuple(x.new_zeros(count, batch, size) for size in sizes)

    def __repr__(self) -> str:
        return self.label

    @property
    def cells(self) -> int:
        """The number of tensors of one direction of one layer."""
        return 2 + 2 * self.biased + self.projected

    @property
    def parameters(self) -> int:
        """The number of trained values; a merged LSTM has one bias per direction."""
        total = sum(weight.numel() for weight in self.weights)
        if self.merged and self.label == "LSTM":
            total -= sum(weight.numel() for weight in self.weights[3 :: self.cells])
        return total

    @property
    def macs(self) -> int:
        """Multiply-accumulates in the example."""
        return self.steps * sum(weight.numel() for weight in self.weights if weight.dim() == 2)

    @property
    def keys(self) -> tuple[Any, ...]:
        """What it keeps alive: the network's tensors, or itself once it was merged."""
        return tuple(self.names) if self.raw else (self,)


def lift(node: fx.Node, constants: Constants) -> None:
    """Makes an LSTM or GRU node a `Recurrent` one, if its weights are constant and it has no active dropout."""
    if node.target not in KINDS or not isinstance(node.args[2], list | tuple):
        return
    x, states, weights, biased, layers, dropout, train, bidirectional, batch_first = arguments(node)
    if not all(constants.is_constant(weight) for weight in weights) or (train and dropout):
        return
    label = KINDS[operation(node)]
    listed = states if isinstance(states, list | tuple) else [states]
    listed = [] if all(_is_zeros(state) for state in listed) else listed  # the layer makes zeros itself, in its own precision
    steps = math.prod(example_size(size) for size in shape(x)[:-1])
    count = len(weights) // (layers * (1 + bidirectional))
    target = Recurrent(
        label,
        tuple(constants.value(weight) for weight in weights),
        bool(biased),
        layers,
        bool(bidirectional),
        bool(batch_first),
        constants.names_of(weights),
        x.meta["val"].dtype,
        ((label, module_path(node)),),
        projected=count == 3 + 2 * bool(biased),
        steps=steps,
    )
    node.target, node.args, node.kwargs = target, (x, *listed), {}


def _is_zeros(node: fx.Node) -> bool:
    return node.target in (aten.zeros.default, aten.full.default) and bool(argument(node, 1, 0) == 0)


def first_weight(node: fx.Node) -> fx.Node | None:
    """A weight of a recurrent layer or cell that was not lifted; None for another node."""
    if not str(node.target).startswith(("aten.lstm", "aten.gru", "aten.rnn_tanh", "aten.rnn_relu")):
        return None
    weight = node.args[2][0] if isinstance(node.args[2], list | tuple) else node.args[2]
    return weight if isinstance(weight, fx.Node) else None


def with_one_bias(layer: Recurrent) -> Recurrent:
    """The same layer with its two biases added: for all gates of an LSTM, for the r and z gates of a GRU."""
    weights = list(layer.weights)
    for place in range(2, len(weights), layer.cells):
        first, second = weights[place], weights[place + 1]
        moved = second.clone()
        if layer.label == "GRU":
            moved[2 * second.shape[0] // 3 :] = 0
        weights[place], weights[place + 1] = first + moved, second - moved
    return replace(layer, weights=tuple(weights), merged=True, raw=False)


def folded(first: Affine, layer: Recurrent) -> Recurrent:
    """The layer with the map `first`, which comes before it, folded into its input weights.

    Raises:
        FuseError: the map adds something and the layer has no bias, or it is not a linear layer or scale.
    """
    taps = first.taps
    if taps.size or (taps.groups != 1 and not taps.is_scale):
        raise FuseError("a recurrent layer takes in linear layers and scales only.")
    if taps.bias is not None and not layer.biased:
        raise FuseError("the recurrent layer has no bias to take in its shift.")
    weights = list(layer.weights)
    for place in range(0, (1 + layer.bidirectional) * layer.cells, layer.cells):
        inner = weights[place]
        weights[place] = inner * taps.weight[:, 0] if taps.is_scale or first.axis is None else inner @ taps.weight
        if taps.bias is not None:
            weights[place + 2] = weights[place + 2] + inner @ taps.bias.expand(inner.shape[1])
    members = tuple(dict.fromkeys((*layer.members, *first.members)))
    return replace(layer, weights=tuple(weights), names=layer.names | first.names, members=members, raw=False)


def on_meta(layer: Recurrent) -> Recurrent:
    """The same layer without values."""
    return replace(layer, weights=tuple(weight.to("meta") for weight in layer.weights))


def is_input(layer: Any, user: fx.Node, x: fx.Node, axis: int | None) -> bool:
    """Whether `x` is the sequence that a recurrent node reads, with the features along `axis`."""
    return isinstance(layer, Recurrent) and user.args[0] is x and x not in user.args[1:] and axis in (None, _last(x))


def _last(x: fx.Node) -> int:
    return rank(x) - 1
