"""A day of a stream as fast as it is heard: the times of its events against the samples of its sounds, and memory."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

import audiorep
from audiorep.predict.classifier import Classifier
from experiments.goals import Figure, Goal
from experiments.listen.child import Child, feed
from experiments.listen.sounds import FULL, Placed, Scene, clip

RATE, HOP_SECONDS = 48_000, 0.25
HOP = round(RATE * HOP_SECONDS)
FAST_PPM = 200.0  # by which the stream's clock is fast, against that by which its sounds happen
MOST_SECONDS, MOST_GROWTH_MB = 0.05, 10.0
HEARD = {"crow": "Crow", "siren": "Siren", "rain": "Rain", "crickets": "Cricket", "sea_waves": "Ocean", "clock_tick": "Clock"}
"""Sounds of the repository, and what the model calls them."""
SETTINGS = f"on = 0.5\nallow = {list(HEARD.values())}\n".replace("'", '"')


def measure(small: bool) -> Figure:
    """A sound about every minute; and, for each, what `predict` hears in the seconds around it alone."""
    hours = 1 / 3 if small else 24.0
    scene = Scene(_placed(hours))
    total = round(hours * 3600 * RATE)
    first_hour = min(3600, total // RATE // 2)
    with tempfile.TemporaryDirectory() as folder:
        events = Path(folder) / "events.toml"
        events.write_text(SETTINGS)
        with Child("-", "--rate", RATE, "--model", "nano", "--hop", HOP_SECONDS, "--threads", 1, "--events", events) as child:
            held: dict[int, float] = {}
            begun = time.monotonic()
            feed(child.stdin, _pieces(scene, total, child, held), None)
            held[total // RATE] = child.memory_mb
            status = child.end()
            seconds = time.monotonic() - begun
    assert status == 0, child.said
    found = [line.values for line in child.lines if line.ends]
    return _figure(found, _expected(scene), held, first_hour, {"hours": hours, "seconds": seconds, "sounds": len(scene.placed)})


def _figure(
    found: list[dict[str, Any]],
    expected: list[tuple[str, float, float]],
    held: dict[int, float],
    first_hour: int,
    details: dict[str, Any],
) -> Figure:
    errors, left = [], list(found)
    for label, start, end in expected:
        near = [event for event in left if event["label"] == label and abs(event["start"] - start) < 2]
        if near:
            left.remove(near[0])
            errors.append(max(abs(near[0]["start"] - start), abs(near[0]["end"] - end)))
    days = [datetime.fromisoformat(event["time"]).timestamp() - event["start"] for event in found]
    growth = held[max(held)] - held[first_hour]
    goals = [
        Goal("seconds between the times of an event and those that its samples give, most", max(errors), MOST_SECONDS),
        Goal(
            "seconds by which the time of day of an event is another than its first sample's, most",
            max(days) - min(days),
            0.002,
        ),
        Goal("events that are missing", len(expected) - len(errors), 0),
        Goal("events of no sound", len(left), 0),
        Goal("MB that memory grew after the first part", growth, MOST_GROWTH_MB),
    ]
    about = {"times_real_time": details["hours"] * 3600 / details["seconds"], "rate": RATE, "hop_seconds": HOP_SECONDS}
    about |= {"windows": round(details["hours"] * 3600 / HOP_SECONDS), "clock_fast_ppm": FAST_PPM, "events": len(found)}
    memory = {
        "first_part_seconds": first_hour,
        "then_mb": held[first_hour],
        "end_mb": held[max(held)],
        "most_mb": max(held.values()),
    }
    return Figure(goals, {**details, **about, "memory": memory})


def _placed(hours: float) -> list[Placed]:
    """A sound at a random moment of each minute; the stream's clock decides at which sample that is."""
    generator = np.random.default_rng(0)
    clips = {name: clip(name, RATE, 3.0) for name in HEARD}
    names = [list(HEARD)[int(k)] for k in generator.integers(len(HEARD), size=round(60 * hours))]
    moments = [60 * minute + generator.uniform(10, 50) for minute in range(len(names))]
    samples = [round(moment * RATE * (1 + FAST_PPM / 1e6)) for moment in moments]
    return [Placed(name, first, clips[name]) for name, first in zip(names, samples, strict=True)]


def _pieces(scene: Scene, total: int, child: Child, held: dict[int, float]) -> Iterator[np.ndarray]:
    """A second each; keeps the memory of the child every ten minutes of sound."""
    for second, piece in enumerate(scene.pieces(total, RATE)):
        if second % 600 == 0 and second:
            held[second] = child.memory_mb
        yield piece


def _expected(scene: Scene) -> list[tuple[str, float, float]]:
    """Label, start and end of each event, by whole numbers of hops and what is heard in the seconds around each sound."""
    classifier = audiorep.load("nano").with_windows(None, HOP_SECONDS)
    config = audiorep.EventConfig(on=0.5, allow=tuple(HEARD.values()))
    return [event for each in scene.placed for event in _around(classifier, scene, each, config)]


def _around(
    classifier: Classifier, scene: Scene, each: Placed, config: audiorep.EventConfig
) -> Iterator[tuple[str, float, float]]:
    first = (each.first // HOP - 12) * HOP
    samples = scene.samples(first, len(each.samples) + 24 * HOP)
    for event in classifier(samples.astype(np.float32) / (FULL + 1), RATE).events(config):
        yield event.label, first / RATE + event.start, first / RATE + event.end
