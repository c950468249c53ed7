"""A run that is ended keeps what it has written, and stops in a word."""

from __future__ import annotations

import contextlib
import csv
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from support import SAMPLES, processes

from audiorep import interrupts
from audiorep.cli import main
from audiorep.files import WriteError
from audiorep.predict import classifier
from audiorep.predict.output import Outputs

HEADER = "path,start,end,head,label,score,error"


# ---------------------------------------------------------------- readers that leave, closed streams


@pytest.mark.slow
def test_a_reader_that_leaves_gets_no_cut_off_table(tmp_path):
    (tmp_path / "old.jsonl").write_text("older\n")
    command = processes.audiorep(
        "predict", "--model", "esc50", SAMPLES, "-o", tmp_path / "out.csv", "-o", tmp_path / "old.jsonl"
    )
    with processes.started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        process.stdout.close()
        said = process.stderr.read()
        process.wait(timeout=60)
    assert (process.returncode, said) == (1, "")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("old.jsonl", "older\n")]


@pytest.mark.slow
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_stream_that_is_closed_costs_nothing(tmp_path, number):
    out = tmp_path / "out.csv"
    words = processes.audiorep("predict", "--model", "esc50", str(SAMPLES / "rain.flac"), "-o", str(out))
    done = processes.run(["sh", "-c", f'exec "$@" {number}>&-', "sh", *words])
    assert (done.returncode, done.stderr) == (0, "")
    assert out.read_text().startswith(HEADER)
    assert len(out.read_text().splitlines()) == 2


# ---------------------------------------------------------------- signals


@pytest.fixture(scope="module")
def long_sound(tmp_path_factory) -> Path:
    """An hour and a half of noise after three seconds of it, in one folder."""
    folder = tmp_path_factory.mktemp("sounds")
    rate = 8000
    noise = (0.1 * np.random.default_rng(0).standard_normal(rate * 60)).astype(np.float32)
    soundfile.write(folder / "a_short.wav", noise[: rate * 3], rate)
    with soundfile.SoundFile(folder / "b_long.wav", "w", rate, 1) as file:
        for _ in range(90):
            file.write(noise)
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signals", "status"),
    [
        ("INT", 130),
        pytest.param("TERM", 143, marks=pytest.mark.full),
        pytest.param("HUP", 129, marks=pytest.mark.full),
        ("HUP HUP TERM", 129),
    ],
)
def test_every_signal_that_ends_a_run_keeps_what_ctrl_c_keeps(long_sound, tmp_path, signals, status):
    output = tmp_path / "out.csv"
    command = processes.audiorep("predict", "--model", "esc50", long_sound, "-o", output, "--view", "windows")
    with processes.started(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert "a_short.wav" in process.stdout.readline()
        time.sleep(0.5)
        for name in signals.split():
            os.killpg(process.pid, getattr(signal, f"SIG{name}"))
        _, said = processes.ended(process, 60)
    assert process.returncode == status, said
    assert "Stopped after" in said.splitlines()[-1]
    assert "Traceback" not in said
    found = rows(output)
    assert Path(found[0]["path"]).name == "a_short.wav"
    assert all(row["label"] and row["score"] for row in found)
    starts = [float(row["start"]) for row in found if Path(row["path"]).name == "b_long.wav"]
    assert 1 < len(starts) < 90 * 60
    assert starts == sorted(starts)
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


@pytest.mark.slow
def test_a_hang_up_that_nohup_ignores_stays_ignored(tmp_path):
    command = processes.audiorep("predict", "--model", "esc50", SAMPLES, "-o", tmp_path / "out.csv")
    with processes.started(command, ignored=[signal.SIGHUP], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.readline()
        os.killpg(process.pid, signal.SIGHUP)
        processes.ended(process, 120)
    assert process.returncode == 0
    assert {Path(row["path"]) for row in rows(tmp_path / "out.csv")} == set(SAMPLES.glob("*.flac"))


@pytest.mark.slow
@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), pytest.param("SIGHUP", 129, marks=pytest.mark.full)])
def test_a_preparation_that_is_ended_stops_its_workers_and_goes_on_later(long_sound, tmp_path, name, status):
    for number in range(60):
        (tmp_path / "data" / "ab"[number % 2]).mkdir(parents=True, exist_ok=True)
        os.link(long_sound / "a_short.wav", tmp_path / "data" / "ab"[number % 2] / f"{number}.wav")
    os.link(long_sound / "b_long.wav", tmp_path / "data" / "b" / "long.wav")
    output = tmp_path / "shards"
    command = processes.audiorep("data", "prepare", tmp_path / "data", "-o", output, "--shard-clips", 4, "--workers", 2)
    with processes.started(command, stderr=subprocess.PIPE) as process:
        processes.wait_until(lambda: list(output.glob("*-*.json")), process)
        os.killpg(process.pid, getattr(signal, name))
        _, said = processes.ended(process, 60)
    assert process.returncode == status
    assert said.startswith("Stopped")
    assert said.count("\n") == 1
    assert not [path.name for path in output.iterdir() if path.name.startswith(".")]


