"""Live sound over WebSockets: the same windows and events as a file's, and an end for what cannot be heard."""

from __future__ import annotations

import base64
import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import soundfile
from support import SAMPLES, processes
from support.serving import SIREN, Served, served

import audiorep

pytest.importorskip("fastapi")
client = pytest.importorskip("websockets.sync.client")
exceptions = pytest.importorskip("websockets.exceptions")
pytestmark = pytest.mark.slow
TOKEN = "a-token-that-nobody-guesses"


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served("esc50", "nano", "--idle-seconds", 2, "--sockets", 200, "--no-log") as found:
        yield found


def listen(server: Served, query: str = "", **options: Any):
    """An open stream."""
    return client.connect(f"ws://127.0.0.1:{server.port}/v1/listen?{query}", compression=None, **options)


def heard(stream, samples: np.ndarray, kind: str = "<f4", piece: int = 4_000) -> list[dict[str, Any]]:
    """All that a server tells of samples that are sent piece by piece."""
    found: list[dict[str, Any]] = []
    reader = threading.Thread(target=lambda: found.extend(json.loads(text) for text in stream))
    reader.start()
    for first in range(0, len(samples), piece):
        stream.send(samples[first : first + piece].astype(kind).tobytes())
    stream.send('{"type": "end"}')
    reader.join(60)
    return found


