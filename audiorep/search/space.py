"""Which settings of a `TrainConfig` vary in a search, and among what."""

from __future__ import annotations

import dataclasses
import json
import math
import random
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from audiorep import models
from audiorep.config import refuse
from audiorep.errors import ConfigError, require
from audiorep.models.front_end import FRONT_ENDS
from audiorep.training.recipe import TrainConfig, configure

RANGE_KEYS = {"low", "high", "log", "step"}
FIXED = {
    "splits": "trials would be judged on different clips",
    "multi_label": "trials would be judged by different metrics",
    "network.heads": "they follow from the labels",
}
"""What no search may vary, and why."""
DRAWS = 200  # settings that are tried for one that is possible


@dataclass(frozen=True)
class Choice:
    """One of several values, of any kind."""

    field: str
    """Dotted, as `--set` takes it."""
    values: tuple[Any, ...]

    def distribution(self) -> Any:
        """For Optuna, whose choices are plain: each value as JSON."""
        return require("optuna", extra="search").distributions.CategoricalDistribution([_text(value) for value in self.values])

    def value(self, parameter: Any) -> Any:
        """The setting that Optuna's `parameter` stands for."""
        return json.loads(parameter)

    def parameter(self, value: Any) -> Any:
        """The other way around; None where `value` is none of them."""
        text = _text(value)
        return text if text in [_text(known) for known in self.values] else None

    def draw(self, generator: random.Random) -> Any:
        """Any of them."""
        return generator.choice(self.values)


@dataclass(frozen=True)
class Range:
    """A number from `low` to `high`, both included."""

    field: str
    """Dotted, as `--set` takes it."""
    low: float
    high: float
    log: bool = False
    """As likely in each decade."""
    step: float | None = None
    whole: bool = False

    def distribution(self) -> Any:
        """For Optuna."""
        kinds = require("optuna", extra="search").distributions
        if self.whole:
            return kinds.IntDistribution(int(self.low), int(self.high), log=self.log, step=int(self.step or 1))
        return kinds.FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def value(self, parameter: Any) -> Any:
        """The setting that Optuna's `parameter` stands for."""
        return parameter

    def parameter(self, value: Any) -> Any:
        """The other way around; None where `value` lies outside, or beside the steps."""
        inside = isinstance(value, int | float) and self.low <= value <= self.high
        return value if inside and (self.step is None or _divides(self.step, value - self.low)) else None

    def draw(self, generator: random.Random) -> Any:
        """Any of them; only roughly as likely as Optuna draws it."""
        if self.step is not None or self.whole:
            step = self.step or 1
            return self.low + step * generator.randint(0, round((self.high - self.low) / step))
        return generator.uniform(self.low, self.high)


