"""Formats of one fixed shape: clips one at a time, short ones filled as the checkpoint fills them, others refused."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import make_info
from test_runtimes import clips, made

from audiorep.errors import BundleError
from audiorep.runtimes import fixed
from audiorep.runtimes.fixed_program import fixed_program
from audiorep.runtimes.quiet import quiet
from audiorep.runtimes.torch import Pipeline

INFO = make_info(labels={"first": ["a", "b"], "second": ["c", "d"]})


def told(clip, samples):
    """The clip's loudest sample and number of samples, as scores."""
    return {"second": np.array([[samples, 0]]), "first": np.array([[clip.max(), clip.size]])}


def test_a_batch_is_run_clip_by_clip_and_heads_keep_their_order():
    batch = np.zeros((3, 999), np.float32)
    batch[:, 5] = [0.1, 0.2, 0.3]
    found = fixed.scores(INFO, batch, told)
    assert list(found) == ["first", "second"]
    assert np.allclose(found["first"], [[0.1, 999], [0.2, 999], [0.3, 999]])
    assert found["second"].dtype == np.float32


def test_an_empty_batch_gives_empty_scores():
    assert fixed.scores(INFO, np.zeros((0, 999), np.float32), told)["first"].shape == (0, 2)


@pytest.mark.parametrize("samples", [0, 1, 998, 1000, 5000])
def test_another_length_is_refused_with_the_seconds_it_takes(samples):
    with pytest.raises(BundleError, match=rf"takes 1 s \(999 samples\) at a time; .* \({samples}\) were given"):
        fixed.scores(INFO, np.zeros((1, samples), np.float32), told)


def test_a_model_that_fills_short_clips_is_told_their_length():
    info = replace(INFO, padding="edge_frames")
    found = fixed.scores(info, np.full((1, 300), 0.5, np.float32), told)
    assert found["first"].tolist() == [[0.5, 999]]
    assert found["second"].tolist() == [[300, 0]]
    with pytest.raises(BundleError, match="takes at most 1 s"):
        fixed.scores(info, np.zeros((1, 1000), np.float32), told)


@pytest.mark.parametrize("samples", [1, 319, 320, 321, 9_000, 15_998, 15_999])
def test_short_clips_are_filled_as_the_checkpoint_fills_them(samples):
    model = made()
    model = replace(model, info=replace(model.info, padding="edge_frames"))
    program, example = fixed_program(model)
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
    with quiet("audiorep.test"):
        warnings.warn("of no use", UserWarning, stacklevel=1)
        print("of no use")
        logger.warning("of no use")
        os.write(2, b"of no use")
    os.write(2, b"heard\n")
    assert capfd.readouterr() == ("", "heard\n")
    assert logger.level == logging.NOTSET


def test_quiet_lets_exceptions_through_and_ends(capfd):
    with pytest.raises(ValueError, match="heard"), quiet():
        raise ValueError("heard")
    os.write(2, b"heard\n")
    assert capfd.readouterr().err == "heard\n"


def test_quiet_works_without_standard_error():
    code = (
        "import os, sys; os.close(2); sys.stderr = None; from audiorep.runtimes.quiet import quiet\n"
        "with quiet(): print('no')\n"
        "print('yes')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "yes\n"
