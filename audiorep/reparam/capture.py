"""Captures a network as a graph of ATen operations by `torch.export`, with its constants, its inputs and their sizes."""

from __future__ import annotations

import functools
import gc
import io
import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.fx.config
from torch import Tensor, fx, nn
from torch._ops import HigherOrderOperator
from torch.export import Dim, ExportedProgram, ShapesCollection
from torch.export.graph_signature import InputKind, OutputKind
from torch.utils import _pytree as pytree

from audiorep.errors import FuseError
from audiorep.reparam import outputs
from audiorep.reparam.example_call import Call, bind_example, name_arguments
from audiorep.reparam.model_copies import shallow_copy
from audiorep.reparam.rule_failures import first_line
from audiorep.reparam.scripted import open_scripted, scripted_names
from audiorep.reparam.sequences import free_lengths, real_layers
from audiorep.reparam.sizes import Sizes, sizes_of
from audiorep.reparam.tidy import make_functional, tidy

aten = torch.ops.aten
CAPTURE_SECONDS = 20.0  # processor time for a capture with free sizes, which can take minutes; after that fewer sizes are free


@dataclass(frozen=True)
class Constant:
    """A tensor of the network that is the same in every call."""

    name: str
    """Its name in the network's state; the first one for a tensor with several names."""
    tensor: Tensor
    trained: bool
    """Whether it is a parameter, not a buffer."""
    persistent: bool = True


@dataclass
class Capture:
    """A network's graph and everything around it."""

    graph: fx.Graph
    constants: dict[fx.Node, Constant]
    call: Call
    """The example that was captured."""
    inputs: list[tuple[fx.Node, str]]
    """Tensor inputs and the expression for each, for example `x` or `batch['mask']`."""
    result: list[Any]
    """The leaves of the output: nodes and plain values."""
    structure: pytree.TreeSpec
    """The containers of the output."""
    sizes: Sizes = field(default_factory=Sizes)
    """The sizes of the inputs: fixed, free, and the conditions on the free ones."""
    updates: list[tuple[fx.Node, fx.Node]] = field(default_factory=list)
    """(input or buffer, its new value) for everything that the network writes in place."""
    doubled: bool = False
    """Whether the example's batch of one was captured as a batch of two."""

    def copy(self) -> Capture:
        """The same capture with a graph of its own."""
        moved: dict[fx.Node, Any] = {}
        graph = fx.Graph()
        graph.graph_copy(self.graph, moved)
        graph.output([moved[leaf] for leaf in self.result if isinstance(leaf, fx.Node)])
        return replace(
            self,
            graph=graph,
            constants={moved[node]: constant for node, constant in self.constants.items()},
            inputs=[(moved[node], place) for node, place in self.inputs],
            result=[moved[leaf] if isinstance(leaf, fx.Node) else leaf for leaf in self.result],
            updates=[(moved[target], moved[value]) for target, value in self.updates],
        )

    def replace(self, node: fx.Node, other: fx.Node) -> None:
        """Puts `other` in place of `node` everywhere and erases `node`."""
        node.replace_all_uses_with(other)
        self.result = [other if leaf is node else leaf for leaf in self.result]
        self.updates = [(target, other if value is node else value) for target, value in self.updates]
        self.graph.erase_node(node)


def capture(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], double_batch: bool = True) -> Capture:
    """The graph of `model`, in the modes its modules are in, with as many free sizes as it allows.

    Args:
        model: the network.
        args: an example of its inputs.
        kwargs: the example's keyword arguments.
        double_batch: capture a batch of one as a batch of two, because the exporter takes a size of one for a constant.

    Raises:
        FuseError: it cannot be captured as one graph; the message says why.
    """
    call = bind_example(model, args, kwargs)
    doubled = _doubled(args, kwargs) if double_batch else None
    if doubled is not None:
        try:
            return replace(_captured(model, bind_example(model, *doubled)), doubled=True)
        except FuseError:  # a network for a batch of one only
            pass
    return _captured(model, call)


def _captured(model: nn.Module, call: Call) -> Capture:
    copied = shallow_copy(model)
    scripted = open_scripted(copied)
    _open_outputs(copied)
    program = _export(copied, call)
    real_layers(program.graph)
    if not make_functional(program.graph):
        with _quiet():
            program = program.run_decompositions({})
    return _describe(model, program, call, scripted_names(program, scripted))


