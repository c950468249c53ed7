"""The page in a browser: what a person sees, clicks and types, with a server behind it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from support import SAMPLES
from support.page import PAGE, REFUSED_FILE, drop, give, rows, saved, seconds

pytestmark = pytest.mark.slow


def test_a_dropped_file_shows_its_label_its_events_and_its_picture(page):
    drop(page, SAMPLES / "siren.flac")
    page.locator("#events tr").wait_for()
    assert rows(page) == [["siren", "0:00.0", "0:05.0", "1.00"]]
    assert page.locator("#answer").inner_text() == "siren 1.00"
    assert page.locator("#lanes li").all_inner_texts() == ["siren"]
    page.wait_for_timeout(500)
    colors = page.locator(".spectrum").evaluate(
        "c => new Set(new Uint32Array(c.getContext('2d').getImageData(0, 0, c.width, c.height).data.buffer)).size"
    )
    assert colors > 50
    assert page.locator("#picture .axis").inner_text().split("\n")[-1] == "8 kHz"


def test_a_folder_is_searched_and_other_files_are_counted(page, tmp_path):
    (tmp_path / "some" / "deep").mkdir(parents=True)
    for name in ("some/deep/crow.flac", "some/rain.flac"):
        shutil.copy(SAMPLES / Path(name).name, tmp_path / name)
    for name in ("some/notes.txt", "some/.hidden.wav"):
        (tmp_path / name).write_text("no sound")
    page.set_input_files("#folders", tmp_path / "some")
    page.locator("#done", has_text="2 sounds").wait_for()
    assert page.locator(".file").all_inner_texts() == ["some/deep/crow.flac\ncrow 0.65", "some/rain.flac\nrain 0.74"]
    assert page.locator("#message").inner_text() == "Passed over, as not in a known format of sound: 1 file."


def test_a_clicked_event_plays_until_its_end(page):
    give(page, SAMPLES / "recording.flac")
    row = page.locator("#events tr", has_text="rooster").first
    row.click()
    page.get_by_role("button", name="Pause").wait_for()
    assert 28.7 <= seconds(page) < 29.8
    assert "now" in row.get_attribute("class")
    page.get_by_role("button", name="Play", exact=True).wait_for()
    assert seconds(page) == pytest.approx(29.75, abs=0.25)


def test_an_unreadable_file_shows_its_sentence_and_the_others_go_on(page, broken):
    give(page, SAMPLES / "crow.flac", broken, SAMPLES / "siren.flac")
    page.locator("#done", has_text="3 sounds").wait_for()
    crow, bad, siren = page.locator(".file").all_inner_texts()
    assert (crow, siren) == ("crow.flac\ncrow 0.65", "siren.flac\nsiren 1.00")
    assert "broken.wav cannot be read as audio" in bad
    page.locator(".file", has_text="broken").click()
    assert "cannot be read as audio" in page.locator("#none").inner_text()
    assert page.locator("#picture").is_hidden()
    page.complaints[:] = [text for text in page.complaints if REFUSED_FILE not in text]


def test_what_the_browser_cannot_decode_is_labeled_without_a_picture(page, tmp_path):
    samples, rate = soundfile.read(SAMPLES / "siren.flac")
    soundfile.write(tmp_path / "siren.aiff", samples, rate)
    give(page, tmp_path / "siren.aiff")
    page.locator("#events tr").wait_for()
    assert rows(page)[0][0] == "siren"
    page.locator("#notes", has_text="cannot decode the file").wait_for()
    assert page.locator(".spectrum").is_hidden()
    assert page.get_by_role("button", name="Play", exact=True).is_disabled()


@pytest.fixture(scope="module")
def ten_minutes(tmp_path_factory) -> Path:
    samples, rate = soundfile.read(SAMPLES / "recording.flac")
    path = tmp_path_factory.mktemp("long") / "ten_minutes.flac"
    soundfile.write(path, np.resize(samples, 600 * rate), rate)
    return path


WORK = "async () => ({ ...(await import('/page/spectrogram.js')).work })"


def test_of_ten_minutes_only_what_is_seen_is_drawn(page, ten_minutes):
    give(page, ten_minutes)
    page.locator("#events tr").first.wait_for()
    width = page.locator(".spectrum").evaluate("c => c.clientWidth")
    page.wait_for_timeout(2500)
    whole = page.evaluate(WORK)["columns"]
    assert 0.5 * width < whole < 3 * width
    page.locator(".plot").hover()
    for _ in range(6):
        page.keyboard.down("Control")
        page.mouse.wheel(0, -60)
        page.keyboard.up("Control")
    page.wait_for_timeout(800)
    for _ in range(30):
        page.mouse.wheel(80, 0)
    page.wait_for_timeout(1500)
    seen = page.evaluate(WORK)
    assert whole < seen["columns"] < 40 * width  # all of it at this scale would be many times as many
    assert page.locator("#picture.whole").count() == 0
    position = page.locator(".ruler").evaluate("c => c.toDataURL()")
    page.get_by_role("button", name="Fit everything").click()
    page.locator("#picture.whole").wait_for(state="attached")
    assert page.locator(".ruler").evaluate("c => c.toDataURL()") != position


def test_the_table_and_the_lanes_have_a_limit_and_show_more(page, ten_minutes):
    page.select_option("#model", "nano")
    give(page, ten_minutes)
    page.locator("#events tr").first.wait_for()
    assert page.locator("#lanes li").count() == 8
    assert page.locator("#events tr").count() == 25
    page.locator("#lanes-more").click()
    page.locator("#events-more").click()
    assert page.locator("#lanes li").count() == 32
    assert page.locator("#events tr").count() == 100


def test_saved_files_are_those_of_the_command_line(page, page_server):
    give(page, SAMPLES / "recording.flac")
    page.locator("#events tr").first.wait_for()
    sound = (SAMPLES / "recording.flac").read_bytes()
    asked = "/v1/classify?model=esc50&view=events&name=recording.flac"
    detections = page_server.post(asked, sound).json()["detections"]
    name, text = saved(page, "CSV")
    assert name == "recording.flac.csv"
    assert numbers(text, ",") == numbers(page_server.post(asked, sound, {"accept": "text/csv"}).body.decode(), ",")
    name, text = saved(page, "Audacity labels")
    assert name == "recording.flac.audacity.txt"
    assert numbers(text, "\t") == numbers(page_server.post(asked, sound, {"accept": "text/plain"}).body.decode(), "\t")
    name, text = saved(page, "JSON")
    assert name == "recording.flac.jsonl"
    line = json.loads(text)
    assert [line["path"], line["seconds"], line["complete"]] == ["recording.flac", 59.0, True]
    assert [[label["head"], label["label"]] for label in line["labels"]] == [[f["head"], f["label"]] for f in detections]


def numbers(text: str, separator: str) -> list[list[Any]]:
    """The cells of a table, its numbers with what rounding leaves to chance."""
    rows = [line.split(separator) for line in text.splitlines()]
    return [[pytest.approx(float(cell), abs=0.0015) if cell[:1].isdigit() else cell for cell in row] for row in rows]


def test_a_saved_table_holds_all_sounds_and_the_errors(page, broken):
    give(page, SAMPLES / "siren.flac", broken)
    page.locator("#done", has_text="2 sounds").wait_for()
    name, text = saved(page, "CSV")
    first, second = sorted(text.splitlines()[1:])
    assert name == "sounds.csv"
    assert first.startswith('broken.wav,,,,,,"broken.wav cannot be read') or first.startswith("broken.wav,,,,,,broken.wav")
    assert second.startswith("siren.flac,0.000,5.000,label,siren,")
    page.complaints[:] = [text for text in page.complaints if REFUSED_FILE not in text]


def test_the_threshold_changes_lanes_and_events_and_goes_back_to_the_model_s(page):
    give(page, SAMPLES / "recording.flac")
    page.locator("#events tr").first.wait_for()
    own = rows(page)
    assert page.locator("#chosen").inner_text() == "the model’s own"
    page.locator("#threshold").fill("0.95")
    high, lanes = rows(page), page.locator("#lanes li").count()
    assert 0 < len(high) < len(own)
    assert page.locator("#chosen").inner_text() == "0.95"
    page.locator("#threshold").fill("0.1")
    assert len(rows(page)) > len(high)
    assert page.locator("#lanes li").count() > lanes
    page.get_by_role("button", name="Back to the model’s").click()
    assert rows(page) == own


def test_another_model_hears_the_files_again(page):
    give(page, SAMPLES / "siren.flac")
    page.locator(".file", has_text="siren 1.00").wait_for()
    page.get_by_label("Model").select_option("nano")
    page.locator(".file", has_text="Siren 1.00").wait_for()
    assert "Police car (siren)" in page.locator("#lanes").inner_text()


def test_all_can_be_done_with_the_keyboard(page):
    page.on("filechooser", lambda chooser: None)  # from now on, and not only when the key was pressed
    page.keyboard.press("Tab")  # the model
    page.keyboard.press("Tab")
    assert page.evaluate("() => document.activeElement.id") == "choose"
    assert page.evaluate("() => getComputedStyle(document.activeElement).outlineStyle") == "solid"
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Enter")
    chooser.value.set_files(SAMPLES / "recording.flac")
    page.locator("#events tr").first.wait_for()
    page.locator(".plot").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Shift+ArrowRight")
    assert seconds(page) == 11.0
    page.keyboard.press("ArrowLeft")
    assert seconds(page) == 10.0
    page.keyboard.press("+")
    assert page.locator("#picture.whole").count() == 0
    page.keyboard.press("0")
    assert page.locator("#picture.whole").count() == 1
    page.keyboard.press(" ")
    page.get_by_role("button", name="Pause").wait_for()
    page.keyboard.press(" ")
    page.get_by_role("button", name="Play", exact=True).wait_for()
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("() => Boolean(document.activeElement.closest('tbody'))"):
            break
    first = page.evaluate("() => document.activeElement.ariaLabel")
    assert first.startswith("Play footsteps, 0:02.4 to ")
    page.keyboard.press("ArrowDown")
    assert page.evaluate("() => document.activeElement.ariaLabel") != first
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Pause").wait_for()


def test_names_of_files_are_text(page, tmp_path):
    path = tmp_path / "<img src=x onerror=alert(1)>.flac"
    shutil.copy(SAMPLES / "siren.flac", path)
    give(page, path)
    page.locator("#events tr").wait_for()
    assert page.locator("#name").inner_text() == path.name
    assert page.locator("main img").count() == 0


def test_a_removed_sound_is_gone_and_the_last_one_leaves_the_page_as_it_was(page):
    give(page, SAMPLES / "siren.flac", SAMPLES / "crow.flac")
    page.locator("#done", has_text="2 sounds").wait_for()
    page.get_by_role("button", name="Remove siren.flac").click()
    assert page.locator("#name").inner_text() == "crow.flac"
    page.get_by_role("button", name="Remove crow.flac").click()
    assert page.locator("#stage").is_hidden()
    assert page.get_by_role("heading", name="What is in a sound?").is_visible()


def test_the_page_weighs_little(page, page_server):
    asked = [url.removeprefix(page_server.url) for url in page.asked]
    files, rest = set(), {"index.html"}
    while rest:
        name = rest.pop()
        files.add(name)
        found = re.findall(r"[\"/]([a-z_]+\.(?:js|css|svg))\"", (PAGE / name).read_text())
        rest |= {*found} - files - {"browser_engine.js"}
    assert {"page.css", "stage.js", "event_tracker.js", "capture_worklet.js", "server_engine.js"} <= files
    paths = ["/" if name == "index.html" else f"/page/{name}" for name in files]
    answers = [page_server.get(path, **{"accept-encoding": "gzip"}) for path in paths]
    assert {answer.headers["content-encoding"] for answer in answers} == {"gzip"}
    assert sum(len(answer.body) for answer in answers) <= 33_000  # all that it ever loads, as it is sent
    opened = {path.removeprefix("/page/") for path in asked if path.startswith("/page/")} | {"index.html"}
    assert "main.js" in opened
    assert sum((PAGE / name).stat().st_size for name in opened) <= 40_000  # what an empty page has loaded
    assert sum((PAGE / name).stat().st_size for name in files) <= 84_000


def test_nothing_is_wider_than_the_window(page):
    page.get_by_label("Model").select_option("nano")
    give(page, SAMPLES / "recording.flac", SAMPLES / "crow.flac")
    page.locator("#done", has_text="2 sounds").wait_for()
    for width in (320, 390, 600, 601, 820, 900, 901, 1440):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("() => document.documentElement.scrollWidth") <= width
