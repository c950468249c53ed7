"""Checkpoints of the paper's authors (`.pyth`) as this package's networks and folders (arXiv 2404.13551)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from audiorep import __version__, models
from audiorep.datasets import nsynth, vggsound
from audiorep.errors import CheckpointError, ConfigError
from audiorep.files import new_folder
from audiorep.hub import class_names
from audiorep.info.model_info import ModelInfo
from audiorep.models import checkpoint, tensors
from audiorep.models.front_end import FRONT_ENDS
from audiorep.models.tensors import size_text, some
from audiorep.training.recipe import PROTOCOLS

ARCHITECTURE = "arin_base"
URBANSOUND8K = (
    "air_conditioner", "car_horn", "children_playing", "dog_bark", "drilling", "engine_idling", "gun_shot", "jackhammer",
    "siren", "street_music",
)  # fmt: skip
SPEECH_COMMANDS = (
    "backward", "bed", "bird", "cat", "dog", "down", "eight", "five", "follow", "forward", "four", "go", "happy", "house",
    "learn", "left", "marvin", "nine", "no", "off", "on", "one", "right", "seven", "sheila", "six", "stop", "three", "tree",
    "two", "up", "visual", "wow", "yes", "zero",
)  # fmt: skip
CLASS_ORDERS: dict[str, Callable[[Path], Mapping[str, Sequence[str]]]] = {
    "vggsound": vggsound.labels,
    "nsynth": nsynth.labels,
    "urbansound8k": lambda path: {"label": URBANSOUND8K},
    "speech_commands": lambda path: {"label": SPEECH_COMMANDS},
}
"""Official orders of the classes, the same for any path; the other data sets' are in files that their annotations come with."""

CLASS_FILES = {"epic_kitchens": ("EPIC_100_verb_classes.csv", "EPIC_100_noun_classes.csv")}
"""Files of the annotations that have the names which this package does not know; elsewhere a name a line does."""

STEM, FIRST = "s1.pathway0_stem", "s2.pathway0_res0.branch2"
HEADS = {"head.projection": "label", "head.projection_verb": "verb", "head.projection_noun": "noun"}
LAYERS = {
    "reduce.conv": "branch2.a_head",
    "reduce.bn": "branch2.a_head_bn",
    "expand.conv": "branch2.c",
    "expand.bn": "branch2.c_bn",
    "project.conv": "branch2.d",
    "project.bn": "branch2.d_bn",
    "shortcut.conv": "branch1",
    "shortcut.bn": "branch1_bn",
}
"""Our modules of a block by the authors'; time mixing is their `a`, frequency mixing their `b`."""
MERGED = "_reparam"
BRANCHES = ("_small", "_medium", "", MERGED)
"""What follows `a` and `b` in the names of parallel branches, or of the one that they were merged to."""
COUNTER = "num_batches_tracked"


@dataclass(frozen=True)
class Authors:
    """What a checkpoint of the authors' holds."""

    network: nn.Module
    """In evaluation mode: (B, 1, T, F) to {head: logits (B, K)}."""
    heads: dict[str, int]
    """Classes of each output."""
    form: Literal["training", "merged"]
    """With parallel branches, or with the authors' merging of them."""
    parameters: int
    """In the file."""
    epoch: int | None
    """The file's own count, if it has one."""


def convert(path: Path, output: Path, data_set: str | None = None, labels: Sequence[Path] = ()) -> tuple[Authors, ModelInfo]:
    """Writes the authors' checkpoint at `path` as a checkpoint folder `output`; nothing is left there if that fails.

    Raises:
        CheckpointError: as `read`.
        ConfigError, DataError: as `describe`, or there is something at `output`.
    """
    with new_folder(output) as partial:
        authors = read(path)
        info = describe(authors, path, data_set, labels)
        checkpoint.save(partial, authors.network, info, ARCHITECTURE)
    return authors, info


def read(path: Path) -> Authors:
    """The network in a checkpoint of the authors', in its training or its merged form, every size from its tensors.

    Raises:
        CheckpointError: it cannot be read without executing what is in it, or does not hold exactly such a network.
    """
    values = _load(path)
    weights = _weights(values, path)
    branches = {letter: _branches(weights, letter) for letter in "ab"}
    try:
        with torch.device("meta"):  # a file that lies about its sizes must not cost memory
            network = models.build(ARCHITECTURE, _heads(weights), _settings(weights, branches))
    except (ConfigError, LookupError, RuntimeError, OverflowError) as error:
        raise CheckpointError(f"{path} does not hold a whole AudioRepInceptionNeXt ({error}).") from None
    expected = network.state_dict()
    names = _names(expected, _modules(network.config, branches))  # type: ignore[arg-type]
    _check(weights, {theirs: expected[ours] for ours, theirs in names.items()}, path)
    found = {ours: weights[theirs].to(expected[ours].dtype, copy=True) for ours, theirs in names.items() if theirs in weights}
    added = {name: _neutral(name, tensor) for name, tensor in expected.items() if name not in found}
    network.load_state_dict({name: (found | added)[name].contiguous() for name in expected}, assign=True)
    epoch = values.get("epoch")
    return Authors(
        network.eval(),
        _heads(weights),
        "merged" if MERGED in branches["a"].values() else "training",
        sum(tensor.numel() for name, tensor in weights.items() if not name.endswith(("running_mean", "running_var", COUNTER))),
        epoch if isinstance(epoch, int) else None,
    )


