"""Commands run in this process: for tests of signals, streams and start-up there is `processes`."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from dataclasses import dataclass
from unittest import mock

from audiorep.cli import main


@dataclass(frozen=True)
class Done:
    """The end of a command, with the fields of `subprocess.CompletedProcess`."""

    returncode: int
    stdout: str
    stderr: str


def audiorep(*words: object, cwd: str | os.PathLike[str] = ".") -> Done:
    """Runs `audiorep` with these words."""
    out, errors = io.StringIO(), io.StringIO()
    with (
        contextlib.chdir(cwd),
        mock.patch.object(sys, "argv", ["audiorep", *map(str, words)]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(errors),
    ):
        try:
            main.main()
            status = 0
        except SystemExit as end:
            status = int(end.code or 0)
    return Done(status, out.getvalue(), errors.getvalue())
