"""Prints the packages that audiorep needs with some of its extras: `python .ci/requirements.py train qat`."""

import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

PROJECT = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]


def needed(extra: str) -> Iterator[str]:
    """The packages of an extra, and of those that it includes."""
    for package in PROJECT["optional-dependencies"][extra]:
        if package.startswith("audiorep["):
            for other in package.removeprefix("audiorep[").removesuffix("]").split(","):
                yield from needed(other)
        else:
            yield package


print("\n".join([*PROJECT["dependencies"], *(package for extra in sys.argv[1:] for package in needed(extra))]))
