"""New classes for a deployed model from a few clips of each, in seconds, without torch: the result is a deployed model."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from audiorep import audio, shipped
from audiorep.audio.decode import Stretch
from audiorep.datasets import Example, trained_clips
from audiorep.embeddings.few_shot import Examples, Layer, clip_logits, fit
from audiorep.embeddings.index import LEAST_COSINE, SILENCE, cosine, probe
from audiorep.embeddings.limits import limits
from audiorep.embeddings.onnx_file import onnx_file
from audiorep.errors import BundleError, ConfigError, DataError
from audiorep.escape import visible
from audiorep.export.classes import with_classes
from audiorep.files import replacing, reserve
from audiorep.info import EMBEDDING, UNKNOWN
from audiorep.info.model_info import ModelInfo
from audiorep.predict.classifier import Classifier, load
from audiorep.predict.results import Embedding, Failure
from audiorep.runtimes import sealed

FEW_CLIPS = 5
LOW_ACCURACY = 0.6
BACKGROUND = "background.npz"
MOST_DIFFERENCE = 1e-4  # between what was taught and what the written file says

Clip = str | os.PathLike[str] | Stretch
Clips = Clip | Iterable[Clip]
"""Files, folders and patterns, or parts of files."""


@dataclass(frozen=True)
class TaughtClass:
    """A class that was taught, and how its clips fared when the others taught."""

    name: str
    clips: int
    right: int
    """Clips that were told from the other new classes by a layer taught without them; of a single clip that says nothing."""
    taken_for: dict[str, int]
    """{other class: clips that were taken for it}."""


@dataclass(frozen=True)
class Taught:
    """What teaching found."""

    info: ModelInfo
    """The new model's description."""
    classes: list[TaughtClass]
    background: int
    """Windows of other sounds from which the classes were told."""
    failures: list[Failure] = field(default_factory=list)

    @property
    def accuracy(self) -> float | None:
        """Share of the clips that were told right by what the others taught; None for one class, or one clip of each."""
        rows = [row for row in self.classes if row.clips > 1]
        return sum(row.right for row in rows) / sum(row.clips for row in rows) if rows and len(self.classes) > 1 else None

    def warnings(self) -> list[str]:
        """What the clips cannot teach, in sentences."""
        few = [visible(row.name) for row in self.classes if row.clips < FEW_CLIPS]
        found = [f"{', '.join(few)}: fewer than {FEW_CLIPS} clips; more would help."] if few else []
        if not self.background:
            found.append("No other sounds were heard, so all will be taken for one of these. Give some with --background.")
        for row in self.classes:
            if len(self.classes) > 1 and row.clips > 1 and row.right < LOW_ACCURACY * row.clips:
                most = max(row.taken_for, key=lambda name: row.taken_for[name])
                wrong = f"{row.clips - row.right} of {row.clips} were taken for others"
                found.append(f"Clips hardly tell {visible(row.name)}: {wrong}, {row.taken_for[most]} for {visible(most)}.")
        return found

    def summary(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "accuracy": self.accuracy,
            "background_windows": self.background,
            "classes": [
                {"name": row.name, "clips": row.clips, "right": row.right, "taken_for": row.taken_for} for row in self.classes
            ],
            "warnings": self.warnings(),
            "unreadable": [str(failure.error) for failure in self.failures],
        }


