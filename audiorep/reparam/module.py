"""What a fused network is made of: an ordinary module whose forward is generated source, and the few modules torch lacks."""

from __future__ import annotations

import keyword
import unicodedata
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from audiorep.errors import FuseError
from audiorep.reparam.contract import Form, require
from audiorep.reparam.outputs import close_objects

_INEXACT = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64, torch.complex128)


class Group(nn.Module):
    """A place for the modules and tensors of one part of the original; those with numbers for names are had by index."""

    def __getitem__(self, index: int) -> Any:
        """The module or tensor named `index`."""
        if not hasattr(self, str(index)):
            raise IndexError(f"there is no {index}.")
        return getattr(self, str(index))

    def part(self, name: str) -> Any:
        """The module or tensor of a name that this class has itself."""
        return {**self._modules, **self._parameters, **self._buffers}[name]


class Fused(Group):
    """A merged network: `code` is the source of its forward, its modules carry the original's names.

    It is for inference: `train()` is refused until `reparam.trainable(model)` has allowed it, because what was merged
    (batch norms above all) cannot be trained apart any more.
    """

    code: str
    """The source of `forward`."""
    trains: bool
    precision: dict[torch.dtype, torch.dtype]
    """What each precision has become since the merge, for those that changed: inputs are held to it."""
    forms: dict[str, Form]
    """The containers of each argument that has some."""
    structure: Structure
    """How the outputs make the class that the original returns, if it is one of its own."""

    def _apply(self, fn: Any, recurse: bool = True) -> Fused:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        now = {dtype: fn(torch.empty(0, dtype=self.precision.get(dtype, dtype))).dtype for dtype in _INEXACT}
        self.precision = {dtype: changed for dtype, changed in now.items() if changed != dtype}
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return build, (type(self).__name__, self.code), self.__dict__

    def with_code(self, code: str) -> Fused:
        """The same modules behind another forward."""
        made = build(type(self).__name__, code)
        made.__dict__.update({key: value for key, value in self.__dict__.items() if key != "code"})
        return made

    def train(self, mode: bool = True) -> Self:
        """As of any module; refused for `mode=True` unless allowed."""
        if mode and not self.trains:
            raise FuseError(
                "this network is merged for inference: its batch norms are gone. Train the original, or allow it with "
                "reparam.trainable(model)."
            )
        return super().train(mode)

    def extra_repr(self) -> str:
        """What it is, for `print(network)`."""
        return "merged for inference" if not self.trains else "merged, training allowed"


def build(name: str, code: str) -> Fused:
    """An empty `Fused` with the forward that `code` defines."""
    space: dict[str, Any] = {}
    exec(compile(code, f"<{name}.forward>", "exec"), space)
    made: Fused = type(name, (Fused,), {"forward": space["forward"], "__module__": __name__, "code": code})()
    made.trains, made.precision, made.forms = False, {}, {}
    return made


def trainable(model: Fused) -> Fused:
    """`model`, in place, with its parameters requiring gradients and `train()` allowed: an explicit choice."""
    if not isinstance(model, Fused):
        raise FuseError("only a fused network needs this.")
    model.trains = True
    return model.requires_grad_(True)


class Structure:
    """How the leaves of an output make the class that the original returns."""

    def __init__(self, spec: Any) -> None:
        self._spec = spec

    def __call__(self, leaves: list[Any]) -> Any:
        """The output."""
        return close_objects(pytree.tree_unflatten(leaves, self._spec))

    def __deepcopy__(self, memo: dict[int, Any]) -> Structure:
        return self  # nothing in it changes

    def __reduce__(self) -> tuple[Any, ...]:
        return _structure, (_branches(self._spec),)  # torch's own class for leaves warns when it is read


def _structure(branches: Any) -> Structure:
    return Structure(_spec(branches))


def _branches(spec: Any) -> Any:
    """A tree as plain tuples; None for a leaf."""
    return None if spec.is_leaf() else (spec.type, spec.context, [_branches(child) for child in spec.children()])


