"""Checks in the forward of a merged network: a call must be like the example."""

from __future__ import annotations

from typing import Any, NoReturn, Protocol

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from audiorep.errors import FuseError

# the names that the source of a forward may use
CONTRACT = ("OMITTED", "hold_form", "hold_same", "hold_tensor", "hold_value", "require")


class Omitted:
    """Stands for an argument that the example left out and whose default has no literal."""

    def __repr__(self) -> str:
        return "OMITTED"

    def __reduce__(self) -> str:
        return "OMITTED"


OMITTED = Omitted()


class Holder(Protocol):
    """The attributes of a merged network that the checks read."""

    precision: dict[torch.dtype, torch.dtype]
    """The precision that `.half()`, `.double()` and the like turned each precision into since the merge."""
    forms: dict[str, Form]
    """The containers of each argument that is not a single value."""


def require(holds: bool, condition: str) -> None:
    """Refuses a call for which the original may compute something that was not captured."""
    if not holds:
        _refuse(condition)


def _refuse(condition: str, found: str = "") -> NoReturn:
    raise FuseError(
        f"this call is outside what the network was fused for ({condition} must hold{found and '; ' + found}). "
        "Fuse it again with an example like this one."
    )


def hold_tensor(holder: Holder, value: Any, name: str, dtype: torch.dtype, sizes: tuple[int | None, ...]) -> None:
    """Checks that an argument is a tensor of this precision and these sizes; None is a free size."""
    if not isinstance(value, Tensor):
        _refuse(f"{name} is a tensor", f"it is {_described(value)}")
    dtype = holder.precision.get(dtype, dtype)
    if value.dtype != dtype:
        kind = dtype.is_floating_point and not value.dtype.is_floating_point
        _refuse(f"{name}.is_floating_point()" if kind else f"{name}.dtype == {dtype}", f"it is {value.dtype}")
    if value.dim() != len(sizes):
        _refuse(f"{name}.dim() == {len(sizes)}", f"it is {value.dim()}")
    if value.layout is not torch.strided:
        _refuse(f"{name}.layout == torch.strided", f"it is {value.layout}")
    for axis, size in enumerate(sizes):
        if size is None:
            require(value.size()[axis] >= 1, f"{name}.size()[{axis}] >= 1")
        else:
            require(value.size()[axis] == size, f"{name}.size()[{axis}] == {size}")


def hold_value(value: Any, name: str, example: Any) -> None:
    """Checks that an argument that is not a tensor equals the example's, in value and type."""
    if type(value) is not type(example) or not (
        value is example or value == example or (value != value and example != example)
    ):
        _refuse(f"{name} is None" if example is None else f"{name} == {example!r}", f"it is {_described(value)}")


def hold_same(value: Any, name: str, other: Any, other_name: str) -> None:
    """Checks that two arguments are one tensor, as in the example."""
    if value is not other:
        _refuse(f"{name} is {other_name}", "they are two tensors")


def hold_form(holder: Holder, value: Any, name: str) -> None:
    """Checks the types, lengths and keys of an argument's containers."""
    reason = holder.forms[name].difference(value, name)
    if reason:
        _refuse(f"{name} has the example's form", reason)


class Form:
    """The containers of an argument, without the values in them."""

    def __init__(self, example: Any, any_order: bool) -> None:
        self._outline = _outline(pytree.tree_structure(example))
        self._any_order = any_order

    def difference(self, value: Any, name: str) -> str:
        """How the containers of another value differ, in words; empty if they do not, but for an order that does not matter."""
        found = _outline(pytree.tree_structure(value))
        if found == self._outline or (self._any_order and _sorted(found) == _sorted(self._outline)):
            return ""
        return _difference(self._outline, found, name) or f"the keys of {name} have another order"

    def __deepcopy__(self, memo: dict[int, Any]) -> Form:
        return self  # nothing in it changes


def _outline(spec: Any) -> Any:
    """(type, keys of a dictionary, other context of its class, children) of a container; None for a leaf."""
    if spec.is_leaf():
        return None
    children = [_outline(child) for child in spec.children()]
    if not (isinstance(spec.type, type) and issubclass(spec.type, dict)):
        return spec.type, None, spec.context, children
    keys = spec.context[1] if len(spec.context) == 2 and isinstance(spec.context[1], list) else spec.context
    return spec.type, list(keys), None, children


def _difference(example: Any, found: Any, name: str) -> str:
    if example is None or found is None:
        return "" if example is found else f"{name} is {_container_name(found)} and was {_container_name(example)}"
    if example[0] is not found[0]:
        return f"{name} is {_container_name(found)} and was {_container_name(example)}"
    if example[1] is not None:
        extra, missing = (set(map(repr, a)) - set(map(repr, b)) for a, b in ((found[1], example[1]), (example[1], found[1])))
        if extra or missing:
            both = [f"the example lacked {', '.join(sorted(extra))}"] * bool(extra)
            both += [f"it lacks {', '.join(sorted(missing))}"] * bool(missing)
            return f"of the keys of {name} {' and '.join(both)}"
    elif len(example[3]) != len(found[3]):
        return f"{name} has {len(found[3])} entries and had {len(example[3])}"
    places = found[1] or list(range(len(found[3])))
    inner = dict(zip(example[1] or places, example[3], strict=True))
    reasons = (_difference(inner[key], child, f"{name}[{key!r}]") for key, child in zip(places, found[3], strict=True))
    return next(filter(None, reasons), "")


def _sorted(outline: Any) -> Any:
    if outline is None:
        return None
    kind, keys, context, children = outline
    pairs = list(zip(keys or range(len(children)), map(_sorted, children), strict=True))
    return kind, context, sorted(pairs, key=lambda pair: repr(pair[0]))


def _container_name(outline: Any) -> str:
    return "a single value" if outline is None else f"a {outline[0].__name__}"


def _described(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of {value.dtype} {tuple(value.shape)}"
    return f"{value!r} of type {type(value).__name__}"[:200] if value is not None else "None"
