"""What the page computes in JavaScript is what Python computes: events, windows, resampling, scores and live windows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from support import ROOT, SAMPLES
from support.info import make_info
from support.javascript import evaluated, needs_node

from audiorep import audio
from audiorep.errors import ConfigError
from audiorep.info.calibration import calibrated
from audiorep.predict.classifier import Classifier
from audiorep.predict.events import EventConfig, EventTracker, trackers
from audiorep.predict.results import Recording
from audiorep.serve.site import described

pytestmark = needs_node
VECTORS = sorted((ROOT / "tests" / "vectors" / "events").glob("*.json"))

# ---------------------------------------------------------------- events

TOLD = """
const { EventTracker } = await page("events.js");
return values.map(({ labels, settings, thresholds, unknown, windows, twice }) => {
  const tracker = new EventTracker(labels, settings, thresholds ?? null, unknown ?? "");
  const run = () => [...windows.flatMap((w) => tracker.push(w.start, w.end, w.scores, w.peak)), ...tracker.flush()];
  if (twice) run();
  return run();
});
"""


def plain(events: list[Any]) -> list[dict[str, Any]]:
    return [
        {"label": e.label, "start": e.start, "end": e.end, "score": e.score, "decided": e.decided, "open": e.is_open}
        for e in events
    ]


def test_vectors(tmp_path):
    vectors = [json.loads(path.read_text()) for path in VECTORS]
    assert len(vectors) >= 18
    for twice in (False, True):
        found = evaluated(tmp_path, TOLD, [{**vector, "twice": twice} for vector in vectors])
        for vector, told in zip(vectors, found, strict=True):
            ended = [{key: event[key] for key in ("label", "start", "end", "score")} for event in told if not event["open"]]
            assert ended == vector["events"], vector["about"]
            if "told" in vector:
                keys = ("decided", "label", "start", "end", "open")
                assert [[event[key] for key in keys] for event in told] == vector["told"]


def test_events_of_random_scores_are_those_of_python(tmp_path):
    generator = np.random.default_rng(0)
    names = [f"class{k}" for k in range(6)]
    scores = generator.random((400, 6))
    settings = {"on": 0.6, "off": 0.3, "confirm": 2, "of": 4, "sure": 0.95, "least_seconds": 1.0, "hang_seconds": 0.6}
    settings |= {"pause_seconds": 1.5, "level_db": -20.0, "deny": ["class5"], "labels": {"class2": {"on": 0.8, "of": 7}}}
    rows = [
        {"start": i / 2, "end": i / 2 + 1, "scores": row.tolist(), "peak": float(generator.random())}
        for i, row in enumerate(scores)
    ]
    tracker = EventTracker(names, EventConfig.from_dict(settings), unknown="class4")
    expected = [
        event for row in rows for event in tracker.push(row["start"], row["end"], np.array(row["scores"]), row["peak"])
    ] + tracker.flush()
    [found] = evaluated(tmp_path, TOLD, [{"labels": names, "settings": settings, "unknown": "class4", "windows": rows}])
    assert len(expected) > 60
    assert found == plain(expected)


def test_impossible_settings_are_refused_in_the_words_of_python(tmp_path):
    settings: list[dict[str, Any]] = [
        {"on": 1.5},
        {"on": 0.5, "off": 0.6},
        {"sure": 0.0},
        {"confirm": 3},
        {"of": 1001},
        {"confirm": 1.5},
        {"on": "loud", "off": 2.0},
        {"hang_seconds": -1.0, "pause_seconds": 100000},
        {"level_db": 3.0},
        {"allow": "dog"},
        {"labels": {"dog": 3}},
        {"labels": {"dog": {"level_db": -3.0}}},
        {"labels": {"dog": {"on": 7}}},
        {"loud": 1},
    ]
    code = """
    const { EventConfig } = await page("events.js");
    return values.map((settings) => { try { new EventConfig(settings); return ""; } catch (error) { return error.message; } });
    """
    found = evaluated(tmp_path, code, settings)
    for given, sentence in zip(settings, found, strict=True):
        with pytest.raises(ConfigError) as refusal:
            EventConfig.from_dict(given)
        if given != {"labels": {"dog": 3}}:  # each language shows a table in its own way
            assert sentence == str(refusal.value)
        assert sentence.startswith("events: ")


def test_trackers_of_heads_are_those_that_python_makes(tmp_path):
    info = make_info(labels={"verb": ["cut", "wash"], "noun": ["pan", "knife"]})
    code = """
    const { trackers } = await page("events.js");
    return values.settings.map((settings) => {
      try { return Object.keys(trackers(values.model, settings)); } catch (error) { return error.message; }
    });
    """
    settings = [{}, {"allow": ["pan"]}, {"deny": ["pan"]}, {"allow": ["fork"]}]
    found = evaluated(tmp_path, code, {"model": described("m", info), "settings": settings})
    expected = [list(trackers(info, EventConfig.from_dict(each))) for each in settings[:3]]
    assert found == [*expected, "events: fork is no label of the model."]


# ---------------------------------------------------------------- windows and rates

CUT = """
const { Cutter } = await page("windows.js");
return values.map(({ blocks, length, hop, padding }) => {
  const cutter = new Cutter(length, hop, padding);
  const found = [...blocks.flatMap((block) => cutter.push(new Float32Array(block))), ...cutter.flush()];
  return { heard: cutter.heard, kept: cutter.buffer.length, found: found.map(([first, window]) => [first, [...window]]) };
});
"""


def test_windows_are_those_of_python(tmp_path):
    generator = np.random.default_rng(0)
    cases = []
    for padding in ("zeros", "edge", "edge_frames"):
        for _ in range(60):
            sizes = generator.integers(0, 61, generator.integers(0, 8))
            length = int(generator.integers(1, 81))
            blocks = np.split(np.arange(1.0, 1 + sizes.sum()), np.cumsum(sizes)[:-1]) if len(sizes) else []
            hop = int(generator.integers(1, length + 1))
            cases.append({"blocks": [b.tolist() for b in blocks], "length": length, "hop": hop, "padding": padding})
    cases += [
        {"blocks": [list(range(total))], "length": 100, "hop": 100, "padding": "zeros"} for total in (100, 109, 110, 199, 200)
    ]
    for case, found in zip(cases, evaluated(tmp_path, CUT, cases), strict=True):
        blocks = [np.array(block, np.float32) for block in case["blocks"]]
        expected = list(audio.windows(blocks, case["length"], case["hop"], case["padding"]))
        assert [[first, window.tolist()] for first, window in expected] == found["found"]
        assert found["heard"] == sum(map(len, blocks))
        assert found["kept"] <= case["length"] + max(map(len, blocks), default=0)


RESAMPLED = """
const { Resampler } = await page("resample.js");
const { samples, rates, blocks } = values;
return blocks.map((size) => {
  const resampler = new Resampler(...rates);
  const parts = [];
  let most = 0;
  for (let i = 0; i < samples.length; i += size) {
    parts.push(resampler.push(new Float32Array(samples.slice(i, i + size))));
    most = Math.max(most, resampler.kept.length - size);
  }
  return { most, samples: [...parts, resampler.flush()].flatMap((part) => [...part]) };
});
"""


def by_soxr(samples: np.ndarray, rates: tuple[int, int]) -> np.ndarray:
    resampler = audio.Resampler(*rates)
    return np.concatenate([resampler.push(samples), resampler.flush()])


def decibels(difference: np.ndarray, whole: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(difference)) / np.mean(np.square(whole))))


@pytest.mark.parametrize(
    ("rates", "allowed"),
    [
        ((48_000, 16_000), -110),
        ((44_100, 16_000), -68),
        ((22_050, 16_000), -68),
        ((8_000, 16_000), -72),
        ((16_000, 48_000), -110),
        ((44_101, 16_000), -68),  # a ratio of large numbers
        ((192_000, 16_000), -52),
    ],
)
def test_resampled_noise_is_nearly_soxr_s_and_borders_leave_no_trace(tmp_path, rates, allowed):
    noise = (0.3 * np.random.default_rng(0).standard_normal(rates[0] // 4)).astype(np.float32)
    values = {"samples": noise.tolist(), "rates": rates, "blocks": [len(noise), 4410, 128]}
    whole, *others = evaluated(tmp_path, RESAMPLED, values)
    expected = by_soxr(noise, rates)
    found = np.array(whole["samples"], np.float32)
    assert len(found) == len(expected)
    assert decibels(found - expected, expected) < allowed
    for other in others:
        assert other["samples"] == whole["samples"]
        assert other["most"] < 230 * max(1, rates[0] / rates[1]) + 10  # the filter's length, however long the sound is


def test_resampled_sound_is_soxr_s_to_70_decibels(tmp_path):
    rain, _ = soundfile.read(SAMPLES / "rain.flac", dtype="float32", frames=16_000)
    for rate, allowed in ((44_100, -70), (48_000, -110)):
        given = soxr.resample(rain, 16_000, rate).astype(np.float32)
        [found] = evaluated(tmp_path, RESAMPLED, {"samples": given.tolist(), "rates": (rate, 16_000), "blocks": [1000]})
        expected = by_soxr(given, (rate, 16_000))
        assert decibels(np.array(found["samples"]) - expected, expected) < allowed


def test_sound_at_the_model_s_rate_passes_unchanged(tmp_path):
    [found] = evaluated(tmp_path, RESAMPLED, {"samples": [0.5, -0.25, 0.125], "rates": (16_000, 16_000), "blocks": [2]})
    assert found["samples"] == [0.5, -0.25, 0.125]


# ---------------------------------------------------------------- scores


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_calibrated_scores_are_those_of_python(tmp_path, activation):
    generator = np.random.default_rng(0)
    scores = generator.random((40, 9)).astype(np.float32) ** 8
    if activation == "softmax":
        scores /= scores.sum(1, keepdims=True)
    scores[0, :3] = [0.0, 1.0, 1e-38]
    for settings in ({"temperature": 0.4, "bias": 3.2}, {"temperature": 2.5, "bias": -1.0}, {"temperature": 0.01}):
        code = """
        const { calibrated } = await page("scores.js");
        return values.rows.map((row) => [...calibrated(new Float32Array(row), values.settings, values.activation)]);
        """
        found = evaluated(tmp_path, code, {"rows": scores.tolist(), "settings": settings, "activation": activation})
        np.testing.assert_allclose(found, calibrated(scores, settings, activation), rtol=1e-5, atol=1e-37)


HEARD = """
const { FileScores, ranked, reported, windowScores } = await page("scores.js");
const { model, windows, peaks, asked } = values;
const raw = windows.map((window) => ({ label: new Float32Array(window) }));
const whole = new FileScores(model);
raw.forEach((scores, i) => whole.add(scores, peaks[i]));
const file = whole.scores().label;
return {
  windows: raw.map((scores, i) => [...windowScores(model, scores, peaks[i]).label]),
  file: [...file],
  top: ranked(model, "label", file, 5),
  whole: asked.map(([top, threshold]) => reported(model, "label", file, top, threshold)),
};
"""
NAMES = ["a", "b", "c", "rest"]
KINDS = [
    {},
    {"unknown": "rest"},
    {"unknown": "rest", "silence": 0.1},
    {"activation": "sigmoid", "thresholds": {"label": [0.3, 0.6, 0.2, 0.9]}},
    {"activation": "sigmoid", "unknown": "nothing", "silence": 0.1},
    {
        "activation": "sigmoid",
        "calibration": {"label": {kind: {"temperature": 0.7, "bias": 0.5} for kind in ("window", "file")}},
    },
]


@pytest.mark.parametrize("changes", KINDS)
@pytest.mark.parametrize("loudness", [1.0, 0.01])
def test_scores_of_windows_and_files_and_what_is_reported_are_those_of_python(tmp_path, changes, loudness):
    info = make_info(labels={"label": NAMES}, **changes)
    generator = np.random.default_rng(1)
    asked: list[list[Any]] = [[None, None], [2, None], [None, 0.1], [4, 0.4], [1, 0.99]]
    for power in (1, 4):
        windows = generator.random((7, 4)).astype(np.float32) ** power
        if info.activation == "softmax":
            windows /= windows.sum(1, keepdims=True)
        peaks = loudness * generator.random(7)
        values = {"model": described("m", info), "windows": windows.tolist(), "peaks": peaks.tolist(), "asked": asked}
        found = evaluated(tmp_path, HEARD, values)
        classifier = Classifier.__new__(Classifier)
        classifier.info = info
        silent = peaks < info.silence
        scores = classifier._of_windows({"label": windows}, silent)["label"]
        mean = classifier._of_file("label", windows[~silent])
        recording = Recording(Path("a"), info, 4.0, np.arange(7) / 2, {"label": scores}, peaks=peaks, means={"label": mean})
        np.testing.assert_allclose(found["windows"], scores, rtol=1e-5)
        np.testing.assert_allclose(found["file"], mean, rtol=1e-5)
        assert [label for label, _ in found["top"]] == [label for label, _ in recording.top(5)]
        for (top, threshold), pairs in zip(asked, found["whole"], strict=True):
            expected = [(each.label, pytest.approx(each.score, rel=1e-5)) for each in recording.whole(top, threshold)]
            assert [tuple(pair) for pair in pairs] == expected


# ---------------------------------------------------------------- live sound

LIVE = """
const { LiveCutter } = await page("live.js");
const [windows, lost] = [[], []];
const { rate, model, pieces, samples, taken } = values;
const cutter = new LiveCutter(rate, model, (window) => {
  windows.push([window.start, window.end_seconds, ...window.samples.slice(0, 3)]);
  if (taken) cutter.taken(1);
}, (seconds) => lost.push(seconds));
let at = 0;
for (const [size, now] of pieces) {
  cutter.push(new Float32Array(samples.slice(at, at + size)), now);
  at += size;
}
cutter.flush();
return { windows, lost };
"""
MODEL = {"sample_rate": 1000, "window_seconds": 1.0, "window_samples": 1000, "hop_samples": 500, "padding": "zeros"}


def test_live_windows_are_those_of_a_stream(tmp_path):
    samples = np.random.default_rng(0).uniform(-1, 1, 10_300).astype(np.float32)
    pieces = [[128, 50 + (i + 1) * 0.064 + 0.1 * (i % 3)] for i in range(len(samples) // 128 + 1)]  # late by up to 0.2 s
    values = {"rate": 2000, "model": MODEL, "pieces": pieces, "samples": samples.tolist(), "taken": True}
    found = evaluated(tmp_path, LIVE, values)
    assert found["lost"] == []
    resampler, cutter = audio.Resampler(2000, 1000), audio.Cutter(1000, 500)
    expected = [*cutter.push(resampler.push(samples)), *cutter.push(resampler.flush()), *cutter.flush()]
    assert [row[0] for row in found["windows"]] == [first / 1000 for first, _ in expected]
    assert [row[1] for row in found["windows"][:2]] == [1.0, 1.5]
    assert found["windows"][-1][1] == pytest.approx(5.15)
    np.testing.assert_allclose([row[2:] for row in found["windows"]], [w[:3] for _, w in expected], atol=5e-3)


def test_a_gap_is_told_and_times_go_on_behind_it(tmp_path):
    pieces = [[1000, 1.0], [1000, 2.0], [1000, 7.0], [1000, 8.0]]
    values = {"rate": 1000, "model": MODEL, "pieces": pieces, "samples": [0.5] * 4000, "taken": True}
    found = evaluated(tmp_path, LIVE, values)
    assert found["lost"] == [pytest.approx(4.0, abs=0.01)]
    starts = [row[0] for row in found["windows"]]
    assert starts == pytest.approx([0.0, 0.5, 1.0, 6.0, 6.5, 7.0], abs=0.01)


def test_a_clock_that_is_a_little_fast_or_slow_is_no_gap(tmp_path):
    for speed in (1 - 9e-4, 1 + 9e-4):
        pieces = [[1000, speed * (i + 1)] for i in range(900)]
        values = {"rate": 1000, "model": MODEL, "pieces": pieces, "samples": [0.1] * 900_000, "taken": True}
        assert evaluated(tmp_path, LIVE, values)["lost"] == []


def test_windows_that_a_slow_model_leaves_waiting_are_counted(tmp_path):
    values = {"rate": 1000, "model": MODEL, "pieces": [[10_000, 10.0]], "samples": [0.5] * 10_000, "taken": False}
    found = evaluated(tmp_path, LIVE, values)
    assert len(found["windows"]) == 8
    assert found["lost"] == [0.5] * 11
