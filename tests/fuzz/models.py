"""Bundles, what files of other runtimes carry, checkpoints, and the weights of others."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from support.their_network import TheirNetwork
from support.their_yamnet import TheirYamNet

from audiorep import models
from audiorep.audio.decode import Decoder
from audiorep.hub import authors, imported, networks
from audiorep.info import model_info
from audiorep.info.front_end import FRONT_ENDS
from audiorep.info.model_info import ModelInfo
from audiorep.models import checkpoint
from audiorep.predict.classifier import Classifier, windowing
from audiorep.runtimes import pair, sealed
from fuzz.mutations import cut, flipped, replaced
from fuzz.oracle import demand
from fuzz.tensors import torch_file, with_odd_tensor

SAMPLES = 7999
LABELS = {"label": ["a", "b", "c"]}
ARCHITECTURES = ("slowfast", "resnet50", "cnn14", "ast", "mobilenetv3", "replknet_31t", "inceptionnext_tiny", "yamnet")
DTYPES = ("F64", "F16", "BF16", "I64", "BOOL", "F8_E4M3", "F8_E5M2", "U8", "C64", "F4", "X")


def prepare(folder: Path) -> None:
    """Writes a checkpoint, its bundle, an OpenVINO pair's stand-in and a file of the authors'."""
    teachers = [{"seen": {"clips": 1, "bits": 64, "filter": "abc"}}]
    provenance = {"clips": {"train": 3}, "splits": {"test_folds": [1]}, "teachers": teachers}
    info = ModelInfo("arin_pico", LABELS, 16_000, 0.5, 0.25, asdict(FRONT_ENDS["speech_light"]), provenance=provenance)
    torch.manual_seed(0)
    network = models.build("arin_pico", {"label": 3}, {"width": 4, "depths": [1, 1]})
    checkpoint.save(folder / "checkpoint", network, info, "arin_pico")
    _write(folder / "whole.onnx", _bundle(info))
    TheirNetwork((11,), 4, (1, 1)).save(folder / "authors.pyth")
    TheirYamNet().save(folder / "yamnet.tflite")
    (folder / "made.xml").write_text("<net/>")
    (folder / "made.bin").write_bytes(bytes(range(256)) * 8)
    pair.move(folder / "made.xml", folder / "pair.xml")


def warm(seeds: Path) -> None:
    """Runs each of the good files once; a first network imports much of torch."""
    _whole(seeds)
    _run_checkpoint(seeds / "checkpoint")


# ---------------------------------------------------------------- kinds


def bundle_bytes(chance: Random, seeds: Path, place: Path) -> None:
    """A sealed bundle whose bytes were changed is refused, or says and scores what it did."""
    info, scores, content = _whole(seeds)
    size = len(content)
    first = max(0, size - 4000) if chance.random() < 0.4 else 0  # the metadata and the first operators are at the ends
    last = size if chance.random() < 0.7 else first + 120
    found = _open_and_run(_write(place / "m.onnx", flipped(chance, content, first, last)))
    demand(found[0] == info, "other metadata was accepted")
    demand(np.array_equal(found[1], scores), "other scores were accepted")


def bundle_cut(chance: Random, seeds: Path, place: Path) -> None:
    """A bundle that is cut short is refused, wherever it is."""
    _open_and_run(_write(place / "m.onnx", cut(chance, _whole(seeds)[2])))
    demand(False, "a truncated bundle was accepted")


def bundle_metadata(chance: Random, seeds: Path, place: Path) -> None:
    """A bundle that says anything of itself."""
    model = onnx.load_from_string(_whole(seeds)[2])
    values = {entry.key: json.loads(entry.value) for entry in model.metadata_props if entry.key != sealed.KEY}
    del model.metadata_props[:]
    for key, value in replaced(chance, values, chance.choice([1, 1, 1, 2, 3])).items():
        try:
            model.metadata_props.add(key=key, value=json.dumps(value))
        except (UnicodeEncodeError, ValueError):  # no such bundle can be made
            continue
    content = model.SerializeToString()
    _open_and_run(_write(place / "m.onnx", sealed.seal(content) if chance.random() < 0.5 else content))


def appended(chance: Random, seeds: Path, place: Path) -> None:
    """What LiteRT's and ExecuTorch's files carry at their end."""
    info, content = _whole(seeds)[0], _with_information(seeds, place)
    changed = flipped(chance, content, chance.choice([0, 1000]))
    demand(model_info.read_appended(_write(place / "m.tflite", changed)) == info, "other metadata was accepted")


def appended_cut(chance: Random, seeds: Path, place: Path) -> None:
    """The same, cut short."""
    model_info.read_appended(_write(place / "m.tflite", cut(chance, _with_information(seeds, place))))
    demand(False, "a truncated file was accepted")


def pair_bytes(chance: Random, seeds: Path, place: Path) -> None:
    """OpenVINO's weights, cut or changed beside their graph."""
    content = (seeds / "pair.bin").read_bytes()
    shutil.copyfile(seeds / "pair.xml", place / "pair.xml")
    changed = cut(chance, content) if chance.random() < 0.5 else flipped(chance, content)
    _write(place / "pair.bin", changed)
    pair.check(place / "pair.xml")
    demand(changed == content, "other weights were accepted")


def config(chance: Random, seeds: Path, place: Path) -> None:
    """A checkpoint whose configuration says anything."""
    values = replaced(chance, json.loads((seeds / "checkpoint" / "config.json").read_text()), chance.choice([1, 1, 1, 2, 3]))
    if chance.random() < 0.1:
        values["architecture"] = chance.choice(ARCHITECTURES)
        values["network"] = {"heads": {"label": 3}}
    content = json.dumps(values).encode()
    _write(place / "config.json", flipped(chance, content) if chance.random() < 0.1 else content)
    shutil.copyfile(seeds / "checkpoint" / "model.safetensors", place / "model.safetensors")
    _run_checkpoint(place)


