"""Writes the working graph as an ordinary module with the original's names and a readable forward."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch
from torch import Tensor, fx, nn

from audiorep.reparam.affine import INPUT, NORMS, Affine, Sum
from audiorep.reparam.contract import CONTRACT
from audiorep.reparam.engine import Engine
from audiorep.reparam.expressions import callable_expression, has_literal, literal
from audiorep.reparam.layers import LayerBuilder, outer_padding
from audiorep.reparam.model_copies import double_dtype
from audiorep.reparam.module import Fused, Group, Structure, access, attach, build, module_at, set_tensor
from audiorep.reparam.module_paths import ModulePaths
from audiorep.reparam.nodes import arguments, named_arguments, rank, source
from audiorep.reparam.recurrent import Recurrent, first_weight

aten = torch.ops.aten
_IN_PLACE: dict[Any, Any] = {
    aten.relu.default: aten.relu_.default,
    aten.hardtanh.default: aten.hardtanh_.default,
    aten.hardswish.default: aten.hardswish_.default,
    aten.silu.default: aten.silu_.default,
    aten.leaky_relu.default: aten.leaky_relu_.default,
}  # in place, no memory is allocated for another large map


class Emitter:
    """Writes one network: its modules and the lines of its forward."""

    def __init__(self, engine: Engine, name: str, double: bool = False) -> None:
        self._engine, self._name, self._double = engine, name, double
        self._captured, self._constants = engine.captured, engine.constants
        self._layers = LayerBuilder(engine.constants, double)
        self._root = Group()
        self._lines: list[str] = []
        self._known: dict[fx.Node, str] = {}
        self._first_input = self._captured.inputs[0][1] if self._captured.inputs else None
        self._module_paths = ModulePaths(self._claims())
        self.paths: dict[Any, str] = {}
        """The path of each map of the graph in the network."""

    def emit(self) -> Fused:
        """The merged network as a module."""
        for node, place in self._captured.inputs:
            self._known[node] = place if node.name == place else self._variable(node)
            if self._known[node] != place:
                self._lines.append(f"{self._known[node]} = {place}")
        for node in self._captured.graph.nodes:
            if node.op == "call_function" and not self._constants.is_constant(node):
                self._write_node(node)
        for target, value in self._captured.updates:
            self._lines.append(f"{self._expression(target)}.copy_({self._expression(value)})")
        self._result(())  # constants among the outputs become tensors of the network
        made = build(self._name, self.source(()))
        made.__dict__.update({key: value for key, value in self._root.__dict__.items() if key not in ("training",)})
        made.training = False
        return made

    def source(self, checks: Iterable[str], copies: Collection[int] = ()) -> str:
        """The source of the forward.

        Args:
            checks: lines that check the arguments first.
            copies: the positions of the outputs that are returned as copies.
        """
        last = f"return {self._result(copies)}"
        lines = [
            f"def forward({self._captured.call.signature}):",
            *[f"    {line}" for line in [*checks, *self._lines, last]],
        ]
        body = "\n".join(lines)
        heads = ["import torch"]
        used = [name for name in CONTRACT if re.search(rf"\b{name}\b", body)]
        heads += [f"from audiorep.reparam.contract import {', '.join(used)}"] if used else []
        heads += ["from collections import OrderedDict"] if "OrderedDict(" in body else []
        heads += [f"import {name}" for name in ("math", "operator", "_operator", "builtins") if re.search(rf"\b{name}\.", body)]
        heads += ["inf, nan = float('inf'), float('nan')"] if re.search(r"\b(inf|nan)\b", body) else []
        return "\n".join([*heads, "", body, ""])

    def _write_node(self, node: fx.Node) -> None:
        target = node.target
        if isinstance(target, Affine):
            text = self._map(node, target)
        elif isinstance(target, Sum):
            text = self._sum(node, target)
        elif isinstance(target, Recurrent):
            text = self._module_call(target, lambda: self._layers.recurrent(target), node)
        elif self._is_layer(node):
            text = self._norm(node) if target in NORMS else self._embedding(node)
        elif _makes_floats(node):
            text = self._new_floats(node)
        else:
            in_place = target in _IN_PLACE and self._may_overwrite(source(node))
            text = self._function(_IN_PLACE[target] if in_place else target, node.args, node.kwargs)
        name = self._variable(node)
        self._lines.append(f"{name} = {text}")
        self._known[node] = name

    def _variable(self, node: fx.Node) -> str:
        """The name of the variable for a node's value, which differs from the arguments' names."""
        taken = self._captured.call.names
        return f"{node.name}_value" if node.name in taken or node.name in CONTRACT else str(node.name)

    def _may_overwrite(self, node: fx.Node) -> bool:
        """Whether a node's value is new and nothing else will read it."""
        kept = node in self._captured.result or any(node is value for _, value in self._captured.updates)
        return isinstance(node.target, Affine | Sum) and len(node.users) == 1 and not kept

    def _claims(self) -> dict[Any, list[str]]:
        """The paths in the original of the parts of each map, and the names of the tensors that are used as they are."""
        claims: dict[Any, list[str]] = {}
        for node in self._captured.graph.nodes:
            if node.op != "call_function" or self._constants.is_constant(node):
                continue
            if isinstance(node.target, Affine | Recurrent) and not _stays_function(node.target):
                claims[node.target] = [path for _, path in node.target.members if path]
            elif self._is_layer(node):
                claims[node] = [_owner(node)]
            else:
                for name in self._engine.use.keys(node):
                    claims[name] = [str(name)]
        return claims

    def _map(self, node: fx.Node, target: Affine) -> str:
        if target.raw is not None and _stays_function(target):
            operation, args, kwargs = target.raw
            return self._function(operation, tuple(node.args[0] if arg is INPUT else arg for arg in args), kwargs)
        path = self._path(target, lambda: self._layers.map(target, rank(node)))
        around = outer_padding(target)
        given = self._expression(node.args[0])
        return f"{access(path)}({f'torch.nn.functional.pad({given}, {around})' if around else given})"

    def _module_call(self, target: Any, make: Callable[[], nn.Module], node: fx.Node) -> str:
        given = ", ".join(self._expression(arg) for arg in node.args)
        return f"{access(self._path(target, make))}({given})"

    def _path(self, target: Any, make: Callable[[], nn.Module], wish: str | None = None) -> str:
        """The path of the module of `target`, which `make` makes in the first call."""
        if target not in self.paths:
            path = self._module_paths.choose(target, wish)
            self.paths[target] = path
            attach(self._root, path, make())
        return self.paths[target]

    def _is_layer(self, node: fx.Node) -> bool:
        """Whether a node is a norm or an embedding whose tensors are the network's own, so that it stays a module."""
        if node.target is aten.embedding.default:
            return self._constants.constant(node.args[0]) is not None
        if node.target not in NORMS:
            return False
        used = [arg for arg in node.args[2:4] if isinstance(arg, fx.Node)]
        return all(self._constants.constant(arg) is not None for arg in used)

    def _norm(self, node: fx.Node) -> str:
        values = named_arguments(node)
        weight, extent = values.get("weight"), values.get("normalized_shape", values.get("num_groups"))
        key = node if weight is None else (node.target, weight, values.get("bias"), values["eps"], str(extent))
        path = self._path(key, lambda: self._layers.norm(node), _owner(node))
        return f"{access(path)}({self._expression(values['input'])})"

    def _embedding(self, node: fx.Node) -> str:
        weight, indices = arguments(node)[:2]
        path = self._path((node.target, weight), lambda: self._layers.embedding(node), _owner(node))
        return f"{access(path)}({self._expression(indices)})"

    def _sum(self, node: fx.Node, target: Sum) -> str:
        pairs = zip(target.factors, arguments(node), strict=True)
        order = sorted(pairs, key=lambda term: (term[0] != 1, not self._may_overwrite(term[1])))
        terms = [
            (factor, self._expression(arg)) for factor, arg in order
        ]  # a plain term first, if possible one that may be overwritten
        if len(terms) == 2 and terms[0][0] == 1 and abs(terms[1][0]) == 1 and self._may_overwrite(order[0][1]):
            return f"{terms[0][1]}.{'add' if terms[1][0] == 1 else 'sub'}_({terms[1][1]})"
        text = terms[0][1] if terms[0][0] == 1 else f"{terms[0][0]!r} * {terms[0][1]}"
        for factor, name in terms[1:]:
            text += f" + {name}" if factor == 1 else f" - {name}" if factor == -1 else f" + {factor!r} * {name}"
        return text

    def _function(self, target: Any, args: Any, kwargs: Any) -> str:
        given = [self._expression(arg) for arg in args]
        given += [f"{key}={self._expression(value)}" for key, value in kwargs.items()]
        return f"{callable_expression(target)}({', '.join(given)})"

    def _new_floats(self, node: fx.Node) -> str:
        """A call that makes floats from no tensor, in the precision of the capture, whose rounding is in their values."""
        dtype = node.meta["val"].dtype
        kwargs = {key: value for key, value in node.kwargs.items() if key != "dtype"}
        text = self._function(node.target, node.args, kwargs).removesuffix(")")
        text = f"{text}{', ' if not text.endswith('(') else ''}dtype="
        weights = [first_weight(user) for user in node.users]
        if weights and all(weights):  # a state has its layer's precision, whatever that becomes
            return f"{text}{self._expression(weights[0])}.dtype)"
        return f"{text}{dtype}).to({double_dtype(dtype)})" if self._double else f"{text}{dtype})"

    def _expression(self, value: Any) -> str:
        """The expression for an argument of a node."""
        if isinstance(value, fx.Node):
            return self._known[value] if value in self._known else self._constant(value)
        if isinstance(value, list | tuple):
            inner = ", ".join(self._expression(item) for item in value)
            return f"[{inner}]" if isinstance(value, list) else f"({inner}{',' if len(value) == 1 else ''})"
        if isinstance(value, torch.dtype):
            return str(double_dtype(value) if self._double else value)
        if isinstance(value, torch.device):
            return f"{self._first_input}.device" if self._first_input is not None else f"torch.device({str(value)!r})"
        if isinstance(value, slice):
            return f"slice({self._expression(value.start)}, {self._expression(value.stop)}, {self._expression(value.step)})"
        if isinstance(value, torch.layout | torch.memory_format):
            return str(value)
        return repr(value)

    def _constant(self, node: fx.Node) -> str:
        """The expression for a constant: a tensor of the network, or a variable for what is computed from some."""
        constant = self._constants.constant(node)
        if constant is None:
            name = self._variable(node)
            self._lines.append(f"{name} = {self._function(node.target, node.args, node.kwargs)}")
            self._known[node] = name
            return name
        *parents, last = constant.name.split(".")
        owner = module_at(self._root, ".".join(parents))
        if last not in owner._parameters and last not in owner._buffers:
            tensor = self._layers.tensor(node)
            set_tensor(owner, last, tensor, isinstance(tensor, nn.Parameter), constant.persistent)
        return access(constant.name)

    def _result(self, copies: Collection[int]) -> str:
        leaves = [self._expression(leaf) for leaf in self._captured.result]
        leaves = [f"{leaf}.clone()" if index in copies else leaf for index, leaf in enumerate(leaves)]
        structure = self._captured.structure
        if has_literal(structure):
            return literal(structure, iter(leaves))
        self._root.__dict__["structure"] = Structure(structure)
        return f"self.structure([{', '.join(leaves)}])"


def _stays_function(target: Any) -> bool:
    """Whether a map stays the function call that it was, not a module."""
    if not isinstance(target, Affine) or target.raw is None:
        return False
    return not str(target.raw[0]).startswith(("aten.conv", "aten._convolution", "aten.linear", "aten.batch_norm"))


def _makes_floats(node: fx.Node) -> bool:
    """Whether a node makes floats from no tensor, in a precision that its arguments name or torch's default gives."""
    value = node.meta.get("val")
    if not isinstance(value, Tensor) or not (value.is_floating_point() or value.is_complex()):
        return False
    reads = any(isinstance(other.meta.get("val"), Tensor) for other in node.all_input_nodes)
    schema_arguments = getattr(getattr(node.target, "_schema", None), "arguments", ())
    return not reads and any(argument.name == "dtype" and argument.kwarg_only for argument in schema_arguments)


def _owner(node: fx.Node) -> str:
    """The path of the module that a layer was computed in."""
    stack = node.meta.get("nn_module_stack") or {"": ("norm", None)}
    return str(list(stack.values())[-1][0]) or "norm"
