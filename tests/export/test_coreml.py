"""A `.mlpackage` holds the whole model under its names, and computes what its checkpoint does where Core ML runs."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support import ROOT

pytest.importorskip("coremltools", reason="needs the extra coreml")
pytest.importorskip("torch", reason="needs the extra train")

import coremltools
import torch
from support.models import LABELS, SHALLOW, clips, made

from audiorep.errors import BundleError, ConfigError
from audiorep.export import coreml
from audiorep.export.coreml import export
from audiorep.export.parity import PARITY_LIMIT
from audiorep.runtimes.coreml import CoreMlSession, information, runs_here

pytestmark = pytest.mark.slow

OUTPUTS = {"verb": (1, 2), "noun": (1, 3), "embedding": (1, 8)}

on_a_mac = pytest.mark.skipif(not runs_here(), reason="Core ML runs on a Mac")
elsewhere = pytest.mark.skipif(runs_here(), reason="a Mac runs it")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    path = tmp_path_factory.mktemp("coreml") / "tiny.mlpackage"
    return path, export(made(depths=SHALLOW), path, clips())


def described(path):
    """{name: shape} of what the model takes and gives."""
    model = coremltools.models.MLModel(str(path), skip_model_load=True).get_spec().description
    return {port.name: tuple(port.type.multiArrayType.shape) for port in (*model.input, *model.output)}


@elsewhere
def test_nothing_is_claimed_where_nothing_could_be_checked(exported):
    assert exported[1] is None
    with pytest.raises(BundleError, match=r"tiny\.mlpackage runs on a Mac only.*\.onnx"):
        CoreMlSession(exported[0])


@on_a_mac
def test_an_export_agrees_with_its_checkpoint(exported):
    path, parity = exported
    assert 0 < parity.largest <= PARITY_LIMIT
    assert CoreMlSession(path)(np.stack(clips(3)))["noun"].shape == (3, 3)


def test_the_folder_holds_everything_under_its_names(exported):
    assert information(exported[0]) == made(depths=SHALLOW).info
    assert described(exported[0]) == {"waveform": (1, 15_999), **OUTPUTS}
    assert [file.name for file in exported[0].parent.iterdir()] == ["tiny.mlpackage"]


def test_everyone_may_read_it_and_it_holds_no_path_of_the_machine_that_made_it(exported):
    files = [file for file in exported[0].rglob("*") if file.is_file()]
    assert sum(file.stat().st_size for file in files) > 500_000  # of a shallow network
    for file in files:
        assert file.stat().st_mode & 0o044 == 0o044
        for path in (ROOT, Path(torch.__file__).parent, Path.home()):
            assert os.fsencode(path) not in file.read_bytes()


def test_an_export_is_quiet_and_replaces_an_older_one(tmp_path, capfd):
    model = made("sigmoid", SHALLOW)
    model = replace(model, info=replace(model.info, padding="edge_frames"))
    (tmp_path / "model.mlpackage").mkdir()
    (tmp_path / "model.mlpackage" / "old.bin").write_text("old")
    export(model, tmp_path / "model.mlpackage", clips(1))
    assert capfd.readouterr() == ("", "")
    assert sorted(file.name for file in (tmp_path / "model.mlpackage").iterdir()) == ["Data", "Manifest.json"]
    assert described(tmp_path / "model.mlpackage") == {"waveform": (1, 15_999), "samples": (1,), **OUTPUTS}


def test_an_export_that_fails_leaves_the_older_one(tmp_path, monkeypatch):
    older = tmp_path / "model.mlpackage"
    older.mkdir()
    monkeypatch.setattr(coreml, "runs_here", lambda: True)
    monkeypatch.setattr(coreml, "CoreMlSession", lambda path: lambda waveform: LABELS)

    def differs(*arguments):
        raise BundleError("it differs")

    monkeypatch.setattr(coreml, "accept", differs)
    with pytest.raises(BundleError, match="it differs"):
        export(made(depths=SHALLOW), older, clips(1))
    assert [file.name for file in tmp_path.iterdir()] == ["model.mlpackage"]
    assert not list(older.iterdir())


def test_foreign_packages_are_refused_with_their_path(tmp_path, exported):
    with pytest.raises(BundleError, match=r"none\.mlpackage does not exist"):
        information(tmp_path / "none.mlpackage")
    (tmp_path / "file.mlpackage").write_text("hello")
    with pytest.raises(BundleError, match=r"file\.mlpackage is a file; a folder"):
        information(tmp_path / "file.mlpackage")
    (tmp_path / "empty.mlpackage").mkdir()
    with pytest.raises(BundleError, match=r"empty\.mlpackage is not a model that Core ML reads"):
        information(tmp_path / "empty.mlpackage")
    assert not list((tmp_path / "empty.mlpackage").iterdir())
    cut = shutil.copytree(exported[0], tmp_path / "cut.mlpackage")
    (graph,) = cut.rglob("*.mlmodel")
    graph.write_bytes(graph.read_bytes()[:1000])
    with pytest.raises(BundleError, match=r"cut\.mlpackage is not a model that Core ML reads"):
        information(cut)
    foreign = coremltools.models.MLModel(str(exported[0]), skip_model_load=True)
    foreign.user_defined_metadata.clear()
    foreign.save(str(tmp_path / "foreign.mlpackage"))
    with pytest.raises(BundleError, match=r"foreign\.mlpackage is not an audiorep model"):
        information(tmp_path / "foreign.mlpackage")


def test_a_place_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(ConfigError, match="cannot be written"):
        export(made(depths=SHALLOW), tmp_path / "file" / "model.mlpackage", clips(1))
