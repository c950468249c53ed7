"""The sound of an event: cut out at the right samples, bounded, and written whole."""

from __future__ import annotations

import json
import threading

import numpy as np
import pytest
import soundfile
from support.info import RATE
from support.live import ONLY_LOUD, Loud, Script, level, reports
from support.reports import event, snippet

from audiorep.errors import ConfigError
from audiorep.listen.listener import Listener
from audiorep.listen.reports import Report, as_dict
from audiorep.listen.snippets import SnippetConfig, SnippetCutter, SnippetSink
from audiorep.predict.classifier import Classifier
from audiorep.predict.events import Event, EventConfig


def found_event(start: float, end: float, is_open: bool = False, label: str = "loud") -> Event:
    return Event(label, start, end, 0.9, end, is_open)


def ramp(first: int, last: int) -> np.ndarray:
    """Samples that tell their own number."""
    return (np.arange(first, last, dtype=np.float32) / 32768)[:, None]


def cut(listener: Listener) -> list[Report]:
    return [report for report in reports(listener) if report.snippet is not None]


def test_a_snippet_holds_the_samples_around_its_event():
    cutter = SnippetCutter(SnippetConfig(before=0.5, after=0.25, longest=5.0), 1000, look_back=2.0)
    for first in range(0, 6000, 300):
        cutter.hear(ramp(first, first + 300))
        if first == 3000:
            cutter.tell(found_event(2.0, 2.5, is_open=True), "label")
            cutter.tell(found_event(2.0, 3.2), "label")
            found = []
        if first >= 3000:
            found += cutter.complete()
        else:
            assert cutter.complete() == []
    [(head, snippet)] = found
    assert (head, snippet.label, snippet.start, snippet.before) == ("label", "loud", 2.0, 0.5)
    assert snippet.samples[:, 0].tolist() == list(range(1500, 3450))


def test_what_is_kept_is_bounded_and_old_sound_is_forgotten():
    cutter = SnippetCutter(SnippetConfig(before=0.5, after=0.25, longest=2.0), 1000, look_back=1.0)
    for first in range(0, 60_000, 100):
        cutter.hear(ramp(first % 30_000, first % 30_000 + 100))
        cutter.complete()
        assert sum(map(len, cutter._pieces)) <= 1_700
    cutter.tell(found_event(59.5, 59.9, is_open=True), "label")
    for _ in range(100):  # it never ends
        cutter.hear(ramp(0, 100))
        found = cutter.complete()
        if found:
            break
    assert len(found[0][1].samples) == 2000
    cutter.tell(found_event(59.5, 80.0), "label")  # it was cut out already
    cutter.hear(ramp(0, 30_000))
    assert cutter.complete() == []


def test_two_events_of_a_label_close_together_have_a_snippet_each():
    cutter = SnippetCutter(SnippetConfig(before=0.1, after=1.0, longest=5.0), 1000, look_back=2.0)
    cutter.hear(ramp(0, 2000))
    for start, end in ((0.5, 1.0), (1.2, 1.6)):
        cutter.tell(found_event(start, end, is_open=True), "label")
        cutter.tell(found_event(start, end), "label")
    assert len(cutter.complete()) == 1
    cutter.hear(ramp(2000, 3000))
    [(_, second)] = cutter.complete()
    assert (second.start, len(second.samples)) == (1.2, 1500)


def test_a_snippet_ends_where_a_gap_begins_and_begins_where_one_ends():
    cutter = SnippetCutter(SnippetConfig(before=2.0, after=1.0, longest=9.0), 1000, look_back=3.0)
    cutter.hear(ramp(0, 1500))
    cutter.tell(found_event(1.0, 1.2, is_open=True), "label")
    [(_, first)] = cutter.end(now=10.0)
    assert (first.before, len(first.samples)) == (1.0, 1500)
    cutter.hear(ramp(0, 3000))
    cutter.tell(found_event(11.0, 11.5), "label")
    assert cutter.complete() == []  # it was never told to begin
    cutter.tell(found_event(11.0, 11.5, is_open=True), "label")
    cutter.tell(found_event(11.0, 11.5), "label")
    [(_, second)] = cutter.complete()
    assert (second.before, second.samples[0, 0], len(second.samples)) == (1.0, 0, 2500)


@pytest.mark.parametrize("confirm", [1, 4])
def test_the_onset_lies_at_the_pre_roll(confirm):
    sound = np.concatenate([level(0.0, 5.0), level(0.75, 4.0), level(0.0, 4.0)])
    pieces = [sound[first : first + 70] for first in range(0, len(sound), 70)]
    config = EventConfig(on=0.5, allow=("loud",), confirm=confirm, of=6)
    classifier = Classifier(Loud()).with_windows(None, 0.02)
    listener = Listener(classifier, [Script(pieces, is_live=False)], config, SnippetConfig(before=1.0, after=0.5))
    [report] = cut(listener)
    assert report.snippet.before == pytest.approx(1.0, abs=1e-3)
    onset = np.flatnonzero(report.snippet.samples)[0] / RATE
    assert abs(onset - 1.0) <= 0.02
    assert report.snippet.samples.max() == round(0.75 * 32768)


def test_a_listener_cuts_out_what_is_open_at_the_end():
    listener = Listener(Classifier(Loud()), [Script([level(0.9, 3.0)], is_live=False)], ONLY_LOUD, SnippetConfig())
    [report] = cut(listener)
    assert (report.snippet.start, report.snippet.before, len(report.snippet.samples)) == (0.0, 0.0, 3000)


def test_a_file_is_written_whole_and_then_told(tmp_path):
    told: list[Report] = []
    sink = SnippetSink(tmp_path / "cut", told.append)
    assert not sink.wants(event())
    assert sink.wants(snippet())
    sink.write(snippet(label="Door, wood"), threading.Event())
    [report] = told
    assert not sink.wants(report)
    assert report.snippet.path == tmp_path / "cut" / "yard_20300506T070811.000_door_wood.flac"
    assert len(report.snippet.samples) == 0
    samples, rate = soundfile.read(report.snippet.path, dtype="int16")
    assert (rate, len(samples), samples[0]) == (8000, 8000, 1)
    assert [path.name for path in (tmp_path / "cut").iterdir()] == [report.snippet.path.name]
    row = json.loads(json.dumps(as_dict(report)))
    assert (row["label"], row["start"], row["before"], row["snippet"]) == ("Door, wood", 2.0, 0.5, str(report.snippet.path))
    assert row["time"] == "2030-05-06T07:08:11.000+00:00"


def test_a_snippet_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        SnippetSink(tmp_path / "file", lambda report: None).write(snippet(), threading.Event())


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ({"before": -1}, "before is -1 s"),
        ({"after": float("nan")}, "after is nan s"),
        ({"longest": 601}, "longest is 601 s"),
        ({"before": 5.0, "longest": 5.0}, "more than before, 5 s, is needed"),
    ],
)
def test_settings_that_are_not_allowed(values, reason):
    with pytest.raises(ConfigError, match=reason):
        SnippetConfig(**values)
