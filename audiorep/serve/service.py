"""One model behind a server: sounds decoded in a bounded pool, windows heard in batches, as `predict` would hear them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from audiorep import shipped
from audiorep.audio.decode import BATCH_WINDOWS, Chunk, Sound, chunks_of
from audiorep.errors import BundleError, ConfigError
from audiorep.escape import visible
from audiorep.info import EMBEDDING
from audiorep.info.model_info import ModelInfo
from audiorep.predict.classifier import Classifier, HeardChunk, windowing
from audiorep.predict.results import Embedding, Recording
from audiorep.predict.stream import CutWindow, StreamWindow
from audiorep.serve.batches import Batches

_Result = TypeVar("_Result")

MODELS = ("nano", "esc50")
"""What is served where no model is named."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")


class Service:
    """A model with the name under which clients ask it.

    Args:
        name: of the model.
        classifier: the model.
        batches: the same, for windows of several requests.
        pool: threads that decode.
    """

    def __init__(self, name: str, classifier: Classifier, batches: Batches, pool: ThreadPoolExecutor) -> None:
        self.name, self.classifier = name, classifier
        self._batches, self._pool = batches, pool

    def with_windows(self, window: float | None, hop: float | None) -> Service:
        """The same model with another window or hop.

        Raises:
            ConfigError: they are not allowed.
        """
        if window is None and hop is None:
            return self
        try:
            return Service(self.name, self.classifier.with_windows(window, hop), self._batches, self._pool)
        except BundleError as error:
            raise ConfigError(str(error)) from None

    async def recording(self, sound: Sound, render: Callable[[Recording], _Result]) -> _Result:
        """What `render` makes, in a thread, of the scores of a sound, which are those of `Classifier.file`.

        Raises:
            AudioError: the sound cannot be used.
            BundleError: the model fails.
        """
        classifier = self.classifier
        return await self._heard(sound, list(classifier.info.labels), lambda chunks: render(classifier.recording(chunks)))

    async def embedding(self, sound: Sound, render: Callable[[Embedding], _Result]) -> _Result:
        """What `render` makes, in a thread, of the embedding of a sound, which is that of `Classifier.embed`.

        Raises:
            AudioError: the sound cannot be used.
            BundleError: the model gives no embedding, or fails.
        """
        classifier = self.classifier
        classifier.session.refuse_missing([EMBEDDING])
        return await self._heard(sound, [EMBEDDING], lambda chunks: render(classifier.embedding(chunks)))

    async def hear_windows(self, cut: Sequence[CutWindow]) -> list[StreamWindow]:
        """What is heard in windows of a stream."""
        classifier = self.classifier
        found: list[StreamWindow] = []
        for first in range(0, len(cut), BATCH_WINDOWS):
            some = cut[first : first + BATCH_WINDOWS]
            alike = len({len(each.samples) for each in some}) == 1
            for group in [some] if alike else [[each] for each in some]:
                windows = np.stack([each.samples for each in group])
                given = await self._batches.hear(windows, list(classifier.info.labels))
                found += classifier.stream_windows(group, windows, given)
        return found

    async def _heard(self, sound: Sound, outputs: Sequence[str], make: Callable[[Sequence[HeardChunk]], _Result]) -> _Result:
        """What `make` makes of all chunks of a sound; while one is heard, the next is decoded.

        A short sound whose windows fill a batch is decoded, heard and made in one thread, since every hand-over takes time.
        """
        chunks = chunks_of(sound, replace(windowing(self.classifier.info), views=0))
        ahead: Future[Any] = self._pool.submit(self._begun, chunks, outputs, make)
        found: list[HeardChunk] = []
        try:
            while isinstance(chunk := await asyncio.wrap_future(ahead), Chunk):
                if not chunk.is_last:
                    ahead = self._pool.submit(next, chunks)
                found.append(HeardChunk.of(chunk, await self._batches.hear(chunk.windows, outputs)))
                if chunk.is_last:
                    return await asyncio.wrap_future(self._pool.submit(make, found))
            made: _Result = chunk
            return made
        finally:  # a thread that still decodes closes the file when it has done
            ahead.add_done_callback(lambda _: chunks.close())

    def _begun(
        self, chunks: Iterator[Chunk], outputs: Sequence[str], make: Callable[[Sequence[HeardChunk]], _Result]
    ) -> Chunk | _Result:
        """The first chunk of a sound; or if that is all, and worth a batch of its own, what is made of it."""
        chunk = next(chunks)
        if not chunk.is_last or not self._batches.is_filled_by(len(chunk.windows)):
            return chunk
        return make([HeardChunk.of(chunk, self._batches.hear_here(chunk.windows, outputs))])


def describe(name: str, info: ModelInfo) -> dict[str, Any]:
    """A model as clients see it."""
    return {
        "name": name,
        "labels": info.labels,
        "sample_rate": info.sample_rate,
        "window_seconds": info.window_seconds,
        "hop_seconds": info.hop_seconds,
        "task": info.task,
        "activation": info.activation,
        "thresholds": {head: list(info.threshold(head)) for head in info.labels},
        "unknown": info.unknown,
        "silence": info.silence,
        "embedding_size": info.embedding_size,
        "license": info.license,
    }


def named(models: Sequence[str]) -> dict[str, str]:
    """{name: model} of what a user names: `NAME=FILE`, a model of the package, or a file, whose name without suffix it gets.

    Raises:
        ConfigError: two have the same name, or a name that cannot be part of an address.
    """
    found: dict[str, str] = {}
    for model in models or MODELS:
        name, equals, place = model.partition("=")
        if not equals or Path(model).exists():
            name, place = Path(model).stem if shipped.named(model) is None else model, model
        if _NAME.fullmatch(name) is None:
            raise ConfigError(f"{visible(name)!r} cannot be a model's name in an address; give it one: name={visible(place)}")
        if name in found:
            raise ConfigError(f"Two models are named {name}. Give one another name: second={visible(place)}")
        found[name] = place
    return found
