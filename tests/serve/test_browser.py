"""A site without a server in Chromium: its scores and events are Python's, with a network, without one, and live."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from support import SAMPLES, shared
from support.page import give, opened, rows
from support.site import OPEN, browser, kept, runtime_folder, served

import audiorep
from audiorep.predict.results import Recording
from audiorep.serve.site import PAGE
from audiorep.shipped import SHIPPED

pytestmark = pytest.mark.slow
SOUNDS = ("crow", "siren", "rain", "door_wood_knock")
RATE = 16_000
CLASSIFY = """async ([content, name, model]) => {
  const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
  const progress = [];
  const options = { model, onProgress: (share) => progress.push(share) };
  return { ...(await engine.classify(new File([bytes], name), options)), progress };
}"""


@pytest.fixture(scope="module")
def models(playwright, tmp_path_factory) -> dict[str, str]:
    """{name: file} of the models in the package, and of one of them in int8 and with shared weights."""
    folder = tmp_path_factory.mktemp("models")
    clips = [str(SAMPLES / f"{name}.flac") for name in SOUNDS]
    with shared.checkpoints():  # merged once
        for precision, ranges in {"int8": clips, "shared8": []}.items():
            path = folder / f"{precision}.onnx"
            audiorep.export(SHIPPED["esc50"].folder, path, precision=precision, clips=clips[:2], calibration=ranges)
    return {
        **{name: str(row.file) for name, row in SHIPPED.items()},
        **{path.stem: str(path) for path in sorted(folder.glob("*.onnx"))},
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory, models) -> Path:
    """A site of them all."""
    place = tmp_path_factory.mktemp("web") / "site"
    return audiorep.web([f"{name}={path}" for name, path in models.items()], place, runtime=runtime_folder()).path


@pytest.fixture(scope="module")
def address(folder) -> Iterator[str]:
    with served(folder) as found:
        yield found


@contextmanager
def page_at(playwright: Any, address: str, *flags: str) -> Iterator[Any]:
    """A page of the site with its engine, which may not complain."""
    with browser(playwright, *flags) as chromium:
        context = chromium.new_context()
        page = context.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(address)
        page.evaluate(OPEN)
        yield page
        assert said == []


@pytest.fixture(scope="module")
def page(playwright, address) -> Iterator[Any]:
    with page_at(playwright, address) as found:
        yield found


@pytest.fixture(scope="module")
def sounds(tmp_path_factory) -> dict[str, Path]:
    """Some samples, one of them as a WAV file: the page reads both kinds itself, without a bit of difference."""
    samples, rate = soundfile.read(SAMPLES / "crow.flac", dtype="int16")
    place = tmp_path_factory.mktemp("sounds") / "crow.wav"
    soundfile.write(place, samples, rate)
    return {**{name: SAMPLES / f"{name}.flac" for name in SOUNDS}, "crow": place}


def classified(page: Any, path: Path, model: str) -> dict[str, Any]:
    return page.evaluate(CLASSIFY, [base64.b64encode(path.read_bytes()).decode(), path.name, model])


def differences(heard: dict[str, Any], recording: Recording) -> list[float]:
    """The largest difference of a score in each window; scores that the page leaves out are low, or not among the first."""
    assert [window["start"] for window in heard["windows"]] == pytest.approx(recording.starts.tolist(), abs=1e-9)
    found = []
    for place, window in enumerate(heard["windows"]):
        assert window["end"] == pytest.approx(recording.end(place), abs=1e-9)
        worst = 0.0
        for head, shown in window["scores"].items():
            scores = recording.scores[head][place]
            own = {label: float(score) for label, score in zip(recording.info.labels[head], scores, strict=True)}
            worst = max([worst, *(abs(own.pop(label) - score) for label, score in shown.items())])
            assert max(own.values(), default=0.0) < max(0.02, min(shown.values()) if len(shown) == 20 else 0.0) + max(
                worst, 1e-5
            )
        found.append(worst)
    return found


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("model", ["nano", "esc50", "shared8"])
@pytest.mark.parametrize("sound", SOUNDS)
def test_scores_of_files_are_those_of_python(page, models, sounds, model, sound):
    heard = classified(page, sounds[sound], model)
    recording = audiorep.load(models[model])(sounds[sound])
    assert max(differences(heard, recording)) < 1e-5
    assert heard["seconds"] == recording.seconds
    peaks = recording.peaks
    assert [window["peak"] for window in heard["windows"]] == pytest.approx(peaks.tolist(), abs=1e-6)
    assert heard["file"]["label"][0] == [recording.label, pytest.approx(recording.top(1)[0][1], abs=1e-5)]
    assert heard["progress"][-1] == 1
    assert heard["notes"] == []


def test_scores_of_int8_are_those_of_python_but_where_a_value_lies_between_two_steps(page, models, sounds):
    """There a part in a million, such as another order of adding, changes the scores of Python as much."""
    classifier, found = audiorep.load(models["int8"]), []
    changed = []
    for path in sounds.values():
        recording = classifier(path)
        found += differences(classified(page, path, "int8"), recording)
        samples, rate = soundfile.read(path, dtype="float32")
        louder = classifier(audiorep.Waveform(samples * np.float32(1 + 1e-6), rate))
        changed += np.abs(louder.scores["label"] - recording.scores["label"]).max(1).tolist()
    assert len(found) == 40
    assert np.mean(np.array(found) < 1e-5) >= 0.85
    assert max(found) < 0.05
    assert np.mean(np.array(changed) < 1e-5) < 1  # Python differs from itself


@pytest.mark.parametrize("model", ["nano", "esc50"])
def test_events_of_files_are_those_of_python(page, models, model):
    heard = classified(page, SAMPLES / "recording.flac", model)
    code = """async ([windows, name]) => {
      const { trackers } = await import("./page/events.js");
      const model = engine.models.find((each) => each.name === name);
      return Object.entries(trackers(model)).flatMap(([head, tracker]) => {
        const dense = ({ scores }) => model.labels[head].map((label) => scores[head]?.[label] ?? 0);
        const told = windows.flatMap((window) => tracker.push(window.start, window.end, dense(window), window.peak));
        return [...told, ...tracker.flush()].filter((event) => !event.open);
      });
    }"""
    found = sorted((e["start"], -e["score"], e["label"], e["end"]) for e in page.evaluate(code, [heard["windows"], model]))
    expected = audiorep.load(models[model])(SAMPLES / "recording.flac").events()
    assert len(expected) > 3
    assert [(start, label, end) for start, _, label, end in found] == [(e.start, e.label, e.end) for e in expected]
    assert [-score for _, score, _, _ in found] == pytest.approx([event.score for event in expected], abs=1e-5)


@pytest.mark.parametrize(("rate", "allowed"), [(44_100, 2e-3), (48_000, 1e-5)])
def test_files_of_other_rates_and_several_channels_are_resampled_as_in_python(page, tmp_path, rate, allowed):
    samples, _ = soundfile.read(SAMPLES / "crow.flac")
    stereo = np.stack([soxr.resample(samples, RATE, rate), 0.5 * soxr.resample(samples, RATE, rate)], 1)
    soundfile.write(tmp_path / "crow.wav", stereo, rate, "PCM_24")
    heard = classified(page, tmp_path / "crow.wav", "esc50")
    assert max(differences(heard, audiorep.load("esc50")(tmp_path / "crow.wav"))) < allowed


@pytest.mark.parametrize(("suffix", "allowed"), [("ogg", 0.02), ("mp3", 0.02)])
def test_files_that_the_browser_decodes_are_heard_too(page, tmp_path, suffix, allowed):
    samples, _ = soundfile.read(SAMPLES / "siren.flac")
    soundfile.write(tmp_path / f"siren.{suffix}", samples, RATE)
    heard = classified(page, tmp_path / f"siren.{suffix}", "esc50")
    assert heard["file"]["label"][0][0] == "siren"
    recording = audiorep.load("esc50")(tmp_path / f"siren.{suffix}")
    assert abs(heard["file"]["label"][0][1] - recording.top(1)[0][1]) < allowed


def test_files_that_cannot_be_used_are_one_sentence(page, tmp_path):
    (tmp_path / "text.wav").write_text("no sound " * 100)
    (tmp_path / "cut.flac").write_bytes((SAMPLES / "crow.flac").read_bytes()[:1000])
    soundfile.write(tmp_path / "nan.wav", np.array([0.0, np.nan]), RATE, "FLOAT")
    for name, reason in (
        ("text.wav", "text.wav cannot be decoded by this browser: it is damaged, no sound, or of a format"),
        ("cut.flac", "cut.flac is damaged: its header promises 5.00 s, 0.00 s can be read. Re-copy the file."),
        ("nan.wav", "nan.wav holds NaN or infinite samples. Re-export the file."),
    ):
        with pytest.raises(Exception, match=reason):
            classified(page, tmp_path / name, "esc50")
    with pytest.raises(Exception, match="There is no model nothing; there are nano, esc50"):
        classified(page, tmp_path / "nan.wav", "nothing")


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("runtime/ort.js", "The program that runs the model cannot be loaded. Reload the page."),
        ("runtime/ort.wasm.gz", "ort.wasm.gz cannot be loaded: the server answers 404. Make the site again"),
        ("models.json", "The site's list of models cannot be loaded. Make the site again, and copy all of it."),
    ],
)
def test_a_site_that_lacks_a_file_says_so(playwright, folder, tmp_path, sounds, missing, reason):
    shutil.copytree(folder, tmp_path / "site")
    (tmp_path / "site" / missing).unlink()
    with served(tmp_path / "site") as address, browser(playwright) as chromium:
        page = chromium.new_page()
        page.goto(address)
        with pytest.raises(Exception, match=reason):
            page.evaluate(OPEN)


def test_a_file_that_nobody_waits_for_is_left(page):
    code = """async () => {
      const header = new Uint8Array([82,73,70,70,0,0,0,0,87,65,86,69,102,109,116,32,16,0,0,0,1,0,1,0,
        128,62,0,0,0,125,0,0,2,0,16,0,100,97,116,97,255,255,255,255]);
      const hour = new File([header, new Uint8Array(115200000)], "hour.wav");
      const stopper = new AbortController();
      let progress = 0;
      const onProgress = (share) => { progress = share; stopper.abort(); };
      const message = await engine.classify(hour, { onProgress, signal: stopper.signal }).catch((error) => error.message);
      return [message, progress < 0.1];
    }"""
    assert page.evaluate(code) == ["Stopped.", True]


def test_webgpu_is_used_only_where_it_gives_the_same_scores_sooner(playwright, tmp_path, sounds):
    folder = audiorep.web(["esc50"], tmp_path / "site", webgpu=True, runtime=runtime_folder()).path
    flags = ("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")
    with served(folder) as address, browser(playwright, *flags) as chromium:
        page = chromium.new_page()
        page.goto(address)
        page.evaluate(OPEN)
        if not page.evaluate("navigator.gpu?.requestAdapter().then(Boolean) ?? false"):
            pytest.skip("this Chromium has no WebGPU")
        code = """async () => {
          while (!engine.webgpu.esc50) await new Promise((resolve) => setTimeout(resolve, 100));
          return engine.webgpu.esc50;
        }"""
        found = page.evaluate(code)
        assert "error" not in found
        wasm, gpu = found["milliseconds"]
        assert found["run"] == (found["difference"] <= 1e-5 and gpu < 0.8 * wasm), found
        assert max(differences(classified(page, sounds["crow"], "esc50"), audiorep.load("esc50")(sounds["crow"]))) < 1e-5


# ---------------------------------------------------------------- without a network


def test_site_works_without_a_network_once_it_was_loaded(playwright, address, models, sounds):
    with browser(playwright) as chromium:
        context = chromium.new_context()
        page = context.new_page()
        page.goto(address)
        page.evaluate(OPEN)
        kept(page, len(models))
        context.set_offline(True)
        page.reload()
        assert page.evaluate(OPEN) == list(models)
        for model in models:
            recording = audiorep.load(models[model])(sounds["crow"])
            assert max(differences(classified(page, sounds["crow"], model), recording)) < 1e-5


def test_without_a_network_files_come_from_the_browser_and_no_server(playwright, folder, tmp_path, sounds):
    shutil.copytree(folder, tmp_path / "site")
    with browser(playwright) as chromium:
        page = chromium.new_context().new_page()
        with served(tmp_path / "site") as address:
            page.goto(address)
            page.evaluate(OPEN)
            kept(page, 4)
        page.reload()  # the server has ended
        page.evaluate(OPEN)
        assert classified(page, sounds["siren"], "esc50")["file"]["label"][0][0] == "siren"


# ---------------------------------------------------------------- live sound

LISTEN = """async ([seconds, model]) => {
  const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const stream = await navigator.mediaDevices.getUserMedia({ audio });
  const context = new AudioContext();
  await context.suspend(); // the engine and the recorder then begin with the same sample
  await context.audioWorklet.addModule("page/capture_worklet.js");
  const recorder = new AudioWorkletNode(context, "capture");
  const [windows, lost, errors, recorded] = [[], [], [], []];
  recorder.port.onmessage = ({ data }) => recorded.push(...data);
  const source = context.createMediaStreamSource(stream);
  const session = await engine.listen({
    model, context, source,
    onWindow: (window) => windows.push(window), onLost: (gap) => lost.push(gap), onError: (error) => errors.push(error),
  });
  source.connect(recorder).connect(context.destination);
  await context.resume();
  await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  await session.stop();
  for (const track of stream.getTracks()) track.stop();
  await context.close();
  return { windows, lost, errors, recorded, rate: context.sampleRate };
}"""


def offset_of(part: np.ndarray, whole: np.ndarray) -> int:
    """The sample of `whole` at which `part` begins, where they agree best."""
    size = 2 * (len(whole) + len(part))
    agreement = np.fft.irfft(np.fft.rfft(whole, size) * np.conj(np.fft.rfft(part, size)), size)
    return int(agreement[: len(whole)].argmax())


def test_microphone_is_heard_as_the_file_that_it_plays(playwright, address, tmp_path):
    sounds = [soundfile.read(SAMPLES / f"{name}.flac", dtype="float32")[0] for name in ("siren", "crow")]
    rate = 44_100  # of the sound in Chromium without a sound card
    played = soxr.resample(np.concatenate(sounds), RATE, rate)
    soundfile.write(tmp_path / "played.wav", played, rate)
    with page_at(playwright, address, f"--use-file-for-fake-audio-capture={tmp_path / 'played.wav'}%noloop") as page:
        heard = page.evaluate(LISTEN, [7.0, "esc50"])
    assert (heard["errors"], heard["lost"], heard["rate"]) == ([], [], rate)
    recorded, windows = np.array(heard["recorded"], np.float32), heard["windows"][:-1]  # the last one was cut short
    classifier = audiorep.load("esc50")
    labels = classifier.info.labels["label"]
    live = np.array([[window["scores"]["label"].get(label, 0.0) for label in labels] for window in windows])
    same = shown(classifier(audiorep.Waveform(recorded, rate)).scores["label"][: len(windows)])
    assert np.abs(live - same).max() <= 2e-3
    found = []  # on a busy machine the device leaves out a stretch now and then
    for place, window in enumerate(windows):
        part = recorded[int(window["start"] * rate) : int(window["end"] * rate)]
        first = offset_of(part, played)  # of the best agreement: the device plays before it is heard
        if first + len(part) <= len(played) and np.abs(played[first : first + len(part)] - part).max() < 1e-3:
            found.append(place)
            expected = classifier(audiorep.Waveform(played[first : first + len(part)], rate)).scores["label"][0]
            assert np.abs(live[place] - shown(expected)).max() <= 0.02
    assert len(found) >= 6
    assert {labels[k] for k in live.argmax(1)} >= {"siren", "crow"}


def shown(scores: np.ndarray) -> np.ndarray:
    """Scores with those left out that the page does not show."""
    return np.where(scores >= 0.02, scores, 0.0)


def test_page_itself_uses_its_own_engine_and_asks_nobody_else(playwright, address):
    with browser(playwright) as chromium:
        page = opened(chromium, address)
        assert page.locator("#model option").all_inner_texts() == ["nano", "esc50", "int8", "shared8"]
        page.select_option("#model", "esc50")
        give(page, SAMPLES / "siren.flac")
        page.locator("#answer", has_text="siren").wait_for()
        assert "siren" in [row[0] for row in rows(page)]
        assert page.complaints == []
        assert [url for url in page.asked if not url.startswith((address, "blob:"))] == []
        assert not any("server_engine" in url for url in page.asked)


def test_microphone_of_the_page_is_heard_without_a_server(playwright, address, siren_wav):
    with browser(playwright, f"--use-file-for-fake-audio-capture={siren_wav}") as chromium:
        page = opened(chromium, address)
        page.select_option("#model", "esc50")
        page.locator("#listen").click()
        page.locator("#answer", has_text="siren").wait_for()
        page.wait_for_timeout(2000)
        page.locator("#listen").click()
        page.locator("#files", has_text="siren").wait_for()
        assert "siren" in [row[0] for row in rows(page)]
        assert page.complaints == []


def test_from_a_file_the_page_says_how_to_open_it(playwright, folder):
    with browser(playwright) as chromium:
        page = chromium.new_page()
        page.goto((folder / "index.html").as_uri())
        page.get_by_text("Browsers run this page from a web server only").wait_for()
        assert page.locator("pre").inner_text() == "python -m http.server"
        assert page.locator("button").count() == 0


def test_sources_name_no_other_address():
    for path in PAGE.iterdir():
        text = path.read_text()
        assert "http://" not in text.replace("http://www.w3.org/", "").replace("http://localhost", ""), path.name
        assert "https://" not in text, path.name
