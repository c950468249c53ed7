"""Results are never lost and never half-written: full disks, links, pipes and long names."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from support import ROOT, SAMPLES, processes
from support.commands import audiorep
from support.results import FOUND, recording

from audiorep import files
from audiorep.errors import ConfigError
from audiorep.evaluation import plotting
from audiorep.export import coreml as coreml_export
from audiorep.files import WriteError, partial_path, replacing, reserve, write_json, write_text
from audiorep.predict.output import Outputs
from audiorep.predict.results import Detection
from audiorep.search import study

HEADER = "path,start,end,head,label,score,error"


def full(monkeypatch: pytest.MonkeyPatch, code: int = errno.ENOSPC) -> None:
    """Every text file opened from now on is on a full disk, which shows when its buffer is written."""

    class Full:
        def __init__(self, path: Path) -> None:
            path.touch()

        def __enter__(self) -> Full:
            return self

        def __exit__(self, *error: object) -> None:
            raise OSError(code, os.strerror(code))

        def write(self, text: str) -> int:
            return len(text)

    monkeypatch.setattr("audiorep.predict.output.open_text", Full)
    monkeypatch.setattr("audiorep.files.open_text", Full)


def predicted(*words: object, **options: object) -> subprocess.CompletedProcess[str]:
    return processes.run(processes.audiorep("predict", "--model", "esc50", *words), **options)


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


# ---------------------------------------------------------------- full disks


def test_a_full_disk_is_one_sentence_and_leaves_the_older_table(tmp_path, monkeypatch):
    (tmp_path / "out.csv").write_text("older")
    full(monkeypatch)
    with pytest.raises(WriteError, match=r"out\.csv .*No space left"), Outputs([tmp_path / "out.csv"], None, []) as outputs:
        outputs.write(recording(tmp_path / "a.wav"), FOUND)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("out.csv", "older")]


def test_a_full_disk_at_ctrl_c_leaves_no_cut_off_table_either(tmp_path, monkeypatch):
    full(monkeypatch)
    with pytest.raises(WriteError, match="No space left"), Outputs([tmp_path / "out.csv"], None, []):
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_limit_on_the_size_of_files_leaves_no_cut_off_table(tmp_path):
    code = """
import resource, signal, sys
from pathlib import Path
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
sys.path.insert(0, sys.argv[2])
from support.commands import audiorep
from support.results import FOUND, recording
from audiorep.predict.output import Outputs
try:
    with Outputs([Path(sys.argv[1])], None, []) as outputs:
        for number in range(1000):
            outputs.write(recording(Path(f"{number}.wav")), FOUND)
except Exception as error:
    print(error)
