"""A map as a picture and as a page, coloured by labels or by scores."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
from support import SAMPLES, processes

import audiorep
from audiorep.embeddings import drawing
from audiorep.embeddings.plane import Plane
from audiorep.errors import ConfigError


def plane(folder: Path, labels: list[str], scores: list[float] | None = None) -> Plane:
    """Sounds on a line."""
    paths = [folder / f"{number}.wav" for number in range(len(labels))]
    points = np.stack([np.linspace(0, 1, len(labels)), np.zeros(len(labels))], axis=1)
    return Plane(paths, points, labels, None if scores is None else np.array(scores))


def points_of(page: str) -> list[list]:
    return json.loads(re.search(r"const points = (.*), canvas", page)[1])


def test_frequent_labels_have_colours_and_the_others_share_one(tmp_path):
    labels = ["often"] * 3 + [f"name {number:02d}" for number in range(25)]
    colours = drawing.colours_of(labels)
    assert next(iter(colours)) == "often"
    assert len({*colours.values()}) == 21
    page = drawing.as_page(plane(tmp_path, labels), "All")
    assert "</i>often 3</li>" in page
    assert f'<li><i style="background:{drawing.OTHER}"></i>6 others 6</li>' in page
    points = points_of(page)
    assert [point[2] for point in points[:7]] == [drawing.OTHER] * 6 + [colours["often"]]  # what is grey hides nothing
    assert points[6] == [0.0, 0.0, colours["often"], "often", str(tmp_path / "0.wav"), (tmp_path / "0.wav").as_uri()]


def test_a_page_holds_its_sounds_and_nothing_that_runs_away(tmp_path):
    page = drawing.as_page(plane(tmp_path, ["</script><b>", "<!--<script>", "LEGEND"]), "<TITLE>")
    assert sorted(point[3] for point in points_of(page)) == ["<!--<script>", "</script><b>", "LEGEND"]
    assert page.count("<script>") == page.count("</script>") == 1
    assert "<b>" not in page.partition("<script>")[0]
    assert "<title>&lt;TITLE&gt;</title>" in page


def test_scores_go_from_light_to_dark_and_high_ones_lie_above():
    colours = drawing.on_scale(np.linspace(0, 1, 9))
    light = [sum(int(colour[k : k + 2], 16) * w for k, w in ((1, 0.299), (3, 0.587), (5, 0.114))) for colour in colours]
    assert colours[0] == drawing.SCALE[0]
    assert colours[-1] == drawing.SCALE[-1]
    assert sorted(light, reverse=True) == light
    page = drawing.as_page(plane(Path("/a"), ["x", "y", "z"], [0.9, 0.1, 0.5]), "Scores")
    assert [point[3] for point in points_of(page)] == ["10%, y", "50%, z", "90%, x"]
    assert all(text in page for text in ("<span>0%</span>", "<span>100%</span>", "linear-gradient"))


@pytest.mark.slow
def test_a_picture_has_the_scale_or_the_labels_beside_it(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr("audiorep.evaluation.plotting.save", lambda figure, path: drawn.append(figure))
    drawing.draw(plane(tmp_path, ["wren", "wren", "$owl$"]), tmp_path / "map.png", "All")
    drawing.draw(plane(tmp_path, ["wren", "wren", "owl"], [0.0, 0.5, 1.0]), tmp_path / "map.png", "Scores")
    labels, scores = drawn
    assert [text.get_text() for text in labels.axes[0].get_legend().get_texts()] == ["wren  2", "$owl$  1"]
    _, bar = scores.axes
    scores.draw_without_rendering()
    ticks = [tick.get_text() for tick in bar.get_yticklabels()]
    assert (ticks[0], ticks[-1]) == ("0%", "100%")


def test_another_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"must end in \.png or \.html"):
        drawing.check(tmp_path / "map.pdf")
    (tmp_path / "a.html").mkdir()
    with pytest.raises(ConfigError, match="is a folder"):
        drawing.check(tmp_path / "a.html")


@pytest.mark.slow
def test_the_command_draws_labels_and_scores(tmp_path):
    audiorep.embed([SAMPLES], tmp_path / "index")
    words = ["map", tmp_path / "index", "-o", tmp_path / "map.png", "-o", tmp_path / "map.html"]
    done = processes.run(processes.audiorep(*words))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "map.png").read_bytes().startswith(b"\x89PNG")
    assert "siren.flac" in (tmp_path / "map.html").read_text()
    done = processes.run(processes.audiorep("map", tmp_path / "index", "--score", "Siren", "-o", tmp_path / "scores.html"))
    assert done.returncode == 0, done.stderr
    highest = points_of((tmp_path / "scores.html").read_text())[-2:]
    assert {Path(point[4]).name for point in highest} == {"siren.flac", "recording.flac"}
    for words, reason in (
        (["-o", tmp_path / "map.pdf"], "must end in .png or .html"),
        (["-o", tmp_path / "map.html", "--model", "nano"], "name the label with --score"),
        (["-o", tmp_path / "map.html", "--score", "siren"], "siren is no label of nano; audiorep models info nano lists"),
        (
            ["-o", tmp_path / "map.html", "--score", "siren", "--model", "esc50"],
            "was made with another model, nano; give that one",
        ),
    ):
        done = processes.run(processes.audiorep("map", tmp_path / "index", *words))
        assert (done.returncode, done.stdout) == (2, "")
        assert reason in done.stderr
    assert not (tmp_path / "map.pdf").exists()
