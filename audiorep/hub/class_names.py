"""Names of the classes of imported networks, whose files have none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from audiorep.datasets import table
from audiorep.errors import ConfigError
from audiorep.info.model_info import ModelInfo
from audiorep.models.tensors import some

NUMBERED = "that of the outputs, which are numbered"
"""Said of a network whose classes have no names."""
COLUMNS = (("id", "key"), ("index", "display_name"))
"""Number and name in tables of classes: EPIC-KITCHENS's and YAMNet's."""


def numbered(heads: Mapping[str, int]) -> dict[str, list[str]]:
    """Names for classes that have none: `label_0` and so on."""
    return {head: [f"{head}_{number}" for number in range(classes)] for head, classes in heads.items()}


def read(heads: Mapping[str, int], files: Sequence[Path]) -> dict[str, list[str]]:
    """The names in `files`, one a head: a name a line, or a table with columns of `COLUMNS`.

    Raises:
        ConfigError: there are more or fewer files than heads, or names than classes, or a name stands twice.
        DataError: a file cannot be read.
    """
    if len(files) != len(heads):
        raise ConfigError(
            f"--labels is given {len(files)} times; once for each of {', '.join(heads)} is needed, in this order."
        )
    found = {}
    for (head, classes), file in zip(heads.items(), files, strict=True):
        names = [text for _, text in table.lines(file)]
        header = {column.strip() for column in names[0].split(",")} if names else set()
        for identifier, name in COLUMNS:
            if {identifier, name} <= header:
                names = table.class_order([file], identifier, name)
        if len(names) != classes:
            raise ConfigError(f"{file} names {len(names)} classes; the output {head} has {classes}.")
        if twice := [name for name, count in Counter(names).items() if count > 1]:
            raise ConfigError(f"{file} names {some(twice)} twice; every class needs a name of its own.")
        found[head] = names
    return found


def order_of(files: Sequence[Path]) -> str:
    """Where the order of classes is from, for a model's provenance."""
    return f"that of {', '.join(file.name for file in files)}"


def naming(info: ModelInfo, files: Sequence[str] = ()) -> str | None:
    """How to name the classes of an imported model where they are only numbered, in a sentence.

    Args:
        info: the model.
        files: what the files that have the names are usually called.
    """
    if info.provenance["class_order"] != NUMBERED:
        return None
    numbers = " and ".join(f"{names[0]} to {names[-1]}" for names in info.labels.values())
    options = " ".join(f"--labels {file}" for file in files or [f"{head}_names.txt" for head in info.labels])
    columns = " or ".join(f"{identifier} and {name}" for identifier, name in COLUMNS)
    return (
        f"The classes are called {numbers}, since the file has no names. To name them, import again with {options}: a name a "
        f"line, or a table with the columns {columns}."
    )
