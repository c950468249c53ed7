"""The example as arguments of a network's forward, and the checks that hold later calls to it."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from audiorep.errors import FuseError
from audiorep.reparam.contract import CONTRACT, Form

_PLAIN = (bool, int, float, str, type(None))
_OWN_NAMES = {"self", "torch", "math", "operator", "_operator", "builtins", "inf", "nan", "OrderedDict", *CONTRACT}
_KINDS = inspect.Parameter


@dataclass(frozen=True)
class Argument:
    """One argument of a network's forward."""

    name: str
    kind: Any
    default: Any = inspect.Parameter.empty

    @property
    def stars(self) -> str:
        """`*` or `**` for an argument that takes any number of values."""
        return {_KINDS.VAR_POSITIONAL: "*", _KINDS.VAR_KEYWORD: "**"}.get(self.kind, "")

    @property
    def text(self) -> str:
        """The argument as it is written in a signature."""
        stars = self.stars
        if stars or self.default is inspect.Parameter.empty:
            return f"{stars}{self.name}"
        return f"{self.name}={repr(self.default) if _is_plain(self.default) else 'OMITTED'}"


@dataclass(frozen=True)
class Call:
    """An example, as the arguments of a network's forward."""

    arguments: tuple[Argument, ...]
    given: dict[str, Any]
    """The values of the example by argument name. Arguments that it left out are missing."""
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    """The example in the order of the signature; keyword arguments are positional wherever possible."""
    values: tuple[tuple[str, Any], ...]
    """(expression, value) for every value of the example, including None and numbers."""

    @property
    def names(self) -> set[str]:
        """The names of the arguments."""
        return {argument.name for argument in self.arguments}

    @property
    def tensors(self) -> list[tuple[str, Tensor]]:
        """(expression, tensor) for every tensor of the example."""
        return [(place, value) for place, value in self.values if isinstance(value, Tensor)]

    @property
    def signature(self) -> str:
        """The arguments as they are written in the first line of a forward."""
        parts = ["self"]
        kinds = [argument.kind for argument in self.arguments]
        for index, argument in enumerate(self.arguments):
            before = kinds[index - 1] if index else None
            if before is _KINDS.POSITIONAL_ONLY and argument.kind is not _KINDS.POSITIONAL_ONLY:
                parts.append("/")
            if argument.kind is _KINDS.KEYWORD_ONLY and before not in (_KINDS.KEYWORD_ONLY, _KINDS.VAR_POSITIONAL):
                parts.append("*")
            parts.append(argument.text)
        if kinds and kinds[-1] is _KINDS.POSITIONAL_ONLY:
            parts.append("/")
        return ", ".join(parts)