def teach(
    model: str | os.PathLike[str],
    classes: Mapping[str, Clips],
    output: str | os.PathLike[str],
    *,
    background: Clips = (),
    instead: bool = False,
    say: Callable[[str], None] = lambda text: None,
    on_progress: Callable[[float], None] | None = None,
) -> Taught:
    """Writes a model that knows more classes, from a few clips of each.

    A linear layer on the model's embedding is fitted (ridge regression, with probabilities by Platt's method from clips left
    out) and appended to the file. The old classes stay, and with `softmax` share what the new ones leave.

    Args:
        model: a deployed `.onnx` with an embedding, or `nano` or `esc50`.
        classes: {name: files, folders or patterns with its clips, or parts of files}.
        output: the new `.onnx`.
        background: sounds of none of the classes; the models in the package bring some of their own.
        instead: whether the old classes are left out.
        say: is given remarks.
        on_progress: is given the seconds of sound that were heard.

    Raises:
        BundleError: the file gives no embedding.
        ConfigError: names that cannot be used, another kind of file, or an output that cannot be written.
        DataError: a class without a clip that can be heard, or a single class and nothing to tell it from.

    >>> clips = {"my rooster": "samples/rooster.flac", "my crow": "samples/crow.flac"}
    >>> audiorep.teach("nano", clips, "mine.onnx", instead=True).warnings()
    ['my rooster, my crow: fewer than 5 clips; more would help.']
    >>> audiorep.load("mine.onnx")("samples/rooster.flac").label
    'my rooster'
    """
    source, place = onnx_file(model), Path(output)
    if place.suffix != ".onnx":
        raise ConfigError(f"{output} must end in .onnx.")
    classifier = load(source)
    classifier.session.refuse_missing([EMBEDDING])
    _check_names(classifier.info, list(classes), instead)
    reserve(place, source)
    failures: list[Failure] = []
    heard = [list(_hear(classifier, paths, failures, on_progress)) for paths in classes.values()]
    for name, found in zip(classes, heard, strict=True):
        if not found:
            raise DataError(f"No clip of {visible(name)} can be heard. {failures[-1].error if failures else ''}".rstrip())
    others = list(_hear(classifier, background, failures, on_progress))
    bank = _bank(classifier)
    if len(classes) == 1 and not others and not len(bank):
        raise DataError(
            f"{visible(next(iter(classes)))} alone cannot be told from anything; give other sounds with --background."
        )
    examples = examples_of(heard, others, bank)
    [known] = classifier.info.labels.values()
    beside = classifier.info.activation == "softmax" and not instead
    layer = fit(examples, len(classes), others=len(known) if beside else len(classes))
    info = _described(classifier.info, list(classes), heard, instead)
    if info.activation == "sigmoid":
        info = _with_thresholds(info, classifier.info, limits(layer, examples, info))
    _write(source, place, classifier, info, layer, instead, heard[0][0])
    taught = Taught(info, _judged(list(classes), layer, examples), int((examples.classes < 0).sum()), failures)
    for warning in taught.warnings():
        say(warning)
    return taught


def _check_names(info: ModelInfo, names: Sequence[str], instead: bool) -> None:
    if len(info.labels) > 1:
        raise ConfigError(f"The model answers {', '.join(info.labels)}; classes are taught to models of one answer.")
    [known] = info.labels.values()
    for name in names:
        if not name.strip() or name == (info.unknown or UNKNOWN):
            raise ConfigError(f"A class cannot be named {name!r}.")
        if name in known and not instead:
            raise ConfigError(f"The model knows {visible(name)} already; give the class another name, or teach --instead.")
    if not names:
        raise ConfigError("No class was given, such as jackdaw=clips/jackdaw.")


def _hear(
    classifier: Classifier, clips: Clips, failures: list[Failure], on_progress: Callable[[float], None] | None
) -> Iterable[Embedding]:
    """The embeddings of clips that are more than silence."""
    for found in classifier.embed_files(_sources(clips), on_progress):
        if isinstance(found, Failure):
            failures.append(found)
        elif weights_of(found).any():
            yield found
        else:
            failures.append(Failure(found.path, DataError(f"{found.path} is nothing but silence.")))


def _sources(clips: Clips) -> Iterable[Path | Stretch]:
    for clip in [clips] if isinstance(clips, str | os.PathLike | Stretch) else clips:
        yield from [clip] if isinstance(clip, Stretch) else audio.find([clip])


def weights_of(embedding: Embedding) -> np.ndarray:
    """(W,) how much each window says: its peak power over the loudest window's; nothing in silence."""
    peaks = embedding.peaks
    assert peaks is not None
    return np.where(peaks >= SILENCE, (peaks / max(float(peaks.max()), SILENCE)) ** 2, 0.0)


def _bank(classifier: Classifier) -> np.ndarray:
    """(N, C) embeddings of other sounds that come with the models in the package; none for other models."""
    own = probe(classifier)
    for row in shipped.SHIPPED.values():
        if (path := row.folder / BACKGROUND).exists():
            with np.load(path) as file:
                if len(file["probe"]) == len(own) and cosine(own, file["probe"].astype(np.float32)) >= LEAST_COSINE:
                    return file["vectors"].astype(np.float32)
    return np.zeros((0, classifier.info.embedding_size), np.float32)


