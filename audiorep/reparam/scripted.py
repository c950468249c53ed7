"""Lets `torch.export` see the operations inside scripted and traced children of a network."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.export import ExportedProgram


class _Opened(nn.Module):
    """Calls a scripted module and hides it: the exporter refuses modules with scripted parameters."""

    def __init__(self, script: torch.jit.ScriptModule) -> None:
        super().__init__()
        object.__setattr__(self, "script", script)
        self.training = script.training

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the scripted module."""
        return vars(self)["script"]._c._get_method("forward")(*args, **kwargs)


def open_scripted(model: nn.Module) -> dict[int, str]:
    """Puts an `_Opened` in place of every scripted child of `model`; returns the paths of their tensors by address."""
    names: dict[int, str] = {}
    for path, module in list(model.named_modules()):
        if isinstance(module, torch.jit.ScriptModule):
            continue
        for name, child in module.named_children():
            if isinstance(child, torch.jit.ScriptModule):
                prefix = f"{path}.{name}".lstrip(".")
                for inner, tensor in (*child.named_parameters(prefix), *child.named_buffers(prefix)):
                    names.setdefault(tensor.data_ptr(), inner)
                module._modules[name] = _Opened(child)
    return names


def scripted_names(program: ExportedProgram, names: dict[int, str]) -> dict[str, str]:
    """The path in the network of each constant that the exporter found in scripted children, by the exporter's name."""
    tensors = {key: value for key, value in program.constants.items() if isinstance(value, torch.Tensor)}
    return {key: names[tensor.data_ptr()] for key, tensor in tensors.items() if tensor.data_ptr() in names}
