"""Finds modules with hooks, which may do more than a capture sees."""

from __future__ import annotations

from torch import nn

_KINDS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def hooked_modules(model: nn.Module) -> list[str]:
    """The paths of the modules with hooks, except torch's own hooks that compute a weight (weight norm, pruning)."""
    return [path for path, module in model.named_modules() if any(_more_than_values(module, kind) for kind in _KINDS)]


def _more_than_values(module: nn.Module, kind: str) -> bool:
    hooks = getattr(module, kind, {}).values()
    return any(not type(hook).__module__.startswith("torch.nn.utils.") for hook in hooks)
