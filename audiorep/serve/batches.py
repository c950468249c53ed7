"""Windows of many requests heard together, by threads that never wait for a request while they could serve another."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from audiorep.errors import AudiorepError, BundleError, first_line
from audiorep.runtimes import SAMPLES_AT_ONCE, Checked

FEWEST_WINDOWS = 4  # of a part of a request that finds several threads without work
GPU_WINDOWS = 64
GPU_WAIT_SECONDS = 0.005


@dataclass(frozen=True, eq=False)
class _Piece:
    """Some windows of one request."""

    windows: np.ndarray
    """(n, N)."""
    outputs: tuple[str, ...]
    answer: asyncio.Future[dict[str, np.ndarray]]
    loop: asyncio.AbstractEventLoop

    def settle(self, found: dict[str, np.ndarray] | AudiorepError) -> None:
        """Gives the answer, in its own loop; one that nobody waits for any more is dropped."""
        try:
            self.loop.call_soon_threadsafe(self._settle, found)
        except RuntimeError:  # the loop has ended
            return

    def _settle(self, found: dict[str, np.ndarray] | AudiorepError) -> None:
        if self.answer.done():
            return
        if isinstance(found, AudiorepError):
            self.answer.set_exception(found)
        else:
            self.answer.set_result(found)


class Batches:
    """A model that hears the windows of several requests at once.

    Threads take what waits, in the order in which it came, up to `most` windows of the same length. On a processor they do
    not wait for more: what comes while they work is the next batch. On a GPU they do, for `wait_seconds` after the first, and
    the number of windows is rounded up to a power of two, since each new number costs the device a preparation.

    Args:
        session: the model.
        threads: that call it at the same time, each with a batch of its own; more than one only where it allows that.
        most: windows in a batch, but for a single request with more; 0: what suits the device.
        wait_seconds: negative: what suits the device.
        told: called with the number of windows of each batch, in the model's thread.
    """

    def __init__(
        self,
        session: Checked,
        threads: int = 1,
        most: int = 0,
        wait_seconds: float = -1.0,
        told: Callable[[int], None] = lambda windows: None,
    ) -> None:
        self._session, self._told = session, told
        self._on_gpu = "CUDA" in session.device.upper()
        self._most = most or (GPU_WINDOWS if self._on_gpu else max(2, SAMPLES_AT_ONCE // session.info.window_samples))
        self._wait = (GPU_WAIT_SECONDS if self._on_gpu else 0.0) if wait_seconds < 0 else wait_seconds
        self._waiting: deque[_Piece] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._threads = [threading.Thread(target=self._work, name=f"model_{number}", daemon=True) for number in range(threads)]
        for thread in self._threads:
            thread.start()

    async def hear(self, windows: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """What the model gives for windows (n, N): {name: (n, size)} of `outputs`. Cancelled, it is not heard.

        Raises:
            BundleError: the model fails on these windows.
        """
        parts = min(len(self._threads), len(windows) // FEWEST_WINDOWS) if not self._waiting else 1
        if parts <= 1:
            return await self._put(windows, outputs)
        found = await asyncio.gather(*(self._put(part, outputs) for part in np.array_split(windows, parts)))
        return {name: np.concatenate([part[name] for part in found]) for name in outputs}

    def is_filled_by(self, windows: int) -> bool:
        """Whether so many windows gain nothing from those of other requests, and can be heard in the caller's thread."""
        return self._session.shares and 2 * windows >= self._most

    def hear_here(self, windows: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """What the model gives for windows (n, N), in the caller's thread (see `is_filled_by`)."""
        found = self._session.run(windows, outputs)
        self._told(len(windows))
        return found

    def _put(self, windows: np.ndarray, outputs: Sequence[str]) -> asyncio.Future[dict[str, np.ndarray]]:
        loop = asyncio.get_running_loop()
        piece = _Piece(windows, tuple(outputs), loop.create_future(), loop)
        with self._changed:
            self._waiting.append(piece)
            self._changed.notify()
        return piece.answer

    def close(self) -> None:
        """Ends the threads, after what waits has been heard."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        while batch := self._next():
            self._answer(batch)

    def _next(self) -> list[_Piece]:
        """The next batch; an empty one when there are no more."""
        with self._changed:
            while not (batch := self._fitting([])) and not self._ended:
                self._changed.wait()
            until = time.monotonic() + self._wait
            while batch and not self._ended and _count(batch) < self._most and (left := until - time.monotonic()) > 0:
                self._changed.wait(left)
                batch = self._fitting(batch)
            return batch

    def _fitting(self, batch: list[_Piece]) -> list[_Piece]:
        """A batch with those that wait, as far as they fit, in their order."""
        while self._waiting and (self._waiting[0].answer.cancelled() or self._fits(self._waiting[0], batch)):
            piece = self._waiting.popleft()
            if not piece.answer.cancelled():
                batch.append(piece)
        return batch

    def _fits(self, piece: _Piece, batch: list[_Piece]) -> bool:
        if not batch:
            return True
        return _count(batch) + len(piece.windows) <= self._most and piece.windows.shape[1] == batch[0].windows.shape[1]

    def _answer(self, batch: list[_Piece]) -> None:
        """Hears a batch; where that fails, each request's windows alone, so that only the guilty one fails."""
        try:
            for piece, found in zip(batch, self._heard(batch), strict=True):
                piece.settle(found)
        except Exception as error:
            if len(batch) == 1:
                failed = error if isinstance(error, AudiorepError) else BundleError(f"The model fails ({first_line(error)}).")
                batch[0].settle(failed)
                return
            for piece in batch:
                self._answer([piece])

    def _heard(self, batch: list[_Piece]) -> list[dict[str, np.ndarray]]:
        windows = batch[0].windows if len(batch) == 1 else np.concatenate([piece.windows for piece in batch])
        outputs = list(dict.fromkeys(output for piece in batch for output in piece.outputs))
        count = len(windows)
        if self._on_gpu:
            windows = np.pad(windows, ((0, (1 << (count - 1).bit_length()) - count), (0, 0)))
        found = self._session.run(windows, outputs)
        self._told(count)
        ends = np.cumsum([len(piece.windows) for piece in batch])
        return [
            {name: found[name][end - len(piece.windows) : end] for name in piece.outputs}
            for piece, end in zip(batch, ends, strict=True)
        ]


def _count(batch: Sequence[_Piece]) -> int:
    """Windows in a batch."""
    return sum(len(piece.windows) for piece in batch)
