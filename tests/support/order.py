"""The order of the files of tests."""

from __future__ import annotations

from pathlib import Path

LONGEST_FIRST = (
    "search/search",
    "serve/browser",
    "serve/versions",
    "serve/js_sounds",
    "reparam/networks",
    "compress/chain",
    "serve/page",
    "serve/page_live",
    "serve/figures",
    "serve/limits",
    "benchmark/benchmark",
    "listen/figures",
    "search/trials",
    "compress/commands",
    "export/openvino",
    "export/onnx",
    "training/distil",
    "training/resume",
    "house/face",
    "examples/examples",
    "cli/own_model",
    "runtimes/pair",
    "house/docs",
    "listen/listener",
    "models/peers",
    "evaluation/tune_events",
    "cli/tune_events",
    "training/fit",
    "training/teachers",
    "compress/small_files",
    "compress/int8_choice",
    "compress/smaller_networks",
    "hub/networks",
    "reparam/fuse",
    "datasets/shard_runs",
    "predict/signals",
    "predict/results",
    "listen/microphones",
    "listen/address",
    "listen/mqtt",
    "house/fuzz",
)
"""Files that take more than a quarter of a minute; the others come after them in any order."""


def place(path: Path) -> int:
    """The place of a file of tests among all."""
    name = f"{path.parent.name}/{path.stem.removeprefix('test_')}"
    return LONGEST_FIRST.index(name) if name in LONGEST_FIRST else len(LONGEST_FIRST)
