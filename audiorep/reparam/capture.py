"""A network as a graph of ATen operations, by `torch.export`: its constants, its inputs, what it asks of their sizes."""

from __future__ import annotations

import gc
import inspect
import io
import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
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
from audiorep.reparam.copies import shallow
from audiorep.reparam.scripted import names_of, opened
from audiorep.reparam.tidy import functional, tidy

aten = torch.ops.aten
SECONDS = 20.0  # of this thread's own work: symbolic sizes of products of sizes can take minutes; then fewer are tried


@dataclass(frozen=True)
class Constant:
    """A tensor of the network that is the same in every call."""

    name: str
    """Its name in the network's state; one name for a tensor with several."""
    tensor: Tensor
    trained: bool
    """A parameter, not a buffer."""
    persistent: bool = True


@dataclass
class Capture:
    """A network's graph and everything around it."""

    graph: fx.Graph
    constants: dict[fx.Node, Constant]
    arguments: list[str]
    """Names of the arguments given, as the network's forward has them."""
    inputs: list[tuple[fx.Node, str]]
    """Tensor inputs and where they lie in the arguments, for example `x` or `batch['mask']`."""
    result: list[Any]
    """The outputs' leaves: nodes and plain values."""
    structure: pytree.TreeSpec
    """How the leaves make the output."""
    guards: list[str]
    """Conditions on the inputs' sizes under which the graph is valid, as Python over the inputs' expressions."""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    """The example that was captured."""
    dynamic: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Free sizes: symbol to (input, dimension)."""
    settled: dict[str, list[tuple[int, int]]] = field(default_factory=dict)
    """Sizes that the capture took for constants though it was asked not to, likewise."""
    updates: list[tuple[fx.Node, fx.Node]] = field(default_factory=list)
    """(input or buffer, its new value): what the network writes in place."""
    doubled: bool = False
    """Whether the example's batch of one was made two."""

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
        """Erases `node`, whose value `other` has."""
        node.replace_all_uses_with(other)
        self.result = [other if leaf is node else leaf for leaf in self.result]
        self.updates = [(target, other if value is node else value) for target, value in self.updates]
        self.graph.erase_node(node)


def capture(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], twice: bool = True) -> Capture:
    """The graph of `model`, in the modes its modules are in, with as many free sizes as it allows.

    Args:
        model: the network.
        args: an example of its inputs.
        kwargs: as `args`.
        twice: make an example's batch of one two, since the exporter takes a size of one for a constant.

    Raises:
        FuseError: it cannot be captured whole; the text says why.
    """
    doubled = _doubled(args, kwargs) if twice else None
    if doubled is not None:
        try:
            return replace(_captured(model, *doubled), doubled=True)
        except FuseError:  # a network for a batch of one only
            pass
    return _captured(model, args, kwargs)


def _captured(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Capture:
    copied = shallow(model)
    scripted = opened(copied)
    program = _export(copied, args, kwargs)
    if not functional(program.graph):
        with _quiet():
            program = program.run_decompositions({})
    return _describe(model, program, args, kwargs, names_of(program, scripted))


def _doubled(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]] | None:
    """The example with a batch of two, if it has one of one: export takes a size of one for a constant."""
    tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    if not tensors or any(tensor.dim() == 0 or tensor.shape[0] != 1 for tensor in tensors):
        return None
    return pytree.tree_map_only(Tensor, lambda tensor: torch.cat([tensor, tensor]), (args, kwargs))


