"""Puts a trained checkpoint into the package: its weights in half precision, its file, and its card.

python experiments/ship.py runs/tagger_nano nano

The file is exported from the rounded weights, so that it and a training that starts from them agree.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save

import audiorep
from audiorep import shipped
from audiorep.files import replacing
from audiorep.models import checkpoint


def main() -> None:
    """Writes the folder of a model in the package."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("name", choices=shipped.SHIPPED)
    given = parser.parse_args()
    row = shipped.SHIPPED[given.name]
    row.folder.mkdir(exist_ok=True)
    weights = load_file(given.checkpoint / checkpoint.WEIGHTS)
    with replacing(row.folder / checkpoint.WEIGHTS) as partial:
        partial.write_bytes(save({name: _rounded(tensor) for name, tensor in weights.items()}))
    shutil.copy(given.checkpoint / checkpoint.CONFIG, row.folder / checkpoint.CONFIG)
    print(audiorep.export(row.folder, row.file))


def _rounded(tensor: torch.Tensor) -> torch.Tensor:
    """Real numbers in half precision; those too small for it keep their sign and lose their digits."""
    return tensor.half() if tensor.is_floating_point() else tensor


if __name__ == "__main__":
    main()
