"""Exit statuses, and the options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeVar

import typer

import audiorep

DONE, SOME_FAILED, WRONG_USAGE = 0, 1, 2


_Share = TypeVar("_Share", float, float | None)


def data_set(root: Path, layout: str | None, test_folds: list[int] | None, valid_folds: list[int] | None) -> audiorep.Data:
    """The data set and folds that the options of a command name."""
    return audiorep.Data(root, layout, test_folds or (), valid_folds or ())


def share(value: _Share) -> _Share:
    """`value` if it is between 0 and 1; NaN is refused too, which typer's own bounds accept."""
    if value is not None and not 0 <= value <= 1:
        raise typer.BadParameter(f"{value} is not a share; 0 to 1 is allowed.")
    return value


Model = Annotated[
    Path | None,
    typer.Option(
        "--model",
        "-m",
        help="Deployed model (.onnx or another exported file), checkpoint folder, or nano or esc50, which are in the package; "
        "default: nano, a general tagger.",
    ),
]

View = Literal["auto", "file", "windows", "merged", "events"]
Channel = Annotated[
    Literal["mean", "left", "right", "each"],
    typer.Option(help="For sounds with several channels: their mean, one side, or a result for each channel."),
]
Hop = Annotated[float | None, typer.Option(help="Seconds from one window to the next; default: the model's.")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON.")]
Threads = Annotated[int | None, typer.Option(min=1, help="Number of processor threads; default: all.")]
DataRoot = Annotated[
    Path,
    typer.Argument(
        help="Data set: folder of classes, CSV manifest, shards, or a layout that audiorep knows.", show_default=False
    ),
]
Format = Annotated[
    str | None,
    typer.Option("--data-format", help="Layout of the data, for example folder, csv or vggsound; default: detected."),
]
Folds = Annotated[list[int] | None, typer.Option("--test-fold", help="Fold to test on; may be given several times.")]
ValidFolds = Annotated[list[int] | None, typer.Option("--valid-fold", help="Fold to validate on; may be given several times.")]
RuntimeName = Annotated[
    str | None,
    typer.Option(
        "--runtime", help="onnx, torch, torch_compiled, openvino, litert, executorch or coreml; default: by the file's suffix."
    ),
]
NoUnknown = Annotated[
    bool, typer.Option("--no-unknown", help="Leave out the class unknown, where the model has one: the best other class wins.")
]
Precision = Annotated[str, typer.Option(help="Precision of the arithmetic: fp32, or bf16 if runtime and processor support it.")]
