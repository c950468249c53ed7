"""Exceptions whose text a user can act on, and `require`, which imports every optional package."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType


class AudiorepError(Exception):
    """Base of every error that the user's input causes; its text is a sentence for the user."""


class AudioError(AudiorepError):
    """A sound file that cannot be used; `kind` says why in one word, for example `missing`, `empty` or `truncated`."""

    def __init__(self, text: str, kind: str = "unreadable") -> None:
        super().__init__(text)
        self.kind = kind


class BundleError(AudiorepError):
    """A deployed model file that cannot be used."""


class CheckpointError(AudiorepError):
    """A checkpoint folder that cannot be used."""


class ConfigError(AudiorepError, ValueError):
    """A setting that is not allowed."""


class DataError(AudiorepError):
    """A data set that is not laid out as documented."""


class FuseError(AudiorepError):
    """A merge that would not be exact."""


class MissingExtraError(AudiorepError):
    """A feature whose optional packages are not installed."""


class BrokenPackageError(AudiorepError):
    """An optional package that is installed but cannot be imported."""


def first_line(error: BaseException) -> str:
    """The first line of an exception's text, at most 200 characters, without a full stop; its type where it has no text."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200].rstrip(".")


def require(package: str, extra: str) -> ModuleType:
    """The imported optional `package`.

    Raises:
        BrokenPackageError: it is installed but cannot be imported; the text says why.
        MissingExtraError: it is not installed; the text names the pip command.
    """
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == package.partition(".")[0]:
            raise MissingExtraError(
                f"This needs the package {package}. Install it with: pip install 'audiorep[{extra}]'"
            ) from None
        raise BrokenPackageError(f"{package} is installed and cannot be imported: {first_line(error)}.") from error
    except Exception as error:  # a package built for another version of torch can raise nearly any exception
        raise BrokenPackageError(f"{package} cannot be imported: {torchvision_problem() or first_line(error)}.") from error


def torchvision_problem() -> str:
    """Why the installed torchvision does not work with the installed torch; empty if it works, or if one of them is missing.

    torchmetrics, and so Lightning, imports torchvision if it is installed.
    """
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("torchvision") is None:
        return ""
    try:
        importlib.import_module("torchvision")
    except Exception as error:  # nearly any exception, as in `require`
        from importlib.metadata import version  # imported here, so that a normal start does not pay for it

        versions = [f"{name} {version(name)}" for name in ("torchvision", "torch")]
        return (
            f"{versions[0]} does not fit {versions[1]} ({first_line(error)}); nothing here needs it: pip uninstall torchvision"
        )
    return ""
