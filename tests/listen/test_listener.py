"""Events of live sources: with the right times, across gaps, and whatever the sources and readers do."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support import SAMPLES, processes
from support.info import RATE
from support.live import ONLY_LOUD, Loud, Script, level, reports, told
from support.streaming import Server, flac, needs_ffmpeg

from audiorep.errors import AudioError, ConfigError
from audiorep.listen import feeds
from audiorep.listen.address import Address
from audiorep.listen.choose import source_of
from audiorep.listen.feeds import Ended, Feed, Gap, Piece
from audiorep.listen.listener import Listener
from audiorep.listen.reports import as_dict
from audiorep.listen.sound_files import SoundFile
from audiorep.listen.sources import LostError
from audiorep.predict.classifier import Classifier
from audiorep.predict.events import EventConfig


@pytest.fixture
def loud_file(tmp_path) -> Path:
    path = tmp_path / "loud.wav"
    soundfile.write(path, np.concatenate([level(0, 3), level(0.9, 2), level(0, 3)]), RATE, "FLOAT")
    return path


def test_a_file_has_the_events_of_predict(loud_file):
    classifier = Classifier(Loud())
    found = reports(Listener(classifier, [SoundFile(loud_file, RATE)], ONLY_LOUD))
    expected = classifier(loud_file).events(ONLY_LOUD)
    assert [(label, start, pytest.approx(end, abs=2e-3)) for label, start, end, is_open in told(found) if not is_open] == [
        (event.label, event.start, event.end) for event in expected
    ]
    assert found[-1].ended
    assert found[-1].error is None
    assert found[0].began is None


def test_several_sources_are_heard_together(loud_file, tmp_path):
    soundfile.write(tmp_path / "quiet.wav", level(0.1, 8), RATE, "FLOAT")
    session = Loud()
    sources = [SoundFile(loud_file, RATE), SoundFile(tmp_path / "quiet.wav", RATE), source_of(f"again={loud_file}", RATE)]
    found = reports(Listener(Classifier(session), sources, ONLY_LOUD))
    assert len(told(found)) == 4
    assert {report.source for report in found} == {str(loud_file), str(tmp_path / "quiet.wav"), "again"}
    assert sum(report.ended for report in found) == 3
    assert max(session.batches) > 1


def test_two_sources_of_one_name_are_refused(loud_file):
    with pytest.raises(ConfigError, match=r"Two sources are named .*loud.wav. Give one another name: second=.*loud.wav"):
        Listener(Classifier(Loud()), [SoundFile(loud_file, RATE)] * 2)


def test_samples_that_are_no_numbers_are_a_gap():
    broken = level(0.9, 0.5)
    broken[3] = np.nan
    found = reports(
        Listener(Classifier(Loud()), [Script([level(0.9, 2.0), broken, level(0.9, 2.0)], is_live=False)], ONLY_LOUD)
    )
    [gap] = [report.gap for report in found if report.gap is not None]
    assert gap.seconds == 0.5
    assert "not a number" in gap.reason or "NaN" in gap.reason
    assert told(found)[2:] == [("loud", 2.5, 3.5, True), ("loud", 2.5, 4.5, False)]


def test_what_a_source_lost_is_a_gap():
    source = Script([level(0.9, 2.0), LostError("the card sent too much"), level(0.9, 2.0)], is_live=False)
    found = reports(Listener(Classifier(Loud()), [source], ONLY_LOUD))
    assert [report.gap.reason for report in found if report.gap is not None] == ["the card sent too much"]
    assert len(told(found)) == 4


def test_a_source_that_cannot_be_opened_does_not_end_the_others(loud_file, tmp_path):
    found = reports(
        Listener(Classifier(Loud()), [SoundFile(tmp_path / "none.wav", RATE), SoundFile(loud_file, RATE)], ONLY_LOUD)
    )
    errors = [report for report in found if report.error is not None]
    assert ["none.wav does not exist" in str(report.error) for report in errors] == [True]
    assert len(told(found)) == 2


def test_a_lost_connection_is_a_gap_with_its_length(monkeypatch):
    monkeypatch.setattr(feeds, "FIRST_WAIT", 0.4)
    source = Script([level(0.9, 2.0)], [level(0.9, 2.0)], [])
    listener = Listener(Classifier(Loud()), [source], ONLY_LOUD)
    found = reports(listener, count=4)
    assert told(found[:2]) == [("loud", 0.0, 1.0, True), ("loud", 0.0, 2.0, False)]
    [gap] = [report.gap for report in found if report.gap is not None]
    assert gap.reason == "script ended"
    assert gap.seconds == 0  # two seconds of sound came at once, after less than that
    assert told(found[3:]) == [("loud", 2.0, 3.0, True)]
    assert source.opened >= 2


def test_times_go_on_behind_a_gap(monkeypatch):
    monkeypatch.setattr(feeds, "FIRST_WAIT", 0.8)
    source = Script([level(0.0, 1.5)], [level(0.9, 0.1), 0.2, level(0.9, 1.5)], [])
    found = reports(Listener(Classifier(Loud()), [source], ONLY_LOUD), count=2)
    [gap] = [report.gap for report in found if report.gap is not None]
    assert 0.6 < gap.seconds < 3
    [(_, start, _, _)] = told(found)
    assert start == pytest.approx(1.5 + gap.seconds)
    assert found[-1].at(start) is not None


def test_a_loss_is_told_at_once_with_the_end_of_what_was_heard(monkeypatch):
    monkeypatch.setattr(feeds, "FIRST_WAIT", 1.0)
    found = []
    for report in Listener(Classifier(Loud()), [Script([level(0.9, 2.3)], [level(0.9, 1.0)], [])], ONLY_LOUD).run():
        found.append((time.monotonic(), report))
        if report.gap is not None:
            break
    (_, begun), (_, ended), (at, lost), (back, gap) = found
    assert (begun.event.is_open, ended.event.is_open) == (True, False)
    assert ended.event.end == pytest.approx(2.3, abs=2e-3)
    assert (lost.lost, lost.seconds) == ("script ended", pytest.approx(2.3))
    assert back - at > 0.8
    assert as_dict(lost)["lost"] == "script ended"
    assert gap.gap.reason == "script ended"


@pytest.mark.slow
def test_what_a_connection_held_back_at_its_beginning_is_no_part_of_the_gap(monkeypatch):
    monkeypatch.setattr(feeds, "FIRST_WAIT", 1.5)
    source = Script([level(0.0, 1.5)], [level(0.0, 0.1), level(0.0, 1.3), AudioError("script broke.")], [level(0.9, 1.5)], [])
    found = reports(Listener(Classifier(Loud()), [source], ONLY_LOUD), count=3)
    first, second = (report.gap for report in found if report.gap is not None)
    assert first.seconds < 1.0  # and not the 1.4 s from the last samples to the first ones
    assert second.reason == "script broke."


def test_a_silent_connection_is_given_up(monkeypatch):
    monkeypatch.setattr(feeds, "STALL_SECONDS", 0.6)
    monkeypatch.setattr(feeds, "FIRST_WAIT", 0.05)
    source = Script([level(0.9, 1.0), 60.0], [level(0.0, 0.1), level(0.0, 2.0)], [])
    begun = time.monotonic()
    found = reports(Listener(Classifier(Loud()), [source], ONLY_LOUD), count=3)
    assert time.monotonic() - begun < 5
    [gap] = [report.gap for report in found if report.gap is not None]
    assert "sent nothing for 0.6 s" in gap.reason
    assert told(found) == [("loud", 0.0, 1.0, True), ("loud", 0.0, 1.0, False)]


def test_a_connection_may_take_longer_to_begin_than_to_be_given_up(monkeypatch):
    monkeypatch.setattr(feeds, "STALL_SECONDS", 0.3)
    source = Script([1.0, level(0.9, 1.5)], [])
    assert told(reports(Listener(Classifier(Loud()), [source], ONLY_LOUD), count=1)) == [("loud", 0.0, 1.0, True)]
    assert source.opened == 1


def test_a_source_that_fails_is_tried_again_after_longer_and_longer_pauses(monkeypatch):
    monkeypatch.setattr(feeds, "FIRST_WAIT", 0.05)
    down = [AudioError("script is down.") for _ in range(3)]
    source = Script([level(0.0, 1.0), AudioError("script broke.")], *down, [level(0.9, 1.5)], [])
    found = reports(Listener(Classifier(Loud()), [source], ONLY_LOUD), count=2)
    assert [report.gap.reason for report in found if report.gap is not None] == ["script broke."]
    assert source.closed >= 1


def test_a_live_source_that_never_was_there_is_an_error():
    found = reports(Listener(Classifier(Loud()), [Script(AudioError("script is not there."))], ONLY_LOUD))
    assert [str(report.error) for report in found] == ["script is not there."]


def test_what_is_too_much_is_lost_from_its_beginning(monkeypatch):
    monkeypatch.setattr(feeds, "KEPT_SECONDS", 2.0)
    source = Script([level(k / 10, 0.5) for k in range(10)])
    feed = Feed(source, threading.Event())
    feed.start()
    deadline = time.monotonic() + 5
    while source.closed == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    first, *rest = feed.take()
    feed.stop()
    assert isinstance(first, Gap)
    assert (first.seconds, first.reason) == (3.0, "the model was too slow")
    assert [round(float(piece.samples[0, 0]), 1) for piece in rest if isinstance(piece, Piece)] == [0.6, 0.7, 0.8, 0.9]


def test_a_file_waits_for_the_model(monkeypatch):
    monkeypatch.setattr(feeds, "KEPT_SECONDS", 2.0)
    feed = Feed(Script([level(k / 10, 0.5) for k in range(10)], is_live=False), threading.Event())
    feed.start()
    found: list[object] = []
    while not any(isinstance(arrival, Ended) for arrival in found):
        time.sleep(0.05)
        found += feed.take()
    assert len([arrival for arrival in found if isinstance(arrival, Piece)]) == 10
    assert not any(isinstance(arrival, Gap) for arrival in found)


@pytest.mark.slow
def test_closing_ends_open_events_and_threads(loud_file):
    before = {thread for thread in threading.enumerate() if thread.name.startswith("listen")}
    listener = Listener(Classifier(Loud()), [SoundFile(loud_file, RATE, realtime=True)], ONLY_LOUD)
    run = listener.run()
    first = next(run)
    assert told([first]) == [("loud", 3.0, 3.5, True)] or first.event.start >= 2.5
    run.close()
    [closed] = listener.close()
    assert closed.event.start == first.event.start
    assert not closed.event.is_open
    assert {thread for thread in threading.enumerate() if thread.name.startswith("listen")} <= before


def test_settings_must_name_labels_of_the_model(loud_file):
    with pytest.raises(ConfigError, match="dragon is no label"):
        Listener(Classifier(Loud()), [SoundFile(loud_file, RATE)], EventConfig(allow=("dragon",)))


# ---------------------------------------------------------------- the command


@pytest.mark.slow
def test_the_command_hears_raw_samples_and_tells_events_as_they_are(tmp_path):
    samples, rate = soundfile.read(SAMPLES / "siren.flac")
    (tmp_path / "raw").write_bytes((samples * 32767).astype("<i2").tobytes())
    words = processes.audiorep(
        "listen", "-", "--rate", str(rate), "--model", "esc50", "--json", "-o", str(tmp_path / "a.jsonl")
    )
    with (tmp_path / "raw").open("rb") as raw:
        done = processes.run([*words, "--threshold", "0.3"], stdin=raw)
    assert done.returncode == 0, done.stderr
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["label"] for row in rows if "label" in row} >= {"siren"}
    assert rows[-1]["ended"]
    kept = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    assert [row for row in rows if row.get("end") is not None] == kept


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "status", "reason"),
    [
        (["nothing.wav"], 1, "nothing.wav does not exist"),
        (["-"], 1, "give the rate of its raw samples"),
        (["-", "--format", "mp3"], 2, "known are s16le"),
        (["a.wav", "-o", "out.txt"], 2, "must end in .csv, .jsonl, .audacity.txt or .raven.txt"),
        (["a.wav", "-o", "none/out.csv"], 2, "none/out.csv cannot be written"),
        (["a.wav", "b.wav", "-o", "out.raven.txt"], 2, "can hold the labels of one source"),
        (["a.wav", "--webhook", "example.org"], 2, "is no address of a webhook"),
        (["a.wav", "--mqtt", "http://host"], 2, "is no address of a broker"),
        (["a.wav", "--home-assistant"], 2, "add --mqtt"),
        (["a.wav", "--snippets", "cut", "--before", "-1"], 2, "before is -1 s"),
        (["a.wav", "a.wav"], 2, "Two sources are named a.wav"),
        (["a.wav", "--hop", "-1"], 2, "hop"),
        ([], 2, "Missing argument"),
    ],
)
def test_the_command_refuses_in_one_sentence(words, status, reason, tmp_path):
    done = processes.run(processes.audiorep("listen", *words), stdin=subprocess.DEVNULL, cwd=tmp_path)
    assert done.returncode == status, done.stderr
    assert reason in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(("ending", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_ctrl_c_and_sigterm_end_open_events(tmp_path, ending, status):
    soundfile.write(tmp_path / "long.wav", 0.3 * np.random.default_rng(0).standard_normal(60 * 16_000), 16_000)
    words = processes.audiorep(
        "listen", "long.wav", "--realtime", "--json", "--model", "esc50", "-o", "out.csv", "--no-unknown"
    )
    with processes.started(
        [*words, "--threshold", "0.05"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path
    ) as process:
        first = json.loads(process.stdout.readline())
        process.send_signal(ending)
        rest, error = process.communicate(timeout=30)
    assert process.returncode == status
    assert "open events were ended" in error
    assert first["end"] is None
    ended = [row for row in map(json.loads, rest.splitlines()) if row["label"] == first["label"] and row["end"] is not None]
    assert ended[0]["start"] == first["start"]
    assert f",{first['label']}," in (tmp_path / "out.csv").read_text()


def test_what_lies_before_a_gap_is_heard_to_its_end(monkeypatch):
    monkeypatch.setattr(feeds, "FIRST_WAIT", 0.05)
    source = Script([level(0.0, 2.0), level(0.9, 0.4)], [level(0.0, 2.0)], [])
    found = reports(Listener(Classifier(Loud()), [source], ONLY_LOUD), count=3)
    assert told(found) == [
        ("loud", 2.0, pytest.approx(2.4, abs=2e-3), True),
        ("loud", 2.0, pytest.approx(2.4, abs=2e-3), False),
    ]
    assert found[2].gap is not None


def test_pauses_grow_until_something_is_heard(monkeypatch):
    monkeypatch.setattr(feeds, "FIRST_WAIT", 0.1)
    down = [AudioError("script is down.") for _ in range(3)]
    source = Script([level(0.0, 1.0)], *down, [level(0.9, 1.5)], [])
    begun = time.monotonic()
    found = reports(Listener(Classifier(Loud()), [source], ONLY_LOUD), count=2)
    assert 0.1 + 0.2 + 0.4 + 0.8 <= time.monotonic() - begun < 8
    assert [report.gap.reason for report in found if report.gap is not None] == ["script ended"]


@needs_ffmpeg
def test_an_address_that_ends_is_heard_again(monkeypatch):
    monkeypatch.setattr(feeds, "FIRST_WAIT", 0.2)
    server = Server(flac(np.concatenate([level(0, 1), level(0.9, 1), level(0, 1)])[:, 0].repeat(16)))
    listener = Listener(Classifier(Loud()), [Address(server.address, RATE)], ONLY_LOUD)
    found = reports(listener, count=5)
    server.close()
    assert [(is_open, round(start, 1)) for _, start, _, is_open in told(found[:2])] == [(True, 1.0), (False, 1.0)]
    [gap] = [report.gap for report in found if report.gap is not None]
    assert "ended" in gap.reason
    assert 0 <= gap.seconds < 5
    (_, start, _, _) = told(found)[2]
    assert start == pytest.approx(3.0 + gap.seconds + 1.0, abs=0.1)
    assert server.requests >= 2
