"""Windows of many requests heard together: one thread for the model, which never waits for a request it could serve."""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from audiorep.errors import AudiorepError, BundleError, first_line
from audiorep.runtimes import SAMPLES_AT_ONCE, Session

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

    A thread takes what waits, in the order in which it came, up to `most` windows of the same length. On a processor it does
    not wait for more: what comes while it works is the next batch. On a GPU it does, for `wait_seconds` after the first, and
    the number of windows is rounded up to a power of two, since each new number costs the device a preparation.

    Args:
        session: the model.
        most: windows in a batch, but for a single request with more; 0: what suits the device.
        wait_seconds: negative: what suits the device.
        told: called with the number of windows of each batch, in the model's thread.
    """

    def __init__(
        self,
        session: Session,
        most: int = 0,
        wait_seconds: float = -1.0,
        told: Callable[[int], None] = lambda windows: None,
    ) -> None:
        self._session, self._told = session, told
        self._on_gpu = "CPU" not in session.device and "CUDA" in session.device.upper()
        self._most = most or (GPU_WINDOWS if self._on_gpu else max(2, SAMPLES_AT_ONCE // session.info.window_samples))
        self._wait = (GPU_WAIT_SECONDS if self._on_gpu else 0.0) if wait_seconds < 0 else wait_seconds
        self._waiting: queue.SimpleQueue[_Piece | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="model", daemon=True)
        self._thread.start()

    async def hear(self, windows: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        """What the model gives for windows (n, N): {name: (n, size)} of `outputs`. Cancelled, it is not heard.

        Raises:
            BundleError: the model fails on these windows.
        """
        loop = asyncio.get_running_loop()
        piece = _Piece(windows, tuple(outputs), loop.create_future(), loop)
        self._waiting.put(piece)
        return await piece.answer

    def close(self) -> None:
        """Ends the thread, after what waits has been heard."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        held: _Piece | None = None
        while (first := held or self._waiting.get()) is not None:
            batch, held, ended = self._gathered(first)
            if batch:
                self._answer(batch)
            if ended:
                if held is not None:
                    self._answer([held])
                return

    def _gathered(self, first: _Piece) -> tuple[list[_Piece], _Piece | None, bool]:
        """The next batch, a piece that does not fit into it, and whether no more will come."""
        batch: list[_Piece] = []
        count = 0
        until = time.monotonic() + self._wait
        piece: _Piece | None = first
        while piece is not None:
            if not piece.answer.cancelled():
                if batch and not self._fits(piece, batch[0], count):
                    return batch, piece, False
                batch.append(piece)
                count += len(piece.windows)
            try:
                wait = until - time.monotonic() if batch and count < self._most else 0
                piece = self._waiting.get(timeout=wait) if wait > 0 else self._waiting.get_nowait()
            except queue.Empty:
                return batch, None, False
        return batch, None, True

    def _fits(self, piece: _Piece, first: _Piece, count: int) -> bool:
        return count + len(piece.windows) <= self._most and piece.windows.shape[1] == first.windows.shape[1]

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
