"""Third-party packages are kept from printing what no user can act on."""

from __future__ import annotations

import io
import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

TORCH_LOGGERS = ("torchao", "torch.utils._pytree")
"""What warns as soon as a converter is imported: of CUDA libraries that a CPU's torch lacks, and of its own deprecations."""


@contextmanager
def silenced(*loggers: str) -> Iterator[None]:
    """Suppresses warnings, the messages of `loggers`, and all that is printed or written to standard error, also by C++.

    C++ libraries write past `sys.stderr`, so the descriptor itself leads nowhere meanwhile, for all threads. Exceptions
    still come through.
    """
    levels = {logging.getLogger(name): logging.getLogger(name).level for name in loggers}
    try:
        for logger in levels:
            logger.setLevel(logging.CRITICAL)
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()), _no_descriptor(2):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in levels.items():
            logger.setLevel(level)


@contextmanager
def _no_descriptor(number: int) -> Iterator[None]:
    """Discards what is written to a file descriptor."""
    try:
        kept = os.dup(number)
    except OSError:  # closed, as in a service
        yield
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, number)
        yield
    finally:
        os.dup2(kept, number)
        os.close(kept)
        os.close(nowhere)