def _export(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> ExportedProgram:
    try:
        _name_arguments(model, args, kwargs)
    except (ValueError, TypeError) as error:
        raise FuseError(f"its forward cannot be read: {error}") from None
    errors: list[Exception] = []
    tensors = [leaf for leaf in pytree.tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    for most in (None, 1, 0):  # free dimensions: all, the first, none
        sizes: Any = ShapesCollection()  # type: ignore[no-untyped-call]
        for tensor in tensors:
            free = [n > 1 and (most is None or axis < most) for axis, n in enumerate(tensor.shape)]
            sizes[tensor] = [Dim.AUTO if each else Dim.STATIC for each in free]
        try:
            with _quiet(), _deadline(SECONDS if not errors else 3 * SECONDS), torch.no_grad(), _own_conditions_only():
                shapes = sizes.dynamic_shapes(model, args, kwargs)
                return torch.export.export(model, args, kwargs, dynamic_shapes=shapes, strict=False)
        except Exception as error:  # export raises nearly every kind
            errors.append(error)
    raise FuseError(f"torch.export cannot capture it: {_first_line(errors[-1])}")


def _name_arguments(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Gives a forward of `*args, **kwargs` the names that were used, which the exporter needs for free sizes."""
    kinds = [parameter.kind for parameter in inspect.signature(model.forward).parameters.values()]
    if inspect.Parameter.VAR_POSITIONAL not in kinds and inspect.Parameter.VAR_KEYWORD not in kinds:
        return
    forward = model.forward

    def named(*given: Any, **more: Any) -> Any:
        return forward(*given, **more)

    listed = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in _names(model, args, kwargs)]
    named.__signature__ = inspect.Signature(listed)  # type: ignore[attr-defined]
    model.forward = named


def _names(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
    """The names of the arguments given."""
    signature = inspect.signature(model.forward)
    names: list[str] = []
    for parameter in signature.parameters.values():
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            names += [f"{parameter.name}_{i}" for i in range(len(args) - len(names))]
        elif parameter.kind in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD):
            names.append(parameter.name)
    return [*names[: len(args)], *kwargs]


def _own_conditions_only() -> Any:
    """Conditions on sizes from the network's own code alone, not from how the exporter treats a size of one."""
    try:
        from torch.fx.experimental import _config

        return _config.patch(backed_size_oblivious=True)  # type: ignore[attr-defined]
    except (ImportError, AttributeError):  # a torch without it: more conditions, and more of them measured away
        return nullcontext()


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


def _describe(
    model: nn.Module, program: ExportedProgram, args: tuple[Any, ...], kwargs: dict[str, Any], lifted: dict[str, str]
) -> Capture:
    graph = program.graph
    inner = [node for node in graph.nodes if node.op == "get_attr" or isinstance(node.target, HigherOrderOperator)]
    if inner:
        raise FuseError(f"it has a region of its own inside ({str(inner[-1].target).rpartition('.')[2]}).")
    nodes = {node.name: node for node in graph.nodes}
    arguments, places = _places(model, args, kwargs)
    constants, inputs = _inputs(model, program, nodes, places, lifted)
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
    captured = Capture(graph, constants, arguments, inputs, leaves, structure, [], args, kwargs, updates=updates)
    _sizes(captured, program, _plain_values(places, (args, kwargs)))
    tidy(captured)
    return captured


def _places(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[str], list[str]]:
    """(argument names, an expression for each leaf of the example in order)."""
    names = _names(model, args, kwargs)
    leaves, _ = pytree.tree_flatten_with_path((args, kwargs))
    places = []
    for keys, _ in leaves:
        path: tuple[Any, ...] = keys
        first = names[path[1].idx] if path[0].idx == 0 else path[1].key
        places.append(first + "".join(str(key) for key in path[2:]))
    return names, places


def _plain_values(places: list[str], example: Any) -> list[str]:
    """Conditions that hold what is no tensor to what it was: the graph has taken it in."""
    leaves = pytree.tree_leaves(example)
    kept = [(place, leaf) for place, leaf in zip(places, leaves, strict=True) if not isinstance(leaf, Tensor)]
    plain = [(place, leaf) for place, leaf in kept if leaf is None or isinstance(leaf, bool | int | float | str)]
    return [f"{place} is None" if leaf is None else f"{place} == {leaf!r}" for place, leaf in plain]


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
            tensor = state.get(target)
            if tensor is None:
                tensor = program.constants.get(target, program.state_dict.get(target))
            name = first.get(id(tensor), target)
            constants[node] = Constant(name, tensor, name in trained, spec.persistent is not False)
        else:
            raise FuseError(f"it holds {spec.arg}, which is not a tensor.")
    return constants, inputs


def _sizes(captured: Capture, program: ExportedProgram, values: list[str]) -> None:
    """Fills in the free sizes, and the conditions on all sizes and on plain values."""
    places = {}
    captured.guards += values
    for index, (node, place) in enumerate(captured.inputs):
        value = node.meta["val"]
        captured.guards.append(f"{place}.dim() == {value.dim()}")
        captured.guards.append(f"{place}.is_floating_point() == {value.is_floating_point()}")
        for axis, size in enumerate(node.meta["val"].shape):
            if isinstance(size, torch.SymInt) and not size.node.expr.is_number:
                captured.dynamic.setdefault(str(size.node.expr), []).append((index, axis))
            else:
                captured.guards.append(f"{place}.size()[{axis}] == {int(size)}")
                if int(size) > 1:
                    captured.settled.setdefault(f"axis {axis} of {int(size)}", []).append((index, axis))
        places[node.name] = place
    captured.dynamic = {symbol: spots for symbol, spots in captured.dynamic.items() if symbol.isidentifier()}
    for guard in getattr(program, "_guards_code", None) or []:
        text = guard.replace('L["', "L['").replace('"]', "']")
        for name in captured.arguments:
            text = text.replace(f"L['{name}']", name)
        if "L[" not in text and text not in captured.guards:
            captured.guards.append(text)
    for spots in captured.dynamic.values():
        first = size_text(captured, spots[0])
        captured.guards += [f"{size_text(captured, spot)} == {first}" for spot in spots[1:]]
        captured.guards.append(f"{first} != 1")
    captured.guards = list(dict.fromkeys(captured.guards))


def size_text(captured: Capture, spot: tuple[int, int]) -> str:
    """A size of an input as the conditions write it."""
    return f"{captured.inputs[spot[0]][1]}.size()[{spot[1]}]"


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on how the network keeps its tensors, and a fifth faster.

    It makes a million small objects, which the garbage collector would go through again and again, and a stack trace for
    every node, which nobody reads.
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


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
