"""Static int8 chosen by what it costs in accuracy: calibrations compared, and layers that cost most left in float32."""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from torch import nn

from audiorep.datasets import Example
from audiorep.errors import AudioError, ConfigError, DataError
from audiorep.evaluation.compare import Accuracy, Difference, compare, measure_accuracy
from audiorep.evaluation.scored import targets_of
from audiorep.export.onnx import bundle, caller
from audiorep.export.precision import Quantizer, Rating, Setting, best, scores
from audiorep.export.sounds import first_window, first_windows, low_rates, noises, spread
from audiorep.files import open_text, replacing
from audiorep.info.model_info import ModelInfo
from audiorep.models.checkpoint import Checkpoint
from audiorep.predict.agreement import agreement
from audiorep.predict.classifier import Classifier
from audiorep.reparam import FuseResult
from audiorep.runtimes import Session, timing
from audiorep.runtimes.onnx import OnnxSession
from audiorep.runtimes.sealed import seal

CALIBRATION = 200  # clips; ranges of more hardly differ
CHOICE = 400  # clips that methods are compared on
PROBES = 32  # clips that a layer's cost is measured on
TIMES = 15  # that a window is timed


@dataclass(frozen=True)
class Tried:
    """A way of quantizing and what it costs on the clips that it is chosen by."""

    setting: Setting
    accuracy: float
    difference: Difference

    @property
    def rating(self) -> Rating:
        """The accuracy, and of equal ones the nearness of the scores to float32's."""
        return self.accuracy, -self.difference.mean


@dataclass(frozen=True)
class Sensitivity:
    """What int8 in one layer alone does to the scores."""

    layer: str
    change: float
    """Mean difference of a score."""
    agreement: float
    """Share of clips that keep their label."""
    weight_range: float
    """Largest weight over the largest before merging: above 1, merging made int8 coarser."""
    channel_spread: float
    """Largest weight of the layer over the median of its channels' largest: what a scale for all channels would lose."""


@dataclass(frozen=True)
class Quantized:
    """A static int8 bundle, how it came about, and what it was compared with."""

    content: bytes
    setting: Setting
    tried: list[Tried]
    sensitivities: list[Sensitivity]
    """What each layer costs, the costliest first; empty where it was not measured."""
    chosen_on: str
    """Which clips the choice was made on, in words."""
    speed: float
    """Float32's time of a window over int8's, in the same runtime on this machine."""


@dataclass(frozen=True)
class Sounds:
    """The clips that a quantization uses: none of the test split."""

    calibration: list[np.ndarray]
    """(N,) windows to measure ranges on."""
    choice: list[Example]
    """Labelled clips to compare on."""
    origin: str
    """Where those are from, in words."""


