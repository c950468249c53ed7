"""A model with another description is the same model in every format, and a bad place costs no file."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.info import make_info
from support.models import clips, tiny

from audiorep.errors import BundleError, ConfigError
from audiorep.export import described
from audiorep.info import model_info
from audiorep.models import checkpoint
from audiorep.runtimes import open_session, sealed

BOTH = {"window": {"temperature": 2.0}, "file": {"temperature": 0.5}}


def calibrated(info: model_info.ModelInfo) -> model_info.ModelInfo:
    heads = info.labels
    return replace(
        info,
        calibration=dict.fromkeys(heads, BOTH),
        thresholds={head: [0.5] * len(names) for head, names in heads.items()},
    )


def test_a_bundle_keeps_its_graph_and_gets_a_new_seal(bundle, tmp_path):
    source, target = bundle[0], tmp_path / "new.onnx"
    info = calibrated(open_session(source).info)
    described.write(source, info, target)
    again = open_session(target)
    assert again.info == info
    waveform = clips(1)[0][None]
    before, after = open_session(source)(waveform), again(waveform)
    assert all(np.array_equal(before[head], after[head]) for head in before)
    damaged = target.read_bytes().replace(b'"temperature": 2.0', b'"temperature": 3.0')
    with pytest.raises(BundleError, match="metadata is not what was exported"):
        sealed.information(damaged, target)


def test_a_bundle_that_is_described_as_before_keeps_its_description_and_others_metadata(bundle, tmp_path):
    import onnx

    model = onnx.load(bundle[0])
    model.metadata_props.add(key="theirs", value="kept")
    onnx.save(model, tmp_path / "a.onnx")
    content = sealed.seal((tmp_path / "a.onnx").read_bytes())
    info = sealed.information(content, tmp_path / "a.onnx")
    found = onnx.load_model_from_string(sealed.described(content, info.to_metadata()))
    assert {entry.key: entry.value for entry in found.metadata_props}["theirs"] == "kept"
    assert len({entry.key for entry in found.metadata_props}) == len(found.metadata_props)


@pytest.mark.parametrize("suffix", [".tflite", ".pte"])
def test_an_appended_description_is_replaced(suffix, tmp_path):
    source, target = tmp_path / f"a{suffix}", tmp_path / f"b{suffix}"
    source.write_bytes(bytes(range(256)) * 40)
    model_info.append(source, make_info())
    described.write(source, calibrated(make_info()), target)
    assert model_info.read_appended(target) == calibrated(make_info())
    described.write(target, make_info(), target)
    assert target.read_bytes() == source.read_bytes()
    source.write_bytes(source.read_bytes()[1:])
    with pytest.raises(BundleError, match="damaged"):
        described.write(source, make_info(), target)


@pytest.mark.slow
def test_openvinos_pair_is_described_without_a_change_of_its_weights(tmp_path):
    pytest.importorskip("openvino", reason="openvino is not installed")
    from audiorep.export import openvino

    source, target = tmp_path / "a.xml", tmp_path / "b.xml"
    openvino.export(tiny(), source, clips())
    session = open_session(source)
    described.write(source, calibrated(session.info), target)
    again = open_session(target)
    assert again.info == calibrated(session.info)
    assert target.with_suffix(".bin").read_bytes() == source.with_suffix(".bin").read_bytes()
    waveform = clips(1)[0][None]
    before, after = session(waveform), again(waveform)
    assert all(np.array_equal(before[head], after[head]) for head in before)
    described.write(target, session.info, target)
    assert open_session(target).info == session.info


def test_a_checkpoint_is_copied_with_another_configuration(trained, tmp_path):
    source = trained[0]
    info = calibrated(checkpoint.load(source).info)
    described.write(source, info, tmp_path / "new")
    assert checkpoint.load(tmp_path / "new").info == info
    names = {path.relative_to(source) for path in source.rglob("*")}
    assert {path.relative_to(tmp_path / "new") for path in (tmp_path / "new").rglob("*")} == names
    described.write(tmp_path / "new", checkpoint.load(source).info, tmp_path / "new")
    assert (tmp_path / "new" / "config.json").read_bytes() == (source / "config.json").read_bytes()


def test_places_and_kinds_that_cannot_be_are_refused_before_long_work(bundle, trained, tmp_path):
    source = Path(shutil.copy(bundle[0], tmp_path))
    with pytest.raises(ConfigError, match=r"ends in \.onnx"):
        described.check(source, tmp_path / "b.tflite")
    with pytest.raises(ConfigError, match="never overwritten"):
        described.check(source, source)
    with pytest.raises(ConfigError, match="exists already"):
        described.check(trained[0], tmp_path)
    (tmp_path / "a.mlpackage").mkdir()
    with pytest.raises(ConfigError, match="Take the checkpoint"):
        described.check(tmp_path / "a.mlpackage", tmp_path / "b.mlpackage")
    described.check(source, tmp_path / "b.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mlpackage", source.name]
