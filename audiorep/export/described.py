"""Copies of models with another description (see `ModelInfo`) and the same weights."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

from audiorep.errors import BundleError, ConfigError
from audiorep.files import new_folder, refuse_inputs, replacing, reserve, write_json
from audiorep.info import model_info
from audiorep.info.model_info import PREFIX, ModelInfo
from audiorep.runtimes import pair, sealed

CONFIG = "config.json"  # of a checkpoint
SECTION = "audiorep"  # of the run-time information of OpenVINO's .xml


def check(source: Path, output: Path) -> None:
    """Checks, before long work, that a copy of the model `source` can be written to `output`.

    Raises:
        ConfigError: another kind of file, a place that cannot be written to, or a kind that cannot be described anew.
    """
    if not source.exists():
        return  # whoever opens it says so
    if _writer(source) is _checkpoint:
        refuse_inputs(output, source)
        if output.exists():
            raise ConfigError(f"{output} exists already; name a new folder.")
        reserve(output / CONFIG, source)
        return
    if output.suffix != source.suffix:
        raise ConfigError(f"{output}: a copy of {source} is of the same kind; give it a name that ends in {source.suffix}.")
    reserve(output, source)


def write(source: Path, info: ModelInfo, output: Path) -> None:
    """Writes a copy of the model `source`, a file or a checkpoint folder, that says `info` of itself; whole or not at all.

    `output` may be `source`.

    Raises:
        BundleError: the file is damaged.
        ConfigError: it cannot be written, or is of a kind that cannot be described anew.
    """
    _writer(source)(source, info, output)


def _writer(source: Path) -> Callable[[Path, ModelInfo, Path], None]:
    if source.is_dir() and source.suffix != ".mlpackage":
        return _checkpoint
    found = _WRITERS.get(source.suffix)
    if found is None:
        raise ConfigError(
            f"{source}: {source.suffix or 'such'} files are not described anew. Take the checkpoint, and export it."
        )
    return found


def _checkpoint(source: Path, info: ModelInfo, output: Path) -> None:
    from audiorep.models import checkpoint

    told, fields = checkpoint.read_json(source / CONFIG), info.as_dict()
    values = {**{name: value for name, value in told.items() if name not in model_info.LATER or name in fields}, **fields}
    if output == source:
        write_json(source / CONFIG, values)
        return
    with new_folder(output) as partial:
        shutil.copytree(source, partial, dirs_exist_ok=True)
        write_json(partial / CONFIG, values)


def _onnx(source: Path, info: ModelInfo, output: Path) -> None:
    content = sealed.described(source.read_bytes(), info.to_metadata())
    with replacing(output) as partial:
        partial.write_bytes(content)


def _appended(source: Path, info: ModelInfo, output: Path) -> None:
    model = model_info.without_appended(source)
    with replacing(output) as partial:
        partial.write_bytes(model)
        model_info.append(partial, info)


def _openvino(source: Path, info: ModelInfo, output: Path) -> None:
    try:
        tree = ElementTree.fromstring(source.read_bytes())
    except ElementTree.ParseError as error:
        raise BundleError(f"{source} is not a model that OpenVINO reads: {error}.") from None
    section = tree.find(f"rt_info/{SECTION}")
    if section is None:
        raise BundleError(f"{source} is not an audiorep model: it carries no labels or settings.")
    section.clear()
    for key, value in info.to_metadata().items():
        ElementTree.SubElement(section, key.removeprefix(PREFIX), value=value)
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "made.xml"
        made.write_bytes(ElementTree.tostring(tree, encoding="utf-8", xml_declaration=True))
        shutil.copyfile(source.with_suffix(".bin"), made.with_suffix(".bin"))
        pair.move(made, output)


_WRITERS: dict[str, Callable[[Path, ModelInfo, Path], None]] = {
    ".onnx": _onnx,
    ".xml": _openvino,
    ".tflite": _appended,
    ".pte": _appended,
}