def sounds_of(examples: Sequence[Example], info: ModelInfo, say: Callable[[str], None] = lambda text: None) -> Sounds:
    """Calibration windows from the training clips, and clips to choose by: the validation clips, or other training clips.

    Raises:
        DataError: no training clip can be read, or there are none to choose by.
    """
    train = [example for example in examples if example.split == "train"]
    valid = [example for example in examples if example.split == "valid"]
    every = max(1, len(train) // CALIBRATION)
    chosen = train[::every][:CALIBRATION]
    try:
        windows = first_windows(chosen, info, say)
    except AudioError as error:
        raise DataError(f"int8 needs training clips to calibrate on, and none can be read: {error}.") from None
    if not windows:
        raise DataError("int8 needs training clips to calibrate on, and there are none.")
    low_rates([example.path for example in chosen], info, say)
    used = set(map(id, chosen))
    choice = spread(valid or [example for example in train if id(example) not in used], CHOICE)
    if not choice:
        raise DataError("int8 needs labelled clips to be chosen by, besides those it is calibrated on; there are none.")
    return Sounds(windows, choice, "validation clips" if valid else "training clips that were not calibrated on")


def quantize(
    model: Checkpoint,
    sounds: Sounds,
    loss: float = 0.01,
    left: Sequence[str] = (),
    sensitivity: bool = False,
    say: Callable[[str], None] = lambda text: None,
    network: nn.Module | None = None,
) -> Quantized:
    """The static int8 bundle of `model` that keeps most of its accuracy on the clips to choose by.

    Each method of calibration is tried with 8 and 7 bits a weight. If the best loses more than `loss`, the layers that cost
    most are left in float32, twice as many at each try.

    Args:
        model: the checkpoint.
        sounds: what to calibrate on and to choose by.
        loss: share of clips that may be lost.
        left: layers to leave in float32 in any case.
        sensitivity: measure what each layer costs, needed or not.
        say: told what is under way.
        network: the merged network, where its weights are no longer the checkpoint's (see `qat`).

    Raises:
        ConfigError: an unknown layer, or a loss that cannot be kept.
        DataError: as `evaluate.evaluate`.
    """
    fused = model.fuse()
    content = bundle(model, network or fused.model)
    say(f"Measuring ranges on {len(sounds.calibration)} clips")
    quantizer = Quantizer(content, sounds.calibration)
    if unknown := sorted(set(left) - set(quantizer.layers)):
        raise ConfigError(f"There is no layer {', '.join(unknown)}; the layers are {', '.join(quantizer.layers)}.")
    original = _measured(content, sounds)
    tried: dict[Setting, Tried] = {}

    def rate(setting: Setting, made: bytes) -> Rating:
        tried[setting] = _tried(setting, made, original, sounds, say)
        return tried[setting].rating

    chosen = tried[best(quantizer, rate, left)]
    costs: list[Sensitivity] = []
    if sensitivity or chosen.difference.refusal(loss):
        say(f"Measuring what each of {len(quantizer.layers)} layers costs")
        costs = sensitivities(quantizer, content, chosen.setting, sounds.calibration[:PROBES], fused)
    count = 1
    while chosen.difference.refusal(loss) and count < len(costs):
        kept = tuple(dict.fromkeys([*left, *(row.layer for row in costs[:count])]))
        setting = replace(chosen.setting, left=kept)
        rate(setting, quantizer.make(setting))
        chosen, count = max(chosen, tried[setting], key=lambda one: one.rating), 2 * count
    if refusal := chosen.difference.refusal(loss):
        most = max(len(setting.left) for setting in tried)
        raise ConfigError(f"int8 costs too much even with {most} of {len(quantizer.layers)} layers in float32: {refusal}.")
    made = quantizer.make(chosen.setting)
    return Quantized(
        made, chosen.setting, list(tried.values()), costs, sounds.origin, _speed(caller(content), caller(made), model.info)
    )


def write(
    model: Checkpoint,
    sounds: Sounds,
    path: Path,
    loss: float = 0.01,
    left: Sequence[str] = (),
    table: Path | None = None,
    say: Callable[[str], None] = lambda text: None,
    network: nn.Module | None = None,
) -> Quantized:
    """Writes what `quantize` makes to `path`, and what its layers cost to `table` where one is asked for.

    Raises:
        ConfigError, DataError: as `quantize`.
    """
    made = quantize(model, sounds, loss, left, table is not None, say, network)
    if table is not None:
        write_sensitivities(made.sensitivities, table)
    with replacing(path) as partial:
        partial.write_bytes(seal(made.content))
    return made


def write_openvino(model: Checkpoint, sounds: Sounds, path: Path, loss: float = 0.01, left: Sequence[str] = ()) -> float:
    """Writes an int8 model for OpenVINO, quantized by NNCF, with layers put back to float32 until `loss` is kept.

    NNCF looks at each clip's first window, and at its best class; what it leaves is then judged on whole clips.

    Returns:
        Float32's time of a window over int8's, in OpenVINO on this machine.

    Raises:
        BundleError: its labels are not the checkpoint's.
        ConfigError: an unknown layer, or a loss that is not kept.
        DataError: as `evaluate.evaluate`.
        MissingExtraError: openvino or nncf is not installed.
    """
    from audiorep.export import openvino
    from audiorep.runtimes import pair
    from audiorep.runtimes.openvino import OpenVinoSession

    control = openvino.Control(_with_targets(model, sounds), loss, tuple(left))
    with tempfile.TemporaryDirectory() as folder:
        before, after = Path(folder) / "float32.xml", Path(folder) / path.name
        openvino.export(model, before, sounds.calibration[:PROBES])
        openvino.export(model, after, sounds.calibration[:PROBES], "int8", sounds.calibration, control)
        sessions = [OpenVinoSession(made) for made in (before, after)]
        first, second = (_accuracy(made, sounds) for made in sessions)
        if refusal := compare(first, second).refusal(loss):
            raise ConfigError(f"int8 costs too much even with the layers that NNCF put back to float32: {refusal}.")
        pair.move(after, path)
    return _speed(sessions[0], sessions[1], model.info)


def _with_targets(model: Checkpoint, sounds: Sounds) -> list[tuple[np.ndarray, dict[str, np.ndarray]]]:
    """The first window (1, N) of each clip to choose by that can be read, and {head: (K,) of 0 and 1}."""
    targets = {head: targets_of(sounds.choice, head, names) for head, names in model.info.labels.items()}
    clips = []
    for index, example in enumerate(sounds.choice):
        try:
            window = first_window(example, model.info)
        except AudioError:
            continue
        clips.append((window[None], {head: values[index] for head, values in targets.items()}))
    return clips


def _speed(before: Callable[[np.ndarray], object], after: Callable[[np.ndarray], object], info: ModelInfo) -> float:
    """How many times as fast the second is on a window of noise."""
    noise = noises(info)[0][None]
    return timing.speed(*timing.in_turns([timing.turn(partial(call, noise)) for call in (before, after)], TIMES)).median


def sensitivities(
    quantizer: Quantizer, content: bytes, setting: Setting, clips: Sequence[np.ndarray], fused: FuseResult
) -> list[Sensitivity]:
    """What each layer costs alone, the costliest first, on `clips` of (N,)."""
    expected = scores(content, clips)
    spreads = quantizer.channel_spreads()
    rows = []
    for layer in quantizer.layers:
        found = agreement(expected, scores(quantizer.make_one(layer, setting), clips))
        ranges = [merge.weight_range for merge in fused.merges if merge.into == layer and merge.weight_range]
        rows.append(Sensitivity(layer, found.mean, found.agreement, max(ranges, default=1.0), spreads[layer]))
    return sorted(rows, key=lambda row: -row.change)


def write_sensitivities(rows: Sequence[Sensitivity], path: Path) -> None:
    """The table as CSV."""
    with replacing(path) as partial, open_text(partial) as file:
        writer = csv.DictWriter(file, list(Sensitivity.__dataclass_fields__))
        writer.writeheader()
        writer.writerows({key: f"{v:.5g}" if isinstance(v, float) else v for key, v in asdict(row).items()} for row in rows)


def _tried(setting: Setting, made: bytes, original: Accuracy, sounds: Sounds, say: Callable[[str], None]) -> Tried:
    judged = _measured(made, sounds)
    tried = Tried(setting, judged.accuracy, compare(original, judged))
    bits = f"{setting.method}, {7 if setting.reduced else 8} bits a weight"
    floats = f", {len(setting.left)} layers in float32" if setting.left else ""
    same = tried.difference.agreement
    say(f"{bits}{floats}: {judged.accuracy:.1%} ({original.accuracy:.1%} in float32), {same:.1%} same labels")
    return tried


def _measured(content: bytes, sounds: Sounds) -> Accuracy:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        path.write_bytes(content)
        return _accuracy(OnnxSession(path), sounds)


def _accuracy(session: Session, sounds: Sounds) -> Accuracy:
    """On the clips to choose by, which may be training clips."""
    return measure_accuracy(Classifier(session), sounds.choice, sounds.origin, "model", allow_trained=True)
