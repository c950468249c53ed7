"""One model behind a server: sounds decoded in a bounded pool, windows heard in batches, as `predict` would hear them."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import Any

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

    async def recording(self, sound: Sound) -> Recording:
        """The scores of a sound, as `Classifier.file` gives them.

        Raises:
            AudioError: the sound cannot be used.
            BundleError: the model fails.
        """
        classifier = self.classifier
        return classifier.recording(await self._heard(classifier, sound, list(classifier.info.labels)))

    async def embedding(self, sound: Sound) -> Embedding:
        """The embedding of a sound, as `Classifier.embed` gives it.

        Raises:
            AudioError: the sound cannot be used.
            BundleError: the model gives no embedding, or fails.
        """
        classifier = self.classifier
        classifier.session.refuse_missing([EMBEDDING])
        return classifier.embedding(await self._heard(classifier, sound, [EMBEDDING]))

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

    async def _heard(self, classifier: Classifier, sound: Sound, outputs: Sequence[str]) -> list[HeardChunk]:
        found, how = [], replace(windowing(classifier.info), views=0)
        async with aclosing(self._chunks(chunks_of(sound, how))) as chunks:
            async for chunk in chunks:
                given = await self._batches.hear(chunk.windows, outputs)
                found.append(HeardChunk.of(chunk, given))
        return found

    async def _chunks(self, chunks: Generator[Chunk, None, None]) -> AsyncGenerator[Chunk, None]:
        """The chunks of a sound; while one is heard, the next is decoded."""
        ahead: Future[Chunk | None] = self._pool.submit(next, chunks, None)
        try:
            while (chunk := await asyncio.wrap_future(ahead)) is not None:
                if chunk.is_last:
                    yield chunk
                    return
                ahead = self._pool.submit(next, chunks, None)
                yield chunk
        finally:  # a thread that still decodes closes the file when it has done
            ahead.add_done_callback(lambda _: chunks.close())


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
