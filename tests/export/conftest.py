"""One bundle for all files of this room."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="session")
def bundle(tmp_path_factory) -> tuple[Path, Any]:
    """The bundle of the made-up model `tiny`, alone in its folder, and its parity with the checkpoint."""
    from support.models import clips, tiny

    from audiorep.export.onnx import export

    path = tmp_path_factory.mktemp("bundle") / "tiny.onnx"
    return path, export(tiny(), path, clips())
