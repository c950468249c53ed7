"""Events are counted as sed_eval counts them, and a false alarm is an event that overlaps no reference of its label."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from support import processes

from audiorep.evaluation.event_metrics import EventCounts, count_events, macro, most_pairs, overall

APART = Path(sys.prefix) / "sed_eval"
LABELS = ["dog", "siren", "rain", "bell"]

THEIRS = """
import json, sys, warnings
warnings.simplefilter("ignore")
import sed_eval
import dcase_util
given = json.load(open(sys.argv[1]))
found = {}
for name, offsets in (("f1", True), ("onset_f1", False)):
    metrics = sed_eval.sound_event.EventBasedMetrics(
        given["labels"], evaluate_offset=offsets, t_collar=0.2, percentage_of_length=0.5,
        event_matching_type="optimal", empty_system_output_handling="zero_score",
    )
    for number, pair in enumerate(given["recordings"]):
        lists = [
            dcase_util.containers.MetaDataContainer([
                {"filename": f"{number}.wav", "event_label": label, "onset": start, "offset": end}
                for label, spans in side.items() for start, end in spans
            ])
            for side in pair
        ]
        metrics.evaluate(*lists)
    found[name] = {
        "overall": metrics.overall, "overall_f": metrics.overall_f_measure()["f_measure"],
        "labels": metrics.class_wise,
        "labels_f": {label: metrics.class_wise_f_measure(label)["f_measure"] for label in given["labels"]},
        "macro": metrics.results_class_wise_average_metrics()["f_measure"]["f_measure"],
    }
json.dump(found, sys.stdout)
"""

Events = dict[str, np.ndarray]


def near(spans: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Events some of which match others, and some of which do not."""
    kept = spans[generator.random(len(spans)) < 0.8]
    moved = kept + generator.choice([0.0, 0.1, -0.15, 0.25, 0.6], kept.shape)
    extra = np.sort(generator.uniform(0, 30, (generator.integers(0, 3), 2)))
    again = kept[generator.random(len(kept)) < 0.2] + 0.05
    found = np.concatenate([moved, extra, again])
    return found[found[:, 0] < found[:, 1]]


def drawn(seed: int) -> list[tuple[Events, Events]]:
    """(references, events) of some recordings with short, long and crowded events."""
    generator, found = np.random.default_rng(seed), []
    for _ in range(12):
        there = {}
        for label in LABELS:
            starts = generator.uniform(0, generator.choice([3, 30]), generator.integers(1, 7))
            there[label] = np.stack([starts, starts + generator.uniform(0.05, 3, len(starts))], 1).round(3)
        found.append((there, {label: near(spans, generator).round(3) for label, spans in there.items()}))
    return found


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[dict[str, EventCounts], dict[str, object]]:
    """Our counts of made-up events, and what sed_eval says of them."""
    if not (APART / "sed_eval").is_dir():
        pytest.skip(f"no sed_eval in {APART}: make .venv/sed_eval/installed")
    recordings = drawn(0)
    file = tmp_path_factory.mktemp("events") / "events.json"
    plain = [[{label: spans.tolist() for label, spans in side.items()} for side in pair] for pair in recordings]
    file.write_text(json.dumps({"labels": LABELS, "recordings": plain}))
    done = processes.run(processes.python(THEIRS, str(file)), env={**os.environ, "PYTHONPATH": str(APART)})
    assert done.returncode == 0, done.stderr
    return count_events(*zip(*recordings, strict=True)), json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(("share", "pairs"), [("f1", "matched"), ("onset_f1", "onsets")])
def test_counts_and_f1_are_those_of_sed_eval(share, pairs, both):
    ours, theirs = both[0], both[1][share]
    for label in LABELS:
        counts = theirs["labels"][label]
        assert (ours[label].references, ours[label].events) == (counts["Nref"], counts["Nsys"])
        assert getattr(ours[label], pairs) == counts["Ntp"]
        assert getattr(ours[label], share) == pytest.approx(theirs["labels_f"][label], abs=1e-12)
    whole = overall(ours)
    assert (whole.references, whole.events, getattr(whole, pairs)) == tuple(
        theirs["overall"][k] for k in ("Nref", "Nsys", "Ntp")
    )
    assert 0.2 < getattr(whole, share) == pytest.approx(theirs["overall_f"], abs=1e-12)
    assert macro(ours, share) == pytest.approx(theirs["macro"], abs=1e-12)


def counted(there: list[tuple[float, float]], told: list[tuple[float, float]]) -> EventCounts:
    return count_events([{"a": np.array(there).reshape(-1, 2)}], [{"a": np.array(told).reshape(-1, 2)}])["a"]


@pytest.mark.parametrize(
    ("event", "onset", "both"),
    [
        ((1.2, 5.0), 1, 1),
        ((1.21, 5.0), 0, 0),
        ((1.0, 3.0), 1, 1),  # half of the length too early
        ((1.0, 2.9), 1, 0),
        ((0.8, 7.0), 1, 1),
    ],
)
def test_an_onset_may_differ_by_200_ms_and_an_offset_by_half_the_length(event, onset, both):
    found = counted([(1.0, 5.0)], [event])
    assert (found.onsets, found.matched) == (onset, both)


def test_the_offset_of_a_short_event_may_differ_by_200_ms():
    assert counted([(1.0, 1.1)], [(1.0, 1.3)]).matched == 1
    assert counted([(1.0, 1.1)], [(1.0, 1.31)]).matched == 0


def test_as_many_events_as_possible_are_matched_and_none_twice():
    found = counted([(1.0, 2.0), (1.3, 2.3)], [(1.15, 2.1), (0.9, 1.9)])  # the first event fits both, the second one alone
    assert found.onsets == 2
    assert counted([(1.0, 2.0)], [(1.0, 2.0), (1.1, 2.0)]).matched == 1
    assert most_pairs(np.ones((4, 3), bool)) == 3
    assert most_pairs(np.zeros((0, 3), bool)) == 0


def test_an_event_that_overlaps_no_reference_of_its_label_is_a_false_alarm():
    found = counted([(1.0, 2.0), (5.0, 6.0)], [(1.9, 3.0), (2.0, 2.5), (8.0, 9.0)])  # the second only touches
    assert (found.overlapping, found.false_alarms) == (1, 2)
    assert found.precision == pytest.approx(1 / 3)
    assert found.recall == 0.5
    other = count_events([{"a": np.array([[1.0, 2.0]])}], [{"b": np.array([[1.0, 2.0]])}])
    assert other["b"].false_alarms == 1
    assert other["a"].overlapping == 0


def test_parts_of_one_sound_are_no_false_alarms_and_find_it_once():
    found = counted([(0.0, 10.0)], [(1.0, 2.0), (4.0, 5.0), (8.0, 9.0)])
    assert (found.events, found.overlapping, found.false_alarms) == (3, 1, 0)


def test_shares_of_nothing_are_no_number():
    assert all(np.isnan([EventCounts().f1, EventCounts().precision, EventCounts().recall]))
    assert EventCounts().as_dict()["f1"] is None
    assert np.isnan(macro({}, "f1"))
    assert macro({"a": EventCounts(2, 2, 2), "b": EventCounts(1, 0), "c": EventCounts(0, 5)}, "f1") == 0.5
