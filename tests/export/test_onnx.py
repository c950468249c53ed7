"""A bundle computes what its checkpoint does, for any batch and length, and foreign files are refused."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from support import ROOT
from support.models import LABELS, SHALLOW, clips, made, tiny

from audiorep.errors import BundleError
from audiorep.export import onnx as onnx_export
from audiorep.export import parity
from audiorep.export.onnx import export
from audiorep.export.parity import PARITY_LIMIT, Parity, compare
from audiorep.predict.classifier import Classifier
from audiorep.runtimes.onnx import OnnxSession
from audiorep.runtimes.torch import TorchSession

pytestmark = pytest.mark.slow


def test_an_export_agrees_with_its_checkpoint(bundle):
    path, parity = bundle
    assert parity.clips == 4
    assert 0 < parity.largest <= PARITY_LIMIT
    assert parity.mean <= parity.largest
    assert 0 < parity.embedding <= PARITY_LIMIT
    assert parity.agreement == 1.0
    assert [p.name for p in path.parent.iterdir()] == ["tiny.onnx"]


def test_a_bundle_holds_everything_in_one_file(bundle):
    session = OnnxSession(bundle[0])
    info = tiny().info
    assert session.info == replace(info, provenance={**info.provenance, "front_end_form": "radix_4"})
    metadata = {entry.key: entry.value for entry in onnx.load(bundle[0]).metadata_props}
    assert metadata["audiorep.task"] == '"single-label"'
    assert metadata["audiorep.format_version"] == "1"
    assert metadata["audiorep.embedding_size"] == "16"
    assert metadata["audiorep.front_end"].startswith('{"sample_rate": 16000')


def test_a_bundle_is_fused_and_has_no_transform_operator(bundle):
    operators = [node.op_type for node in onnx.load(bundle[0]).graph.node]
    assert not {"STFT", "DFT", "BatchNormalization", "Loop", "If"} & set(operators)
    assert operators.count("Conv") == 1 + 2 * 5 + 1


@pytest.fixture(scope="module")
def in_torch() -> TorchSession:
    return TorchSession(tiny())


@pytest.mark.parametrize(("batch", "samples"), [(1, 15_999), (3, 15_999), (1, 1), (2, 320), (1, 160_000), (5, 12_345)])
def test_batch_and_length_are_dynamic(bundle, in_torch, batch, samples):
    generator = np.random.default_rng(1)
    waveform = (0.1 * generator.standard_normal((batch, samples))).astype(np.float32)
    found, expected = OnnxSession(bundle[0])(waveform), in_torch(waveform)
    for head, labels in LABELS.items():
        assert found[head].shape == (batch, len(labels))
        assert np.abs(found[head] - expected[head]).max() <= PARITY_LIMIT
        assert np.allclose(found[head].sum(1), 1, atol=1e-5)
    embedding, theirs = OnnxSession(bundle[0]).embed(waveform), in_torch.embed(waveform)
    assert (embedding.shape, embedding.dtype) == ((batch, 16), np.float32)
    assert np.linalg.norm(embedding - theirs) <= PARITY_LIMIT * np.linalg.norm(theirs)


def test_sigmoid_scores_are_independent(tmp_path):
    model = made("sigmoid", SHALLOW)
    parity = export(model, tmp_path / "multi.onnx", clips())
    assert parity.largest <= PARITY_LIMIT
    scores = Classifier.load(tmp_path / "multi.onnx").scores(clips(1)[0])
    assert scores["noun"].sum() != pytest.approx(1, abs=1e-3)


def test_an_export_of_the_same_checkpoint_gives_the_same_bytes(bundle, tmp_path):
    onnx_export._front_end.cache_clear()  # nothing of the first one is used again
    export(made(depths=(1, 1)), tmp_path / "again.onnx", clips())
    assert (tmp_path / "again.onnx").read_bytes() == bundle[0].read_bytes()


def test_the_exact_form_of_the_front_end_is_taken_where_the_fast_one_does_not_pass(tmp_path, monkeypatch):
    measured: list[str] = []

    def coarse(expected, session, clips):
        measured.append(session.info.provenance["front_end_form"])
        return Parity(len(clips), 0.0 if measured[-1] == "halves" else 1.0, 0.0, 1.0, 0.0)

    monkeypatch.setattr(parity, "_parity", coarse)
    export(tiny(), tmp_path / "exact.onnx", clips())
    assert measured == ["radix_4", "halves"]
    assert OnnxSession(tmp_path / "exact.onnx").info.provenance["front_end_form"] == "halves"


def test_an_export_that_differs_is_not_left_behind(tmp_path):
    model = made(depths=SHALLOW)
    merged = model.fuse().model
    merged.get_submodule("heads.verb").bias.data += torch.tensor([0.01, 0.0])
    (tmp_path / "model.onnx").write_bytes(b"an older model")
    with pytest.raises(BundleError, match=r"model\.onnx .* 0\.00"):
        export(model, tmp_path / "model.onnx", clips())
    assert (tmp_path / "model.onnx").read_bytes() == b"an older model"
    assert len(list(tmp_path.iterdir())) == 1


def test_an_embedding_that_differs_is_not_left_behind(tmp_path):
    model = made(depths=SHALLOW)
    for head in model.network.heads.values():
        head.weight.data.zero_()  # the scores are always the same
    model.fuse().model.get_submodule("stages.0.0.project.conv").weight.data *= 1.01
    with pytest.raises(BundleError, match=r"model\.onnx was not written: its embedding differs"):
        export(model, tmp_path / "model.onnx", clips())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("broken", "precision", "said"),
    [("verb", "fp32", "scores"), ("embedding", "fp32", "embedding"), ("embedding", "int8", "embedding")],
)
def test_not_a_number_fails_the_parity_check(bundle, broken, precision, said):
    class Odd(OnnxSession):
        def run(self, waveform, outputs):
            found = super().run(waveform, outputs)
            found[broken][0, 0] = np.nan
            return found

    with pytest.raises(BundleError, match=f"{said} differ.* nan"):
        parity.accept(tiny(), Odd(bundle[0]), clips(), bundle[0], precision)


def test_a_bundle_holds_no_path_of_the_machine_that_made_it(bundle):
    content = bundle[0].read_bytes()
    for path in (ROOT, Path(torch.__file__).parent, Path.home()):
        assert os.fsencode(path) not in content


def test_compare_counts_labels_that_agree(bundle):
    other = made(depths=(1, 1))
    other.network.heads["verb"].bias.data += torch.tensor([0.0, 50.0])
    parity = compare(other, OnnxSession(bundle[0]), clips())
    assert parity.largest > 0.1
    assert 0 <= parity.agreement < 1


def test_foreign_files_are_refused_with_their_path(tmp_path, bundle):
    with pytest.raises(BundleError, match=r"none\.onnx"):
        OnnxSession(tmp_path / "none.onnx")
    with pytest.raises(BundleError, match="folder"):
        OnnxSession(tmp_path)
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(BundleError, match=r"text\.onnx"):
        OnnxSession(tmp_path / "text.onnx")
    (tmp_path / "cut.onnx").write_bytes(bundle[0].read_bytes()[:5000])
    with pytest.raises(BundleError, match=r"cut\.onnx"):
        OnnxSession(tmp_path / "cut.onnx")
    foreign = onnx.load(bundle[0])
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    with pytest.raises(BundleError, match=r"foreign\.onnx.*audiorep export"):
        OnnxSession(tmp_path / "foreign.onnx")


@pytest.mark.parametrize(
    "changes", [{"labels": {"verb": ["cut", "wash", "peel"], "noun": LABELS["noun"]}}, {"embedding_size": 8}]
)
def test_metadata_that_do_not_fit_the_graph_are_refused(tmp_path, bundle, changes):
    model = onnx.load(bundle[0])
    info = replace(tiny().info, **changes)
    del model.metadata_props[:]
    for key, value in info.to_metadata().items():
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, tmp_path / "wrong.onnx")
    with pytest.raises(BundleError, match=r"wrong\.onnx"):
        OnnxSession(tmp_path / "wrong.onnx")


def test_threads_and_device_are_told(bundle):
    assert OnnxSession(bundle[0], threads=1).device.startswith("ONNX Runtime 1.")
    assert TorchSession(tiny()).device.startswith("PyTorch 2.")
