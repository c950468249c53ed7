"""Two models agree where each of their heads gives a clip the same label."""

from __future__ import annotations

import numpy as np
import pytest

from audiorep.predict.agreement import agreement, scores_of


def test_windows_are_asked_for_one_by_one_and_kept_in_order():
    asked = []

    def run(waveform):
        asked.append(waveform.shape)
        return {"label": waveform[:, :2], "noun": 2 * waveform[:, :3]}

    found = scores_of(run, [np.full(5, n, np.float32) for n in range(3)])
    assert asked == [(1, 5)] * 3
    assert found["label"].tolist() == [[0, 0], [1, 1], [2, 2]]
    assert found["noun"].shape == (3, 3)


def test_clips_agree_where_every_head_does():
    first = {"verb": np.array([[0.9, 0.1], [0.2, 0.8]]), "noun": np.array([[0.6, 0.4], [0.6, 0.4]])}
    second = {"verb": np.array([[0.9, 0.1], [0.2, 0.8]]), "noun": np.array([[0.6, 0.4], [0.1, 0.9]])}
    found = agreement(first, second)
    assert (found.clips, found.agreement) == (2, 0.5)
    assert (found.largest, found.mean) == (pytest.approx(0.5), pytest.approx(1.0 / 8))
    assert agreement(first, first).largest == 0


def test_a_score_that_is_no_number_shows():
    whole, broken = {"label": np.array([[0.5, 0.5]])}, {"label": np.array([[np.nan, 0.5]])}
    assert np.isnan(agreement(whole, broken).largest)