def is_single(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether an example is a batch of one, which is captured as two."""
    return _doubled(args, kwargs) is not None


def _open_outputs(model: nn.Module) -> None:
    """Makes a forward return its outputs in containers that the exporter knows."""
    forward = model.forward

    @functools.wraps(forward)
    def opening(*args: Any, **kwargs: Any) -> Any:
        return outputs.open_objects(forward(*args, **kwargs))

    vars(model)["forward"] = opening  # `__setattr__` would refuse a network with a child called `forward`


def _doubled(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """The example with a batch of two if it has a batch of one; else None."""
    tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    if not tensors or any(tensor.is_nested or tensor.dim() == 0 or tensor.shape[0] != 1 for tensor in tensors):
        return None
    twice = {id(tensor): torch.cat([tensor, tensor]) for tensor in tensors}  # one tensor in two places stays one
    return pytree.tree_map_only(Tensor, lambda tensor: twice[id(tensor)], (args, kwargs))


def _export(model: nn.Module, call: Call) -> ExportedProgram:
    name_arguments(model, call)
    errors: list[Exception] = []
    for most in (None, 1, 0):  # free dimensions: all, the first, none
        shapes: Any = ShapesCollection()  # type: ignore[no-untyped-call]
        for _, tensor in call.tensors:
            free = [n > 1 and (most is None or axis < most) for axis, n in enumerate(tensor.shape)]
            shapes[tensor] = [Dim.AUTO if each else Dim.STATIC for each in free]
        try:
            seconds = CAPTURE_SECONDS if not errors else 3 * CAPTURE_SECONDS
            with _quiet(), _deadline(seconds), torch.no_grad(), _own_conditions_only(), free_lengths():
                named = shapes.dynamic_shapes(model, call.args, call.kwargs)
                program = torch.export.export(model, call.args, call.kwargs, dynamic_shapes=named, strict=False)
                _sizes(program, call)  # fails where a condition cannot be read; then fewer sizes are free
                return program
        except Exception as error:  # export may raise anything
            errors.append(error)
    raise FuseError(f"torch.export cannot capture it: {(first_line(errors[-1]) or type(errors[-1]).__name__)[:200]}")


def _own_conditions_only() -> Any:
    """A patch of the exporter that keeps its own treatment of size one out of the conditions on sizes.

    Raises:
        AttributeError: this torch has no such option. Without it, wrong conditions would go unnoticed.
    """
    from torch.fx.experimental import _config

    return _config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]


@contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    end = time.thread_time() + seconds

    def check(*given: object) -> None:
        if time.thread_time() > end:
            raise TimeoutError(f"capture with free sizes took more than {seconds:g} s")

    handle = nn.modules.module.register_module_forward_pre_hook(check)
    try:
        yield
    finally:
        handle.remove()


def _describe(model: nn.Module, program: ExportedProgram, call: Call, lifted: dict[str, str]) -> Capture:
    graph = program.graph
    inner = [node for node in graph.nodes if node.op == "get_attr" or isinstance(node.target, HigherOrderOperator)]
    if inner:
        raise FuseError(f"it has a region of its own inside ({str(inner[-1].target).rpartition('.')[2]}).")
    nodes = {node.name: node for node in graph.nodes}
    constants, inputs = _inputs(model, program, nodes, [place for place, _ in call.values], lifted)
    outputs = next(iter(reversed(graph.nodes))).args[0]
    leaves, updates = [], []
    for spec, value in zip(program.graph_signature.output_specs, outputs, strict=True):
        if spec.kind is OutputKind.USER_OUTPUT:
            leaves.append(value)
        elif spec.kind in (OutputKind.BUFFER_MUTATION, OutputKind.USER_INPUT_MUTATION):
            names = {c.name: node for node, c in constants.items()} | nodes
            updates.append((names[spec.target], value))
    assert program.call_spec.out_spec is not None
    structure = program.call_spec.out_spec
    captured = Capture(graph, constants, call, inputs, leaves, structure, _sizes(program, call), updates)
    tidy(captured)
    return captured


def _sizes(program: ExportedProgram, call: Call) -> Sizes:
    """The sizes of the inputs.

    Raises:
        FuseError: the exporter does not give its conditions on them.
    """
    names = [spec.arg.name for spec in program.graph_signature.input_specs if spec.kind is InputKind.USER_INPUT]
    nodes = {node.name: node for node in program.graph.nodes if node.op == "placeholder"}
    values = [nodes[name].meta.get("val") if name in nodes else None for name in names]
    return sizes_of([value for value in values if isinstance(value, Tensor)], call)


def _inputs(
    model: nn.Module, program: ExportedProgram, nodes: dict[str, fx.Node], places: list[str], lifted: dict[str, str]
) -> tuple[dict[fx.Node, Constant], list[tuple[fx.Node, str]]]:
    state = dict(model.named_parameters(remove_duplicate=False)) | dict(model.named_buffers(remove_duplicate=False))
    trained = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    first: dict[int, str] = {}
    for name, tensor in state.items():
        first.setdefault(id(tensor), name)
    constants, inputs, position = {}, [], 0
    for spec in program.graph_signature.input_specs:
        node = nodes[spec.arg.name]
        if spec.kind is InputKind.USER_INPUT:
            if "val" in node.meta and isinstance(node.meta["val"], Tensor):
                inputs.append((node, places[position]))
            position += 1
        elif spec.kind in (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR):
            assert spec.target is not None
            target = lifted.get(spec.target, spec.target)
            tensor = state[target] if target in state else program.constants.get(target, program.state_dict.get(target))
            name = first.get(id(tensor), target)
            constants[node] = Constant(name, tensor, name in trained, spec.persistent is not False)
        else:
            raise FuseError(f"it holds {spec.arg}, which is not a tensor.")
    return constants, inputs


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the exporter's warnings and speeds it up by a fifth.

    The exporter makes a million small objects, which the garbage collector would visit again and again, and a stack trace
    for every node, which nobody reads.
    """
    disabled, collects, traces = logging.root.manager.disable, gc.isenabled(), _traces()
    logging.disable(logging.CRITICAL)
    gc.disable()
    _set_traces(True)
    try:
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):  # it prints graphs that it gives up
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
        _set_traces(traces)
        if collects:
            gc.enable()


def _traces() -> bool:
    return bool(getattr(fx.config, "do_not_emit_stack_traces", False))


def _set_traces(off: bool) -> None:
    if hasattr(fx.config, "do_not_emit_stack_traces"):
        fx.config.do_not_emit_stack_traces = off
