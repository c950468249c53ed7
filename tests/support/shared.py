"""Checkpoints that are read, merged and exported once, however often a test's commands load them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import torch
from safetensors.torch import load

from audiorep.models import checkpoint
from audiorep.models.checkpoint import Checkpoint

_Contents = tuple[bytes, bytes]
_LOADED: dict[_Contents, Checkpoint] = {}
_READ = checkpoint.load


@contextmanager
def checkpoints() -> Iterator[None]:
    """Within it, folders with the same bytes are the same checkpoint, which nobody may have changed when it ends."""
    asked: dict[_Contents, Checkpoint] = {}

    def shared(folder: Path | str) -> Checkpoint:
        try:
            contents = tuple(Path(folder, name).read_bytes() for name in (checkpoint.CONFIG, checkpoint.WEIGHTS))
        except OSError:
            return _READ(folder)
        if contents not in _LOADED:
            _LOADED[contents] = _READ(folder)
        asked[contents] = _LOADED[contents]
        return asked[contents]

    with mock.patch.object(checkpoint, "load", shared):
        yield
    for (_, weights), model in asked.items():
        now = model.network.state_dict()
        assert all(torch.equal(tensor, now[name]) for name, tensor in load(weights).items())
        assert not model.network.training