def said(found: Authors, info: ModelInfo, chosen: bool) -> list[str]:
    """What was imported and taken for granted, in sentences; `chosen` says whether the data set was named by the user."""
    about, heads = info.provenance, ", ".join(f"{head} {classes}" for head, classes in found.heads.items())
    guessed = "" if chosen else ", which has as many classes; if it is another, say --data-set"
    names = class_names.naming(info, CLASS_FILES.get(about["data_set"], ()))
    return [
        f"{found.form.capitalize()} form, {found.parameters:,} parameters, classes: {heads}",
        f"Data set: {about['data_set']}{guessed}",
        "The file counts no epochs" if found.epoch is None else f"Epoch {found.epoch} by the file's own count",
        names or f"The class order is taken to be {about['class_order']}; the file does not say",
    ]


def describe(authors: Authors, path: Path, data_set: str | None = None, labels: Sequence[Path] = ()) -> ModelInfo:
    """How the network of the file `path` hears and what its classes are called.

    `data_set` is a key of `recipe.PROTOCOLS`; without it the one with the same classes is taken. `labels` are files of
    class names, one a head: a name a line, or a table with the columns `id` and `key` as EPIC-KITCHENS has them. Without
    them, classes of a data set whose names this package does not know are numbered.

    Raises:
        ConfigError: the data set is unknown, has other heads, or must be named; class names are needed or do not fit.
        DataError: a file of class names cannot be read.
    """
    name = data_set or _same_heads(authors.heads, path)
    if name not in PROTOCOLS:
        raise ConfigError(f"data set {name!r} is unknown; there are {', '.join(PROTOCOLS)}.")
    row = PROTOCOLS[name]
    if list(row.heads) != list(authors.heads):
        raise ConfigError(f"{path} has the outputs {_counts(authors.heads)}, {name} has {_counts(row.heads)}.")
    classes, order = _classes(name, authors.heads, path, labels)
    front_end = FRONT_ENDS[row.front_end]
    return ModelInfo(
        name=ARCHITECTURE,
        labels=classes,
        sample_rate=front_end.sample_rate,
        window_seconds=row.window_seconds,
        hop_seconds=row.window_seconds,
        front_end=front_end.as_dict(),
        padding=row.padding,
        views=row.views,
        provenance={
            "imported_from": path.name,
            "form": authors.form,
            "epoch": authors.epoch,
            "data_set": name,
            "class_order": order,
            "audiorep": __version__,
            "date": date.today().isoformat(),
        },
    )


def _load(path: Path) -> dict[str, Any]:
    try:
        values = tensors.read_torch(path)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}.") from None
    except ValueError as error:
        raise CheckpointError(f"{path} {error}. Save its model_state alone, with torch.save, where it was made.") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path} holds a {type(values).__name__}; a dictionary with model_state is needed.")
    return values


def _weights(values: Mapping[str, Any], path: Path) -> dict[str, Tensor]:
    """The weights by their names in one process, finite and of the right network."""
    state = values.get("model_state", values)
    if not isinstance(state, dict) or not state or not all(isinstance(value, Tensor) for value in state.values()):
        raise CheckpointError(f"{path} holds no table of tensors; one called model_state is needed.")
    found = {str(name).removeprefix("module."): tensor for name, tensor in state.items()}
    if f"{STEM}.conv.weight" not in found or f"{FIRST}.a_head.weight" not in found or any("pathway1" in n for n in found):
        raise CheckpointError(
            f"{path} is not an AudioRepInceptionNeXt: its tensors are {some(list(found))}. Only this network can be imported."
        )
    if odd := [name for name, tensor in found.items() if tensor.is_complex()]:
        raise CheckpointError(f"{path} holds complex numbers, in {some(odd)}; a network of this kind has none.")
    if bad := tensors.not_finite(found):
        raise CheckpointError(f"{path} holds values that are no finite numbers, in {some(bad)}; its training had failed.")
    return found


def _branches(tensors: Mapping[str, Tensor], letter: str) -> dict[int, str]:
    """What the branches of time (`a`) or frequency (`b`) mixing are called, by kernel length."""
    names = {suffix: f"{FIRST}.{letter}{suffix}.weight" for suffix in BRANCHES}
    return {max(tensors[name].shape[2:], default=0): suffix for suffix, name in names.items() if name in tensors}


