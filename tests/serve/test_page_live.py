"""The page in a browser: the microphone, a server that is busy or guarded, and readers of the screen."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import soundfile
from support import SAMPLES
from support.page import CHROMIUM, FLAGS, give, opened, rows, saved
from support.serving import served

pytestmark = pytest.mark.slow


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


def test_a_refused_microphone_is_told_in_a_sentence(playwright, page_server):
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)  # nobody says yes
    page = opened(browser, page_server.url, permissions=[])
    page.get_by_role("button", name="Listen").click()
    page.locator("#message", has_text="The microphone was refused.").wait_for()
    assert page.get_by_role("button", name="Listen").is_enabled()
    browser.close()


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
def test_axe_finds_no_serious_fault(browser, page_server, broken, theme, width):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe-playwright-python is not installed").Axe()
    page = opened(
        browser, page_server.url, color_scheme=theme, viewport={"width": width, "height": 900}, reduced_motion="reduce"
    )
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
