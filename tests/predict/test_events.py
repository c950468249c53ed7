"""When sounds begin and end, from the scores of their windows. Most cases are files that any implementation can run."""

from __future__ import annotations

import itertools
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.info import make_info

from audiorep.errors import ConfigError
from audiorep.predict.events import EventConfig, EventTracker, trackers
from audiorep.predict.results import Detection, Recording

VECTORS = sorted((Path(__file__).parent.parent / "vectors" / "events").glob("*.json"))


def tracker_of(vector: dict[str, Any]) -> EventTracker:
    return EventTracker(
        vector["labels"], EventConfig.from_dict(vector["settings"]), vector.get("thresholds"), vector.get("unknown", "")
    )


def told_by(tracker: EventTracker, windows: list[dict[str, Any]]) -> list[Any]:
    found = []
    for window in windows:
        found += tracker.push(window["start"], window["end"], np.array(window["scores"]), window["peak"])
    return found + tracker.flush()


@pytest.mark.parametrize("path", VECTORS, ids=[path.stem for path in VECTORS])
def test_vectors(path):
    vector = json.loads(path.read_text())
    told = told_by(tracker_of(vector), vector["windows"])
    found = [{"label": e.label, "start": e.start, "end": e.end, "score": e.score} for e in told if not e.is_open]
    assert found == vector["events"], vector["about"]
    if "told" in vector:
        assert [[e.decided, e.label, e.start, e.end, e.is_open] for e in told] == vector["told"]


@pytest.mark.parametrize("path", VECTORS, ids=[path.stem for path in VECTORS])
def test_every_event_is_told_twice_and_a_second_run_gives_the_same(path):
    vector = json.loads(path.read_text())
    tracker = tracker_of(vector)
    told = told_by(tracker, vector["windows"])
    assert sorted((e.label, e.start) for e in told if e.is_open) == sorted((e.label, e.start) for e in told if not e.is_open)
    assert told_by(tracker, vector["windows"]) == told


def test_labels_do_not_touch_each_other():
    generator = np.random.default_rng(0)
    scores = generator.random((400, 6))
    settings = EventConfig(on=0.6, off=0.3, confirm=2, of=4, sure=0.95, least_seconds=1.0, hang_seconds=0.6, pause_seconds=1.5)
    names = [f"class{k}" for k in range(6)]
    rows = [{"start": i / 2, "end": i / 2 + 1, "scores": row, "peak": 1.0} for i, row in enumerate(scores)]
    together = told_by(EventTracker(names, settings), rows)
    assert len(together) > 60
    for k, name in enumerate(names):
        alone = told_by(EventTracker([name], settings), [{**row, "scores": row["scores"][k : k + 1]} for row in rows])
        assert [event for event in together if event.label == name] == alone


def test_events_of_a_label_keep_their_distance_and_length():
    settings = EventConfig(on=0.6, least_seconds=1.0, pause_seconds=2.0)
    scores = np.random.default_rng(1).random((2000, 1))
    rows = [{"start": i / 2, "end": i / 2 + 1, "scores": row, "peak": 1.0} for i, row in enumerate(scores)]
    events = [event for event in told_by(EventTracker(["a"], settings), rows) if not event.is_open]
    assert len(events) > 50
    assert all(event.end - event.start >= 1.0 for event in events)
    assert all(after.start - before.end >= 2.0 for before, after in itertools.pairwise(events))


def test_flush_begins_anew():
    tracker = EventTracker(["a"], EventConfig(on=0.5))
    tracker.push(0.0, 1.0, np.array([0.9]))
    assert [event.end for event in tracker.flush()] == [1.0]
    assert tracker.flush() == []
    [event] = tracker.push(100.0, 101.0, np.array([0.9]))
    assert event.start == 100.0


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"on": 1.5}, "on is 1.5; 0 to 1 is allowed"),
        ({"on": 0.5, "off": 0.6}, "off is 0.6; 0 to on, which is 0.5"),
        ({"sure": 0.0}, "sure is 0"),
        ({"confirm": 3}, "confirm is 3 of 1 windows"),
        ({"of": 10**9}, "1 to 1000"),
        ({"confirm": 1.5}, "confirm is 1.5; a whole number is needed"),
        ({"on": "loud"}, "on is 'loud'; a number is needed"),
        ({"hang_seconds": -1.0}, "hang_seconds is -1"),
        ({"least_seconds": math.nan}, "least_seconds is nan"),
        ({"level_db": 3.0}, "level_db is 3"),
        ({"allow": "dog"}, "allow is no list of labels"),
        ({"labels": {"dog": 3}}, "a table for each label is needed"),
        ({"labels": {"dog": {"level_db": -3.0}}}, "dog: level_db is no setting of a label"),
        ({"labels": {"dog": {"on": 7}}}, "dog: on is 7"),
        ({"loud": 1}, "loud is no setting"),
    ],
)
def test_impossible_settings_are_refused(settings, reason):
    with pytest.raises(ConfigError, match=f"events: .*{reason}"):
        EventConfig.from_dict(settings)


def test_settings_may_name_labels_of_any_head_but_no_others():
    info = make_info(labels={"verb": ["cut", "wash"], "noun": ["pan", "knife"]})
    assert list(trackers(info, EventConfig(allow=("pan",)))) == ["noun"]
    assert list(trackers(info, EventConfig(deny=("pan",), labels={"cut": {"on": 0.1}}))) == ["verb", "noun"]
    for settings in ({"allow": ("fork",)}, {"deny": ("fork",)}, {"labels": {"fork": {}}}):
        with pytest.raises(ConfigError, match="events: fork is no label of the model"):
            trackers(info, EventConfig(**settings))


def test_recording_tells_its_events_in_order_of_time():
    scores = np.array([[0.9, 0.1, 0.0], [0.9, 0.8, 0.0], [0.1, 0.8, 0.0], [0.1, 0.1, 0.9]])
    recording = Recording(Path("a.wav"), make_info(), 2.25, np.arange(4) * 0.5, {"label": scores})
    assert recording.events() == [
        Detection(0.0, 1.5, "label", "mean", 0.9),
        Detection(1.0, 2.0, "label", "peak", 0.8),
        Detection(2.0, 2.25, "label", "rest", 0.9),  # to the end of the file
    ]
    assert recording.view("events", threshold=0.85) == [recording.events()[0], recording.events()[2]]
    assert recording.events(EventConfig(deny=("mean", "rest"))) == [recording.events()[1]]


def test_recording_leaves_quiet_windows_out():
    scores, peaks = np.array([[0.9, 0.1, 0.0]] * 3), np.array([0.5, 0.001, 0.5])
    recording = Recording(Path("a.wav"), make_info(), 2.0, np.arange(3) * 0.5, {"label": scores}, peaks=peaks)
    assert [(event.start, event.end) for event in recording.events()] == [(0.0, 2.0)]
    assert [(event.start, event.end) for event in recording.events(EventConfig(level_db=-40.0))] == [(0.0, 1.0), (1.5, 2.0)]


def test_models_unknown_is_no_event():
    scores = np.array([[0.1, 0.1, 0.8]] * 3)
    recording = Recording(Path("a.wav"), make_info(unknown="rest"), 2.0, np.arange(3) * 0.5, {"label": scores})
    assert recording.events() == []
    assert [event.label for event in recording.events(EventConfig(allow=("rest",)))] == ["rest"]
