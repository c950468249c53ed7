"""Configuration dataclasses from TOML, dictionaries and `key=value` settings; one error names every problem."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from audiorep.errors import ConfigError, require
from audiorep.escape import visible
from audiorep.untrusted import brief


class Config:
    """Base of configuration dataclasses: an unknown key is an error."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}


_C = TypeVar("_C")
MAX_PROBLEMS = 12  # that one error lists
MAX_PROBLEM_CHARACTERS = 1000  # a longer text is cut


def failed(checks: Iterable[tuple[bool, str]]) -> list[str]:
    """The messages of the checks that failed; a check is a pair (whether it holds, message if it does not)."""
    return [message for holds, message in checks if not holds]


def refuse(checks: Iterable[tuple[bool, str]], where: str = "") -> None:
    """Raises one error with the messages of all checks that failed (see `failed`).

    Raises:
        ConfigError: a check failed; the text begins with `where`.
    """
    if problems := failed(checks):
        raise ConfigError(where + "; ".join(problems) + ".")


def load(cls: type[_C], values: Mapping[str, Any], where: str) -> _C:
    """A `cls` from nested `values`; missing fields have their defaults.

    Raises:
        ConfigError: unknown keys, wrong types or refused values; the text begins with `where` and names all of them.
    """
    pydantic = require("pydantic", extra="train")
    try:
        return pydantic.TypeAdapter(cls).validate_python(dict(values))
    except pydantic.ValidationError as error:
        raise ConfigError(f"{where}: {'; '.join(_messages(error.errors()))}") from None


def from_plain(cls: type[_C], values: Mapping[str, Any]) -> _C:
    """A `cls` from a mapping in a model's file; unknown keys are ignored, because another version may have written them.

    Raises:
        ConfigError: values of the wrong type, or refused values.
    """
    known = getattr(cls, "__dataclass_fields__", {})
    return load(cls, {key: value for key, value in values.items() if key in known}, "the model's file")


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        ConfigError: the file cannot be read or is not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}.") from None


def read_recipes(paths: Iterable[str | os.PathLike[str]], values: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """`values` with the tables of TOML files merged into them; where several set the same, the last file wins.

    Raises:
        ConfigError: a file cannot be read or is not TOML.
    """
    result = dict(values or {})
    for path in paths:
        result = merged(result, read_toml(path))
    return result


def override(values: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """A copy of `values` with each of `settings`, written `section.key=value`; a value is TOML, or text without quotes.

    Raises:
        ConfigError: a setting has no `=`, or a part of its path is a value and not a section.
    """
    result = _copy(values)
    for setting in settings:
        path, equals, text = setting.partition("=")
        *sections, key = path.strip().split(".")
        if not equals or not all([*sections, key]):
            raise ConfigError(f"{setting!r} is not a setting; write section.key=value, for example optimizer.lr=0.001.")
        table = result
        for section in sections:
            table = table.setdefault(section, {})
            if not isinstance(table, dict):
                raise ConfigError(f"{setting!r}: {section} is a value, not a section.")
        table[key] = _parsed(text.strip())
    return result


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """The values of both mappings; for a key in both, tables are merged, and any other value is the one of `second`."""
    result = _copy(first)
    for key, value in second.items():
        old = result.get(key)
        both_tables = isinstance(old, Mapping) and isinstance(value, Mapping)
        result[key] = merged(old, value) if both_tables else value  # type: ignore[arg-type]
    return result


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in values.items()}


def _parsed(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _messages(errors: Iterable[Mapping[str, Any]]) -> list[str]:
    messages = []
    for error in errors:
        key = ".".join(visible(str(part)[:80]) for part in error["loc"])
        if error["type"] == "unexpected_keyword_argument":
            messages.append(f"{key} is not a setting")
        elif error["type"] == "value_error":
            text = str(error["ctx"]["error"]).rstrip(".")
            messages.append(text if len(text) <= MAX_PROBLEM_CHARACTERS else f"{text[:MAX_PROBLEM_CHARACTERS]} …")
        else:
            messages.append(f"{key} is {brief(error['input'])}: {error['msg'][0].lower()}{error['msg'][1:]}")
    return [
        *messages[:MAX_PROBLEMS],
        *([f"and {len(messages) - MAX_PROBLEMS} more like these"] if len(messages) > MAX_PROBLEMS else []),
    ]
