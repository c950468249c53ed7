"""Frozen dataclasses from TOML, dictionaries and `key=value` overrides, with every problem in one error."""

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
SHOWN = 12  # problems that an error lists
LONGEST = 1000  # characters of one that a configuration's own check tells


def failed(checks: Iterable[tuple[bool, str]]) -> list[str]:
    """What is said of the checks that failed, each a pair of whether all is well and what to say if not."""
    return [text for fine, text in checks if not fine]


def refuse(checks: Iterable[tuple[bool, str]], where: str = "") -> None:
    """Raises one error that names every failed check, where there are any.

    Raises:
        ConfigError: a check failed; the sentence begins with `where`.
    """
    if problems := failed(checks):
        raise ConfigError(where + "; ".join(problems) + ".")


def load(cls: type[_C], values: Mapping[str, Any], where: str) -> _C:
    """A `cls` from nested `values`; fields left out keep their defaults.

    Raises:
        ConfigError: unknown keys, wrong types or refused values, all named, with `where` they came from.
    """
    pydantic = require("pydantic", extra="train")
    try:
        return pydantic.TypeAdapter(cls).validate_python(dict(values))
    except pydantic.ValidationError as error:
        raise ConfigError(f"{where}: {'; '.join(_problems(error.errors()))}") from None


def from_plain(cls: type[_C], values: Mapping[str, Any]) -> _C:
    """A `cls` from a mapping in a model's file: unknown keys are left out, since another version may have written them.

    Raises:
        ConfigError: a value of another type, or a refused one.
    """
    known = getattr(cls, "__dataclass_fields__", {})
    return load(cls, {key: value for key, value in values.items() if key in known}, "the model's file")


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        ConfigError: it is missing or not TOML.
    """
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}.") from None


def override(values: Mapping[str, Any], settings: Iterable[str]) -> dict[str, Any]:
    """`values` with each `section.key=value` put in; values are TOML, and text needs no quotes.

    Raises:
        ConfigError: a setting without `=`, or a path through something that is not a section.
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
        table[key] = _value(text.strip())
    return result


def merged(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """The values of both; of those in both, tables are merged and of others the second's hold."""
    result = _copy(first)
    for key, value in second.items():
        below = result.get(key)
        both = isinstance(below, Mapping) and isinstance(value, Mapping)
        result[key] = merged(below, value) if both else value  # type: ignore[arg-type]
    return result


def _copy(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _copy(value) if isinstance(value, Mapping) else value for key, value in values.items()}


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _problems(errors: Iterable[Mapping[str, Any]]) -> list[str]:
    texts = []
    for error in errors:
        key = ".".join(visible(str(part)[:80]) for part in error["loc"])
        if error["type"] == "unexpected_keyword_argument":
            texts.append(f"{key} is not a setting")
        elif error["type"] == "value_error":
            text = str(error["ctx"]["error"]).rstrip(".")
            texts.append(text if len(text) <= LONGEST else f"{text[:LONGEST]} …")
        else:
            texts.append(f"{key} is {brief(error['input'])}: {error['msg'][0].lower()}{error['msg'][1:]}")
    return [*texts[:SHOWN], *([f"and {len(texts) - SHOWN} more like these"] if len(texts) > SHOWN else [])]
