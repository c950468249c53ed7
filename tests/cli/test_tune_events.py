"""`audiorep tune-events` writes settings that `predict --events` reads, or one sentence and nothing."""

from __future__ import annotations

import json
import shutil
import tomllib

import numpy as np
import pytest
import soundfile
from support import shared
from support.commands import audiorep

from audiorep.evaluation import tune_events
from audiorep.predict.events import EventConfig


@pytest.fixture(scope="module")
def place(trained, tmp_path_factory):
    """A checkpoint of tones, more tones that it does not know, and a long one."""
    folder, generator = tmp_path_factory.mktemp("place"), np.random.default_rng(3)
    shutil.copytree(trained[0], folder / "run")
    for label, hertz in {"low": 150, "middle": 500, "high": 1500}.items():
        (folder / "more" / label).mkdir(parents=True)
        for number in range(10):
            clip = 0.2 * np.sin(2 * np.pi * hertz * generator.uniform(0.8, 1.3) * np.arange(8000) / 4000)
            soundfile.write(folder / "more" / label / f"n{number}.wav", clip + 0.02 * generator.standard_normal(8000), 4000)
    soundfile.write(folder / "tone.wav", 0.2 * np.sin(2 * np.pi * 500 * np.arange(160_000) / 4000), 4000)
    return folder


@pytest.fixture(autouse=True)
def shared_checkpoints():
    with shared.checkpoints():
        yield


WISH = ("--split", "all", "--hours", "0.4", "--precision", "0.15")


@pytest.mark.slow
def test_the_file_is_read_by_predict_and_what_was_measured_is_shown(place):
    done = audiorep("tune-events", "run", "more", "-o", "out/events.toml", *WISH, "--json", cwd=place)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "Written: out/events.toml\n"
    values = json.loads(done.stdout)
    text = (place / "out" / "events.toml").read_text()
    assert EventConfig.from_dict(tomllib.loads(text)) == EventConfig.from_dict(values["settings"])
    assert text.startswith("# Settings of events for run, heard every")
    assert values["wish"] == {"precision": 0.15}
    assert (values["model"], values["clips"], values["hours"]) == ("run", 30, pytest.approx(0.2))
    heard = audiorep("predict", "tone.wav", "--model", "run", "--events", "out/events.toml", "--json", cwd=place)
    assert heard.returncode == 0, heard.stderr


@pytest.mark.slow
def test_the_table_says_before_and_after_and_the_hop_is_told(place):
    done = audiorep("tune-events", "run", "more", "-o", "hop.toml", *WISH, "--hop", "0.25", cwd=place)
    assert done.returncode == 0, done.stderr
    head, titles, before, after, chosen, measured = done.stdout.splitlines()
    assert head == "random all split of more (30 clips): a precision of at least 0.15"
    assert titles.split()[:4] == ["false", "alarms", "an", "hour"]
    assert before.startswith("model's own settings")
    assert after.startswith("settings for the wish")
    assert chosen.startswith("Chosen: on 0.")
    assert "0.2 h of soundscapes" in measured
    assert "heard every 0.25 s" in (place / "hop.toml").read_text()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["run", "TONES", "-o", "no.toml", "--split", "all"], "trained on"),
        (["run", "TONES", "-o", "no.toml"], "at least 20"),
        (["run", "more", "-o", "no.json", "--split", "all"], "is no .toml file"),
        (["run", "more", "-o", "no.toml", "--split", "all", "--false-alarms", "1", "--precision", "0.9"], "two wishes"),
        (["run", "more", "-o", "no.toml", "--split", "all", "--false-alarms", "0.01"], "Take at least"),
        (["run", "more", "-o", "no.toml", "--split", "all", "--hours", "0.1"], "hours is 0.1"),
        (["run", "more", "-o", "no.toml", "--split", "all", "--noise", "nowhere"], "nowhere has no recordings"),
        (["run", "nowhere", "-o", "no.toml"], "does not exist"),
        (["nothing.onnx", "more", "-o", "no.toml"], "does not exist"),
        (["run", "more", "-o", "no.toml", *WISH[:4], "--precision", "0.9999"], "No settings keep"),
    ],
)
def test_what_cannot_be_is_one_sentence_and_leaves_nothing(words, told, place, tones):
    done = audiorep("tune-events", *[str(tones) if word == "TONES" else word for word in words], cwd=place)
    assert done.returncode == 2
    assert told in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(place.glob("no.*"))


@pytest.mark.slow
def test_a_precision_that_is_no_share_is_wrong_usage(place):
    done = audiorep("tune-events", "run", "more", "-o", "no.toml", "--precision", "7", cwd=place)
    assert done.returncode == 2
    assert "0 to 1 is allowed" in done.stderr


@pytest.mark.slow
def test_an_unreadable_clip_is_named_and_costs_only_itself(place):
    shutil.copytree(place / "more", place / "bad", dirs_exist_ok=True)
    (place / "bad" / "low" / "broken.wav").write_bytes(b"RIFF")
    done = audiorep("tune-events", "run", "bad", "-o", "without.toml", *WISH, cwd=place)
    assert done.returncode == 1
    assert "broken.wav" in done.stderr
    assert tomllib.loads((place / "without.toml").read_text())["on"] > 0


@pytest.mark.slow
def test_stopped_nothing_is_written(place, monkeypatch):
    def stopped(*given: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(tune_events, "choose", stopped)
    done = audiorep("tune-events", "run", "more", "-o", "stopped.toml", *WISH, cwd=place)
    assert (done.returncode, done.stderr) == (130, "Stopped; nothing was written.\n")
    assert not (place / "stopped.toml").exists()
