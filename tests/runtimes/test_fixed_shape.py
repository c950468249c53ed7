"""Formats of one fixed shape: clips one at a time, short ones filled as the checkpoint fills them, others refused."""

from __future__ import annotations

import logging
import os
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from support import processes
from support.info import make_info
from support.models import clips, tiny

from audiorep.errors import BundleError
from audiorep.export.fixed_program import fixed_program
from audiorep.runtimes import fixed_shape
from audiorep.runtimes.silence import silenced
from audiorep.runtimes.torch import Pipeline

INFO = make_info(labels={"first": ["a", "b"], "second": ["c", "d"]})


def told(clip, samples):
    """The clip's loudest sample and number of samples, as scores."""
    return {"second": np.array([[samples, 0]]), "first": np.array([[clip.max(), clip.size]])}


def test_a_batch_is_run_clip_by_clip_and_heads_keep_their_order():
    batch = np.zeros((3, 999), np.float32)
    batch[:, 5] = [0.1, 0.2, 0.3]
    found = fixed_shape.clip_by_clip(INFO, batch, list(INFO.labels), told)
    assert list(found) == ["first", "second"]
    assert np.allclose(found["first"], [[0.1, 999], [0.2, 999], [0.3, 999]])
    assert found["second"].dtype == np.float32
    assert list(fixed_shape.clip_by_clip(INFO, batch, ["second"], told)) == ["second"]


def test_an_empty_batch_gives_empty_scores():
    assert fixed_shape.clip_by_clip(INFO, np.zeros((0, 999), np.float32), ["first"], told)["first"].shape == (0, 2)


@pytest.mark.parametrize("samples", [0, 1, 998, 1000, 5000])
def test_another_length_is_refused_with_the_seconds_it_takes(samples):
    with pytest.raises(BundleError, match=rf"999 .*\({samples}\)"):
        fixed_shape.clip_by_clip(INFO, np.zeros((1, samples), np.float32), ["first"], told)


def test_a_model_that_fills_short_clips_is_told_their_length():
    info = replace(INFO, padding="edge_frames")
    found = fixed_shape.clip_by_clip(info, np.full((1, 300), 0.5, np.float32), list(info.labels), told)
    assert found["first"].tolist() == [[0.5, 999]]
    assert found["second"].tolist() == [[300, 0]]
    with pytest.raises(BundleError, match="at most 1 s"):
        fixed_shape.clip_by_clip(info, np.zeros((1, 1000), np.float32), ["first"], told)


def test_clips_to_calibrate_on_are_given_as_the_model_takes_them():
    (values,) = fixed_shape.inputs(INFO, [np.full(999, 0.5, np.float32)])
    assert [(name, value.shape, value.dtype) for name, value in values.items()] == [("waveform", (1, 999), np.float32)]
    short, whole = fixed_shape.inputs(replace(INFO, padding="edge_frames"), [np.full(n, 0.5, np.float32) for n in (300, 999)])
    assert list(short) == ["waveform", "samples"]
    assert (short["waveform"][0, 298:302].tolist(), short["samples"].tolist()) == ([0.5, 0.5, 0, 0], [300])
    assert whole["samples"].dtype == np.int32
    with pytest.raises(BundleError, match=r"999 .*\(300\)"):
        fixed_shape.inputs(INFO, [np.zeros(300, np.float32)])
    with pytest.raises(BundleError, match="--calibration"):
        fixed_shape.inputs(INFO, [])


@pytest.mark.slow
def test_a_small_program_has_half_the_fourier_constants_and_computes_the_same():
    model = tiny()
    program, example = fixed_program(model)
    small, _ = fixed_program(model, small=True)
    counts = [sum(matrix.numel() for matrix in each.pipeline.front_end.spectra.parameters()) for each in (program, small)]
    assert counts == [2 * 320 * 319, 8 * 160 * 81]
    clip = torch.from_numpy(clips(2)[1][None])
    assert len(example) == 1
    with torch.inference_mode():
        assert torch.allclose(program.spectrogram(clip), small.spectrogram(clip), atol=1e-3)
        assert program.spectrogram(clip).shape == (1, 1, 50, 64)
        for head, scores in program(clip).items():
            assert torch.allclose(small(clip)[head], scores, atol=1e-5)


@pytest.fixture(scope="module")
def filled():
    """A checkpoint that fills short clips by their last frame, and its program."""
    model = tiny()
    model = replace(model, info=replace(model.info, padding="edge_frames"))
    return model, *fixed_program(model)


@pytest.mark.slow
@pytest.mark.parametrize("samples", [1, 319, 320, 321, 9_000, 15_998, 15_999])
def test_short_clips_are_filled_as_the_checkpoint_fills_them(filled, samples):
    model, program, example = filled
    assert [tuple(tensor.shape) for tensor in example] == [(1, 15_999), (1,)]
    clip = torch.from_numpy(clips(1)[0][:samples])
    padded = torch.nn.functional.pad(clip, (0, 15_999 - samples))[None]
    with torch.inference_mode():
        expected = Pipeline(model.front_end, model.network, model.info).eval()(clip[None])
        found = program(padded, torch.tensor([samples], dtype=torch.int32))
    for head, scores in expected.items():
        assert torch.allclose(found[head], scores, atol=1e-5)


def test_quiet_hides_warnings_prints_and_what_is_written_past_python(capfd):
    logger = logging.getLogger("audiorep.test")
    with silenced("audiorep.test"):
        warnings.warn("of no use", UserWarning, stacklevel=1)
        print("of no use")
        logger.warning("of no use")
        os.write(2, b"of no use")
    os.write(2, b"heard\n")
    assert capfd.readouterr() == ("", "heard\n")
    assert logger.level == logging.NOTSET


def test_quiet_lets_exceptions_through_and_ends(capfd):
    with pytest.raises(ValueError, match="heard"), silenced():
        raise ValueError("heard")
    os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"


def test_quiet_works_without_standard_error():
    code = (
        "import os, sys; os.close(2); sys.stderr = None; from audiorep.runtimes.silence import silenced\n"
        "with silenced(): print('no')\n"
        "print('yes')"
    )
    done = processes.run(processes.python(code))
    assert (done.returncode, done.stdout) == (0, "yes\n"), done.stderr
