"""What a site without a server costs in Chromium: bytes, time to the first label, time a window, and how near its scores are.

python -m experiments.web

Writes results/web.json. Needs playwright, Chromium, and ONNX Runtime for browsers, which is fetched the first time.
"""

from __future__ import annotations

import base64
import functools
import gzip
import http.server
import importlib.util
import json
import shutil
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

import audiorep
from audiorep.benchmark.environment import environment
from audiorep.files import write_json
from audiorep.serve.browser_runtime import VERSION
from audiorep.shipped import SHIPPED

ROOT = Path(__file__).parent.parent
OUTPUT, SAMPLES = ROOT / "results" / "web.json", ROOT / "samples"
COMMAND = "python -m experiments.web"
ROUNDS = 7
MODELS = ("nano", "esc50")
PRECISIONS = ("int8", "shared8", "fp16")
SHOWN = 0.02  # lower scores are not shown
FLAGS = (
    *("--no-sandbox", "--autoplay-policy=no-user-gesture-required", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream", "--disable-background-networking"),
)
OPEN = """async () => {
  const { openEngine } = await import("./page/browser_engine.js");
  window.engine = await openEngine();
  window.classify = (content, name, model) => {
    const bytes = Uint8Array.from(atob(content), (character) => character.charCodeAt(0));
    return engine.classify(new File([bytes], name), { model });
  };
}"""
CLASSIFY = """async ([content, name, model]) => {
  const begun = performance.now();
  const heard = await classify(content, name, model);
  return { ...heard, milliseconds: performance.now() - begun };
}"""
LISTEN = """async ([seconds, model]) => {
  const audio = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
  const stream = await navigator.mediaDevices.getUserMedia({ audio });
  const context = new AudioContext();
  await context.suspend();
  await context.audioWorklet.addModule("page/capture_worklet.js");
  const recorder = new AudioWorkletNode(context, "capture");
  const [windows, recorded, lost] = [[], [], []];
  recorder.port.onmessage = ({ data }) => recorded.push(...data);
  const source = context.createMediaStreamSource(stream);
  const told = { onWindow: (window) => windows.push(window), onLost: (gap) => lost.push(gap), onError: console.error };
  const session = await engine.listen({ model, context, source, ...told });
  source.connect(recorder).connect(context.destination);
  await context.resume();
  await new Promise((resolve) => setTimeout(resolve, 1000 * seconds));
  await session.stop();
  return { windows, recorded, lost, rate: context.sampleRate };
}"""


def main() -> None:
    """Measures all parts and writes them."""
    from playwright.sync_api import sync_playwright

    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        place = Path(folder)
        played = _played(place / "played.wav")
        found = {
            "bytes": {name: size(place / f"size_{name}", name) for name in MODELS},
            "first_label_seconds": {name: first_label(playwright, place / f"size_{name}") for name in MODELS},
            "milliseconds_a_window": {name: windows(playwright, place / f"size_{name}") for name in MODELS},
            "scores": scores(playwright, place),
            "microphone": microphone(playwright, place / "size_esc50", place / "played.wav", played),
        }
    about = {"command": COMMAND, "onnxruntime_web": VERSION, "environment": environment()}
    print(json.dumps(found, indent=2))
    write_json(OUTPUT, {**about, **found})


def size(folder: Path, model: str) -> dict[str, Any]:
    """Bytes of a site with one model: as any server hands it out, and where a server packs what is not packed yet."""
    made = audiorep.web(model, folder)
    contents = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    packed = {path: len(gzip.compress(content, 9)) for path, content in contents.items()}
    parts = {"runtime": "runtime", "models": "models", "page": "page"}
    found: dict[str, Any] = {
        **{name: sum(len(c) for p, c in contents.items() if part in p.parts) for name, part in parts.items()},
        "all": made.bytes,
        "all_where_the_server_packs_too": sum(min(packed[path], len(content)) for path, content in contents.items()),
    }
    if importlib.util.find_spec("brotli") is not None:
        import brotli  # type: ignore[import-not-found,unused-ignore]

        best = (len(brotli.compress(gzip.decompress(c) if p.suffix == ".gz" else c)) for p, c in contents.items())
        found["all_by_brotli"] = sum(best)
    return found


def first_label(playwright: Any, folder: Path) -> dict[str, Any]:
    """Seconds from opening the address to the labels of a clip of 5 s on the page, in a browser that never saw the site."""
    seconds = []
    with _served(folder) as address:
        for _ in range(ROUNDS):
            with _page(playwright) as page:
                begun = time.perf_counter()
                page.goto(address)
                page.locator("body[data-ready]").wait_for()
                page.set_input_files("#picker", SAMPLES / "siren.flac")
                page.locator("#answer:not(:empty)").wait_for()
                seconds.append(time.perf_counter() - begun)
    return {"median": statistics.median(seconds), "largest": max(seconds), "rounds": ROUNDS}


def windows(playwright: Any, folder: Path) -> dict[str, Any]:
    """Milliseconds a window of a minute of sound, with reading, cutting and all; the first run warms up."""
    content = _sound("recording")
    with _served(folder) as address, _page(playwright) as page:
        page.goto(address)
        page.evaluate(OPEN)
        runs = [
            page.evaluate(CLASSIFY, [content, "recording.flac", folder.name.removeprefix("size_")]) for _ in range(ROUNDS + 1)
        ][1:]
    each = [run["milliseconds"] / len(run["windows"]) for run in runs]
    return {"median": statistics.median(each), "largest": max(each), "windows": len(runs[0]["windows"]), "rounds": ROUNDS}


def scores(playwright: Any, place: Path) -> dict[str, Any]:
    """Differences from Python's scores over the windows of all samples, for every model and for three precisions of one."""
    files = {name: str(SHIPPED[name].file) for name in MODELS}
    clips = sorted(map(str, SAMPLES.glob("*.flac")))
    for precision in PRECISIONS:
        ranges = clips if precision == "int8" else []
        files[precision] = str(place / f"{precision}.onnx")
        audiorep.export(SHIPPED["esc50"].folder, files[precision], precision=precision, clips=clips, calibration=ranges)
    audiorep.web([f"{name}={path}" for name, path in files.items()], place / "scores")
    found: dict[str, Any] = {}
    with _served(place / "scores") as address, _page(playwright) as page:
        page.goto(address)
        page.evaluate(OPEN)
        for name, path in files.items():
            each = np.array([value for clip in clips for value in _differences(page, name, path, Path(clip))])
            found[name] = {"largest": float(each.max()), "windows": len(each), "above_1e-5": int((each > 1e-5).sum())}
    return found


def microphone(playwright: Any, folder: Path, path: Path, played: np.ndarray) -> dict[str, Any]:
    """The largest difference of a score between live windows and those of the file that the microphone plays."""
    with _served(folder) as address, _page(playwright, f"--use-file-for-fake-audio-capture={path}%noloop") as page:
        page.goto(address)
        page.evaluate(OPEN)
        heard = page.evaluate(LISTEN, [7.0, "esc50"])
    classifier, rate = audiorep.load("esc50"), heard["rate"]
    recorded, labels, found = np.array(heard["recorded"], np.float32), classifier.info.labels["label"], []
    for window in heard["windows"][:-1]:
        part = recorded[int(window["start"] * rate) : int(window["end"] * rate)]
        first = _offset(part, played)
        if first + len(part) <= len(played) and np.abs(played[first : first + len(part)] - part).max() < 1e-3:
            expected = classifier(audiorep.Waveform(played[first : first + len(part)], rate)).scores["label"][0]
            found.append(_largest(window["scores"]["label"], dict(zip(labels, expected.tolist(), strict=True))))
    whole = len(heard["windows"]) - 1
    return {"largest": max(found), "windows": len(found), "not_as_played": whole - len(found), "lost": heard["lost"]}


def _differences(page: Any, name: str, path: str, clip: Path) -> list[float]:
    heard = page.evaluate(CLASSIFY, [_sound(clip.stem), clip.name, name])
    recording = audiorep.load(path)(clip)
    labels = recording.info.labels["label"]
    own = [dict(zip(labels, row.tolist(), strict=True)) for row in recording.scores["label"]]
    return [_largest(window["scores"]["label"], row) for window, row in zip(heard["windows"], own, strict=True)]


def _largest(shown: dict[str, float], expected: dict[str, float]) -> float:
    """The largest difference of a score that is shown, or that should be: a head shows twenty at most."""
    wanted = {label for label, score in expected.items() if score >= SHOWN + 1e-3} if len(shown) < 20 else set()
    return max((abs(shown.get(label, 0.0) - expected[label]) for label in {*shown, *wanted}), default=0.0)


def _sound(name: str) -> str:
    return base64.b64encode((SAMPLES / f"{name}.flac").read_bytes()).decode()


def _played(path: Path) -> np.ndarray:
    """(N,) what the microphone plays, at the rate of Chromium without a sound card."""
    sounds = [soundfile.read(SAMPLES / f"{name}.flac", dtype="float32")[0] for name in ("siren", "crow")]
    soundfile.write(path, soxr.resample(np.concatenate(sounds), 16_000, 44_100), 44_100)
    return np.asarray(soundfile.read(path, dtype="float32")[0])


def _offset(part: np.ndarray, whole: np.ndarray) -> int:
    size = 2 * (len(whole) + len(part))
    agreement = np.fft.irfft(np.fft.rfft(whole, size) * np.conj(np.fft.rfft(part, size)), size)
    return int(agreement[: len(whole)].argmax())


@contextmanager
def _page(playwright: Any, *flags: str) -> Iterator[Any]:
    browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=[*FLAGS, *flags])
    try:
        yield browser.new_context().new_page()
    finally:
        browser.close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *words: object) -> None:
        """Says nothing."""


@contextmanager
def _served(folder: Path) -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/"
    finally:
        server.shutdown()


if __name__ == "__main__":
    main()
