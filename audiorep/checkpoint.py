"""The checkpoint folder: `model.safetensors`, `config.json`, `README.md` (model card), `metrics.json`."""

from __future__ import annotations

import dataclasses
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from safetensors.torch import save as serialize
from torch import Tensor, nn

from audiorep import config as configuration
from audiorep import models, reparam
from audiorep.bundle import ModelInfo
from audiorep.compress.structure import Layers, change_layers, changed_layers
from audiorep.errors import AudiorepError, CheckpointError
from audiorep.files import replacing, write_json
from audiorep.frontend import FrontEndConfig, LogMel
from audiorep.reparam import FuseResult

WEIGHTS, CONFIG, CARD, METRICS, LOGS = "model.safetensors", "config.json", "README.md", "metrics.json", "logs"


@dataclass(frozen=True)
class Checkpoint:
    """A trained network in its training form, with all that is needed to use it."""

    network: nn.Module
    """In evaluation mode: (B, 1, T, F) to {head: logits (B, K)}."""
    front_end: LogMel
    """(B, N) to (B, 1, T, F)."""
    info: ModelInfo
    architecture: str
    """A key of `models.ARCHITECTURES`."""
    layers: Layers = field(default_factory=dict)
    """Those whose sizes compression changed."""

    def example(self) -> Tensor:
        """What the network sees of a window of noise: (1, 1, T, F)."""
        noise = 0.1 * torch.randn(1, self.info.window_samples, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            return self.front_end(noise)

    def fuse(self) -> FuseResult:
        """The network merged for inference, with its proof and report; the network itself is not changed."""
        return reparam.fuse(self.network, self.example())


def save(folder: str | os.PathLike[str], network: nn.Module, info: ModelInfo, architecture: str) -> None:
    """Writes weights and configuration; each file appears whole or not at all.

    What sets the network's layers apart from those of its configuration is written too, as `layers`.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with replacing(folder / WEIGHTS) as partial:
        partial.write_bytes(serialize(tensors))  # save_file would make it unreadable to other users
    settings = {**dataclasses.asdict(network.config), "heads": {h: len(names) for h, names in info.labels.items()}}  # type: ignore[call-overload]
    with torch.device("meta"):
        layers = changed_layers(network, type(network)(network.config))
    told = {"layers": layers} if layers else {}
    write_json(folder / CONFIG, {"architecture": architecture, "network": settings, **told, **dataclasses.asdict(info)})


def load(folder: str | os.PathLike[str]) -> Checkpoint:
    """The checkpoint in `folder`.

    Raises:
        CheckpointError: a file is missing or damaged, or the weights belong to another network.
    """
    folder = Path(folder)
    values = read_json(folder / CONFIG)
    try:
        name, settings = values.pop("architecture"), values.pop("network")
        heads, layers = settings.pop("heads"), values.pop("layers", {})
        network = change_layers(models.build(name, heads, settings), layers)
        info = ModelInfo.from_dict(values, folder / CONFIG)
        if heads != {head: len(names) for head, names in info.labels.items()}:
            raise CheckpointError(f"its labels do not match the network's heads {heads}.")
        front_end = LogMel(configuration.load(FrontEndConfig, info.front_end, where=f"{folder / CONFIG}: front end"))
    except (KeyError, AttributeError, TypeError) as error:
        raise CheckpointError(f"{folder / CONFIG} is not a checkpoint's configuration (no {error}).") from None
    except AudiorepError as error:
        raise CheckpointError(f"{folder / CONFIG}: {error}") from None
    _load_weights(network, folder / WEIGHTS)
    return Checkpoint(network.eval(), front_end.eval(), info, name, layers)


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
        values = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise CheckpointError(f"{path.parent} is not a checkpoint: it has no {path.name}.") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}.") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} is not a JSON object.")
    return values


def _load_weights(network: nn.Module, path: Path) -> None:
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}.") from None
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        problems = " ".join(line.strip() for line in str(error).splitlines()[1:4])
        raise CheckpointError(f"{path} holds the weights of another network: {problems}") from None


@dataclass(frozen=True)
class Transfer:
    """What became of the tensors when a checkpoint's weights were put into a network to fine-tune, by name."""

    taken: list[str]
    """Copied."""
    new: list[str]
    """Of heads that the checkpoint lacks or has with other labels: as the network made them."""
    left: list[str]
    """Of the checkpoint's heads that the network does not take."""
    sizes: dict[str, str]
    """Of the new ones, for example `10 × 128`."""

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
    kept = {head for head, names in labels.items() if source.info.labels.get(head) == names}
    here, there = network.state_dict(), source.network.state_dict()
    new, left = ([name for name in tensors if _head(name) not in {None, *kept}] for tensors in (here, there))
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


def size_text(tensor: Tensor | None) -> str:
    """A tensor's shape for people, for example `64 × 1 × 5 × 7`; `missing` for None."""
    if tensor is None:
        return "missing"
    return " × ".join(map(str, tensor.shape)) or "one number"


def _head(name: str) -> str | None:
    """The head that a tensor belongs to."""
    return name.split(".")[1] if name.startswith("heads.") else None