@dataclass(frozen=True)
class Space:
    """What varies around a recipe."""

    recipe: dict[str, Any]
    """The settings of the recipe, as its TOML has them."""
    entries: tuple[Choice | Range, ...]

    def distributions(self) -> dict[str, Any]:
        """Optuna's, by field."""
        return {entry.field: entry.distribution() for entry in self.entries}

    def chosen(self, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """The value of each field that Optuna's parameters stand for."""
        return {entry.field: entry.value(parameters[entry.field]) for entry in self.entries}

    def settings(self, chosen: Mapping[str, Any]) -> dict[str, Any]:
        """The recipe with the values of the fields put in, as TOML would have it.

        A preset front end is spelled out where single fields of it vary.
        """
        result = json.loads(json.dumps(self.recipe))
        for field in sorted(chosen, key=lambda field: field.count(".")):  # a whole front end before one of its fields
            *tables, key = field.split(".")
            table = result
            for name in tables:
                if name == "front_end":
                    table[name] = self._front_end(table)
                table = table.setdefault(name, {})
            table[key] = chosen[field]
        return result

    def config(self, chosen: Mapping[str, Any]) -> TrainConfig:
        """The same, ready to train.

        Raises:
            ConfigError: these values do not go together.
        """
        return configure(self.settings(chosen), "these settings")

    def recipe_parameters(self) -> dict[str, Any] | None:
        """Optuna's parameters of the recipe as it is, or None where it lies outside the space."""
        config = configure(self.recipe, "the recipe")
        found = {entry.field: entry.parameter(_plain(_look_up(config, entry.field))) for entry in self.entries}
        return None if None in found.values() else found

    def _front_end(self, table: Mapping[str, Any]) -> dict[str, Any]:
        given = table.get("front_end")
        if given is None:  # a protocol's, or the default
            given = configure(self.recipe, "the recipe").front_end
        if isinstance(given, str) and given in FRONT_ENDS:
            given = FRONT_ENDS[given]
        return dict(given) if isinstance(given, Mapping) else _plain(given)


def read(values: Mapping[str, Any], recipe: Mapping[str, Any], where: str) -> Space:
    """The space around `recipe` that the table `[space]` of a TOML file describes: a list is a choice, a table a range.

    Raises:
        ConfigError: anything wrong with an entry, all named, or with the recipe; or no settings of the space go together.
    """
    base = configure(recipe, "the recipe")
    table = values.get("space")
    if set(values) != {"space"} or not isinstance(table, Mapping) or not table:
        raise ConfigError(f'{where} needs one table [space] with lines such as "network.width" = [8, 16].')
    problems: list[str] = []
    entries: list[Choice | Range] = []
    flat = _flat(table)
    for field, given in flat.items():
        try:
            entries.append(_entry(field, given, _kinds(field, base, flat)))
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError(f"{where}: {'; '.join(problems)}.")
    space = Space(json.loads(json.dumps(recipe)), tuple(entries))
    _refuse_impossible(space, where)
    return space


def _refuse_impossible(space: Space, where: str) -> None:
    generator, problem = random.Random(0), ""
    for _ in range(DRAWS):
        try:
            space.config({entry.field: entry.draw(generator) for entry in space.entries})
        except ConfigError as error:
            problem = problem or str(error)
        else:
            return
    raise ConfigError(f"{where}: none of {DRAWS} drawn settings is possible; the first: {problem}")


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Entries by dotted field, whether or not their names were quoted."""
    found: dict[str, Any] = {}
    for name, value in table.items():
        nested = isinstance(value, Mapping) and value and not RANGE_KEYS & value.keys()
        found.update(_flat(value, f"{prefix}{name}.") if nested else {prefix + name: value})
    return found


def _kinds(field: str, base: TrainConfig, flat: Mapping[str, Any]) -> list[Any]:
    """The types that a field may have: one, or one for each architecture that has it.

    Raises:
        ConfigError: it is none, or must not vary.
    """
    for name, reason in FIXED.items():
        if field == name or field.startswith(f"{name}."):
            raise ConfigError(f"{field} must not vary: {reason}")
    first, _, rest = field.partition(".")
    if first == "network" and rest:
        names = flat.get("architecture", [base.architecture])
        known = [name for name in names if name in models.ARCHITECTURES] if isinstance(names, list) else []
        found = [kind for name in known if (kind := _kind(models.ARCHITECTURES[name].config, rest)) is not None]
        owner = f" of {', '.join(map(str, known))}"
    else:
        kind = _kind(TrainConfig, field)
        found, owner = ([] if kind is None else [kind]), ""
    if not found:
        raise ConfigError(f"{field} is not a setting{owner}")
    return found


def _kind(cls: type, path: str) -> Any:
    """The type of a field, looked for through nested configurations; None where there is none."""
    name, _, rest = path.partition(".")
    kind = typing.get_type_hints(cls).get(name) if name in cls.__dataclass_fields__ else None  # type: ignore[attr-defined]
    if not rest or kind is None:
        return kind
    below = [part for part in (kind, *typing.get_args(kind)) if dataclasses.is_dataclass(part)]
    return _kind(below[0], rest) if below and isinstance(below[0], type) else None


def _entry(field: str, given: Any, kinds: Sequence[Any]) -> Choice | Range:
    if isinstance(given, list):
        return _choice(field, given, kinds)
    if isinstance(given, Mapping):
        return _range(field, given, kinds)
    raise ConfigError(f"{field} is {given!r}; a list of choices or {{ low = …, high = … }} is needed")


def _choice(field: str, values: list[Any], kinds: Sequence[Any]) -> Choice:
    if not values:
        raise ConfigError(f"{field} has no choices")
    said = {_text(value): [_refusal(kind, value) for kind in kinds] for value in values}
    problems = [f"{field} has the choice {text}: {found[0]}" for text, found in said.items() if all(found)]
    names = {"front_end": list(FRONT_ENDS), "architecture": list(models.ARCHITECTURES)}.get(field, [])
    problems += [
        f"{field} has the choice {value!r}; there are {', '.join(names)}"
        for value in values
        if names and isinstance(value, str) and value not in names
    ]
    texts = [_text(value) for value in values]
    problems += [f"{field} names {text} twice" for text in sorted(set(texts)) if texts.count(text) > 1]
    if problems:
        raise ConfigError("; ".join(problems))
    return Choice(field, tuple(values))


def _refusal(kind: Any, value: Any) -> str:
    """Why `value` is not of a field's type; empty where it is."""
    pydantic = require("pydantic", extra="train")
    try:
        pydantic.TypeAdapter(kind).validate_python(value)
    except pydantic.ValidationError as error:
        text = str(error.errors()[0]["msg"])
        return text[0].lower() + text[1:]
    return ""


def _range(field: str, given: Mapping[str, Any], kinds: Sequence[Any]) -> Range:
    if unknown := sorted(given.keys() - RANGE_KEYS):
        raise ConfigError(f"{field} has the unknown key {', '.join(unknown)}; a range has low, high, log and step")
    low, high, step = given.get("low"), given.get("high"), given.get("step")
    whole = all(kind is int for kind in kinds)
    log = given.get("log", False)
    kind = int if whole else int | float
    numbers = [value for value in (low, high, step) if value is not None]
    problems = [
        (whole or all(kind in (int, float) for kind in kinds), "is no number, so it takes choices, not a range"),
        (low is not None and high is not None, "needs low and high"),
        (
            all(isinstance(v, kind) and not isinstance(v, bool) and math.isfinite(v) for v in numbers),
            f"has {given}; {'whole numbers are' if whole else 'numbers are'} needed",
        ),
        (isinstance(log, bool), f"has log = {log!r}; true or false is needed"),
    ]
    refuse(problems, f"{field} ")
    assert low is not None
    assert high is not None
    checks = [
        (low < high, f"low {low} must be below high {high}"),
        (not log or low > 0, f"low is {low}; a logarithmic range starts above 0"),
        (not (log and step is not None), "log and step exclude each other"),
        (step is None or (step > 0 and _divides(step, high - low)), f"step {step} must divide the range {low} to {high}"),
    ]
    refuse(checks, f"{field}: ")
    return Range(field, low, high, log, step, whole)


def _divides(step: float, length: float) -> bool:
    """Whether `length` is a whole number of steps, but for rounding."""
    return abs(length / step - round(length / step)) < 1e-6


def _look_up(config: TrainConfig, field: str) -> Any:
    """The value of a dotted field, defaults among them; None where there is none."""
    first, _, rest = field.partition(".")
    if first == "network" and rest:
        made = models.configure(config.architecture, {"label": 2}, config.network_settings)
        return getattr(made, rest, None)
    value: Any = config.front_end_config if first == "front_end" and rest else getattr(config, first, None)
    for name in filter(None, rest.split(".")):
        value = getattr(value, name, None)
    return value


def _plain(value: Any) -> Any:
    """As JSON has it."""
    plain = dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else value
    return json.loads(json.dumps(plain))


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
