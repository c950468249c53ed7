"""Exceptions whose text a user can act on, and the one door to optional packages."""

from __future__ import annotations

import importlib
from types import ModuleType


class AudiorepError(Exception):
    """Base of every error that is the input's fault; its text is a sentence for the user."""


class AudioError(AudiorepError):
    """A sound file that cannot be used, and in one word why."""

    def __init__(self, text: str, kind: str = "unreadable") -> None:
        super().__init__(text)
        self.kind = kind


class BundleError(AudiorepError):
    """A deployed model file that cannot be used."""


class CheckpointError(AudiorepError):
    """A checkpoint folder that cannot be used."""


class ConfigError(AudiorepError, ValueError):
    """A setting outside what is allowed."""


class DataError(AudiorepError):
    """A data set that is not laid out as documented."""


class FuseError(AudiorepError):
    """A merge that would not be exact."""


class MissingExtraError(AudiorepError):
    """A feature whose optional packages are not installed."""


def first_line(error: BaseException) -> str:
    """What an exception of another package says, in a line that fits a sentence."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200].rstrip(".")


def require(package: str, extra: str) -> ModuleType:
    """The imported optional `package`, or a `MissingExtraError` that names the pip command."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package.partition(".")[0]:
            raise
        raise MissingExtraError(f"This needs the package {package}. Install it with: pip install 'audiorep[{extra}]'") from None
