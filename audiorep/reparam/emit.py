"""The working graph as an ordinary module: convolutions and linear layers with the original's names, and a readable forward."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from audiorep.reparam.affine import INPUT, NORMS, Affine, Sum, to_transposed
from audiorep.reparam.contract import CONTRACT
from audiorep.reparam.copies import doubled, to_double
from audiorep.reparam.engine import Engine
from audiorep.reparam.layout import fixed
from audiorep.reparam.module import (
    Fused,
    Group,
    MergedGRU,
    MergedLSTM,
    Scale,
    Structure,
    access,
    at,
    attach,
    build,
    empty,
    set_tensor,
)
from audiorep.reparam.names import Paths
from audiorep.reparam.recurrent import Recurrent, first_weight

aten = torch.ops.aten
_CONVOLUTIONS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_TRANSPOSED: dict[int, Any] = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}
_BATCH_NORMS: dict[int, Any] = {2: nn.BatchNorm1d, 3: nn.BatchNorm1d, 4: nn.BatchNorm2d, 5: nn.BatchNorm3d}
_IN_PLACE = {
    aten.relu.default: aten.relu_.default,
    aten.hardtanh.default: aten.hardtanh_.default,
    aten.hardswish.default: aten.hardswish_.default,
    aten.silu.default: aten.silu_.default,
    aten.leaky_relu.default: aten.leaky_relu_.default,
}  # what large maps gain most by: a second one need not be found in memory


class Emitter:
    """Writes one network: its modules and the lines of its forward."""

    def __init__(self, engine: Engine, name: str, double: bool = False) -> None:
        self._engine, self._name, self._double = engine, name, double
        self._captured, self._constants = engine.captured, engine.constants
        self._root = Group()
        self._paths: dict[Any, str] = {}
        self._tensors: dict[str, Tensor] = {}
        self._lines: list[str] = []
        self._known: dict[fx.Node, str] = {}
        self._first = self._captured.inputs[0][1] if self._captured.inputs else None
        self._taken = Paths(self._claims())

    def emit(self) -> Fused:
        """The module."""
        for node, place in self._captured.inputs:
            self._known[node] = place if node.name == place else self._new(node)
            if self._known[node] != place:
                self._lines.append(f"{self._known[node]} = {place}")
        for node in self._captured.graph.nodes:
            if node.op == "call_function" and self._constants.names(node) is None:
                self._node(node)
        for target, value in self._captured.updates:
            self._lines.append(f"{self._argument(target)}.copy_({self._argument(value)})")
        self._result(())  # constants among the outputs become tensors of the network
        made = build(self._name, self.source(()))
        made.__dict__.update({key: value for key, value in self._root.__dict__.items() if key not in ("training",)})
        made.training = False
        return made

    def source(self, checks: Iterable[str], copies: Collection[int] = ()) -> str:
        """The source of the forward: what it asks of its arguments first, and copies of the outputs of these numbers last."""
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

    @property
    def paths(self) -> dict[Any, str]:
        """Where each map of the graph is in the network."""
        return self._paths

    def _node(self, node: fx.Node) -> None:
        target = node.target
        if isinstance(target, Affine):
            text = self._affine(node, target)
        elif isinstance(target, Sum):
            text = self._sum(node, target)
        elif isinstance(target, Recurrent):
            text = self._call(target, lambda: self._recurrent(target), node)
        elif self._is_layer(node):
            text = self._norm(node) if node.target in NORMS else self._embedding(node)
        else:
            target = _IN_PLACE[target] if target in _IN_PLACE and self._spare(node.args[0]) else target
            text = self._made(node) if _makes_floats(node) else self._function(target, node.args, node.kwargs)
        name = self._new(node)
        self._lines.append(f"{name} = {text}")
        self._known[node] = name

    def _new(self, node: fx.Node) -> str:
        """A name for a node's value that is no argument's."""
        taken = self._captured.call.names
        return f"{node.name}_value" if node.name in taken or node.name in CONTRACT else str(node.name)

    def _spare(self, node: fx.Node) -> bool:
        """Whether a node's value is new and nothing else will read it, so that it may be overwritten."""
        kept = node in self._captured.result or any(node is value for _, value in self._captured.updates)
        return isinstance(node.target, Affine | Sum) and len(node.users) == 1 and not kept

    def _claims(self) -> dict[Any, list[str]]:
        """Where the original has what each map is made of, and the tensors that are used as they are."""
        claims: dict[Any, list[str]] = {}
        for node in self._captured.graph.nodes:
            if node.op != "call_function" or self._constants.names(node) is not None:
                continue
            if isinstance(node.target, Affine | Recurrent) and not self._is_function(node.target):
                claims[node.target] = [path for _, path in node.target.members if path]
            elif self._is_layer(node):
                claims[node] = [_owner(node)]
            else:
                for name in self._engine._keys(node):
                    claims[name] = [str(name)]
        return claims

    def _is_function(self, target: Any) -> bool:
        """Whether a map stays the operation it was."""
        if not isinstance(target, Affine) or target.raw is None:
            return False
        kind = str(target.raw[0])
        return not kind.startswith(("aten.conv", "aten._convolution", "aten.linear", "aten.batch_norm"))

    def _affine(self, node: fx.Node, target: Affine) -> str:
        if self._is_function(target):
            assert target.raw is not None
            operation, args, kwargs = target.raw
            return self._function(operation, tuple(node.args[0] if arg is INPUT else arg for arg in args), kwargs)
        around: list[int] = []
        make = self._module_of(node, target, around)
        if around:
            padded = f"torch.nn.functional.pad({self._argument(node.args[0])}, {around})"
            return f"{access(self._path(target, make))}({padded})"
        return self._call(target, make, node)

    def _call(self, target: Any, make: Any, node: fx.Node) -> str:
        given = ", ".join(self._argument(arg) for arg in node.args)
        return f"{access(self._path(target, make))}({given})"

    def _path(self, target: Any, make: Any, wish: str | None = None) -> str:
        if target not in self._paths:
            path = self._taken.choose(target, wish)
            self._paths[target] = path
            attach(self._root, path, make())
        return self._paths[target]

    def _module_of(self, node: fx.Node, target: Affine, around: list[int]) -> Any:
        """A function that makes the module of a map; `around` gets the padding that no module has."""
        taps, rank = target.taps, node.meta["val"].dim()
        if target.raw is not None and str(target.raw[0]).startswith("aten.batch_norm"):
            return lambda: self._batch_norm(target, rank)
        if taps.is_scale or target.axis is None:
            return lambda: self._scale(target, rank)
        if not taps.size and target.axis == rank - 1:
            return lambda: self._filled(empty(nn.Linear, taps.inputs, taps.outputs, taps.bias is not None), target, taps.weight)
        if taps.transposed:
            return lambda: self._transposed(target)
        return self._convolution(target, rank, around)

    def _convolution(self, target: Affine, rank: int, around: list[int]) -> Any:
        taps, dimensions = target.taps, rank - 2
        size = taps.size or (1,) * dimensions
        stride, dilation = taps.stride or (1,) * dimensions, taps.dilation or (1,) * dimensions
        low, high = taps.low or (0,) * dimensions, taps.high or (0,) * dimensions
        padding: Any = tuple(max(0, min(pair)) for pair in zip(low, high, strict=True))
        if low != high or min(low) < 0:
            total = [a + b for a, b in zip(low, high, strict=True)]
            reach = [d * (k - 1) for d, k in zip(dilation, size, strict=True)]
            if total == reach and all(s == 1 for s in stride) and all(a == t // 2 for a, t in zip(low, total, strict=True)):
                padding = "same"
            else:
                for a, b, p in reversed(list(zip(low, high, padding, strict=True))):
                    around += [a - p, b - p]
        bias = taps.bias is not None
        kind = _CONVOLUTIONS[dimensions]
        return lambda: self._filled(
            empty(kind, taps.inputs, taps.outputs, size, stride, padding, dilation, taps.groups, bias),
            target,
            taps.weight.reshape(*taps.weight.shape[:2], *size),
        )

    def _transposed(self, target: Affine) -> nn.Module:
        taps = target.taps
        extra = tuple(low - high for low, high in zip(taps.low, taps.high, strict=True))
        kind, bias = _TRANSPOSED[len(taps.size)], taps.bias is not None
        channels, frame = (taps.inputs, taps.outputs), (taps.size, taps.stride, taps.low, extra)
        module = empty(kind, *channels, *frame, taps.groups, bias, taps.dilation)
        return self._filled(module, target, to_transposed(taps.weight, taps.groups))

    def _filled(self, module: nn.Module, target: Affine, weight: Tensor) -> nn.Module:
        """`module` with the map's tensors: the original's own where nothing was merged."""
        named = {}
        if target.raw is not None and not target.derived and not self._double:
            for key, value in zip(("weight", "bias"), self._raw_tensors(target), strict=False):
                named[key] = value
        for key, value, trained in (("weight", weight, True), ("bias", target.taps.bias, target.taps.bias_trained)):
            if key in named and named[key] is not None:
                set_tensor(module, key, named[key], isinstance(named[key], nn.Parameter))
            else:
                set_tensor(module, key, self._cast(value, target.dtype), trained)
        return module

    def _raw_tensors(self, target: Affine) -> list[Tensor | None]:
        """The weight and bias nodes of a captured convolution or linear layer, as the new network's tensors."""
        assert target.raw is not None
        _, args, kwargs = target.raw
        nodes = [*args[1:3], *(kwargs.get(key) for key in ("weight", "bias") if key in kwargs)]
        return [self._tensor(node) if isinstance(node, fx.Node) else None for node in nodes]

    def _tensor(self, node: fx.Node) -> Tensor:
        """A tensor of the original, copied once."""
        constant = self._constants.constant(node)
        assert constant is not None
        if constant.name not in self._tensors:
            copied = constant.tensor.detach().clone()
            copied = to_double(copied) if self._double else copied
            floats = copied.is_floating_point() or copied.is_complex()
            self._tensors[constant.name] = nn.Parameter(copied, requires_grad=False) if constant.trained and floats else copied
        return self._tensors[constant.name]

    def _cast(self, value: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        if value is None:
            return None
        return value.contiguous() if self._double else value.to(dtype, copy=True).contiguous()

    def _batch_norm(self, target: Affine, rank: int) -> nn.Module:
        assert target.raw is not None
        _, args, kwargs = target.raw
        values = dict(
            zip(("input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps"), args, strict=False)
        )
        values |= kwargs
        module = empty(_BATCH_NORMS[rank], target.taps.outputs, values["eps"], values["momentum"], values["weight"] is not None)
        for key in ("weight", "bias", "running_mean", "running_var"):
            node = values[key]
            if isinstance(node, fx.Node) and self._constants.constant(node) is not None:
                tensor: Tensor | None = self._tensor(node)
            else:
                tensor = None if node is None else self._cast(self._constants.value(node), target.dtype)
            set_tensor(module, key, tensor, isinstance(tensor, nn.Parameter))
        device = target.taps.weight.device
        set_tensor(module, "num_batches_tracked", torch.zeros((), dtype=torch.long, device=device), False)
        return module

    def _scale(self, target: Affine, rank: int) -> nn.Module:
        module, taps = Scale(), target.taps
        shape = [1] * rank
        if target.axis is not None:
            shape[target.axis] = -1
        weight, bias = self._cast(taps.weight[:, 0], target.dtype), self._cast(taps.bias, target.dtype)
        assert weight is not None
        set_tensor(module, "weight", weight.reshape(shape), taps.weight_trained)
        set_tensor(module, "bias", None if bias is None else bias.reshape(shape), taps.bias_trained)
        return module.eval()

    def _recurrent(self, target: Recurrent) -> nn.Module:
        hidden = target.weights[1].shape[1]
        projection = target.weights[target.cells - 1].shape[0] if target.projected else 0
        kind: Any = MergedLSTM if target.label == "LSTM" else MergedGRU
        more = {"proj_size": projection} if projection else {}
        module = empty(
            kind, target.weights[0].shape[1], target.weights[0].shape[0] // (4 if target.label == "LSTM" else 3) or hidden,
            target.layers, target.biased, target.batch_first, 0.0, target.bidirectional, **more,
        )  # fmt: skip
        names = [name for group in module._all_weights for name in group]
        for name, weight in zip(names, target.weights, strict=True):
            zeros = target.merged and target.label == "LSTM" and name.startswith("bias_hh")
            set_tensor(module, name, self._cast(weight, target.dtype), not zeros, persistent=not zeros)
        module._init_flat_weights()
        return module

    def _is_layer(self, node: fx.Node) -> bool:
        """Whether a node is a norm or an embedding whose tensors are the network's own, so that it stays a module."""
        if node.target is aten.embedding.default:
            return self._constants.constant(node.args[0]) is not None
        if node.target not in NORMS:
            return False
        used = [arg for arg in node.args[2:4] if isinstance(arg, fx.Node)]
        return all(self._constants.constant(arg) is not None for arg in used)

    def _norm(self, node: fx.Node) -> str:
        values = dict(zip([a.name for a in node.target._schema.arguments], node.args, strict=False)) | dict(node.kwargs)
        defaults = {a.name: a.default_value for a in node.target._schema.arguments if a.has_default_value()}
        values = defaults | values
        weight, bias = values.get("weight"), values.get("bias")

        def make() -> nn.Module:
            if node.target is aten.group_norm.default:
                channels = fixed(values["input"].meta["val"].shape[1])
                module = empty(nn.GroupNorm, values["num_groups"], channels, values["eps"], weight is not None)
            elif node.target is aten.rms_norm.default:
                module = empty(nn.RMSNorm, values["normalized_shape"], values["eps"], weight is not None)
            else:
                module = empty(nn.LayerNorm, values["normalized_shape"], values["eps"], weight is not None, bias is not None)
            for key, value in (("weight", weight), ("bias", bias)):
                if value is not None:
                    tensor = self._tensor(value)
                    set_tensor(module, key, tensor, isinstance(tensor, nn.Parameter))
                elif key in module._parameters:
                    set_tensor(module, key, None, False)
            return module

        key = (node.target, weight, bias, values["eps"], str(values.get("normalized_shape", values.get("num_groups"))))
        key = node if weight is None else key
        return f"{access(self._path(key, make, _owner(node)))}({self._argument(values['input'])})"

    def _embedding(self, node: fx.Node) -> str:
        weight = node.args[0]
        assert isinstance(weight, fx.Node)

        def make() -> nn.Module:
            tensor = self._tensor(weight)
            index = node.args[2] if len(node.args) > 2 else -1
            module = empty(nn.Embedding, *tensor.shape, padding_idx=None if index in (-1, None) else index)
            set_tensor(module, "weight", tensor, isinstance(tensor, nn.Parameter))
            return module

        return f"{access(self._path((node.target, weight), make, _owner(node)))}({self._argument(node.args[1])})"

    def _sum(self, node: fx.Node, target: Sum) -> str:
        order = sorted(zip(target.factors, node.args, strict=True), key=lambda term: (term[0] != 1, not self._spare(term[1])))
        terms = [(factor, self._argument(arg)) for factor, arg in order]  # a plain term first, best one to write into
        if len(terms) == 2 and terms[0][0] == 1 and abs(terms[1][0]) == 1 and self._spare(order[0][1]):
            return f"{terms[0][1]}.{'add' if terms[1][0] == 1 else 'sub'}_({terms[1][1]})"
        text = terms[0][1] if terms[0][0] == 1 else f"{terms[0][0]!r} * {terms[0][1]}"
        for factor, name in terms[1:]:
            text += f" + {name}" if factor == 1 else f" - {name}" if factor == -1 else f" + {factor!r} * {name}"
        return text

    def _function(self, target: Any, args: Any, kwargs: Any) -> str:
        given = [self._argument(arg) for arg in args]
        given += [f"{key}={self._keyword(key, value)}" for key, value in kwargs.items()]
        return f"{_callable(target)}({', '.join(given)})"

    def _made(self, node: fx.Node) -> str:
        """Floats made of nothing, in the precision that they were captured in, whose rounding is in their values."""
        dtype = node.meta["val"].dtype
        kwargs = {key: value for key, value in node.kwargs.items() if key != "dtype"}
        text = self._function(node.target, node.args, kwargs).removesuffix(")")
        text = f"{text}{', ' if not text.endswith('(') else ''}dtype="
        weights = [first_weight(user) for user in node.users]
        if weights and all(weights):  # a state is of its layer's precision, whatever that becomes
            return f"{text}{self._argument(weights[0])}.dtype)"
        return f"{text}{dtype}).to({doubled(dtype)})" if self._double else f"{text}{dtype})"

    def _keyword(self, key: str, value: Any) -> str:
        if isinstance(value, torch.device) and self._first is not None:
            return f"{self._first}.device"
        return self._argument(value)

    def _argument(self, value: Any) -> str:
        if isinstance(value, fx.Node):
            return self._known[value] if value in self._known else self._constant(value)
        if isinstance(value, list | tuple):
            inner = ", ".join(self._argument(item) for item in value)
            return f"[{inner}]" if isinstance(value, list) else f"({inner}{',' if len(value) == 1 else ''})"
        if isinstance(value, torch.dtype):
            return str(doubled(value) if self._double else value)
        if isinstance(value, torch.device):
            return f"{self._first}.device" if self._first is not None else f"torch.device({str(value)!r})"
        if isinstance(value, slice):
            return f"slice({self._argument(value.start)}, {self._argument(value.stop)}, {self._argument(value.step)})"
        if isinstance(value, torch.layout | torch.memory_format):
            return str(value)
        return repr(value)

    def _constant(self, node: fx.Node) -> str:
        constant = self._constants.constant(node)
        if constant is None:
            name = self._new(node)
            self._lines.append(f"{name} = {self._function(node.target, node.args, node.kwargs)}")
            self._known[node] = name
            return name
        *parents, last = constant.name.split(".")
        owner = at(self._root, ".".join(parents))
        if last not in owner._parameters and last not in owner._buffers:
            tensor = self._tensor(node)
            set_tensor(owner, last, tensor, isinstance(tensor, nn.Parameter), constant.persistent)
        return access(constant.name)

    def _result(self, copies: Collection[int]) -> str:
        leaves = [self._argument(leaf) for leaf in self._captured.result]
        leaves = [f"{leaf}.clone()" if index in copies else leaf for index, leaf in enumerate(leaves)]
        structure = self._captured.structure
        if _is_plain(structure):
            return _literal(structure, iter(leaves))
        self._root.__dict__["structure"] = Structure(structure)
        return f"self.structure([{', '.join(leaves)}])"


def _makes_floats(node: fx.Node) -> bool:
    """Whether a node makes floats of nothing, in a precision that its arguments name or torch's default gives."""
    value = node.meta.get("val")
    if not isinstance(value, Tensor) or not (value.is_floating_point() or value.is_complex()):
        return False
    reads = any(isinstance(other.meta.get("val"), Tensor) for other in node.all_input_nodes)
    arguments = getattr(getattr(node.target, "_schema", None), "arguments", ())
    return not reads and any(argument.name == "dtype" and argument.kwarg_only for argument in arguments)


def _owner(node: fx.Node) -> str:
    stack = node.meta.get("nn_module_stack") or {"": ("norm", None)}
    return str(list(stack.values())[-1][0]) or "norm"


def _callable(target: Any) -> str:
    if isinstance(target, torch._ops.OpOverload):
        return f"torch.ops.{target}"
    return f"{target.__module__}.{target.__qualname__}"


def _is_plain(structure: pytree.TreeSpec) -> bool:
    if structure.is_leaf():
        return True
    return structure.type in (tuple, list, dict, OrderedDict, type(None)) and all(
        _is_plain(child) for child in structure.children()
    )


def _literal(structure: pytree.TreeSpec, leaves: Any) -> str:
    if structure.is_leaf():
        return str(next(leaves))
    inner = [_literal(child, leaves) for child in structure.children()]
    if structure.type in (dict, OrderedDict):
        pairs = list(zip(structure.context, inner, strict=True))
        if structure.type is OrderedDict:
            return f"OrderedDict([{', '.join(f'({key!r}, {value})' for key, value in pairs)}])"
        return "{" + ", ".join(f"{key!r}: {value}" for key, value in pairs) + "}"
    if structure.type is list:
        return f"[{', '.join(inner)}]"
    return f"({', '.join(inner)}{',' if len(inner) == 1 else ''})" if structure.type is tuple else "None"
