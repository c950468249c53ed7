"""Layers of sequences that keep any length while a network is captured: recurrent ones, and the pool of one dimension.

The exporter learns a recurrent layer's shapes from its unrolled form, which takes the length of the example for the only
one. What the network asks of its length behind the layer would then be answered for that length and forgotten. Here a
stand-in that knows the shapes alone takes the layer's place; the graph gets the layer itself back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import Tensor, fx

aten = torch.ops.aten


def _last_states(x: Tensor, state: Tensor, width: int, batch_first: bool) -> tuple[Tensor, Tensor]:
    """(all outputs, last state) as a layer allocates them: the time outermost, whatever the order of the axes."""
    steps, batch = (x.shape[1], x.shape[0]) if batch_first else (x.shape[0], x.shape[1])
    output = x.new_empty(steps, batch, width)
    return output.transpose(0, 1) if batch_first else output, state.new_empty(state.shape)


def _width(features: int, bidirectional: bool) -> int:
    return features * (2 if bidirectional else 1)


@torch.library.custom_op("audiorep::lstm", mutates_args=())
def _lstm(
    x: Tensor,
    states: list[Tensor],
    weights: list[Tensor],
    biased: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    return aten.lstm.input(x, states, weights, biased, layers, dropout, train, bidirectional, batch_first)


@_lstm.register_fake
def _(
    x: Tensor,
    states: list[Tensor],
    weights: list[Tensor],
    biased: bool,
    layers: int,
    dropout: float,
    train: bool,
    bidirectional: bool,
    batch_first: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    output, last = _last_states(x, states[0], _width(states[0].shape[2], bidirectional), batch_first)
    return output, last, states[1].new_empty(states[1].shape)


def _stand_in(name: str, kernel: Any) -> Any:
    """The stand-in of a layer with one state."""

    @torch.library.custom_op(f"audiorep::{name}", mutates_args=())
    def run(
        x: Tensor,
        state: Tensor,
        weights: list[Tensor],
        biased: bool,
        layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[Tensor, Tensor]:
        return kernel(x, state, weights, biased, layers, dropout, train, bidirectional, batch_first)

    @run.register_fake
    def _(
        x: Tensor,
        state: Tensor,
        weights: list[Tensor],
        biased: bool,
        layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> tuple[Tensor, Tensor]:
        return _last_states(x, state, _width(state.shape[2], bidirectional), batch_first)

    return run


_STAND_INS: dict[str, tuple[Any, Any]] = {
    "lstm": (_lstm, aten.lstm.input),
    "gru": (_stand_in("gru", aten.gru.input), aten.gru.input),
    "rnn_tanh": (_stand_in("rnn_tanh", aten.rnn_tanh.input), aten.rnn_tanh.input),
    "rnn_relu": (_stand_in("rnn_relu", aten.rnn_relu.input), aten.rnn_relu.input),
}


@contextmanager
def free_lengths() -> Iterator[None]:
    """While it is entered, recurrent layers in evaluation are captured as their stand-ins; packed sequences are not.

    The pool gives its indices too, since the exporter can follow that form alone. The functions themselves are replaced:
    a mode that sees every function of torch would take a tenth of the whole capture.
    """
    layers = {name: _layer(stand_in, getattr(torch, name)) for name, (stand_in, _) in _STAND_INS.items()}
    functions = [(owner, name, function) for name, function in layers.items() for owner in (torch, torch._VF)]
    functions += [(torch, "max_pool1d", _pool(torch.max_pool1d)), (F, "max_pool1d", _pool(F.max_pool1d))]
    with ExitStack() as given:
        for owner, name, function in functions:
            given.enter_context(patch.object(owner, name, function))
        yield


def _layer(stand_in: Any, layer: Any) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        steps = len(args) == 9 and not kwargs and isinstance(args[4], int)
        return stand_in(*args) if steps and not (args[6] and args[5]) else layer(*args, **kwargs)

    return call


def _pool(pool: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        if len(args) >= 7 or kwargs.get("return_indices"):
            return pool(*args, **kwargs)
        given = {key: value for key, value in kwargs.items() if key != "return_indices"}
        return F.max_pool1d_with_indices(*args, **given)[0]

    return call


def real_layers(graph: fx.Graph) -> None:
    """Puts the layers back for their stand-ins."""
    kernels = {stand_in._opoverload: kernel for stand_in, kernel in _STAND_INS.values()}
    for node in list(graph.nodes):
        node.target = kernels.get(node.target, node.target)
        results = list(node.users)
        if node.target is aten.max_pool1d_with_indices.default and not any(user.args[1] and user.users for user in results):
            node.target = aten.max_pool1d.default
            for user in results:
                node.meta["val"] = user.meta["val"] if user.args[1] == 0 else node.meta["val"]
                user.replace_all_uses_with(node)
                graph.erase_node(user)
