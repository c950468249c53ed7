"""`audiorep.fuse`: any network merged for inference."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from audiorep.errors import require

if TYPE_CHECKING:
    from torch import nn

    from audiorep.reparam import FuseResult, Plan


def fuse(
    network: nn.Module | str | os.PathLike[str],
    *inputs: Any,
    weights: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> FuseResult:
    """Merges a network's linear branches, norms and constants, and proves that it computes the same.

    Args:
        network: a `torch.nn.Module` in evaluation mode, a checkpoint folder, or `package.module:factory`.
        *inputs: an example of its inputs: tensors, or shapes such as `"1x3x224x224"`. A checkpoint has its own.
        weights: weights for what a factory makes, a `.safetensors` or `.pt` file.
        output: a file for the merged network: `.pt2` (torch.export) or `.onnx`.
        say: is told how weights were taken.

    Returns:
        The merged network as `.model`, the `.merges`, what was left and why, and the measured difference.

    Raises:
        FuseError: the network is in training mode, or the example does not run.
        ConfigError, CheckpointError: the network that is named cannot be made.

    >>> result = audiorep.fuse(checkpoint)
    >>> len(result.merges) > 0, result.verification.passed
    (True, True)
    """
    require("torch", extra="train")
    from audiorep import reparam
    from audiorep.hub import networks

    if output is not None:
        networks.check_suffix(Path(output))
    made, given = _ready(network, inputs, weights, say)
    result = reparam.fuse(made, *given)
    if output is not None:
        networks.save(result.model, given, Path(output))
    return result


def plan(
    network: nn.Module | str | os.PathLike[str],
    *inputs: Any,
    weights: str | os.PathLike[str] | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> Plan:
    """What `fuse` would merge, from shapes alone; it takes the same arguments.

    Raises:
        FuseError, ConfigError, CheckpointError: as `fuse`.
    """
    require("torch", extra="train")
    from audiorep import reparam

    made, given = _ready(network, inputs, weights, say)
    return reparam.plan(made, *given)


def _ready(
    network: nn.Module | str | os.PathLike[str],
    inputs: tuple[Any, ...],
    weights: str | os.PathLike[str] | None,
    say: Callable[[str], None],
) -> tuple[nn.Module, tuple[Any, ...]]:
    """The network, and example inputs for it."""
    from audiorep.hub import networks

    if not isinstance(network, str | os.PathLike):
        return network, tuple(networks.example(given) if isinstance(given, str) else given for given in inputs)
    return networks.source_of(str(network), list(inputs), None if weights is None else Path(weights), say)
