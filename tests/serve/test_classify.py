"""Sounds over HTTP: the same labels as `predict`, in the form that is asked for, and one sentence for what cannot be served."""

from __future__ import annotations

import base64
import csv
import io
import json
import struct
from collections.abc import Iterator

import numpy as np
import pytest
import soundfile
from support import SAMPLES
from support.serving import SIREN, Served, form, served

import audiorep

pytest.importorskip("fastapi")
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(
        "esc50", "nano", "--no-log", "--seconds", 100, "--channels", 4, "--rate", 200_000, "--body-bytes", 4_000_000
    ) as found:
        yield found


def wav(samples: np.ndarray, rate: int = 16_000) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, "FLOAT", format="WAV")
    return file.getvalue()


@pytest.mark.parametrize("model", ["esc50", "nano"])
@pytest.mark.parametrize("sound", ["siren.flac", "recording.flac"])
def test_labels_are_those_of_predict(server, model, sound):
    answer = server.post(f"/v1/classify?model={model}&view=windows&top=3&threshold=0.1", (SAMPLES / sound).read_bytes())
    recording = audiorep.load(model)(SAMPLES / sound)
    expected = recording.view("windows", 3, 0.1)
    found = answer.json()
    assert answer.status == 200
    assert [each["label"] for each in found["detections"]] == [each.label for each in expected]
    assert [each["score"] for each in found["detections"]] == pytest.approx([each.score for each in expected], abs=1e-5)
    assert [each["start"] for each in found["windows"]] == pytest.approx(list(recording.starts), abs=1e-5)
    assert found["file"]["label"][0][0] == recording.label
    assert found["seconds"] == pytest.approx(recording.seconds)


@pytest.mark.parametrize(("view", "expected"), [("file", 1), ("windows", 10), ("merged", 1), ("auto", 1)])
def test_views_are_those_of_predict(server, view, expected):
    found = server.post(f"/v1/classify?view={view}", SIREN.read_bytes()).json()
    assert len(found["detections"]) == expected
    assert found["detections"][0]["label"] == "siren"
    assert found["view"] == ("file" if view == "auto" else view)


def test_window_and_hop_are_the_clients_choice(server):
    found = server.post("/v1/classify?model=nano&view=windows&window=1.95&hop=1", SIREN.read_bytes()).json()
    assert [each["start"] for each in found["windows"]] == [0, 1, 2, 3]


def test_a_form_names_its_sound(server):
    body, headers = form(SIREN.read_bytes(), "C:\\sounds\\my siren.flac")
    assert server.post("/v1/classify", body, headers).json()["name"] == "my siren.flac"