def _heads(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    return {ours: tensors[f"{theirs}.weight"].shape[0] for theirs, ours in HEADS.items() if f"{theirs}.weight" in tensors}


def _settings(tensors: Mapping[str, Tensor], branches: Mapping[str, dict[int, str]]) -> dict[str, Any]:
    """Fields of `models.ArinConfig`."""
    stem, expanded = tensors[f"{STEM}.conv.weight"], tensors[f"{FIRST}.c.weight"]
    blocks = {match.groups() for name in tensors if (match := re.match(r"s(\d)\.pathway0_res(\d+)\.", name))}
    depths = Counter(stage for stage, _ in blocks)
    return {
        "width": stem.shape[0],
        "depths": tuple(depths[stage] for stage in sorted(depths)),
        "time_kernels": tuple(sorted(branches["a"])),
        "frequency_kernels": tuple(sorted(branches["b"])),
        "stem_kernel": tuple(stem.shape[2:]),
        "expansion": expanded.shape[0] // max(1, stem.shape[0]),
    }


def _modules(config: models.ArinConfig, branches: Mapping[str, dict[int, str]]) -> dict[str, str]:
    """The authors' modules by ours; a merged convolution's bias is our batch norm's."""
    mixing = {
        f"{ours}.k{length}.{part}": f"branch2.{letter}{between}{suffix}"
        for ours, letter in (("time", "a"), ("frequency", "b"))
        for length, suffix in branches[letter].items()
        for part, between in (("conv", ""), ("bn", "" if suffix == MERGED else "_bn"))
    }
    found = {
        "stem.conv": f"{STEM}.conv",
        "stem.bn": f"{STEM}.bn",
        **{f"heads.{ours}": theirs for theirs, ours in HEADS.items()},
    }
    for stage, depth in enumerate(config.depths):
        for block in range(depth):
            for ours, theirs in {**LAYERS, **mixing}.items():
                found[f"stages.{stage}.{block}.{ours}"] = f"s{stage + 2}.pathway0_res{block}.{theirs}"
    return found


def _names(expected: Mapping[str, Tensor], modules: Mapping[str, str]) -> dict[str, str]:
    """The authors' tensors by ours, where they have one."""
    names = {}
    for ours in expected:
        module, _, kind = ours.rpartition(".")
        theirs = modules[module]
        if not theirs.endswith(MERGED) or ours.endswith(("conv.weight", "bn.bias")):
            names[ours] = f"{theirs}.{kind}"
    return names


def _check(tensors: Mapping[str, Tensor], needed: Mapping[str, Tensor], path: Path) -> None:
    """Refuses names that are missing or left over, and other shapes."""
    problems = {
        "missing": [name for name in needed if name not in tensors and not name.endswith(COUNTER)],
        "left over": [name for name in tensors if name not in needed],
        "of another shape": [
            f"{name} ({size_text(tensors[name])} instead of {size_text(tensor)})"
            for name, tensor in needed.items()
            if name in tensors and tensors[name].shape != tensor.shape
        ],
    }
    if any(problems.values()):
        text = "; ".join(f"{what}: {some(names)}" for what, names in problems.items() if names)
        raise CheckpointError(f"{path} does not hold a whole AudioRepInceptionNeXt; {text}.")


def _neutral(name: str, like: Tensor) -> Tensor:
    """A tensor of a batch norm that only adds its bias; it divides by √(1 + ε), which its weight takes back."""
    if name.endswith("running_var"):
        return torch.ones(like.shape)
    if name.endswith("weight"):
        return torch.full(like.shape, 1 + nn.BatchNorm2d(1).eps).sqrt()
    return torch.zeros(like.shape, dtype=like.dtype)


def _same_heads(heads: dict[str, int], path: Path) -> str:
    for name, row in PROTOCOLS.items():
        if row.heads == heads:
            return name
    raise ConfigError(
        f"{path} has the outputs {_counts(heads)}, as none of the paper's data sets. "
        f"Say with --data-set which of them it hears like: {', '.join(PROTOCOLS)}."
    )


def _classes(data_set: str, heads: Mapping[str, int], path: Path, labels: Sequence[Path]) -> tuple[dict[str, list[str]], str]:
    """The classes of each head, and where their order is from: files, what is known of the data set, or numbers alone."""
    if labels:
        return class_names.read(heads, labels), class_names.order_of(labels)
    if data_set not in CLASS_ORDERS:
        return class_names.numbered(heads), class_names.NUMBERED
    order = CLASS_ORDERS[data_set](path)
    if {head: len(names) for head, names in order.items()} != heads:
        raise ConfigError(
            f"{path} does not say what its classes, {_counts(heads)}, are called, and {data_set} has "
            f"{_counts(PROTOCOLS[data_set].heads)}. Name a file of them with --labels."
        )
    return {head: list(names) for head, names in order.items()}, f"the official one of {data_set}"


def _counts(heads: Mapping[str, int]) -> str:
    return ", ".join(f"{head} ({classes})" for head, classes in heads.items()) or "none"