def safetensors(chance: Random, seeds: Path, place: Path) -> None:
    """A checkpoint whose weights lie."""
    shutil.copyfile(seeds / "checkpoint" / "config.json", place / "config.json")
    content = (seeds / "checkpoint" / "model.safetensors").read_bytes()
    size = int.from_bytes(content[:8], "little")
    action = chance.random()
    if action < 0.4:
        content = flipped(chance, content, 0, 8 + size)
    elif action < 0.5:
        content = flipped(chance, content, 8 + size)
    else:
        text = json.dumps(_lying(chance, json.loads(content[8 : 8 + size]))).encode()
        content = len(text).to_bytes(8, "little") + text + content[8 + size :]
    _write(place / "model.safetensors", content)
    _run_checkpoint(place)


def checkpoint_cut(chance: Random, seeds: Path, place: Path) -> None:
    """A checkpoint one of whose files is cut short."""
    shutil.copytree(seeds / "checkpoint", place, dirs_exist_ok=True)
    path = place / chance.choice(["config.json", "model.safetensors"])
    content = path.read_bytes()
    _write(path, cut(chance, content, last=len(content.rstrip())))
    _run_checkpoint(place)
    demand(False, f"a truncated {path.name} was accepted")


def pyth(chance: Random, seeds: Path, place: Path) -> None:
    """A checkpoint of the authors' to import."""
    path = torch_file(chance, (seeds / "authors.pyth").read_bytes(), place / "m.pyth")
    authors.convert(path, place / "imported")
    _run_checkpoint(place / "imported")


def tflite(chance: Random, seeds: Path, place: Path) -> None:
    """A YAMNet's file to import, its tables changed more often than its constants, which are behind the first of them."""
    content = (seeds / "yamnet.tflite").read_bytes()
    action = chance.random()
    changed = cut(chance, content) if action < 0.2 else flipped(chance, content, 0, len(content) if action < 0.4 else 6000)
    imported.convert(_write(place / "m.tflite", changed), place / "imported")
    _run_checkpoint(place / "imported")


def weights(chance: Random, seeds: Path, place: Path) -> None:
    """Weights for `fuse`."""
    network = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2))
    path = place / "m.pth"
    if chance.random() < 0.5:
        with_odd_tensor(chance, network.state_dict(), path)
    else:
        torch_file(chance, (seeds / "authors.pyth").read_bytes(), path)
    networks._load(network, path, lambda text: None)


# ---------------------------------------------------------------- helpers


def _bundle(info: ModelInfo) -> bytes:
    """A model whose scores hang on every sample and every weight; a network's export would take longer than all cases."""
    weights = np.random.default_rng(0).normal(0, 0.1, (SAMPLES, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Pad", ["waveform", "room"], ["whole"]),
        helper.make_node("Slice", ["whole", "first", "last", "axis"], ["cut"]),
        helper.make_node("MatMul", ["cut", "weights"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["label"]),
    ]
    constants = {
        "room": np.array([0, 0, 0, SAMPLES]),
        "first": np.array([0]),
        "last": np.array([SAMPLES]),
        "axis": np.array([1]),
    }
    graph = helper.make_graph(
        nodes,
        "scores",
        [helper.make_tensor_value_info("waveform", onnx.TensorProto.FLOAT, ["batch", "samples"])],
        [helper.make_tensor_value_info("label", onnx.TensorProto.FLOAT, ["batch", 3])],
        [numpy_helper.from_array(value, name) for name, value in {**constants, "weights": weights}.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    helper.set_model_props(model, info.to_metadata())
    return sealed.seal(model.SerializeToString())


@lru_cache
def _whole(seeds: Path) -> tuple[ModelInfo, np.ndarray, bytes]:
    """What the good bundle says, its scores and its bytes."""
    return *_open_and_run(seeds / "whole.onnx"), (seeds / "whole.onnx").read_bytes()


def _open_and_run(path: Path) -> tuple[ModelInfo, np.ndarray]:
    """What a model says of itself, which can be written down again, and its scores of a noise."""
    classifier = Classifier.load(path, 1)
    info = classifier.info
    json.dumps(info.to_metadata(), ensure_ascii=False).encode()
    Decoder([], windowing(info)).close()
    noise = 0.1 * np.random.default_rng(0).standard_normal((2, SAMPLES)).astype(np.float32)
    scores = classifier.scores(noise[:, : max(1, min(SAMPLES, info.window_samples))])
    return info, next(iter(scores.values()))


def _run_checkpoint(folder: Path) -> None:
    loaded = checkpoint.load(folder)
    loaded.network(loaded.example())


def _with_information(seeds: Path, place: Path) -> bytes:
    """A file of a runtime with audiorep's information at its end."""
    path = _write(place / "whole", bytes(1000))
    model_info.append(path, _whole(seeds)[0])
    return path.read_bytes()


def _lying(chance: Random, header: dict[str, Any]) -> Any:
    """A header of safetensors of which something is not true."""
    row = header[chance.choice(list(header))]
    if "dtype" not in row:
        return replaced(chance, header)
    shapes: list[Callable[[], list[int]]] = [
        lambda: [10**9], lambda: [2**40, 2**40], lambda: [], lambda: [0], lambda: [-1], lambda: row["shape"][::-1]
    ]  # fmt: skip
    action = chance.random()
    if action < 0.4:
        row["dtype"] = chance.choice(DTYPES)
    elif action < 0.6:
        row["shape"] = chance.choice(shapes)()
    else:
        return replaced(chance, header)
    return header


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
