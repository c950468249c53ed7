"""Calls that are timed take turns, and speeds are those of the same rounds."""

from __future__ import annotations

import time

import pytest

from audiorep.runtimes import timing


def test_every_round_runs_all_in_changing_orders():
    order: list[str] = []
    turns = [lambda name=name: order.append(name) or [1.0] for name in "abc"]
    assert timing.in_turns(turns, 20) == [[[1.0]] * 20] * 3
    rounds = [tuple(order[first : first + 3]) for first in range(0, 60, 3)]
    assert {tuple(sorted(one)) for one in rounds} == {("a", "b", "c")}
    assert len(set(rounds)) > 2


def test_a_turn_makes_as_many_calls_as_fill_its_seconds_and_one_more_uncounted():
    calls: list[int] = []
    turn = timing.turn(lambda: calls.append(time.sleep(0.002) or 1), 0.02)
    calls.clear()
    taken = turn()
    assert 2 <= len(taken) <= 10
    assert len(calls) == len(taken) + 1
    assert all(seconds >= 0.002 for seconds in taken)


def test_a_turn_of_no_length_is_one_call():
    assert len(timing.turn(lambda: None)()) == 1


def test_a_speed_is_the_median_of_the_rounds_ratios():
    slow, fast = [[2.0, 4.0, 2.0], [6.0], [8.0]], [[1.0], [2.0, 2.0], [2.0]]
    assert timing.ratios(slow, fast) == [2, 3, 4]
    speed = timing.speed(slow, fast)
    assert (speed.median, speed.low, speed.high) == (3, pytest.approx(2.2), pytest.approx(3.8))
    assert timing.median(slow) == 4


def test_each_turn_is_told():
    done: list[float] = []
    timing.in_turns([lambda: [1.0]] * 2, 3, advance=done.append)
    assert done == [1.0] * 6
