"""Exceptions whose text a user can act on, and the one door to optional packages."""

from __future__ import annotations

import importlib
import importlib.util
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


class BrokenPackageError(AudiorepError):
    """An optional package that is installed and cannot be imported."""


def first_line(error: BaseException) -> str:
    """What an exception of another package says, in a line that fits a sentence."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200].rstrip(".")


def require(package: str, extra: str) -> ModuleType:
    """The imported optional `package`.

    Raises:
        BrokenPackageError: it is installed and cannot be imported; the text says why.
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
    except Exception as error:  # what a package made for another version of torch raises is of nearly every kind
        raise BrokenPackageError(f"{package} cannot be imported: {misfit() or first_line(error)}.") from error


def misfit() -> str:
    """Why an installed torchvision does not fit the installed torch; empty where it does, or where there is none.

    torchmetrics, and with it Lightning, imports torchvision wherever it is installed.
    """
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("torchvision") is None:
        return ""
    try:
        importlib.import_module("torchvision")
    except Exception as error:  # as above
        from importlib.metadata import version  # costs a start nothing here

        versions = [f"{name} {version(name)}" for name in ("torchvision", "torch")]
        return (
            f"{versions[0]} does not fit {versions[1]} ({first_line(error)}); nothing here needs it: pip uninstall torchvision"
        )
    return ""