@pytest.fixture
def unignored():
    """This process answers to signals as if a terminal had started it."""
    before = {number: signal.getsignal(number) for number in interrupts.END_SIGNALS}
    for number in interrupts.END_SIGNALS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
@pytest.mark.parametrize("command", [["models", "info"], ["evaluate", "m.onnx", "clips"]])
def test_a_command_that_keeps_nothing_stops_in_a_word(unignored, monkeypatch, capsys, command, name, status):
    monkeypatch.setattr(sys, "argv", ["audiorep", *command])
    monkeypatch.setattr(classifier, "load", lambda *given, **named: signal.raise_signal(getattr(signal, name)))
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert (ended.value.code, capsys.readouterr().err) == (status, "Stopped.\n")


def test_signals_that_follow_at_once_do_not_disturb_the_end_but_ctrl_c_and_later_ones_do(unignored, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with interrupts.catch_signals() as came:
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        now[0] += 2 * interrupts.REPEAT_SECONDS
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
    assert came == [signal.SIGHUP, signal.SIGINT, signal.SIGTERM]


@pytest.mark.parametrize("error", [ImportError("initialization failed"), RuntimeError("a worker was killed"), SystemError()])
def test_an_error_that_a_library_makes_of_a_signal_is_no_traceback(unignored, monkeypatch, capsys, error):
    def broken(*given: object) -> None:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        raise error

    monkeypatch.setattr(sys, "argv", ["audiorep", "models", "info"])
    monkeypatch.setattr(classifier, "load", broken)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert (ended.value.code, capsys.readouterr().err) == (143, "Stopped.\n")


def test_a_full_disk_is_told_also_after_a_signal(unignored, monkeypatch, capsys):
    def broken(*given: object) -> None:
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        raise WriteError("out.csv cannot be written: No space left on device.")

    monkeypatch.setattr(sys, "argv", ["audiorep", "models", "info"])
    monkeypatch.setattr(classifier, "load", broken)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert (ended.value.code, capsys.readouterr().err) == (2, "Error: out.csv cannot be written: No space left on device.\n")


def test_a_signal_is_held_until_results_have_their_names(unignored):
    seen = []
    with interrupts.catch_signals() as came, pytest.raises(KeyboardInterrupt):  # noqa: PT012
        with interrupts.delay_signals():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            seen.append("after")
        seen.append("not reached")
    assert seen == ["after"]
    assert came == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_handlers_of_others_and_ignored_signals_stay(unignored):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, other := lambda *given: None)
    with interrupts.catch_signals():
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is other
        with interrupts.delay_signals():
            signal.raise_signal(signal.SIGHUP)
    assert signal.getsignal(signal.SIGTERM) is other


def test_signals_are_left_alone_outside_the_main_thread():
    met: list[object] = []

    def run() -> None:
        with interrupts.catch_signals(), interrupts.delay_signals():
            met.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(timeout=10)
    assert met == [signal.getsignal(signal.SIGTERM)]


def test_who_waits_for_a_pipe_s_reader_hears_signals(unignored, tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")
    timer = threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGTERM))
    timer.start()
    with interrupts.catch_signals(), pytest.raises(KeyboardInterrupt):
        Outputs([tmp_path / "old.csv", tmp_path / "pipe.csv"], None, [])
    timer.join(timeout=10)
    assert [path.name for path in tmp_path.iterdir()] == ["pipe.csv"]