def of_kind(messages: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [message for message in messages if message["type"] == kind]


@pytest.mark.parametrize("model", ["esc50", "nano"])
def test_windows_and_events_are_those_of_the_file(server, model):
    path = SAMPLES / "recording.flac"
    samples, rate = soundfile.read(path, dtype="float32")
    with listen(server, f"model={model}&rate={rate}&top=600&threshold=0.3") as stream:
        found = heard(stream, samples, piece=7_777)
    recording = audiorep.load(model)(path)
    labels = recording.info.labels["label"]
    windows = of_kind(found, "window")
    assert found[0] == {"type": "ready", "model": model, "sample_rate": 16_000, "window_seconds": 0.975, "hop_seconds": 0.4875}
    assert [each["start"] for each in windows] == pytest.approx(list(recording.starts), abs=1e-5)
    for place in range(0, len(windows), 10):
        expected = {labels[k]: score for k, score in enumerate(recording.scores["label"][place]) if score >= 0.3}
        assert windows[place]["scores"]["label"] == pytest.approx(expected, abs=1e-5)
    events = [(each["label"], each["start"], each["end"]) for each in of_kind(found, "event") if not each["open"]]
    expected_events = recording.events(audiorep.EventConfig(on=0.3))
    assert sorted(events) == [
        (label, pytest.approx(start, abs=1e-5), pytest.approx(end, abs=1e-5))
        for label, start, end in sorted((each.label, each.start, each.end) for each in expected_events)
    ]
    assert found[-1]["type"] == "end"
    assert found[-1]["seconds"] == pytest.approx(recording.seconds, abs=1e-3)


def test_integers_and_channels_are_heard(server):
    samples, rate = soundfile.read(SIREN, dtype="int16")
    stereo = np.stack([samples, samples], axis=1)
    with listen(server, f"rate={rate}&format=s16le&channels=2&events=false") as stream:
        found = heard(stream, stereo, "<i2")
    assert {"siren"} == {max(each["scores"]["label"], key=each["scores"]["label"].get) for each in of_kind(found, "window")}
    assert not of_kind(found, "event")


def test_an_event_is_told_when_it_begins_and_when_it_ends(server):
    samples, rate = soundfile.read(SIREN, dtype="float32")
    with listen(server, f"rate={rate}&windows=false&threshold=0.5") as stream:
        found = heard(stream, np.concatenate([samples, np.zeros(2 * rate, np.float32)]))
    assert not of_kind(found, "window")
    siren = [each for each in of_kind(found, "event") if each["label"] == "siren"]
    assert [each["open"] for each in siren] == [True, False]
    assert siren[1]["end"] == pytest.approx(5.5, abs=0.6)


@pytest.mark.parametrize(
    ("query", "status", "sentence"),
    [
        ("model=none", 404, "no model none"),
        ("rate=3", 400, "3"),
        ("rate=abc", 400, "rate is abc"),
        ("format=mp3", 400, "known are f32le and s16le"),
        ("channels=9", 400, "channels is 9"),
        ("hop=7", 400, "hop"),
        ("top=0", 400, "top is 0"),
        ("threshold=nan", 400, "threshold is nan"),
    ],
)
def test_a_wish_that_cannot_be_fulfilled_is_refused_before_it_opens(server, query, status, sentence):
    with pytest.raises(exceptions.InvalidStatus) as refused:
        listen(server, query)
    assert refused.value.response.status_code == status
    assert sentence in json.loads(refused.value.response.body)["error"]


@pytest.mark.parametrize(
    ("message", "sentence"),
    [
        (b"abc", "whole samples"),
        (np.full(100, np.nan, "<f4").tobytes(), "NaN"),
        (np.full(100, 30_000, "<f4").tobytes(), "floats must lie in -1..1"),
        ("hello", "are needed"),
        ('{"type": "other"}', "are needed"),
        ("[]", "are needed"),
    ],
)
def test_a_message_that_cannot_be_heard_ends_the_stream_with_a_sentence(server, message, sentence):
    with listen(server) as stream:
        stream.recv()
        stream.send(message)
        assert sentence in json.loads(stream.recv())["error"]
        with pytest.raises(exceptions.ConnectionClosed) as closed:
            stream.recv()
        assert closed.value.rcvd.code == 1007


def test_a_message_that_is_too_long_ends_the_stream(server):
    with listen(server) as stream:
        stream.recv()
        stream.send(bytes((1 << 20) + 4))
        with pytest.raises(exceptions.ConnectionClosed) as closed:
            stream.recv()
        assert closed.value.rcvd.code == 1009


def test_a_silent_client_is_told_and_left(server):
    with listen(server) as stream:
        stream.recv()
        assert "Nothing came for 2 s" in json.loads(stream.recv(timeout=10))["error"]


def test_a_client_that_does_not_read_is_dropped(server):
    """It sends without end; what it is told fills the system's memory for it, and then nothing more is heard."""
    with socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect(("127.0.0.1", server.port))
        raw.settimeout(60)
        key = base64.b64encode(bytes(16)).decode()
        head = "host: localhost\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        head += f"sec-websocket-key: {key}\r\nsec-websocket-version: 13\r\n"
        raw.sendall(f"GET /v1/listen?model=nano&top=521&threshold=0 HTTP/1.1\r\n{head}\r\n".encode())
        samples = np.random.default_rng(0).normal(0, 0.1, 250_000).astype("<f4").tobytes()
        frame = b"\x82\xff" + len(samples).to_bytes(8, "big") + bytes(4) + samples
        with pytest.raises(OSError):  # noqa: PT011
            send_for_ever(raw, frame)
    assert server.get("/healthz").status == 200


def send_for_ever(raw: socket.socket, frame: bytes) -> None:
    while True:
        raw.sendall(frame)


def test_two_hundred_streams_are_heard_at_once_and_one_more_is_refused(server):
    samples, rate = soundfile.read(SIREN, dtype="float32")
    part = samples[: 2 * rate].astype("<f4").tobytes()
    streams = [listen(server, f"rate={rate}&events=false", max_queue=None) for _ in range(200)]
    try:
        with pytest.raises(exceptions.InvalidStatus) as refused:
            listen(server)
        assert refused.value.response.status_code == 503
        for stream in streams:
            stream.send(part)
        for stream in streams:
            stream.send('{"type": "end"}')
        for stream in streams:
            found = [json.loads(text) for text in stream]
            windows = of_kind(found, "window")
            assert len(windows) == 3
            assert windows[1]["scores"]["label"]["siren"] > 0.5
    finally:
        for stream in streams:
            stream.close()
    processes.wait_until(lambda: "audiorep_sockets 0.0" in server.get("/metrics").body.decode(), server.process)


def test_a_page_of_another_site_may_not_listen(server):
    with listen(server, origin=server.url) as stream:
        assert json.loads(stream.recv())["type"] == "ready"
    with pytest.raises(exceptions.InvalidStatus) as refused:
        listen(server, origin="https://other.org")
    assert refused.value.response.status_code == 403


def test_a_token_comes_in_the_header_or_as_a_subprotocol(tmp_path):
    (tmp_path / "token").write_text(TOKEN)
    offered = "audiorep.token." + base64.urlsafe_b64encode(TOKEN.encode()).decode().rstrip("=")
    with served("esc50", "--token-file", tmp_path / "token") as server:
        with listen(server, additional_headers={"authorization": f"Bearer {TOKEN}"}) as stream:
            assert json.loads(stream.recv())["type"] == "ready"
        with listen(server, subprotocols=["audiorep", offered]) as stream:
            assert stream.subprotocol == "audiorep"
        for options in ({}, {"subprotocols": ["audiorep", "audiorep.token.%%%"]}, {"subprotocols": ["audiorep", offered[:-4]]}):
            with pytest.raises(exceptions.InvalidStatus) as refused:
                listen(server, **options)
            assert refused.value.response.status_code == 401


def test_tls_is_spoken_where_a_certificate_is_given(tmp_path):
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"]
    words += ["-addext", "subjectAltName=DNS:localhost"]
    made = processes.run(["openssl", *words, "-keyout", str(key), "-out", str(certificate)])
    if made.returncode:
        pytest.skip("openssl makes no certificate here")
    with served("esc50", "--tls-certificate", certificate, "--tls-key", key) as server:
        trust = ssl.create_default_context(cafile=str(certificate))
        address = f"wss://localhost:{server.port}/v1/listen"
        for _ in range(100):
            try:
                with client.connect(address, ssl=trust, compression=None) as stream:
                    assert json.loads(stream.recv())["type"] == "ready"
                break
            except ConnectionRefusedError:
                continue
    done = processes.run(processes.audiorep("serve", "esc50", "--port", 0, "--tls-certificate", key, "--tls-key", key))
    assert done.returncode == 2
    assert re.search("key.pem", done.stderr)
