"""Tensors from files that others made: nothing in them is executed, and none asks for more memory than its file has bytes."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from audiorep.untrusted import brief

DTYPES = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.complex64, torch.complex128,
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool,
)  # fmt: skip
SHARED = 4  # times its own bytes that a file's tensors may have in all: some are stored once and named twice
TABLES = ("state_dict", "model_state", "model_state_dict", "model")
"""Where training programs keep the weights in what they save."""
PREFIXES = ("module.", "_orig_mod.", "model.", "network.", "net.")
"""What DataParallel, torch.compile and a wrapping module (as Lightning's users write it) put before a tensor's name."""
SHOWN = 3  # names that a text lists of each kind


def read_torch(path: Path) -> Any:
    """What `torch.save` wrote: tensors, each plain and dense, in plain values.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is damaged, or holds anything else; the text says what, as in "holds a sparse tensor".
    """
    with path.open("rb") as file:
        packed = zipfile.is_zipfile(file)
    sizes = _sizes(path) if packed else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of kinds that are refused below
            # mapped, a storage cannot reach beyond the file, however large it says it is
            values = torch.load(path, map_location="cpu", weights_only=True, mmap=packed or None)
    except Exception:  # a damaged file raises nearly every kind
        raise ValueError("is damaged or holds more than tensors and plain values; nothing in it was executed") from None
    found = dict(_tensors("", values))
    _refuse_odd(found, path.stat().st_size)
    if lies := [name for name, tensor in found.items() if sizes and tensor.untyped_storage().nbytes() not in sizes]:
        raise ValueError(f"is damaged: it does not hold as many values of {some(lies)} as it says")
    return values


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors file, each plain.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is damaged, or holds tensors of odd types.
    """
    path.open("rb").close()  # safetensors would not say why it cannot be
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError, RuntimeError, KeyError, AttributeError, MemoryError) as error:
        raise ValueError(f"is damaged or no .safetensors file ({brief(str(error))})") from None
    _refuse_odd(tensors, path.stat().st_size)
    return tensors


def state_dict(values: Any) -> dict[str, Tensor]:
    """The table of weights in what a training program saved.

    Raises:
        ValueError: there is none.
    """
    for _ in range(2):  # as Lightning keeps it, or one in another
        if isinstance(values, Mapping):
            values = next((values[key] for key in TABLES if isinstance(values.get(key), Mapping)), values)
    if not isinstance(values, Mapping) or not values or not all(isinstance(value, Tensor) for value in values.values()):
        raise ValueError("holds no table of tensors")
    return {str(name): tensor for name, tensor in values.items()}


def without_prefixes(found: Mapping[str, Tensor], needed: Mapping[str, Any]) -> tuple[dict[str, Tensor], str, list[str]]:
    """The tensors by the names that are needed, the prefix taken off, and the names of others that stand without it.

    Where no prefix makes all names fit, they stay as they are. `_orig_mod.` is taken off inside a name too, where a part
    was compiled.
    """
    for compiled in ("", "_orig_mod."):
        plain = {name.replace(compiled, "") if compiled else name: tensor for name, tensor in found.items()}
        for prefix in _candidates(plain):
            inside = {name.removeprefix(prefix): tensor for name, tensor in plain.items() if name.startswith(prefix)}
            if inside.keys() == needed.keys():
                return inside, prefix + compiled, [name for name in plain if not name.startswith(prefix)]
    return dict(found), "", []


def difference(found: Mapping[str, Tensor], needed: Mapping[str, Tensor]) -> str:
    """How names and shapes differ, for people; empty where they do not."""
    problems = {
        "missing": [name for name in needed if name not in found],
        "left over": [name for name in found if name not in needed],
        "of another size": [
            f"{name} ({size_text(found[name])} instead of {size_text(tensor)})"
            for name, tensor in needed.items()
            if name in found and found[name].shape != tensor.shape
        ],
    }
    return "; ".join(f"{what}: {some(names)}" for what, names in problems.items() if names)


def not_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """The names of those that hold NaN or infinite values."""
    return [name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()]


def size_text(tensor: Tensor | None) -> str:
    """A tensor's shape for people, for example `64 × 1 × 5 × 7`; `missing` for None."""
    if tensor is None:
        return "missing"
    return " × ".join(map(str, tensor.shape)) or "one number"


def some(names: list[str]) -> str:
    """The first few names, and how many follow."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(name if len(name) < 200 else brief(name) for name in names[:SHOWN]) + more


def _candidates(found: Mapping[str, Tensor]) -> Iterator[str]:
    """No prefix, then chains of the usual ones that some name has."""
    waiting = [""]
    while waiting and len(waiting[0]) < 64:
        prefix = waiting.pop(0)
        yield prefix
        waiting += [longer for part in PREFIXES if any(n.startswith(longer := prefix + part) for n in found)]


def _sizes(path: Path) -> set[int]:
    """The sizes of what is in an archive of torch's, which stores all as it is: packed bytes could stand for gigabytes.

    Raises:
        ValueError: it is packed, or damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        entries = []
    if not entries or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise ValueError("is damaged or no file of torch.save, which compresses nothing")
    return {0, *(entry.file_size for entry in entries)}


def _tensors(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:
    """Every tensor in plain values by its name; values that several places share are looked at once."""
    waiting, seen = [(name, value)], set()
    while waiting:
        name, value = waiting.pop()
        if isinstance(value, Tensor):
            yield name, value
        elif isinstance(value, Mapping | list | tuple | set) and id(value) not in seen:
            seen.add(id(value))
            pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
            waiting += [(f"{name}.{key}"[-200:].removeprefix("."), inner) for key, inner in pairs]


def _refuse_odd(tensors: Mapping[str, Tensor], file_bytes: int) -> None:
    for name, tensor in tensors.items():
        if kind := _oddity(tensor, file_bytes):
            raise ValueError(f"holds {brief(name) if name else 'a value'}, {kind}; only plain dense tensors are read")
    total = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    if total > SHARED * file_bytes:
        raise ValueError(f"has {file_bytes} bytes and asks for {total}: its tensors are views of the same few values")


def _oddity(tensor: Tensor, file_bytes: int) -> str:
    """What sets a tensor apart from a plain one; empty for that."""
    if tensor.is_nested:
        return "a nested tensor"
    if tensor.layout != torch.strided:
        return f"a sparse tensor ({tensor.layout})"
    if tensor.is_quantized:
        return "a quantized tensor"
    if tensor.device.type != "cpu":
        return f"a tensor without values (on the device {tensor.device.type})"
    if type(tensor) not in (Tensor, nn.Parameter):
        return f"a {type(tensor).__name__}"
    if tensor.dtype not in DTYPES:
        return f"a tensor of {tensor.dtype}"
    needed = tensor.numel() * tensor.element_size()
    if needed > min(file_bytes, tensor.untyped_storage().nbytes()) or any(
        step == 0 and size > 1 for step, size in zip(tensor.stride(), tensor.shape, strict=True) if tensor.numel()
    ):
        return f"an expanded tensor ({size_text(tensor)}, {needed} bytes) whose file holds few of its values"
    return ""
