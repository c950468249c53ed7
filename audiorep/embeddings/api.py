"""`embed` a collection into an index, and find what is `similar` in it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from audiorep import audio, shipped
from audiorep.audio.decode import Stretch, Waveform
from audiorep.embeddings.approximate import candidates
from audiorep.embeddings.index import SILENCE, Index
from audiorep.embeddings.search import Match, Query, exactly
from audiorep.embeddings.search import similar as search
from audiorep.errors import AudioError, ConfigError, DataError
from audiorep.predict.classifier import Classifier, load
from audiorep.predict.results import Embedding, Failure

PAUSE = 0.03  # of the loudest window's peak: below it a window is a pause
COMMIT_SECONDS, COMMIT_WINDOWS = 2.0, 20_000  # between two commits


@dataclass
class Collected:
    """What an embedding of a collection did."""

    added: int = 0
    """Sounds that are new in the index, or were changed."""
    kept: int = 0
    """Sounds that were in it as they are."""
    failures: list[Failure] = field(default_factory=list)


def embed(
    paths: Iterable[str | os.PathLike[str]],
    folder: str | os.PathLike[str],
    model: str | os.PathLike[str] | Classifier | None = None,
    on_progress: Callable[[float], None] | None = None,
) -> Collected:
    """Puts the embeddings of sounds into an index, which is made or goes on; sounds that are in it as they are are left out.

    What was added stays, whatever happens afterwards. Ctrl-C keeps the sounds that were heard to their end.

    Args:
        paths: files, folders (searched at any depth) and patterns.
        folder: of the index.
        model: as in `audiorep.load`; default: `nano`.
        on_progress: is given the seconds of sound that were heard.

    Raises:
        BundleError: the model's file gives no embedding.
        ConfigError: the folder is no index, or one of another model, or is being written.

    >>> audiorep.embed(["samples/crow.flac", "samples/rain.flac"], "growing")
    Collected(added=2, kept=0, failures=[])
    >>> audiorep.embed(["samples"], "growing").kept
    2
    """
    classifier = model if isinstance(model, Classifier) else load(model)
    return collect(audio.find(paths), folder, classifier, named(model), on_progress)


def collect(
    files: Iterable[Path],
    folder: str | os.PathLike[str],
    classifier: Classifier,
    model: str,
    on_progress: Callable[[float], None] | None = None,
) -> Collected:
    """The same of files that were found, with a model of that name or path."""
    with Index.create(folder, classifier, model) as index:
        done = Collected()
        try:
            for embedding in classifier.embed_files(_new(index, files, done), on_progress):
                if isinstance(embedding, Failure):
                    done.failures.append(embedding)
                elif embedding.complete:
                    _add(index, embedding, done)
        finally:
            index.commit()
    return done


def _new(index: Index, files: Iterable[Path], done: Collected) -> Iterator[Path]:
    for path in files:
        if index.has(path):
            done.kept += 1
        else:
            yield path


def _add(index: Index, embedding: Embedding, done: Collected) -> None:
    try:
        index.add(embedding)
    except DataError as error:
        done.failures.append(Failure(embedding.path, error))
        return
    done.added += 1
    if index.waiting >= COMMIT_WINDOWS or time.monotonic() - index.committed >= COMMIT_SECONDS:
        index.commit()


def similar(
    folder: str | os.PathLike[str] | Index,
    sound: str | os.PathLike[str] | Stretch | Waveform,
    count: int = 10,
    model: str | os.PathLike[str] | Classifier | None = None,
    per_sound: bool = True,
    approximate: bool = False,
) -> list[Match]:
    """The places of a collection that sound most like a sound, best first.

    Args:
        folder: of the index.
        sound: a file, a part of one, or samples. A part that is in the index itself is no result.
        count: results.
        model: that the index was made with; default: the one that it names.
        per_sound: whether each file is a result once, with its best window; or else windows that do not overlap.
        approximate: whether the neighbours that were built beside the index are asked; or else every window is compared.

    Raises:
        AudioError: the sound cannot be used, or is nothing but silence.
        ConfigError: there is no index, or it is of another model.

    >>> audiorep.embed(["samples"], "collection").added > 10
    True
    >>> found = audiorep.similar("collection", audiorep.Stretch("samples/recording.flac", 46.2, 51.2))
    >>> found[0].path.name
    'siren.flac'
    """
    if isinstance(folder, Index):
        way = candidates if approximate else exactly
        return search(folder, query(model_of(folder, model), sound), count, per_sound, way)
    with Index(folder) as index:
        return similar(index, sound, count, model, per_sound, approximate)


def model_of(index: Index, model: str | os.PathLike[str] | Classifier | None = None, threads: int | None = None) -> Classifier:
    """The model that an index is of.

    Raises:
        ConfigError: the one that was given is another, or none was given and the index names none.
    """
    if model is None and not index.model:
        raise ConfigError(f"{index.folder} does not name its model; give it.")
    classifier = model if isinstance(model, Classifier) else load(model or index.model, threads)
    index.check(classifier)
    return classifier


def named(model: str | os.PathLike[str] | Classifier | None) -> str:
    """What names a model for those who search: a path, which may be in another folder by then, or a name."""
    if isinstance(model, Classifier):
        return ""
    return shipped.DEFAULT if model is None else str(Path(model).absolute() if Path(model).exists() else model)


def query(classifier: Classifier, sound: str | os.PathLike[str] | Stretch | Waveform) -> Query:
    """What is looked for when a sound is.

    Raises:
        AudioError: the sound cannot be used, or is nothing but silence.
    """
    place = sound if isinstance(sound, Stretch | Waveform) else Stretch(Path(sound))
    vectors = audible(classifier.embed(place))
    if isinstance(place, Waveform):
        return Query(vectors)
    return Query(vectors, place.path, place.start, float("inf") if place.end is None else place.end)


def audible(embedding: Embedding) -> np.ndarray:
    """(≤ W, C) of the windows that hold the sound, and not the pauses in it.

    Raises:
        AudioError: it is nothing but silence.
    """
    peaks = embedding.peaks
    assert peaks is not None
    heard = (peaks >= SILENCE) & (peaks >= PAUSE * peaks.max())
    if not heard.any():
        raise AudioError(f"{embedding.path} is nothing but silence.", "silent")
    return embedding.vectors[heard]