"""
    done = processes.run(processes.python(code, tmp_path / "out.csv", ROOT / "tests"), cwd=tmp_path)
    assert done.stdout == f"{tmp_path / 'out.csv'} cannot be written: File too large.\n", done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_full_device_is_named(tmp_path):
    done = predicted(SAMPLES / "rain.flac", "-o", "/dev/full", "--format", "csv")
    assert (done.returncode, done.stderr) == (2, "Error: /dev/full cannot be written: No space left on device.\n")
    for words in (["models", "info"], ["--help"]):
        with open("/dev/full", "w") as nowhere:  # noqa: PTH123
            done = processes.run(processes.audiorep(*words), stdout=nowhere)
        sentence = "Error: The standard output cannot be written: No space left on device.\n"
        assert (done.returncode, done.stderr) == (2, sentence), words


@pytest.mark.slow
def test_a_screen_that_is_full_leaves_no_cut_off_table(tmp_path):
    with open("/dev/full", "w") as nowhere:  # noqa: PTH123
        done = predicted(SAMPLES, "-o", tmp_path / "out.csv", stdout=nowhere)
    assert done.returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_another_file_is_not_told_of_the_output(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"gone\.wav"), replacing(tmp_path / "out.csv"):
        (tmp_path / "gone.wav").read_bytes()
    assert list(tmp_path.iterdir()) == []


def test_a_search_whose_journal_finds_no_room_names_its_folder(tmp_path, monkeypatch):
    def full(job: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(study, "open_study", full)
    with pytest.raises(WriteError, match=f"{tmp_path} .*No space left"):
        study.work(SimpleNamespace(folder=tmp_path), 1, np.inf, 0, print, print)


# ---------------------------------------------------------------- devices, pipes, links


def test_a_pipe_is_written_to_as_results_come(tmp_path):
    pipe = tmp_path / "pipe.csv"
    os.mkfifo(pipe)
    heard: list[str] = []
    reader = threading.Thread(target=lambda: heard.append(pipe.read_text()), daemon=True)
    reader.start()
    with Outputs([pipe], None, []) as outputs:
        outputs.write(recording(tmp_path / "a.wav"), FOUND)
    reader.join(timeout=10)
    assert len(heard[0].splitlines()) == 3
    assert pipe.is_fifo()


def test_a_pipe_for_whole_files_gets_them_whole(tmp_path):
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    heard: list[str] = []
    reader = threading.Thread(target=lambda: heard.append(pipe.read_text()), daemon=True)
    reader.start()
    reserve(pipe)
    write_json(pipe, {"a": 1})
    reader.join(timeout=10)
    assert json.loads(heard[0]) == {"a": 1}
    assert pipe.is_fifo()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["/dev/null", pytest.param("/dev/stdout", marks=pytest.mark.full), "link to link"])
def test_what_is_open_already_is_written_to_where_it_stands(tmp_path, name):
    if name.startswith("link"):
        (tmp_path / "link").symlink_to("/dev/stdout")
        (tmp_path / "link to link").symlink_to("link")
        name = str(tmp_path / name)
    with (tmp_path / "log.txt").open("a") as log:
        log.write("before\n")
        log.flush()
        done = predicted(SAMPLES / "rain.flac", "-o", name, "--format", "csv", stdout=log)
    assert (done.returncode, done.stderr) == (0, "")
    table = [] if name == "/dev/null" else [HEADER, f"{SAMPLES / 'rain.flac'},0.000,5.000,label,rain"]
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert (lines[0], lines[-1].split()[0]) == ("before", "rain")
    assert [line.rsplit(",", 2)[0] if line != HEADER else line for line in lines[1:-1]] == table
    assert Path("/dev/null").is_char_device()


@pytest.mark.slow
def test_process_substitution_gets_the_table(tmp_path):
    words = processes.audiorep("predict", "--model", "esc50", str(SAMPLES / "rain.flac"), "--format", "csv", "-o")
    done = processes.run(["bash", "-c", '"$@" >(cat > copy.csv); wait; sleep 0.2', "bash", *words], cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "copy.csv").read_text().splitlines()[0] == HEADER


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/proc/thread-self/fd/1"])
def test_an_open_file_is_known_by_any_of_its_names(tmp_path, name):
    (tmp_path / "link").symlink_to(name)
    assert files._descriptor(Path(name)) == files._descriptor(tmp_path / "link") == 1
    assert files._descriptor(Path(f"/proc/{os.getppid()}/fd/1")) is None
    assert files._descriptor(tmp_path / "1") is None


def test_every_command_s_output_may_be_a_device(tmp_path):
    reserve(Path("/dev/null"))
    write_text(Path("/dev/null"), "text")
    assert Path("/dev/null").is_char_device()
    with pytest.raises(WriteError, match=r"/dev/full .*No space left"):
        write_text(Path("/dev/full"), "text")
    with pytest.raises(WriteError, match=r"/dev/fd/987 .*Bad file descriptor"):
        write_text(Path("/dev/fd/987"), "text")


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "real.csv").write_text("older")
    (tmp_path / "link.csv").symlink_to("far/real.csv")
    (tmp_path / "chain.csv").symlink_to("link.csv")
    (tmp_path / "new.csv").symlink_to("far/not yet/there.csv")
    for name, place in (("link.csv", "real.csv"), ("chain.csv", "real.csv"), ("new.csv", "not yet/there.csv")):
        with Outputs([tmp_path / name], None, []) as outputs:
            outputs.write(recording(Path(name)), FOUND)
        assert (tmp_path / name).is_symlink()
        assert (tmp_path / "far" / place).read_text().splitlines()[1].startswith(name)


def test_a_link_that_leads_nowhere_is_refused(tmp_path):
    (tmp_path / "round.csv").symlink_to("round.csv")
    with pytest.raises(WriteError, match=r"round\.csv .*Too many levels"):
        Outputs([tmp_path / "round.csv"], None, [])
    assert (tmp_path / "round.csv").is_symlink()


def test_a_private_file_stays_private(tmp_path):
    (tmp_path / "out.json").write_text("older")
    (tmp_path / "out.json").chmod(0o600)
    write_json(tmp_path / "out.json", [])
    assert (tmp_path / "out.json").stat().st_mode & 0o777 == 0o600


def test_a_recording_is_never_overwritten_by_a_table(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(8000), 8000)
    (tmp_path / "link.wav").symlink_to("a.wav")
    before = (tmp_path / "a.wav").read_bytes()
    for name in ("a.wav", "link.wav"):
        with pytest.raises(ConfigError, match="recordings"):
            Outputs([tmp_path / name], "csv", [tmp_path / "a.wav"])
    assert (tmp_path / "a.wav").read_bytes() == before


# ---------------------------------------------------------------- names


@pytest.mark.parametrize("name", ["x" * 251 + ".csv", "é" * 125 + ".csv", "音" * 83 + ".jsonl", "a." + "b" * 200 + ".csv"])
def test_a_name_as_long_as_names_may_be_is_written(tmp_path, name):
    assert len(os.fsencode(name)) <= 255
    with Outputs([tmp_path / name], None, []) as outputs:
        outputs.write(recording(tmp_path / "a.wav"), FOUND)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_temporary_names_are_short_apart_and_have_the_suffix(tmp_path):
    names = [f"{'x' * 240}{number}.onnx" for number in range(20)] + [f"{'y' * n}.b{'z' * n}" for n in range(1, 120)]
    partials = [partial_path(tmp_path / name).name for name in names]
    assert len(set(partials)) == len(names)
    assert max(map(len, partials)) <= files.MAX_NAME_BYTES
    assert all(partial.startswith(".") and partial.endswith(".onnx") for partial in partials[:20])
    assert partial_path(tmp_path / "out.csv").name == ".out.part.csv"


def test_a_name_that_is_too_long_is_one_sentence(tmp_path):
    with pytest.raises(WriteError, match=r"x\.csv .*File name too long"):
        Outputs([tmp_path / ("x" * 252 + ".csv")], None, [])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("format", ["audacity", "raven"])
def test_a_recording_whose_label_file_has_too_long_a_name_costs_only_that(tmp_path, format):
    paths = [tmp_path / "in" / name for name in ("a.wav", "y" * 250 + ".wav", "z.wav")]
    with Outputs([tmp_path / "out"], format, paths) as outputs:
        lost = [outputs.write(recording(path), FOUND) for path in paths]
    assert [len(errors) for errors in lost] == [0, 1, 0]
    assert f"{paths[1].name}.{format}.txt cannot be written: File name too long." in str(lost[1][0])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"a.wav.{format}.txt", f"z.wav.{format}.txt"]


def test_the_command_goes_on_after_a_label_file_that_cannot_be_written(tmp_path):
    names = ["a.flac", "y" * 249 + ".flac", "z.flac"]
    for name in names:
        shutil.copy(SAMPLES / "rain.flac", tmp_path / name)
    done = audiorep(
        "predict", tmp_path, "--model", "esc50", "-o", tmp_path / "out", "--format", "raven", "-o", tmp_path / "out.csv"
    )
    assert done.returncode == 1
    assert "cannot be written: File name too long." in done.stderr
    assert done.stderr.endswith("1 of 3 files could not be used.\n")
    assert len(rows(tmp_path / "out.csv")) == 3
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.flac.raven.txt", "z.flac.raven.txt"]


def test_a_full_disk_ends_label_files_too(tmp_path, monkeypatch):
    full(monkeypatch)
    with Outputs([tmp_path / "out"], "raven", [tmp_path / "a.wav"]) as outputs, pytest.raises(WriteError, match="No space"):
        outputs.write(recording(tmp_path / "a.wav"), FOUND)
    assert list((tmp_path / "out").iterdir()) == []


def test_label_files_are_named_after_the_recording_and_not_after_what_a_link_leads_to(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "blob123").write_bytes(b"")
    (tmp_path / "in").mkdir()
    paths = [tmp_path / "in" / name for name in ("first.wav", "second.wav")]
    for path in paths:
        path.symlink_to("../store/blob123")
    (tmp_path / "in" / "season").symlink_to("../store")
    paths.append(tmp_path / "in" / "season" / "blob123")
    with Outputs([tmp_path / "out"], "raven", paths) as outputs:
        for path in paths:
            outputs.write(recording(path), FOUND)
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.txt")}
    assert written == {"first.wav.raven.txt", "second.wav.raven.txt", "season/blob123.raven.txt"}


def test_two_label_files_never_share_a_name(tmp_path):
    for folder in ("in/deep", "elsewhere/far"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "in" / "link").symlink_to("../elsewhere/far")
    paths = [tmp_path / "in" / "a.wav", tmp_path / "in" / "link" / ".." / "a.wav", tmp_path / "in" / "deep" / ".." / "a.wav"]
    with Outputs([tmp_path / "out"], "audacity", paths) as outputs:
        for number, path in enumerate(paths):
            outputs.write(recording(path), [Detection(number, number + 1.0, "label", "dog", 1.0)])
    texts = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
    assert sorted(texts) == ["a.wav.2.audacity.txt", "a.wav.3.audacity.txt", "a.wav.audacity.txt"]
    assert [texts[name][0] for name in ("a.wav.audacity.txt", "a.wav.2.audacity.txt", "a.wav.3.audacity.txt")] == list("012")


def test_label_files_of_an_earlier_run_are_replaced(tmp_path):
    for text in ("dog", "cat"):
        with Outputs([tmp_path / "out"], "audacity", [tmp_path / "a.wav"]) as outputs:
            outputs.write(recording(tmp_path / "a.wav"), [Detection(0.0, 1.0, "label", text, 1.0)])
    [path] = (tmp_path / "out").iterdir()
    assert "cat" in path.read_text()


def test_a_folder_for_label_files_may_be_a_link_and_not_a_device(tmp_path):
    (tmp_path / "out").symlink_to("not there yet")
    with Outputs([tmp_path / "out"], "raven", [tmp_path / "a.wav"]) as outputs:
        outputs.write(recording(tmp_path / "a.wav"), FOUND)
    assert [path.name for path in (tmp_path / "not there yet").iterdir()] == ["a.wav.raven.txt"]
    with pytest.raises(ConfigError, match="/dev/null is a file"):
        Outputs([Path("/dev/null")], "raven", [])


@pytest.mark.parametrize(
    ("name", "start"), [("a.svg", b"<?xml"), ("a", b"\x89PNG"), ("a.part", b"\x89PNG"), ("pipe", b"\x89PNG")]
)
def test_a_picture_is_of_the_kind_its_name_says_or_a_png(tmp_path, name, start):
    path = tmp_path / name
    if name == "pipe":
        os.mkfifo(path)
    heard: list[bytes] = []
    reader = threading.Thread(target=lambda: heard.append(path.read_bytes()), daemon=True)
    if name == "pipe":
        reader.start()
    plotting.save(plotting.card(2, 2), path)
    if name == "pipe":
        reader.join(timeout=10)
    assert (heard or [path.read_bytes()])[0].startswith(start)


# ---------------------------------------------------------------- folders that are one result


def packages(folder: Path) -> dict[str, str]:
    return {path.name: (path / "weights").read_text() for path in folder.iterdir() if not path.is_symlink()}


def test_a_folder_s_older_self_stays_until_the_new_one_is_whole(tmp_path, monkeypatch):
    place = tmp_path / "m.mlpackage"
    (tmp_path / "link.mlpackage").symlink_to("m.mlpackage")
    for text, path in (("first", place), ("second", place), ("third", tmp_path / "link.mlpackage")):
        with coreml_export._replacing(path) as partial:
            partial.mkdir()
            (partial / "weights").write_text(text)
        assert packages(tmp_path) == {"m.mlpackage": text}
    with pytest.raises(ZeroDivisionError), coreml_export._replacing(place) as partial:
        partial.mkdir(1 // 0)
    with pytest.raises(WriteError, match=r"m\.mlpackage .*No such file"), coreml_export._replacing(place):
        pass  # nothing was made
    assert packages(tmp_path) == {"m.mlpackage": "third"}
