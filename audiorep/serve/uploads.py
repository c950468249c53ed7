"""The sound in a request's body, received into a file of its own that no other request sees."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO

import numpy as np
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from audiorep import audio
from audiorep.errors import AudioError
from audiorep.escape import visible
from audiorep.serve.refusals import BAD_REQUEST, TOO_LARGE, ClientLeft, Refusal

MAX_NAME = 120  # characters of the name that a client gives its sound
FIELD = "file"
_COPY_BYTES = 1 << 18
IN_MEMORY_BYTES = 1 << 19  # of a body; a larger one is in a file from then on


class Body:
    """Bytes that arrive: in memory as long as they are few, then in a file.

    Args:
        place: where the file is, if there is one.
    """

    def __init__(self, place: Path) -> None:
        self._place, self.size = place, 0
        self._parts: list[bytes] = []
        self._file: IO[bytes] | None = None

    def add(self, part: bytes) -> None:
        """Adds bytes at the end."""
        self.size += len(part)
        if self._file is None and self.size <= IN_MEMORY_BYTES:
            self._parts.append(part)
            return
        if self._file is None:
            self._file = self._place.open("xb")
            self._file.writelines(self._parts)
            self._parts.clear()
        self._file.write(part)

    @contextmanager
    def as_file(self) -> Iterator[Path]:
        """All bytes in a file, which is there as long as the context, or else as long as the body."""
        if self._file is not None:
            self._file.flush()
            yield self._place
            return
        with self._place.open("xb") as file:
            file.writelines(self._parts)
        try:
            yield self._place
        finally:
            with suppress(OSError):
                self._place.unlink()

    def close(self) -> None:
        """Removes it."""
        if self._file is not None:
            self._file.close()
            with suppress(OSError):
                self._place.unlink()


@dataclass(frozen=True)
class Upload:
    """A sound that a client sent; `audio.decode.chunks_of` takes it like a file."""

    body: Body
    name: str
    """What the client calls it."""
    limits: audio.Limits
    number = None

    @property
    def path(self) -> Path:
        """Its name in results."""
        return Path(self.name)

    def blocks(self, sample_rate: int, notes: list[str]) -> Iterator[np.ndarray]:
        """Consecutive (n,) float32 blocks at `sample_rate` Hz (see `audio.blocks`), under the client's name in errors."""
        own: list[str] = []
        with self.body.as_file() as file:
            try:
                yield from audio.blocks(file, sample_rate, notes=own, limits=self.limits)
            except AudioError as error:
                raise AudioError(self._named(str(error), file), error.kind) from None
            notes.extend(self._named(note, file) for note in own)

    def seconds(self) -> float:
        """Length in seconds, by the headers."""
        with self.body.as_file() as file:
            return audio.probe(file, self.limits).seconds

    def _named(self, sentence: str, file: Path) -> str:
        return sentence.replace(str(file), self.name).replace(file.name, self.name)


class Inbox:
    """A private folder for sounds that are being heard; it goes with the server."""

    def __init__(self, body_bytes: int, limits: audio.Limits) -> None:
        self._body_bytes, self._limits = body_bytes, limits
        self._folder = tempfile.TemporaryDirectory(prefix="audiorep-serve-", ignore_cleanup_errors=True)
        self._numbers = count()

    def close(self) -> None:
        """Removes the folder."""
        self._folder.cleanup()

    @asynccontextmanager
    async def received(self, request: Request, name: str = "") -> AsyncIterator[Upload]:
        """The sound in a request: its body, or the field `file` of a form. It is removed when the context is left.

        Raises:
            ClientLeft: the client went away before it had sent everything.
            Refusal: the body is empty, too large, or no form of one file.
        """
        with closing(self._new()) as body:
            try:
                given = await self._receive(request, body)
            except ClientDisconnect:
                raise ClientLeft from None
            yield Upload(body, _cleaned(name or given), self._limits)

    @asynccontextmanager
    async def kept(self, request: Request, name: str, sound: bytes) -> AsyncIterator[Upload]:
        """A sound that was received in another way, as `received` gives it."""
        with closing(self._new()) as body:
            body.add(sound)
            yield Upload(body, _cleaned(name), self._limits)

    async def body(self, request: Request) -> bytes:
        """The whole body of a request.

        Raises:
            ClientLeft: the client went away before it had sent everything.
            Refusal: it is too large.
        """
        self._refuse_declared(request)
        try:
            return b"".join([part async for part in self._counted(request)])
        except ClientDisconnect:
            raise ClientLeft from None

    def _new(self) -> Body:
        return Body(Path(self._folder.name) / f"sound-{next(self._numbers)}")

    async def _receive(self, request: Request, body: Body) -> str:
        """Adds the sound to `body`, and gives its name where the client says one."""
        self._refuse_declared(request)
        if request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
            return await self._receive_form(request, body)
        async for part in self._counted(request):
            body.add(part)
        if not body.size:
            raise Refusal(BAD_REQUEST, "The request has no body. Send a sound file as the body, or as the form field `file`.")
        return ""

    async def _receive_form(self, request: Request, body: Body) -> str:
        parser = MultiPartParser(request.headers, self._counted(request), max_files=1, max_fields=8, max_part_size=1024)
        try:
            form = await parser.parse()
        except (MultiPartException, KeyError, ValueError, UnicodeDecodeError, AttributeError):
            raise Refusal(BAD_REQUEST, "The form cannot be read. Send one file in the field `file`.") from None
        try:
            sent = form.get(FIELD)
            if not isinstance(sent, UploadFile):
                raise Refusal(BAD_REQUEST, "The form has no file in its field `file`.")
            while part := sent.file.read(_COPY_BYTES):
                body.add(part)
            return sent.filename or ""
        finally:
            await form.close()

    async def _counted(self, request: Request) -> AsyncGenerator[bytes, None]:
        size = 0
        async for part in request.stream():
            if (size := size + len(part)) > self._body_bytes:
                raise self._too_large()
            yield part

    def _refuse_declared(self, request: Request) -> None:
        length = request.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._body_bytes:
            raise self._too_large()

    def _too_large(self) -> Refusal:
        limit = f"{self._body_bytes:,}".replace(",", " ")
        return Refusal(TOO_LARGE, f"The request has more than the {limit} bytes that are allowed.")


def _cleaned(name: str) -> str:
    """A client's name for its sound without folders, unprintable characters and excess length."""
    last = name.replace("\\", "/").rsplit("/", 1)[-1].strip()
    return visible(last[:MAX_NAME]) or "The sound"
