"""Networks by name and their merged files: what `audiorep fuse` needs around `audiorep.reparam`."""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.export import Dim
from torch.utils import _pytree as pytree

from audiorep import shipped
from audiorep.errors import ConfigError, FuseError, first_line
from audiorep.export.onnx import to_onnx
from audiorep.files import replacing
from audiorep.models import checkpoint, tensors

DTYPES = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "bool")


def network(source: str, weights: Path | None = None, say: Callable[[str], None] = lambda text: None) -> nn.Module:
    """What `package.module:factory` makes, called without arguments and in evaluation mode, with `weights` if given.

    The module is looked for in the current folder too. Weights are a .safetensors file or a state dict that torch saved;
    nothing in them is executed. Names with the usual prefixes are taken without, and `say` is told so.

    Raises:
        ConfigError: there is no such module or function, it fails, it makes no network, or the weights do not fit.
    """
    module, _, name = source.partition(":")
    if not module or not name:
        raise ConfigError(
            f"{source!r} is neither a checkpoint folder nor package.module:factory, for example torchvision.models:resnet18."
        )
    factory = _attribute(module, name)
    try:
        made = factory() if not isinstance(factory, nn.Module) else factory
    except Exception as error:  # the user's own code
        raise ConfigError(f"{source} fails: {type(error).__name__}: {error}") from error
    if not isinstance(made, nn.Module):
        raise ConfigError(f"{source} makes a {type(made).__name__}; a torch.nn.Module is needed.")
    if weights is not None:
        _load(made, weights, say)
    return made.eval()


def _attribute(module: str, name: str) -> Callable[[], Any]:
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"there is no Python module {error.name!r}; its folder must be the current one or on PYTHONPATH."
        ) from None
    except Exception as error:  # the user's own code
        raise ConfigError(f"{module} cannot be imported: {type(error).__name__}: {error}") from error
    for part in name.split("."):
        if not hasattr(found, part):
            raise ConfigError(f"{module} has no {name}.")
        found = getattr(found, part)
    if not callable(found):
        raise ConfigError(f"{module}:{name} is a {type(found).__name__}; a function that makes a network is needed.")
    return found


def _load(made: nn.Module, path: Path, say: Callable[[str], None]) -> None:
    try:
        values = tensors.read_safetensors(path) if path.suffix == ".safetensors" else tensors.read_torch(path)
        state = tensors.state_dict(values)
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist.") from None
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:
        raise ConfigError(f"{path} holds no weights that can be read safely: it {error}.") from None
    state, prefix, others = tensors.without_prefixes(state, made.state_dict())
    try:
        made.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:
        problems = tensors.difference(state, made.state_dict()) or first_line(error)
        raise ConfigError(f"{path} holds the weights of another network: {problems}.") from None
    if prefix:
        left = f"; {len(others)} others are left out: {tensors.some(others)}" if others else ""
        say(f"{path}: the names of its {len(state)} tensors were taken without the prefix {prefix}{left}")


def example(text: str) -> Tensor:
    """A made-up input of a shape, for example `1x3x224x224` (float32) or `2x16:int64` (zeros and ones).

    Raises:
        ConfigError: it is no shape, or no such type.
    """
    sizes, _, dtype = text.partition(":")
    dtype = dtype or "float32"
    try:
        shape = [int(size) for size in sizes.lower().replace("×", "x").split("x")]
    except ValueError:
        shape = []
    if not shape or min(shape) < 1 or dtype not in DTYPES:
        raise ConfigError(f"input {text!r} is no shape; write 1x3x224x224, or 2x16:int64 (types: {', '.join(DTYPES)}).")
    generator = torch.Generator().manual_seed(0)
    kind = getattr(torch, dtype)
    if kind.is_floating_point:
        return torch.randn(shape, generator=generator).to(kind)
    return torch.randint(0, 2, shape, generator=generator).to(kind)


def source_of(
    source: str, inputs: list[str], weights: Path | None, say: Callable[[str], None] = lambda text: None
) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """The network and example inputs that a command line names: a checkpoint folder, or a function and shapes.

    Raises:
        ConfigError, CheckpointError: they cannot be used.
    """
    if shipped.place(source).is_dir():
        if inputs or weights:
            raise ConfigError(
                "a checkpoint has its own weights and input; --input and --weights are for package.module:factory."
            )
        loaded = checkpoint.load(source)
        return loaded.network, (loaded.example(),)
    if ":" not in source and not Path(source).exists() and "/" in source:
        raise ConfigError(f"{source} does not exist; a checkpoint folder or package.module:factory is needed.")
    made = network(source, weights, say)
    if not inputs:
        raise ConfigError("the shape of an input is needed, for example --input 1x3x224x224.")
    return made, tuple(example(text) for text in inputs)


def save(model: nn.Module, inputs: tuple[Tensor, ...], path: Path) -> None:
    """Writes a merged network as an exported program (.pt2) or ONNX (.onnx), with its free sizes.

    Raises:
        ConfigError: another suffix, or a network that was merged by parts and cannot be exported whole.
    """
    check_suffix(path)
    given = tuple(torch.cat([t, t]) if t.dim() and t.shape[0] == 1 else t for t in inputs)
    shapes = tuple(tuple(Dim.AUTO if n > 1 else Dim.STATIC for n in t.shape) for t in given)
    with torch.no_grad(), replacing(path) as partial:
        try:
            program = torch.export.export(model, given, dynamic_shapes=shapes)
        except Exception as error:  # export raises nearly every kind
            raise FuseError(
                f"{path} was not written: the network cannot be exported whole ({str(error).splitlines()[0][:160]})."
            ) from None
        if path.suffix == ".pt2":
            content = io.BytesIO()  # torch answers a full disk with the place in its own code where it noticed
            torch.export.save(program, content)
            partial.write_bytes(content.getbuffer())
        else:
            names = [f"output{i or ''}" for i in range(len(pytree.tree_leaves(model(*given))))]
            partial.write_bytes(to_onnx(program, None, names).SerializeToString())


def check_suffix(path: Path) -> None:
    """Refuses a name that says no format.

    Raises:
        ConfigError: its suffix is neither .pt2 nor .onnx.
    """
    if path.suffix not in (".pt2", ".onnx"):
        raise ConfigError(f"{path}: a merged network is written as .pt2 (torch.export) or .onnx.")
