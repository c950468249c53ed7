"""Times for people: rounded before they are divided, so that no minute has sixty seconds."""

from __future__ import annotations

import pytest

from audiorep.cli.terminal import clock


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0:00.0"),
        (0.04, "0:00.0"),
        (59.94, "0:59.9"),
        (59.96, "1:00.0"),
        (60, "1:00.0"),
        (119.96, "2:00.0"),
        (119.999999, "2:00.0"),
        (3599.94, "59:59.9"),
        (3599.96, "1:00:00.0"),
        (3659.99, "1:01:00.0"),
        (7325.25, "2:02:05.2"),
        (359_999.99, "100:00:00.0"),
    ],
)
def test_a_time_is_rounded_before_it_is_divided(seconds, text):
    assert clock(seconds) == text


def test_no_tenth_of_a_second_of_two_hours_reads_as_sixty():
    assert not any(":60" in clock(tenth / 10 + 0.049) for tenth in range(0, 72_000, 7))