def bind_example(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Call:
    """Binds the example to the signature of `model.forward`.

    Raises:
        FuseError: its signature cannot be read, or does not take the example.
    """
    try:
        signature = inspect.signature(model.forward)
        bound = signature.bind(*args, **kwargs)
    except (ValueError, TypeError) as error:
        raise FuseError(f"its forward cannot be read: {error}") from None
    taken = _OWN_NAMES.intersection(signature.parameters)
    if taken:
        raise FuseError(
            f"an argument of its forward is named `{min(taken)}`, which the merged forward needs itself: rename it."
        )
    arguments = tuple(Argument(name, parameter.kind, parameter.default) for name, parameter in signature.parameters.items())
    call = Call(arguments, dict(bound.arguments), bound.args, bound.kwargs, tuple(_values(signature, bound)))
    for place, tensor in call.tensors:
        if tensor.is_nested or tensor.layout is not torch.strided:
            kind = "nested" if tensor.is_nested else str(tensor.layout).removeprefix("torch.")
            raise FuseError(f"{place} is a {kind} tensor, which cannot be captured.")
    return call


def _values(signature: inspect.Signature, bound: inspect.BoundArguments) -> Iterable[tuple[str, Any]]:
    """(expression, value) in the order in which the exporter visits the example."""
    positions: list[tuple[str, Any]] = []
    keywords: list[tuple[str, Any]] = []
    for name, value in bound.arguments.items():
        kind = signature.parameters[name].kind
        leaves, _ = pytree.tree_flatten_with_path(value)
        listed = [(name + "".join(str(key) for key in path), leaf) for path, leaf in leaves]
        later = kind in (_KINDS.KEYWORD_ONLY, _KINDS.VAR_KEYWORD) or name in bound.kwargs
        (keywords if later else positions).extend(listed)
    for place, _ in [*positions, *keywords]:
        try:
            compile(place, "<place>", "eval")
        except SyntaxError:
            raise FuseError(f"there is no expression for {place}: give it in a list, a tuple or a dictionary.") from None
    return [*positions, *keywords]


def name_arguments(model: nn.Module, call: Call) -> None:
    """Names the arguments of a forward that takes `*args` or `**kwargs`; the exporter needs names for free sizes."""
    if not any(argument.kind in (_KINDS.VAR_POSITIONAL, _KINDS.VAR_KEYWORD) for argument in call.arguments):
        return
    forward = model.forward

    def named(*given: Any, **more: Any) -> Any:
        return forward(*given, **more)

    named_so_far = [a.name for a in call.arguments if a.kind in (_KINDS.POSITIONAL_ONLY, _KINDS.POSITIONAL_OR_KEYWORD)]
    listed = [*named_so_far, *(f"further_{i}" for i in range(len(call.args)))][: len(call.args)]
    parameters = [inspect.Parameter(name, _KINDS.POSITIONAL_OR_KEYWORD) for name in (*listed, *call.kwargs)]
    named.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    vars(model)["forward"] = named  # `__setattr__` would refuse a network with a child called `forward`


def argument_forms(call: Call, order_matters: bool) -> dict[str, Form]:
    """The containers of each argument that is not a single value, by name."""
    several = {name: value for name, value in call.given.items() if not pytree.tree_structure(value).is_leaf()}
    return {name: Form(value, not order_matters) for name, value in several.items()}


def check_lines(call: Call, sizes: dict[str, tuple[int | None, ...]]) -> list[str]:
    """The lines of a forward that check its arguments.

    Args:
        call: the example.
        sizes: the sizes of each tensor by its expression, None for a free one.
    """
    written = [f"hold_form(self, {name}, {name!r})" for name in argument_forms(call, True)]
    first: dict[int, str] = {}
    for place, value in call.values:
        if not isinstance(value, Tensor):
            written.append(f"hold_value({place}, {place!r}, {_literal(value, place)})")
        elif id(value) in first:
            written.append(f"hold_same({place}, {place!r}, {first[id(value)]}, {first[id(value)]!r})")
        else:
            first[id(value)] = place
            written.append(f"hold_tensor(self, {place}, {place!r}, {value.dtype}, {sizes[place]})")
    return [*written, *_left_out(call)]


def _left_out(call: Call) -> list[str]:
    """Checks that arguments which the example left out have their defaults."""
    written = []
    for argument in call.arguments:
        if argument.name in call.given:
            continue
        if argument.kind in (_KINDS.VAR_POSITIONAL, _KINDS.VAR_KEYWORD):
            none = "()" if argument.kind is _KINDS.VAR_POSITIONAL else "{}"
            written.append(f"hold_value({argument.name}, {argument.name!r}, {none})")
        else:
            default = repr(argument.default) if _is_plain(argument.default) else "OMITTED"
            written.append(f"hold_value({argument.name}, {argument.name!r}, {default})")
    return written


def call_sentences(call: Call, sizes: dict[str, tuple[int | None, ...]]) -> list[str]:
    """Sentences that describe the calls that are allowed, one for each argument."""
    sentences = []
    for place, value in call.values:
        if isinstance(value, Tensor):
            shape = " × ".join("any" if size is None else str(size) for size in sizes[place]) or "a single value"
            sentences.append(f"{place} is {str(value.dtype).removeprefix('torch.')}, {shape}")
        else:
            sentences.append(f"{place} is {value!r}")
    left = [argument.name for argument in call.arguments if argument.name not in call.given and not argument.stars]
    return [*sentences, *([f"{', '.join(left)} left out"] if left else [])]


def _is_plain(value: Any) -> bool:
    return type(value) in _PLAIN or (type(value) is tuple and all(map(_is_plain, value)))


def _literal(value: Any, place: str) -> str:
    if _is_plain(value):
        return repr(value)
    if isinstance(value, torch.dtype | torch.layout | torch.memory_format):
        return str(value)
    if isinstance(value, torch.device):
        return f"torch.device({str(value)!r})"
    raise FuseError(f"{place} is {type(value).__name__}, a value that a merged network cannot be held to.")