def examples_of(heard: Sequence[Sequence[Embedding]], others: Sequence[Embedding], bank: np.ndarray) -> Examples:
    """The windows of each class's clips, of clips of none, and of the background (N, C), each of which is a clip."""
    clips = [*((number, clip) for number, found in enumerate(heard) for clip in found), *((-1, clip) for clip in others)]
    sizes = [len(clip.vectors) for _, clip in clips]
    return Examples(
        np.concatenate([*(clip.vectors for _, clip in clips), bank]).astype(np.float64),
        np.concatenate([np.repeat(np.arange(len(sizes)), sizes), len(sizes) + np.arange(len(bank))]),
        np.concatenate([np.repeat([number for number, _ in clips], sizes), np.full(len(bank), -1)]),
        np.concatenate([*(weights_of(clip) for _, clip in clips), np.ones(len(bank))]),
    )


def _judged(names: Sequence[str], layer: Layer, examples: Examples) -> list[TaughtClass]:
    first = np.unique(examples.clips, return_index=True)[1]
    truth, answers = examples.classes[first], clip_logits(layer.left_out, examples).argmax(axis=1)
    rows = []
    for number, name in enumerate(names):
        given = answers[truth == number]
        taken = {names[k]: int((given == k).sum()) for k in np.unique(given) if k != number}
        rows.append(TaughtClass(name, len(given), int((given == number).sum()), taken))
    return rows


def _described(info: ModelInfo, names: Sequence[str], heard: Sequence[Sequence[Embedding]], instead: bool) -> ModelInfo:
    """The new model's description."""
    [(head, known)] = info.labels.items()
    rest = instead and info.activation == "softmax"
    labels = [*([] if instead else known), *names, *([UNKNOWN] if rest else [])]
    thresholds = {} if instead or head not in info.thresholds else {head: [*info.thresholds[head], *[0.5] * len(names)]}
    clips = [Example(clip.path, {head: (name,)}) for name, found in zip(names, heard, strict=True) for clip in found]
    told = {name: len(found) for name, found in zip(names, heard, strict=True)}
    kept = {("measured_before_teaching" if key == "measured" else key): value for key, value in info.provenance.items()}
    return replace(
        info,
        labels={head: labels},
        thresholds=thresholds,
        calibration={} if rest else info.calibration,
        unknown=UNKNOWN if rest else info.unknown,
        silence=info.silence if not instead or rest else 0.0,
        provenance={**kept, "taught": {**trained_clips.filter_of(clips), "classes": told}},
    )


def _with_thresholds(info: ModelInfo, before: ModelInfo, new: Sequence[float]) -> ModelInfo:
    """The new model's description with thresholds of its new classes, its last ones."""
    [(head, labels)] = info.labels.items()
    return replace(info, thresholds={head: [*before.threshold(head), *new][-len(labels) :]})


def _write(
    source: Path, output: Path, classifier: Classifier, info: ModelInfo, layer: Layer, instead: bool, clip: Embedding
) -> None:
    """Writes the file, once it says of a clip what was taught.

    Raises:
        BundleError: it does not.
    """
    [(head, known)] = classifier.info.labels.items()
    weight, bias = _before_calibration(info, head, layer)
    content = with_classes(source.read_bytes(), head, info.activation, len(known), weight, bias, instead)
    with replacing(output) as partial:
        partial.write_bytes(sealed.described(content, info.to_metadata()))
        session = load(partial).session
        sound = audio.read(clip.path, info.sample_rate)[None, : info.window_samples]
        found = session.run(sound.astype(np.float32), [head, EMBEDDING])
        names = len(weight)
        logits = found[EMBEDDING] @ weight.T + bias
        odds = np.exp(np.minimum(logits, 80.0))
        expected = odds / (1 + (odds.sum(1, keepdims=True) if info.activation == "softmax" else odds))
        first = 0 if instead else len(known)
        if np.abs(found[head][:, first : first + names] - expected).max() > MOST_DIFFERENCE:
            raise BundleError(f"{output} does not say what was taught; it was not written.")


def _before_calibration(info: ModelInfo, head: str, layer: Layer) -> tuple[np.ndarray, np.ndarray]:
    """The layer whose scores are probabilities once the model's calibration of windows is applied to them."""
    settings = info.calibration.get(head, {}).get("window", {})
    temperature, shift = settings.get("temperature", 1.0), settings.get("bias", 0.0)
    return (layer.weight * temperature).astype(np.float32), ((layer.bias - shift) * temperature).astype(np.float32)
