"""Keeps the length of sequences free while recurrent layers and one-dimensional pools are captured.

The exporter finds a recurrent layer's shapes by unrolling it for the length of the example. Conditions of the network on
the length after the layer would then be evaluated for that length and forgotten. So during the capture an operator that
knows only the shapes stands in for the layer; the graph gets the layer itself back.
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


_LAYER_ARGUMENTS = "Tensor[] weights, bool biased, int layers, float dropout, bool train, bool bidirectional, bool batch_first"


def _stand_in(name: str, kernel: Any) -> Any:
    """An operator that computes what a recurrent layer computes and tells the exporter the layer's shapes."""
    states, results = ("Tensor[] states", "Tensor, Tensor, Tensor") if name == "lstm" else ("Tensor state", "Tensor, Tensor")
    schema = f"(Tensor x, {states}, {_LAYER_ARGUMENTS}) -> ({results})"

    def run(*args: Any) -> Any:
        return kernel(*args)

    operator = torch.library.custom_op(f"audiorep::{name}", run, mutates_args=(), schema=schema)
    operator.register_fake(_empty_results)
    return operator


def _empty_results(x: Tensor, states: Any, *layer: Any) -> tuple[Tensor, ...]:
    """(all outputs, *last states) without values, laid out as a layer does: time is the outermost axis in memory."""
    *_, bidirectional, batch_first = layer
    listed: list[Tensor] = [states] if isinstance(states, Tensor) else states
    steps, batch = (x.shape[1], x.shape[0]) if batch_first else (x.shape[0], x.shape[1])
    output = x.new_empty(steps, batch, listed[0].shape[2] * (2 if bidirectional else 1))
    return output.transpose(0, 1) if batch_first else output, *(state.new_empty(state.shape) for state in listed)


_KERNELS = {
    "lstm": aten.lstm.input,
    "gru": aten.gru.input,
    "rnn_tanh": aten.rnn_tanh.input,
    "rnn_relu": aten.rnn_relu.input,
}
_STAND_INS = {name: _stand_in(name, kernel) for name, kernel in _KERNELS.items()}


@contextmanager
def free_lengths() -> Iterator[None]:
    """While it is active, recurrent layers in evaluation are captured as their stand-ins, except on packed sequences.

    Pools of one dimension are captured with their indices, the only form that the exporter can follow. The functions
    themselves are patched, because a mode that sees every function of torch would take a tenth of the whole capture.
    """
    layers = {name: _layer(stand_in, getattr(torch, name)) for name, stand_in in _STAND_INS.items()}
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
    """Puts the layers themselves in place of their stand-ins."""
    kernels = {stand_in._opoverload: _KERNELS[name] for name, stand_in in _STAND_INS.items()}
    for node in list(graph.nodes):
        node.target = kernels.get(node.target, node.target)
        results = list(node.users)
        if node.target is aten.max_pool1d_with_indices.default and not any(user.args[1] and user.users for user in results):
            node.target = aten.max_pool1d.default
            for user in results:
                node.meta["val"] = user.meta["val"] if user.args[1] == 0 else node.meta["val"]
                user.replace_all_uses_with(node)
                graph.erase_node(user)
