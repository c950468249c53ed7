"""Settings of events keep a wish on clips that they were not chosen by, or nothing is chosen."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

import audiorep
from audiorep.datasets import Example, trained_clips
from audiorep.errors import ConfigError, DataError
from audiorep.evaluation import event_choice
from audiorep.evaluation.event_choice import Wish, choose
from audiorep.evaluation.event_metrics import EventCounts
from audiorep.evaluation.intervals import rate_bound
from audiorep.evaluation.soundscapes import SECONDS
from audiorep.evaluation.tune_events import Drawing, EventTuning, Measured, tune, wish_of
from audiorep.info.model_info import ModelInfo
from audiorep.predict.classifier import Classifier
from audiorep.predict.events import EventConfig
from audiorep.predict.results import Recording
from audiorep.runtimes import Session

RATE = 1000
HERTZ = {"low": 100, "high one": 300}
LABELS = {"label": [*HERTZ, "nervous", "unknown"]}


class Tones(Session):
    """Hears how far tones stand out of noise; `nervous` it hears by chance, in one window of twenty with 0.6 to 0.9."""

    device = "test"

    def __init__(self, **more) -> None:
        self.info = ModelInfo("tones", LABELS, RATE, 1.0, 0.5, {"centered": False}, "sigmoid", unknown="unknown", **more)

    def run(self, waveform: np.ndarray, outputs: Sequence[str]) -> dict[str, np.ndarray]:
        power = np.abs(np.fft.rfft(waveform * np.hanning(waveform.shape[1]))) ** 2 + 1e-12
        floor = np.median(power, axis=1)
        out = [10 * np.log10(power[:, hertz - 3 : hertz + 4].max(1) / floor) for hertz in HERTZ.values()]
        heard = 1 / (1 + np.exp(-(np.stack(out, 1) - 38) / 4))
        chance = np.modf(np.abs(waveform).sum(1) * 1e4)[0]
        nervous = np.where(chance < 0.05, 0.6 + 6 * chance, 0.0)
        return {"label": np.concatenate([heard, nervous[:, None], np.ones((len(heard), 1))], 1).astype(np.float32)}


@pytest.fixture(scope="module")
def examples(tmp_path_factory) -> list[Example]:
    """Tones of one to three seconds."""
    folder, generator = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    found = []
    for number in range(32):
        label, path = list(HERTZ)[number % 2], folder / f"{number}.wav"
        times = np.arange(int(RATE * generator.uniform(1, 3))) / RATE
        soundfile.write(path, 0.3 * np.sin(2 * np.pi * HERTZ[label] * times), RATE)
        found.append(Example(path, {"label": (label,)}))
    return found


@pytest.fixture(scope="module")
def tuned(examples) -> EventTuning:
    return tune(Classifier(Tones()), examples, "valid", Wish(6.0), Drawing(1.2))


@pytest.mark.slow
def test_the_wish_is_kept_on_clips_that_nothing_was_chosen_by(tuned):
    assert tuned.before.false_alarms_an_hour > 100
    assert tuned.after.false_alarms_an_hour <= 6
    assert tuned.after.all.recall > 0.8
    assert tuned.after.all.f1 > tuned.before.all.f1
    assert tuned.before.all.references == tuned.after.all.references > 100
    assert tuned.after.hours == pytest.approx(0.6)


@pytest.mark.slow
def test_a_label_that_is_heard_by_chance_has_a_threshold_of_its_own(tuned):
    settings = tuned.settings
    assert settings.of_label("low").on < 0.6 < settings.of_label("nervous").on
    assert "unknown" not in settings.labels
    assert tuned.after.labels.get("nervous", EventCounts()).events <= 6


@pytest.mark.slow
def test_the_file_holds_the_settings_and_what_was_measured(tuned):
    text = tuned.toml()
    assert EventConfig.from_dict(tomllib.loads(text)) == tuned.settings
    head = [line for line in text.splitlines() if line.startswith("# ")]
    assert "tones" in head[0]
    assert "at most 6 false alarms an hour" in head[0]
    assert "32 clips: valid" in head[1]
    assert f"{tuned.after.false_alarms_an_hour:.1f} false alarms an hour" in " ".join(head)


def test_any_label_can_be_a_key_of_the_file():
    names = ["plain", "high one", 'say "hi"', "a.b", "größe", "a\tb\x7f", "\\n", "😀", "]"]
    config = EventConfig(on=0.5, off=0.2, labels={name: {"on": 0.25, "off": 0.1} for name in names})
    nothing = Measured({}, 1.0)
    text = EventTuning("m\nodel", 0.5, "s", 20, Wish(1.0), config, 0, nothing, nothing, []).toml()
    assert EventConfig.from_dict(tomllib.loads(text)) == config
    assert "[labels.plain]\non = 0.25\noff = 0.1\n" in text


@pytest.mark.slow
def test_values_for_json_are_those_that_were_measured(tuned):
    values = tuned.summary()
    assert values["wish"] == {"false_alarms": 6.0}
    assert values["after"]["false_alarms_an_hour"] == tuned.after.false_alarms_an_hour
    assert values["after"]["labels"]["low"]["references"] == tuned.after.labels["low"].references
    assert EventConfig.from_dict(values["settings"]) == tuned.settings


@pytest.mark.slow
def test_the_same_seed_finds_the_same_and_a_precision_can_be_wished_for(examples):
    one, same = (tune(Classifier(Tones()), examples, "valid", Wish(precision=0.9), Drawing(0.4, seed=3)) for _ in range(2))
    assert one.summary() == same.summary()
    assert one.after.all.precision > 0.85
    assert one.after.all.recall > 0.8


@pytest.mark.slow
def test_recordings_can_be_the_background(examples, tmp_path):
    generator = np.random.default_rng(0)
    soundfile.write(tmp_path / "room.wav", 0.01 * generator.standard_normal(200 * RATE), RATE)
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    found = tune(Classifier(Tones()), examples, "valid", Wish(precision=0.9), Drawing(0.4, tmp_path))
    assert "bad.wav" in found.summary()["unreadable"][0]
    assert found.after.all.recall > 0.8
    (tmp_path / "room.wav").unlink()
    with pytest.raises(DataError, match=r"no recordings that can be read; the first: .*bad\.wav"):
        tune(Classifier(Tones()), examples, "valid", Wish(precision=0.9), Drawing(0.4, tmp_path))


@pytest.mark.slow
def test_clips_that_were_trained_on_are_refused_and_those_tested_on_are_not(examples):
    trained, tested = (
        Classifier(Tones(provenance={use: trained_clips.filter_of(examples[:20])})) for use in ("seen", "tested")
    )
    with pytest.raises(DataError, match="20 of the 32 clips of valid were trained on"):
        tune(trained, examples, "valid", Wish(6.0), Drawing())
    assert tune(tested, examples, "valid", Wish(precision=0.9), Drawing(0.4)).clips == 32


def test_too_few_clips_and_strange_labels_are_refused(examples):
    classifier = Classifier(Tones())
    with pytest.raises(DataError, match=r"19 clips .*at least 20"):
        tune(classifier, examples[:19], "valid", Wish(6.0), Drawing())
    with pytest.raises(DataError, match="of 1 recordings"):
        tune(classifier, [replace(example, group="one") for example in examples], "valid", Wish(6.0), Drawing())
    with pytest.raises(DataError, match="'shrill'"):
        tune(classifier, [replace(examples[0], labels={"label": ("shrill",)})] * 20, "valid", Wish(6.0), Drawing())
    with pytest.raises(DataError, match=r"None of the 20 clips of valid can be read; the first: .*gone\.wav"):
        tune(classifier, [Example(Path("gone.wav"), {"label": ("low",)})] * 20, "valid", Wish(6.0), Drawing())


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ({"false_alarms": 1.0, "precision": 0.9}, "two wishes"),
        ({"false_alarms": 0.0}, "false_alarms is 0; a number above 0"),
        ({"false_alarms": float("nan")}, "false_alarms is nan"),
        ({"precision": 1.0}, "precision is 1; "),
        ({"precision": -0.5}, r"precision is -0\.5"),
    ],
)
def test_impossible_wishes_are_refused(wish, reason):
    with pytest.raises(ConfigError, match=reason):
        wish_of(**{"false_alarms": None, "precision": None, **wish})


@pytest.mark.parametrize(("given", "reason"), [({"hours": 0.3}, "0.4 to 1000"), ({"hours": float("nan")}, "hours is nan"),
                                               ({"seed": -1}, "seed is -1")])  # fmt: skip
def test_impossible_drawings_are_refused(given, reason):
    with pytest.raises(ConfigError, match=reason):
        Drawing(**given)


def test_a_wish_that_so_few_hours_cannot_tell_is_refused_before_anything_is_heard():
    with pytest.raises(DataError, match=r"at most 1 false alarm an hour, even if .* at least 3\.2 hours"):
        tune(Classifier(Tones()), [], "valid", Wish(1.0), Drawing(2.0))


def test_without_a_wish_there_are_at_most_six_false_alarms_an_hour():
    assert wish_of(None, None) == Wish(6.0, None)
    assert wish_of(None, 0.8) == Wish(None, 0.8)


def test_a_wish_is_kept_only_if_its_bound_is():
    assert Wish(6.0).is_kept(events=100, false_alarms=3, hours=1.0)
    assert not Wish(6.0).is_kept(events=100, false_alarms=5, hours=1.0)
    assert Wish(precision=0.9).is_kept(events=200, false_alarms=15, hours=1.0)
    assert not Wish(precision=0.9).is_kept(events=20, false_alarms=2, hours=1.0)
    assert not Wish(precision=0.9).is_kept(events=0, false_alarms=0, hours=1.0)


def test_the_bound_of_a_count_is_near_the_exact_one():
    exact = {0: 1.605, 3: 5.505, 10: 13.63}  # one-sided, of four in five: half of a chi-squared quantile
    assert {count: rate_bound(count, 0.84) for count in exact} == pytest.approx(exact, rel=0.02)


def made(scores: np.ndarray, labels: Sequence[str]) -> Recording:
    """A soundscape with these scores (W, K) of windows every half a second."""
    info = ModelInfo("made", {"label": list(labels)}, RATE, 1.0, 0.5, {"centered": False}, "sigmoid")
    return Recording(Path("soundscape"), info, SECONDS, np.arange(len(scores)) / 2, {"label": scores})


def random_scapes(labels: Sequence[str], count: int, noise: float = 0.35):
    """Soundscapes in which labels are heard with 0.5 to 0.95, and by chance with less than `noise`."""
    generator, recordings, references = np.random.default_rng(0), [], []
    for _ in range(count):
        scores = generator.uniform(0, noise, (119, len(labels))).astype(np.float32)
        there = {}
        for k, label in enumerate(labels):
            first = int(generator.integers(2, 100))
            scores[first : first + 6, k] = generator.uniform(0.5, 0.95, 6)
            there["label", label] = np.array([[first / 2 + 0.5, first / 2 + 3.5]])
        recordings.append(made(scores, labels))
        references.append(there)
    return recordings, references, [number % 4 for number in range(count)]


def test_soundscapes_side_by_side_have_the_events_of_each():
    recordings, references, parts = random_scapes(["a", "b", "c"], 12, noise=0.9)
    labels = [("label", name) for name in "abc"]
    config = EventConfig(off=0.3, confirm=2, of=3, hang_seconds=1.0)
    columns = event_choice._side_by_side(recordings, references, parts, labels)
    thresholds = [0.8, 0.6, 0.2]
    rows, places, spans = event_choice._events(columns, config, np.array(thresholds))
    for row, on in enumerate(thresholds):
        found = {
            (place // 3, "abc"[place % 3], *span)
            for place, span in zip(places[rows == row].tolist(), spans[rows == row].tolist(), strict=True)
        }
        own = replace(config, on=on, off=min(config.off, on))
        expected = {(number, event.label, event.start, event.end) for number, recording in enumerate(recordings)
                    for event in recording.events(own)}  # fmt: skip
        assert len(expected) >= 36
        assert found == expected


@pytest.mark.slow
def test_thresholds_lie_between_what_is_there_and_what_is_not():
    recordings, references, parts = random_scapes(["a", "b"], 40)
    found = choose(recordings, references, parts, [("label", "a"), ("label", "b")], Wish(6.0))
    assert 0.35 <= found.common.on <= 0.75
    assert ((found.on >= 0.35) & (found.on <= 0.75)).all()
    assert found.f1 > 0.95


@pytest.mark.slow
def test_where_no_settings_keep_the_wish_none_are_chosen(examples):
    recordings, references, parts = random_scapes(["a", "b"], 40)
    labels = [("label", "a"), ("label", "b")]
    assert choose(recordings, [{} for _ in references], parts, labels, Wish(6.0)) is None
    elsewhere = [{label: spans + 100 for label, spans in there.items()} for there in references]
    assert choose(recordings, elsewhere, parts, labels, Wish(6.0)) is None
    with pytest.raises(DataError, match=r"No settings keep a precision of at least 0\.9999 for sure"):
        tune(Classifier(Tones()), examples, "valid", Wish(precision=0.9999), Drawing(0.4))


@pytest.mark.slow
def test_events_of_the_model_in_the_package_become_rare_and_right(audiorep_data, tmp_path):
    data = audiorep.Data(audiorep_data / "esc50")
    found = audiorep.tune_events("esc50", data, tmp_path / "events.toml", "test", precision=0.7, hours=0.8)
    assert found.model == "esc50"
    assert found.after.all.precision > 0.6 > found.before.all.precision
    assert found.after.false_alarms_an_hour < found.before.false_alarms_an_hour / 3
    assert EventConfig.from_dict(tomllib.loads((tmp_path / "events.toml").read_text())) == found.settings