def test_a_table_and_labels_are_sent_where_they_are_accepted(server):
    text = server.post("/v1/classify?name=a.flac", SIREN.read_bytes(), {"accept": "text/csv"})
    assert text.headers["content-type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(text.body.decode())))
    assert rows[0]["path"] == "a.flac"
    assert rows[0]["label"] == "siren"
    lines = server.post("/v1/classify", SIREN.read_bytes(), {"accept": "text/plain"}).body.decode()
    assert lines.startswith("0.000000\t5.000000\tsiren ")


def test_the_pipeline_answers_as_hugging_faces(server):
    found = server.post("/models/esc50", SIREN.read_bytes()).json()
    assert len(found) == 5
    assert found[0]["label"] == "siren"
    request = {"inputs": base64.b64encode(SIREN.read_bytes()).decode(), "parameters": {"top_k": 2}}
    same = server.post("/models/esc50", json.dumps(request), {"content-type": "application/json"}).json()
    assert same == found[:2]


def test_the_pipeline_gives_logits_and_refuses_anothers_scores(server):
    sound = base64.b64encode(SIREN.read_bytes()).decode()

    def asked(model: str, function: str):
        request = {"inputs": sound, "parameters": {"function_to_apply": function, "top_k": 51}}
        return server.post(f"/models/{model}", json.dumps(request), {"content-type": "application/json"})

    logits = np.array([each["score"] for each in asked("esc50", "none").json()])
    scores = np.array([each["score"] for each in asked("esc50", "softmax").json()])
    assert np.exp(logits) / np.exp(logits).sum() == pytest.approx(scores, abs=1e-6)
    refused = asked("esc50", "sigmoid")
    assert refused.status == 422
    assert "softmax" in refused.error


@pytest.mark.parametrize(
    "body", ["no json", "[]", '{"inputs": 3}', '{"inputs": "%%%"}', '{"inputs": "", "parameters": {"top_k": 0}}', "{" * 10_000]
)
def test_a_request_that_is_none_of_hugging_faces_is_refused(server, body):
    answer = server.post("/models/esc50", body, {"content-type": "application/json"})
    assert answer.status in (400, 422)
    assert answer.error


def test_vectors_are_those_of_embed(server):
    expected = audiorep.load("nano").embed(SIREN)
    found = server.post("/v1/embed?model=nano", SIREN.read_bytes()).json()
    assert np.array(found["vectors"]) == pytest.approx(expected.vectors, abs=1e-4)
    file = server.post("/v1/embed?model=nano&unit=true", SIREN.read_bytes(), {"accept": "application/x-npy"})
    assert np.load(io.BytesIO(file.body)) == pytest.approx(expected.unit(), abs=1e-5)


@pytest.mark.parametrize(
    ("path", "body", "status", "sentence"),
    [
        ("/v1/classify?model=no%0Aone", b"x", 404, "There is no model no\\none; there are esc50, nano."),
        ("/v1/classify", b"", 400, "no body"),
        ("/v1/classify", b"no sound at all", 422, "The sound cannot be read as audio"),
        ("/v1/classify?name=my.wav", b"no sound at all", 422, "my.wav cannot be read as audio"),
        ("/v1/classify?top=0", b"x", 422, "top"),
        ("/v1/classify?view=all", b"x", 422, "view"),
        ("/v1/classify?threshold=nan", b"x", 422, "threshold"),
        ("/v1/classify?hop=0", b"x", 422, "hop"),
        ("/v1/classify?hop=2", SIREN.read_bytes(), 400, "the hop at most the window"),
        ("/v1/classify", wav(np.zeros((100, 5))), 413, "5 channels; at most 4 are allowed"),
        ("/v1/classify", wav(np.zeros(100), 300_000), 413, "300000 samples a second; at most 200000 are allowed"),
        ("/v1/classify", wav(np.zeros(200 * 4000), 4_000), 413, "longer than the 100 s that are allowed"),
        ("/v1/classify", wav(np.full(16_000, np.nan)), 422, "NaN or infinite"),
        ("/v1/classify", SIREN.read_bytes()[:30_000], 422, "damaged"),
        ("/v1/classify", bytes(4_000_001), 413, "4 000 000 bytes"),
        ("/v1/embed?hop=100", SIREN.read_bytes(), 400, "hop"),
        ("/nothing", b"", 404, "Not Found"),
    ],
)
def test_what_cannot_be_served_is_refused_in_a_sentence(server, path, body, status, sentence):
    answer = server.post(path, body)
    assert answer.status == status
    assert sentence in answer.error
    assert "/tmp" not in answer.error


def test_a_body_without_a_length_is_bounded_too(server):
    answer = server.ask("POST", "/v1/classify", iter([bytes(1_000_000)] * 6))
    assert answer.status == 413


def test_a_length_that_is_not_in_the_header_is_bounded(server):
    """A FLAC file may leave its length out; then it is found by decoding, up to what is allowed."""
    content = bytearray((SAMPLES / "siren.flac").read_bytes())
    at = content.index(b"fLaC") + 8
    fields = struct.unpack(">Q", content[at + 10 : at + 18])[0]
    content[at + 10 : at + 18] = struct.pack(">Q", fields & ~((1 << 36) - 1))
    answer = server.post("/v1/classify?view=file", bytes(content))
    assert answer.status == 200
    assert answer.json()["detections"][0]["label"] == "siren"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"------of-the-form--\r\n", "no file in its field"),
        (b"\x00\xff nothing like a form", "cannot be read"),
        (form(b"x", "a.wav", "sound")[0], "no file in its field"),
        (form(b"not audio", "../../etc/passwd")[0], "passwd cannot be read as audio"),
    ],
)
def test_a_form_without_a_sound_is_refused(server, content, sentence):
    answer = server.post("/v1/classify", content, {"content-type": "multipart/form-data; boundary=----of-the-form"})
    assert answer.status in (400, 422)
    assert sentence in answer.error


def test_a_form_without_a_border_is_refused(server):
    assert server.post("/v1/classify", b"x", {"content-type": "multipart/form-data"}).status == 400


def test_models_and_limits_are_told(server):
    found = server.get("/v1/models").json()
    assert found["default"] == "esc50"
    assert [each["name"] for each in found["models"]] == ["esc50", "nano"]
    assert len(found["models"][1]["thresholds"]["label"]) == 521
    assert server.get("/v1/limits").json()["seconds"] == 100


def test_answers_carry_the_headers_that_browsers_heed(server):
    answer = server.get("/healthz")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "access-control-allow-origin" not in answer.headers


def test_what_happened_is_counted(server):
    server.post("/v1/classify", SIREN.read_bytes())
    server.get("/some/other/address")
    text = server.get("/metrics").body.decode()
    assert 'audiorep_requests_total{route="/v1/classify",status="200"}' in text
    assert 'route="other",status="404"' in text
    assert 'audiorep_sound_seconds_total{model="esc50"}' in text
    assert "/some/other" not in text


def test_the_description_covers_all_routes(server):
    paths = server.get("/openapi.json").json()["paths"]
    assert {"/v1/classify", "/models/{name}", "/v1/embed", "/v1/models", "/v1/limits", "/healthz", "/readyz", "/metrics"} == {
        *paths
    }
    page = server.get("/docs").body.decode()
    assert "/v1/listen" in page
    assert "<script" not in page
    assert all(path.replace("{", "{") in page for path in paths)