def _spec(branches: Any) -> Any:
    if branches is None:
        return pytree.tree_structure(0)
    return pytree.TreeSpec(branches[0], branches[1], [_spec(child) for child in branches[2]])


class Scale(nn.Module):
    """Channels times a gain plus a shift, the constants shaped for broadcasting: what is left where no map took it in."""

    weight: Tensor
    bias: Tensor | None

    def forward(self, x: Tensor) -> Tensor:
        """(…) to the same shape."""
        x = x * self.weight
        return x if self.bias is None else x + self.bias


class MergedLSTM(nn.LSTM):
    """An `nn.LSTM` with one bias a direction; the second that torch asks for is zeros, made and not stored.

    It takes (x, *states) and gives (output, *states).
    """

    def forward(self, x: Tensor, *states: Tensor) -> Any:  # type: ignore[override]
        """As `nn.LSTM`."""
        given = (states[0], states[1]) if states else None
        output, last = super().forward(x, given)
        return (output, *last)


class MergedGRU(nn.GRU):
    """An `nn.GRU` that takes (x, state), or x alone, and gives (output, state)."""

    def forward(self, x: Tensor, state: Tensor | None = None) -> Any:  # type: ignore[override]
        """As `nn.GRU`."""
        return super().forward(x, state)


def set_tensor(module: nn.Module, name: str, tensor: Tensor | None, trained: bool, persistent: bool = True) -> None:
    """Gives `module` a parameter, or a buffer for what was not a parameter before."""
    module._parameters.pop(name, None)
    module._buffers.pop(name, None)
    module._non_persistent_buffers_set.discard(name)
    if tensor is None:  # written as `register_parameter` does, which refuses names that the class has itself
        module._parameters[name] = None
    elif trained and (tensor.is_floating_point() or tensor.is_complex()):
        given = tensor if isinstance(tensor, nn.Parameter) else nn.Parameter(tensor, requires_grad=False)
        module._parameters[name] = given
    else:
        module._buffers[name] = tensor
        module._non_persistent_buffers_set.update([] if persistent else [name])


def attach(root: nn.Module, path: str, module: nn.Module) -> None:
    """Puts `module` at `path`, with plain modules on the way."""
    *parents, last = path.split(".")
    for name in parents:
        root = _child(root, name)
    before = root._modules.get(last)
    if before is not None:
        module._modules.update(before._modules)
    root._modules[last] = module


def module_at(root: nn.Module, path: str) -> nn.Module:
    """The module at `path`, made plain where there is none."""
    for name in path.split(".") if path else ():
        root = _child(root, name)
    return root


def _child(root: nn.Module, name: str) -> Any:
    """The child of a name, made plain where there is none; `add_module` refuses names that the class has itself."""
    return root._modules.setdefault(name, Group())


def access(path: str) -> str:
    """The expression for a path, for example `self.stages[0].reduce`."""
    text = "self"
    for part in path.split("."):
        if part.isascii() and part.isdigit():
            text = f"{text}[{part}]"
        elif hasattr(Fused, part) or part in Fused.__annotations__:
            text = f"{text}.part({part!r})"
        elif part.isidentifier() and not keyword.iskeyword(part) and unicodedata.is_normalized("NFKC", part):
            text = f"{text}.{part}"
        else:
            text = f"getattr({text}, {part!r})"
    return text


def empty(kind: type[nn.Module], *args: Any, **kwargs: Any) -> Any:
    """A module whose tensors are still to be set, without the cost of initializing them."""
    return kind(*args, **kwargs, device=torch.device("meta")).eval()


__all__ = ["Fused", "Group", "MergedGRU", "MergedLSTM", "Scale", "Structure", "access", "attach", "build", "empty", "module_at"]
__all__ += ["require", "set_tensor", "trainable"]  # `require` is where networks that were pickled before look for it
