"""Files of torch.save with odd tensors, or whose bytes, archive or pickle lie."""

from __future__ import annotations

import io
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor

from fuzz.mutations import cut, flipped, hostile

PREFIXES = ("", "module.", "_orig_mod.")
_ONES = torch.ones(4, 4)
ODD: list[Callable[[], Any]] = [
    lambda: _ONES.to_sparse(), lambda: _ONES.to_sparse_csr(),
    lambda: torch.nested.nested_tensor([torch.ones(2), torch.ones(3)]),
    lambda: torch.sparse_coo_tensor(torch.zeros(1, 1, dtype=torch.long), torch.ones(1), (2**40,)),
    lambda: torch.quantize_per_tensor(_ONES, 0.1, 0, torch.qint8),
    lambda: torch.quantize_per_channel(_ONES, torch.ones(4), torch.zeros(4), 0, torch.qint8),
    lambda: torch.ones(1).expand(2**40),
    lambda: torch.ones(1, 1).expand(2**20, 2**20), lambda: torch.ones(10).as_strided((9, 2), (1, 1)),
    lambda: torch.empty(2**40, device="meta"),
    lambda: _ONES.to(torch.complex64), lambda: _ONES.to(torch.float8_e4m3fn), lambda: _ONES.bool(),
    lambda: _ONES.to(torch.int8),
    lambda: torch.zeros(0), lambda: torch.tensor(1.0), lambda: torch.nn.Parameter(_ONES), lambda: _ONES.conj(),
    lambda: _ONES * torch.nan,
    lambda: _ONES.T, lambda: "text", lambda: 3, lambda: None, lambda: [_ONES], lambda: {"a": _ONES}, lambda: torch.Size([1]),
    lambda: bytearray(10), lambda: _ONES.to(torch.float64), lambda: torch.float32,
]  # fmt: skip


def odd(chance: Random) -> Any:
    """What no network has among its weights, or at least not there."""
    return chance.choice(ODD)()


def torch_file(chance: Random, content: bytes, path: Path) -> Path:
    """The file of the authors', changed in one of many ways, at `path`."""
    action = chance.random()
    if action < 0.45:
        _with_odd_values(chance, content, path)
    elif action < 0.6:
        path.write_bytes(flipped(chance, content))
    elif action < 0.7:
        path.write_bytes(cut(chance, content))
    else:
        _rewritten(chance, content, path)
    return path


def with_odd_tensor(chance: Random, state: dict[str, Tensor], path: Path) -> None:
    """Weights one of which is odd, in names with a prefix or not, bare or in a table."""
    prefix = chance.choice(PREFIXES)
    values: dict[str, Any] = {f"{prefix}{name}": tensor for name, tensor in state.items()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tensors that are still a prototype
        values[chance.choice(list(values))] = odd(chance)
        torch.save(chance.choice([values, {"state_dict": values}]), path)


def _with_odd_values(chance: Random, content: bytes, path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # as above
        values = torch.load(io.BytesIO(content), weights_only=True)
        state = values["model_state"]
        for name in chance.sample(list(state), chance.choice([1, 1, 2, 5])):
            state[name] = odd(chance)
        if chance.random() < 0.2:
            key = chance.choice(["epoch", "model_state", "optimizer_state"])
            values[key] = chance.choice([odd, hostile])(chance)
        if chance.random() < 0.2:
            named = {f"model.{name}": tensor for name, tensor in state.items()}
            values = chance.choice([state, list(state.values()), {"state_dict": named}])
        try:
            torch.save(values, path, _use_new_zipfile_serialization=chance.random() < 0.8)
        except RecursionError:  # too deep to be saved
            path.write_bytes(content[:-1])


def _rewritten(chance: Random, content: bytes, path: Path) -> None:
    """The archive anew with its pickle, or a storage, changed: sizes and names that lie, and compressed entries."""
    method = chance.choice([zipfile.ZIP_STORED] * 3 + [zipfile.ZIP_DEFLATED])
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            data = old.read(entry)
            if entry.filename.endswith("data.pkl") and chance.random() < 0.8:
                data = flipped(chance, data, most=3)
            elif "/data/" in entry.filename and chance.random() < 0.05:
                data = chance.choice([b"", data[:1], data * 2])
            elif chance.random() < 0.02:
                continue
            new.writestr(entry.filename, data, method)
