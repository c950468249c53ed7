"""The page in a browser: what a person sees, hears, clicks and types, with a server behind it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from support import ROOT, SAMPLES
from support.serving import Served, served

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed"),
]
PAGE = ROOT / "audiorep" / "serve" / "page"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-sync",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",
]
REFUSED_FILE = "status of 422"  # what a browser says itself of an answer that is an error
SECONDS = 30_000  # milliseconds that an element may take to appear


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served("esc50", "nano", "--no-log") as server:
        yield server


@pytest.fixture(scope="module")
def playwright() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        yield playwright


@pytest.fixture(scope="module")
def heard(tmp_path_factory) -> Path:
    """The file that the microphone hears, again and again."""
    samples, rate = soundfile.read(SAMPLES / "siren.flac")
    path = tmp_path_factory.mktemp("microphone") / "siren.wav"
    soundfile.write(path, soxr.resample(samples, rate, 48_000), 48_000, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def browser(playwright, heard) -> Iterator[Any]:
    microphone = ["--use-fake-ui-for-media-stream", f"--use-file-for-fake-audio-capture={heard}"]
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, *microphone])
    yield browser
    browser.close()


@pytest.fixture
def page(browser, server) -> Iterator[Any]:
    """The page, opened. At the end it has asked nobody else and complained of nothing."""
    page = opened(browser, server.url)
    yield page
    assert page.complaints == []
    own = (f"{server.url}/", server.url.replace("http", "ws") + "/", "blob:", "data:")
    assert [url for url in page.asked if not url.startswith(own)] == []
    page.context.close()


def opened(browser: Any, url: str, **options: Any) -> Any:
    page = browser.new_context(**{"viewport": {"width": 1280, "height": 900}, **options}).new_page()
    page.complaints, page.asked = [], []
    page.on("console", lambda message: page.complaints.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("request", lambda request: page.asked.append(request.url))
    page.on("websocket", lambda socket: page.asked.append(socket.url))
    page.set_default_timeout(SECONDS)
    page.goto(url)
    page.locator("body[data-ready]").wait_for()
    return page


def give(page: Any, *paths: Path) -> None:
    """Gives files to the page as the button does."""
    page.set_input_files("#picker", list(paths))


def drop(page: Any, *files: Path) -> None:
    """Drops files on the page."""
    data = [(path.name, list(path.read_bytes())) for path in files]
    transfer = page.evaluate_handle(
        """(files) => {
          const transfer = new DataTransfer();
          for (const [name, bytes] of files) transfer.items.add(new File([new Uint8Array(bytes)], name));
          return transfer;
        }""",
        data,
    )
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})


def rows(page: Any) -> list[list[str]]:
    """The table of events."""
    return [row.locator("td").all_inner_texts() for row in page.locator("#events tr").all()]


def seconds(page: Any) -> float:
    """Where the playhead is."""
    minutes, rest = page.locator("#time").inner_text().split(" / ")[0].split(":")
    return 60 * int(minutes) + float(rest)


def saved(page: Any, name: str) -> tuple[str, str]:
    """The name and the content of a file that a button saves."""
    with page.expect_download() as download:
        page.get_by_role("button", name=name).click()
    return download.value.suggested_filename, Path(download.value.path()).read_bytes().decode()


@pytest.fixture
def broken(tmp_path) -> Path:
    path = tmp_path / "broken.wav"
    path.write_bytes(b"no sound at all")
    return path


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


def test_the_microphone_is_heard_drawn_and_kept(page):
    page.get_by_role("button", name="Listen").click()
    page.locator("#events tr", has_text="siren").wait_for()
    assert page.locator("#answer").inner_text() == "siren"
    assert -60 < int(page.get_by_role("meter").get_attribute("aria-valuenow")) <= 0
    page.wait_for_timeout(2000)
    page.get_by_role("button", name="Stop").click()
    page.locator(".file", has_text="siren").wait_for()
    assert rows(page)[0][:2] == ["siren", "0:00.0"]
    page.locator("#events tr").first.click()
    page.get_by_role("button", name="Pause").wait_for()
    with page.expect_download() as download:
        page.get_by_role("button", name="Sound", exact=True).click()
    samples, rate = soundfile.read(download.value.path())
    assert rate == page.evaluate("() => new AudioContext().sampleRate")
    assert len(samples) / rate > 2
    assert np.abs(samples).max() > 0.1


def test_the_microphone_is_taken_without_what_calls_need(page):
    page.evaluate(
        """() => {
          const media = navigator.mediaDevices;
          const ask = media.getUserMedia.bind(media);
          media.getUserMedia = (wishes) => ((window.wishes = wishes), ask(wishes));
        }"""
    )
    page.get_by_role("button", name="Listen").click()
    page.get_by_role("button", name="Stop").click()
    wishes = {"echoCancellation": False, "noiseSuppression": False, "autoGainControl": False}
    assert page.evaluate("() => window.wishes") == {"audio": wishes}


def test_live_scores_equal_those_of_the_file_that_was_kept(page, tmp_path):
    page.get_by_role("button", name="Listen").click()
    page.locator("#events tr", has_text="siren").wait_for()
    page.wait_for_timeout(2000)
    page.get_by_role("button", name="Stop").click()
    page.locator(".file", has_text="siren").wait_for()
    _, live = saved(page, "JSON")
    with page.expect_download() as download:
        page.get_by_role("button", name="Sound", exact=True).click()
    download.value.save_as(tmp_path / "kept.wav")
    give(page, tmp_path / "kept.wav")
    page.locator("#done", has_text="2 sounds").wait_for()
    first, second = map(json.loads, saved(page, "JSON")[1].splitlines())
    assert json.loads(live) == first
    assert [label["label"] for label in first["labels"]] == [label["label"] for label in second["labels"]]
    for one, other in zip(first["labels"], second["labels"], strict=True):
        assert one["start"] == pytest.approx(other["start"], abs=0.01)
        assert one["score"] == pytest.approx(other["score"], abs=0.02)


def test_a_refused_microphone_is_told_in_a_sentence(playwright, server):
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)  # nobody says yes
    page = opened(browser, server.url, permissions=[])
    page.get_by_role("button", name="Listen").click()
    page.locator("#message", has_text="The microphone was refused.").wait_for()
    assert page.get_by_role("button", name="Listen").is_enabled()
    browser.close()


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


def test_saved_files_are_those_of_the_command_line(page, server):
    give(page, SAMPLES / "recording.flac")
    page.locator("#events tr").first.wait_for()
    sound = (SAMPLES / "recording.flac").read_bytes()
    asked = "/v1/classify?model=esc50&view=events&name=recording.flac"
    detections = server.post(asked, sound).json()["detections"]
    name, text = saved(page, "CSV")
    assert name == "recording.flac.csv"
    assert numbers(text, ",") == numbers(server.post(asked, sound, {"accept": "text/csv"}).body.decode(), ",")
    name, text = saved(page, "Audacity labels")
    assert name == "recording.flac.audacity.txt"
    assert numbers(text, "\t") == numbers(server.post(asked, sound, {"accept": "text/plain"}).body.decode(), "\t")
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


def test_a_busy_server_is_asked_again(page):
    answers = [429, 429]

    def answer(route: Any) -> None:
        if answers:
            route.fulfill(status=answers.pop(), headers={"Retry-After": "1"}, json={"error": "The queue is full."})
        else:
            route.continue_()

    page.route("**/v1/classify*", answer)
    give(page, SAMPLES / "siren.flac")
    page.locator(".file", has_text="siren 1.00").wait_for()
    assert answers == []
    page.complaints[:] = [text for text in page.complaints if "status of 429" not in text]


def test_a_server_with_a_token_is_asked_for_it_once(browser, tmp_path):
    (tmp_path / "token").write_text("a long secret of many letters\n")
    with served("esc50", "--no-log", "--token-file", tmp_path / "token") as server:
        page = browser.new_page()
        page.goto(server.url)
        page.get_by_label("Token").last.fill("a wrong one")
        page.keyboard.press("Enter")
        page.get_by_label("Token").last.fill("a long secret of many letters")
        page.get_by_role("button", name="Go on").click()
        page.locator("body[data-ready]").wait_for()
        give(page, SAMPLES / "siren.flac")
        page.locator(".file", has_text="siren 1.00").wait_for()
        page.get_by_role("button", name="Listen").click()
        page.locator("#answer", has_text="siren").wait_for()
        page.get_by_role("button", name="Stop").click()
        page.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_no_serious_fault(browser, server, broken, theme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed").Axe()
    page = opened(browser, server.url, color_scheme=theme, viewport={"width": width, "height": 900}, reduced_motion="reduce")
    found = [("empty", axe.run(page))]
    give(page, SAMPLES / "recording.flac", broken)
    page.locator("#done", has_text="2 sounds").wait_for()
    found.append(("files", axe.run(page)))
    page.get_by_role("button", name="Listen").click()
    page.locator("#answer", has_text="siren").wait_for()
    found.append(("microphone", axe.run(page)))
    page.context.close()
    faults = [
        (state, fault["id"], fault["nodes"][0]["html"])
        for state, results in found
        for fault in results.response["violations"]
        if fault["impact"] in ("serious", "critical")
    ]
    assert faults == []


def test_a_recording_keeps_its_last_seconds(page):
    code = """async () => {
      const { Sound } = await import("/page/sound.js");
      const sound = new Sound(100, 5);
      sound.append(Float32Array.from({ length: 1050 }, (_, k) => Math.floor(k / 100) / 100));
      const { seconds, first } = sound;
      const range = sound.range(600, 700);
      return { seconds, first, range, gone: sound.at(10), bytes: (await sound.wav().arrayBuffer()).byteLength };
    }"""
    found = page.evaluate(code)
    assert (found["seconds"], found["first"], found["gone"], found["bytes"]) == (10.5, 6, 0, 44 + 2 * 450)
    assert found["range"] == pytest.approx([0.06, 0.06], abs=1e-4)


def test_the_page_weighs_little(server):
    files, rest = set(), {"index.html"}
    while rest:
        name = rest.pop()
        files.add(name)
        found = re.findall(r"[\"/]([a-z_]+\.(?:js|css|svg))\"", (PAGE / name).read_text())
        rest |= {*found} - files - {"browser_engine.js"}
    assert {"page.css", "main.js", "event_tracker.js", "capture_worklet.js", "server_engine.js"} <= files
    answers = [server.get("/" if name == "index.html" else f"/page/{name}", **{"accept-encoding": "gzip"}) for name in files]
    assert {answer.headers["content-encoding"] for answer in answers} == {"gzip"}
    assert sum(len(answer.body) for answer in answers) <= 32_000
    assert sum((PAGE / name).stat().st_size for name in files) <= 82_000
