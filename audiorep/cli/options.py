"""Exit statuses, and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeVar

import typer

import audiorep

DONE, SOME_FAILED, WRONG_USAGE = 0, 1, 2


_Share = TypeVar("_Share", float, float | None)


def data_set(root: Path, layout: str | None, test_folds: list[int] | None, valid_folds: list[int] | None) -> audiorep.Data:
    """The labelled clips that a command's options describe."""
    return audiorep.Data(root, layout, test_folds or (), valid_folds or ())


def share(value: _Share) -> _Share:
    """An option's value if it is a share, and no NaN, which passes bounds."""
    if value is not None and not 0 <= value <= 1:
        raise typer.BadParameter(f"{value} is not a share; 0 to 1 is allowed.")
    return value


Model = Annotated[
    Path | None,
    typer.Option(
        "--model", "-m", help="Bundle (.onnx), other exported file or checkpoint folder; default: the one inside the package."
    ),
]

View = Literal["auto", "file", "windows", "merged"]
Channel = Annotated[
    Literal["mean", "left", "right", "each"],
    typer.Option(help="Of sounds with several: their mean, one side, or each with a result of its own."),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program to read.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Processor threads; default: all.")]
DataRoot = Annotated[
    Path, typer.Argument(help="Folder of classes, CSV manifest, shards, or a data set in its own layout.", show_default=False)
]
Format = Annotated[
    str | None,
    typer.Option("--data-format", help="Layout of the data, for example folder, csv or vggsound; default: recognized."),
]
Folds = Annotated[list[int] | None, typer.Option("--test-fold", help="Fold to test on; may be given again.")]
ValidFolds = Annotated[list[int] | None, typer.Option("--valid-fold", help="Fold to validate on; may be given again.")]
RuntimeName = Annotated[
    str | None,
    typer.Option("--runtime", help="onnx, torch, torch_compiled, openvino, litert, executorch or coreml; default: by file."),
]
Precision = Annotated[str, typer.Option(help="Of the arithmetic: fp32, or bf16 where runtime and processor have it.")]
