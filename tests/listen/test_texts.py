"""Lines of events in files that other programs read, and files that go on where they were."""

from __future__ import annotations

import json
import os
import threading

import pytest
from support.reports import event, gap, snippet

from audiorep.errors import ConfigError
from audiorep.listen.reports import Report
from audiorep.listen.texts import TextSink, file_sink, json_line

NEVER = threading.Event()


def written(sink: TextSink[Report], *reports: Report) -> None:
    for report in filter(sink.wants, reports):
        sink.write(report, NEVER)
    sink.close()


def test_tables_hold_the_events_that_have_ended(tmp_path):
    for _ in range(2):  # a file that exists goes on
        written(file_sink(tmp_path / "out.csv", 16_000), event(is_open=True), event(), gap(), snippet())
    assert (tmp_path / "out.csv").read_text().splitlines() == [
        "source,time,end_time,start,end,head,label,score",
        *["yard,2030-05-06T07:08:10.000+00:00,2030-05-06T07:08:11.500+00:00,1.000,2.500,label,siren,0.9000"] * 2,
    ]


def test_json_lines_hold_the_same(tmp_path):
    written(file_sink(tmp_path / "out.jsonl", 16_000), event(is_open=True), event(), gap())
    [row] = map(json.loads, (tmp_path / "out.jsonl").read_text().splitlines())
    assert (row["start"], row["end"], row["label"], row["decided"]) == (1.0, 2.5, "siren", 3.0)


def test_labels_of_audacity_and_raven(tmp_path):
    written(file_sink(tmp_path / "a.audacity.txt", 16_000), event(), event("dog\tbark", 4, 5))
    assert (tmp_path / "a.audacity.txt").read_text() == "1.000000\t2.500000\tsiren 0.90\n4.000000\t5.000000\tdog\\tbark 0.90\n"
    written(file_sink(tmp_path / "a.raven.txt", 16_000), event(), event("dog", 4, 5))
    header, *rows = (tmp_path / "a.raven.txt").read_text().splitlines()
    assert header.startswith("Selection\tView\tChannel\tBegin Time (s)")
    assert rows == [
        "1\tSpectrogram 1\t1\t1.000000\t2.500000\t0.0\t8000.0\tsiren\t0.9000",
        "2\tSpectrogram 1\t1\t4.000000\t5.000000\t0.0\t8000.0\tdog\t0.9000",
    ]


@pytest.mark.parametrize("name", ["a.audacity.txt", "a.raven.txt"])
def test_labels_are_of_one_recording(tmp_path, name):
    with pytest.raises(ConfigError, match="can hold the labels of one source; 2 are heard"):
        file_sink(tmp_path / name, 16_000, sources=2)
    (tmp_path / name).write_text("")
    with pytest.raises(ConfigError, match="exists, and its times count from another beginning"):
        file_sink(tmp_path / name, 16_000)


def test_files_that_cannot_go_on_are_refused(tmp_path):
    (tmp_path / "other.csv").write_text("path,start,end\n")
    (tmp_path / "sound.csv").write_bytes(b"\xff\xfe\x00\x81")
    for name, reason in (
        ("out.txt", "must end in .csv, .jsonl, .audacity.txt or .raven.txt"),
        ("none/out.csv", "cannot be written: No such file or directory"),
        ("other.csv", "has other columns than 'source,time,"),
        ("sound.csv", "cannot be written: it is no text"),
    ):
        with pytest.raises(ConfigError, match=reason):
            file_sink(tmp_path / name, 16_000)
    assert (tmp_path / "other.csv").read_text() == "path,start,end\n"


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_a_pipe_without_a_reader_does_not_hold_the_start(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    sink = file_sink(tmp_path / "pipe.csv", 16_000)
    writing = threading.Thread(target=written, args=(sink, event()))
    writing.start()
    lines = (tmp_path / "pipe.csv").read_text().splitlines()
    writing.join(5)
    assert [line.partition(",")[0] for line in lines] == ["source", "yard"]


def test_json_tells_everything_but_sound_that_is_not_written_yet():
    assert not snippet().is_told
    found = json.loads(json_line(gap()))
    assert found == {
        "source": "yard",
        "time": "2030-05-06T07:08:16.000+00:00",
        "seconds": 7.0,
        "gap_seconds": 3.0,
        "reason": "the line was cut",
    }
    opened = json.loads(json_line(event(is_open=True)))
    assert (opened["end"], opened["time"]) == (None, "2030-05-06T07:08:10.000+00:00")
