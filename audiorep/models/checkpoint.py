"""The checkpoint folder: `model.safetensors`, `config.json`, `README.md` (model card), `metrics.json`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import save as serialize
from torch import Tensor, nn

from audiorep import config as configuration
from audiorep import models, reparam, shipped
from audiorep.errors import AudiorepError, CheckpointError, first_line
from audiorep.files import replacing, write_json
from audiorep.info.model_info import ModelInfo
from audiorep.models import tensors
from audiorep.models.front_end import FrontEndConfig, LogMel
from audiorep.models.layers import Network
from audiorep.models.resized import Layers, change_layers, changed_layers
from audiorep.models.tensors import size_text
from audiorep.reparam import FuseResult
from audiorep.untrusted import LARGEST_JSON, brief, from_json

WEIGHTS, CONFIG, CARD, METRICS, LOGS = "model.safetensors", "config.json", "README.md", "metrics.json", "logs"


@dataclass(frozen=True)
class Checkpoint:
    """A trained network in its training form, with all that is needed to use it."""

    network: Network
    """In evaluation mode: (B, 1, T, F) to {head: logits (B, K)} and the embedding (B, C)."""
    front_end: LogMel
    """(B, N) to (B, 1, T, F)."""
    info: ModelInfo
    architecture: str
    """A key of `models.ARCHITECTURES`."""
    layers: Layers = field(default_factory=dict)
    """The layers whose sizes compression changed."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "info", described(self.network, self.info))

    def example(self) -> Tensor:
        """What the network sees of a window of noise: (1, 1, T, F)."""
        noise = 0.1 * torch.randn(1, self.info.window_samples, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            return self.front_end(noise)

    def fuse(self) -> FuseResult:
        """The network merged for inference, with its proof and report; the network itself is not changed.

        It is computed once and shared by all who ask: whoever changes the merged network in place takes a copy first, and
        other weights need a new `Checkpoint`.
        """
        return self._fused

    def merged_cost(self) -> models.Cost:
        """Parameters and multiply-accumulates of a window of the merged network."""
        return models.cost(self.fuse().model, tuple(self.example().shape))

    def __getstate__(self) -> dict[str, Any]:
        """What a copy is made of: not the merged network, since the copy's weights may be changed."""
        return {name: value for name, value in vars(self).items() if name != "_fused"}

    @cached_property
    def _fused(self) -> FuseResult:
        return reparam.fuse(self.network, self.example())


def described(network: Network, info: ModelInfo) -> ModelInfo:
    """What a model says of itself, with what its network tells: the size of its embedding."""
    return dataclasses.replace(info, embedding_size=network.embedding_size)


def save(folder: str | os.PathLike[str], network: nn.Module, info: ModelInfo, architecture: str) -> None:
    """Writes weights and configuration; each file appears whole or not at all.

    What sets the network's layers apart from those of its configuration is written too, as `layers`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with replacing(folder / WEIGHTS) as partial:
        partial.write_bytes(serialize(weights))  # save_file would make it unreadable to other users
    settings = {**dataclasses.asdict(network.config), "heads": {h: len(names) for h, names in info.labels.items()}}  # type: ignore[call-overload]
    with torch.device("meta"):
        layers = changed_layers(network, type(network)(network.config))
    resized = {"layers": layers} if layers else {}
    told = described(cast(Network, network), info).as_dict()
    write_json(folder / CONFIG, {"architecture": architecture, "network": settings, **resized, **told})


def load(folder: str | os.PathLike[str]) -> Checkpoint:
    """The checkpoint in `folder`, or in the package under that name.

    Raises:
        CheckpointError: a file is missing or damaged, or the weights belong to another network.
    """
    folder = shipped.place(folder)
    values = read_json(folder / CONFIG)
    plan, info = _plan(values, folder / CONFIG)
    try:
        with torch.device("meta"):  # sizes that a file only claims must not cost memory
            needed = plan.build().state_dict()
        front_end = configuration.load(FrontEndConfig, info.front_end, where="front end")
    except AudiorepError as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}") from None
    except (RuntimeError, OverflowError, TypeError, ValueError, MemoryError) as error:
        raise CheckpointError(f"{folder / CONFIG}: no network can be made of it ({first_line(error)}).") from None
    weights = _read_weights(needed, folder / WEIGHTS)
    network = plan.build()  # as large as the weights
    network.load_state_dict(weights)
    return Checkpoint(network.eval(), LogMel(front_end).eval(), info, plan.architecture, plan.layers)


@dataclass(frozen=True)
class _Plan:
    """How a network is made, as a configuration says."""

    architecture: str
    heads: dict[str, int]
    settings: dict[str, Any]
    layers: Layers

    def build(self) -> Network:
        return change_layers(models.build(self.architecture, self.heads, self.settings), self.layers)


def _plan(values: dict[str, Any], path: Path) -> tuple[_Plan, ModelInfo]:
    """What a configuration holds, each part of its type; the network's own sizes are checked where it is made."""
    own = {"architecture": str, "network": dict, "layers": dict}
    for name, kind in own.items():
        if not isinstance(values.get(name, {} if name == "layers" else None), kind):
            raise CheckpointError(f"{path} is not a checkpoint's configuration: its {name} is {brief(values.get(name))}.")
    settings, layers = dict(values["network"]), values.get("layers", {})
    heads = settings.pop("heads", None)
    if not all(isinstance(sizes, dict) for sizes in layers.values()):
        raise CheckpointError(f"{path} is not a checkpoint's configuration: its layers are {brief(layers)}.")
    try:
        info = ModelInfo.from_dict({name: value for name, value in values.items() if name not in own}, path)
    except AudiorepError as error:
        raise CheckpointError(str(error)) from None
    classes = {head: len(names) for head, names in info.labels.items()}
    if heads != classes:
        raise CheckpointError(f"{path}: its labels {brief(classes)} do not match the network's heads {brief(heads)}.")
    return _Plan(values["architecture"], classes, settings, layers), info


def annotate(folder: Path, **provenance: Any) -> None:
    """Adds to what a checkpoint's configuration says of its provenance."""
    values = read_json(folder / CONFIG)
    values["provenance"] = {**values["provenance"], **provenance}
    write_json(folder / CONFIG, values)


def read_json(path: Path) -> dict[str, Any]:
    """The object in a checkpoint's JSON file.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    try:
        if path.stat().st_size > LARGEST_JSON:
            raise CheckpointError(f"{path} cannot be read: it has {path.stat().st_size} bytes; {LARGEST_JSON} are allowed.")
        values = from_json(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"{path.parent} is not a checkpoint: it has no {path.name}.") from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be read: it {error}.") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} is not a JSON object.")
    return values


def _read_weights(needed: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    """The weights of exactly the tensors `needed`, which may have no memory yet."""
    try:
        found = tensors.read_safetensors(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:
        raise CheckpointError(f"{path} cannot be read: it {error}. Copy it again.") from None
    if problems := tensors.difference(found, needed):
        raise CheckpointError(f"{path} holds the weights of another network: {problems}.")
    if odd := [name for name, tensor in found.items() if _kind(tensor) != _kind(needed[name])]:
        raise CheckpointError(f"{path} holds weights of another type in {tensors.some(odd)}.")
    if bad := tensors.not_finite(found):
        raise CheckpointError(
            f"{path} holds values that are no finite numbers, in {tensors.some(bad)}. Copy or train it again."
        )
    return found


def _kind(tensor: Tensor) -> tuple[bool, bool]:
    """Whether it holds real, complex or whole numbers."""
    return tensor.is_floating_point(), tensor.is_complex()


@dataclass(frozen=True)
class Transfer:
    """What became of the tensors when a checkpoint's weights were put into a network to fine-tune, by name."""

    taken: list[str]
    """Tensors that were copied."""
    new: list[str]
    """Tensors of heads that the checkpoint lacks or has with other labels; they keep the new network's values."""
    left: list[str]
    """Tensors of the checkpoint's heads that the network does not have with the same labels."""
    sizes: dict[str, str]
    """The size of each new tensor, for example `10 × 128`."""

    @property
    def summary(self) -> str:
        """The same in a sentence."""
        parts = [f"{len(self.taken)} tensors are taken"]
        if self.new:
            parts.append(f"new are {', '.join(f'{name} ({self.sizes[name]})' for name in self.new)}")
        if self.left:
            parts.append(f"left behind are {', '.join(self.left)}")
        return "; ".join(parts) + "."


def transfer(network: nn.Module, source: Checkpoint, labels: dict[str, list[str]]) -> Transfer:
    """Copies the weights of `source` into `network`, whose heads have `labels`; heads with other labels stay as they are.

    Raises:
        CheckpointError: anything but such a head differs in name or shape; the network is then unchanged.
    """
    kept = {*labels}.difference(new_heads(labels, source.info.labels))
    here, there = network.state_dict(), source.network.state_dict()
    new, left = ([name for name in table if _head(name) not in {None, *kept}] for table in (here, there))
    taken = [name for name in here if name not in new]
    for name in [*taken, *(name for name in there if name not in left and name not in here)]:
        if (ours := size_text(here.get(name))) != (theirs := size_text(there.get(name))):
            raise CheckpointError(
                f"The checkpoint to start from is another network: its {name} is {theirs}, here it is {ours}. "
                f"Fine-tune with the architecture and network settings of its {CONFIG}."
            )
    with torch.no_grad():
        for name in taken:
            here[name].copy_(there[name])
    return Transfer(taken, new, left, {name: size_text(here[name]) for name in new})


def new_heads(labels: Mapping[str, list[str]], kept: Mapping[str, list[str]]) -> list[str]:
    """The heads of `labels` that a checkpoint with the labels `kept` lacks, or has with other labels."""
    return [head for head, names in labels.items() if kept.get(head) != names]


def _head(name: str) -> str | None:
    """The head that a tensor belongs to."""
    return name.split(".")[1] if name.startswith("heads.") else None
