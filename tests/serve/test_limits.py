"""What a server takes at most, who may ask it, and how it ends."""

from __future__ import annotations

import contextlib
import io
import json
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import soundfile
from support import processes
from support.serving import SIREN, Answer, Served, served

pytest.importorskip("fastapi")
pytestmark = pytest.mark.slow
TOKEN = "a-token-that-nobody-guesses"


def long_silence() -> bytes:
    """Twenty minutes of silence in a small file, which take some seconds to be heard."""
    file = io.BytesIO()
    soundfile.write(file, np.zeros(1200 * 16_000, np.int16), 16_000, format="FLAC")
    return file.getvalue()


@pytest.fixture(scope="module")
def strict() -> Iterator[Served]:
    with served("esc50", "--idle-seconds", 1, "--queue", 2, "--sockets", 2, "--body-bytes", 3_000_000) as found:
        yield found


@pytest.fixture(scope="module")
def guarded(tmp_path_factory) -> Iterator[Served]:
    file = tmp_path_factory.mktemp("token") / "token"
    file.write_text(f"{TOKEN}\n")
    with served("esc50", "--token-file", file, "--cors", "https://example.org") as found:
        yield found


def talk(server: Served, *parts: bytes, pause: float = 0.0, seconds: float = 20) -> bytes:
    """What a server answers to raw bytes until it closes the connection."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=seconds) as client:
        for part in parts:
            client.sendall(part)
            time.sleep(pause)
        return read_all(client)


def is_dropped(server: Served, first: bytes, again: bytes) -> bool:
    """Whether a client that sends without end, and reads nothing, loses its connection."""
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", server.port))
        client.settimeout(30)
        try:
            client.sendall(first)
            for _ in range(2000):
                client.sendall(again)
        except TimeoutError:
            return False
        except OSError:
            return True
    return False


def at_once(ask: Callable[[], Answer], count: int) -> list[Answer]:
    """The answers to `count` requests that are asked at the same time."""
    found: list[Answer] = []
    threads = [threading.Thread(target=lambda: found.append(ask())) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def is_well(server: Served) -> bool:
    return server.post("/v1/classify", SIREN.read_bytes()).json()["detections"][0]["label"] == "siren"


def waiting(server: Served) -> float:
    lines = server.get("/metrics").body.decode().splitlines()
    return float(next(line for line in lines if line.startswith("audiorep_waiting_requests ")).split()[1])


def test_a_full_queue_is_answered_at_once_with_a_time(strict):
    sound = long_silence()
    found = at_once(lambda: strict.post("/v1/classify?view=file", sound), 6)
    statuses = sorted(answer.status for answer in found)
    assert statuses == [200, 200, 429, 429, 429, 429]
    refused = next(answer for answer in found if answer.status == 429)
    assert int(refused.headers["retry-after"]) >= 1
    assert "Try again in" in refused.error
    assert is_well(strict)


def test_a_client_that_leaves_is_dropped(strict):
    sound = long_silence()
    head = f"POST /v1/classify HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(sound)}\r\n\r\n".encode()
    for _ in range(6):
        with socket.create_connection(("127.0.0.1", strict.port)) as client:
            client.sendall(head + sound)
            processes.wait_until(lambda: waiting(strict) >= 1, strict.process)
        processes.wait_until(lambda: waiting(strict) == 0, strict.process, seconds=2.0)
    assert is_well(strict)


@pytest.mark.parametrize(
    "parts",
    [
        [b""],
        [b"POST /v1/classify HTTP/1.1\r\n"],
        [b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nx: "],
    ],
)
def test_headers_that_do_not_come_end_the_connection(strict, parts):
    began = time.monotonic()
    assert b"200" not in talk(strict, *parts)
    assert time.monotonic() - began < 10


def test_a_body_that_does_not_come_is_refused(strict):
    head = b"POST /v1/classify HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000\r\n\r\n"
    assert b"408" in talk(strict, head, b"x" * 10)


def test_headers_without_end_are_refused(strict):
    assert b"431" in talk(strict, b"GET / HTTP/1.1\r\nhost: localhost\r\n", b"x-long: " + b"a" * 200_000)


def test_bytes_that_are_no_request_are_refused(strict):
    assert b"400" in talk(strict, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03 nothing\r\n\r\n")


def test_a_body_without_end_is_dropped(strict):
    head = b"POST /v1/classify HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n"
    chunk = b"%x\r\n" % 500_000 + b"a" * 500_000 + b"\r\n"
    assert is_dropped(strict, head, chunk)
    assert is_well(strict)


def test_a_client_that_does_not_read_is_dropped(strict):
    """Its answer has some megabytes, more than the system keeps for it."""
    sound = long_silence()
    with socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect(("127.0.0.1", strict.port))
        head = "POST /v1/classify?view=windows&top=51&threshold=0 HTTP/1.1\r\nhost: localhost\r\n"
        head += f"content-length: {len(sound)}\r\n\r\n"
        client.sendall(head.encode() + sound)
        processes.wait_until(lambda: waiting(strict) == 1, strict.process)
        processes.wait_until(lambda: waiting(strict) == 0, strict.process)
        time.sleep(4)
        found = read_all(client)
    assert len(found) < int(re.search(rb"content-length: (\d+)", found)[1])
    assert is_well(strict)


def test_requests_without_end_before_an_answer_are_dropped(strict):
    assert is_dropped(strict, b"", b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n" * 1000)
    assert is_well(strict)


def read_all(client: socket.socket) -> bytes:
    """What comes until the connection is closed."""
    found = []
    with contextlib.suppress(ConnectionResetError):
        while part := client.recv(1 << 20):
            found.append(part)
    return b"".join(found)


def test_without_the_token_nothing_is_told(guarded):
    for path in ("/v1/models", "/v1/limits", "/metrics"):
        answer = guarded.get(path)
        assert answer.status == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert guarded.get(path, authorization=f"Bearer {TOKEN}x").status == 401
        assert guarded.get(path, authorization=f"Basic {TOKEN}").status == 401
        assert guarded.get(path, authorization=f"Bearer {TOKEN}").status == 200
    assert guarded.post("/v1/classify", SIREN.read_bytes()).status == 401
    assert guarded.get("/healthz").status == 200


def test_only_the_sites_that_are_named_may_ask(guarded):
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "authorization"}
    allowed = guarded.ask("OPTIONS", "/v1/classify", headers={"origin": "https://example.org", **asked})
    assert allowed.headers["access-control-allow-origin"] == "https://example.org"
    refused = guarded.ask("OPTIONS", "/v1/classify", headers={"origin": "https://other.org", **asked})
    assert "access-control-allow-origin" not in refused.headers


def test_a_page_that_calls_itself_this_machine_is_refused(strict):
    assert strict.get("/v1/models", host="evil.example.org").status == 403
    assert strict.get("/v1/models", host=f"localhost:{strict.port}").status == 200
    assert strict.get("/v1/models", host="[::1]:80").status == 200


def test_what_is_heard_is_answered_before_the_end():
    with served("esc50") as server:
        found: list[Answer] = []
        sound = long_silence()
        asking = threading.Thread(target=lambda: found.append(server.post("/v1/classify?view=file", sound)))
        asking.start()
        processes.wait_until(lambda: waiting(server) == 1, server.process)
        assert server.end() == 143
        asking.join()
        assert found[0].status == 200


def test_ctrl_c_ends_it_with_one_line():
    with served("esc50", "--no-log") as server:
        assert server.end(signal.SIGINT) == 130
        assert server.log == ["Stopped.\n"]


def test_two_processes_count_together_and_one_that_is_killed_comes_back():
    with served("esc50", "--workers", 2, "--threads", 1, "--no-log") as server:
        for _ in range(30):
            assert is_well(server)
        assert 'route="/v1/classify",status="200"} 30.0' in server.get("/metrics").body.decode()
        workers = children(server.process)
        assert len(workers) == 2
        processes.run(["kill", "-9", str(workers[0])])
        processes.wait_until(
            lambda: len(children(server.process)) == 2 and workers[0] not in children(server.process), server.process
        )
        assert is_well(server)
        assert server.end() == 0


def children(process: subprocess.Popen[str]) -> list[int]:
    """The processes of a server that serve."""
    found = processes.run(["pgrep", "-P", str(process.pid), "-f", "spawn_main"])
    return [int(word) for word in found.stdout.split()]


def test_a_network_needs_a_token(tmp_path):
    done = processes.run(processes.audiorep("serve", "--host", "0.0.0.0", "--port", 0))
    assert done.returncode == 2
    assert "--token-file" in done.stderr
    short = tmp_path / "token"
    short.write_text("secret\n")
    done = processes.run(processes.audiorep("serve", "--token-file", short, "--port", 0))
    assert done.returncode == 2
    assert "16 printable" in done.stderr
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["missing.onnx"], "missing.onnx does not exist"),
        (["README.md"], "is not"),
        (["esc50", "esc50"], "Two models are named esc50"),
        (["a b=esc50"], "cannot be a model's name"),
        (["--token-file", "missing"], "missing cannot be read"),
        (["--host", "no.such.host.invalid"], "--token-file"),
        (["--host", "no.such.host.invalid", "--insecure"], "cannot be listened on"),
        (["--tls-certificate", "a.pem"], "TLS needs both"),
        (["--cors", "*"], "no origin"),
        (["--seconds", "nan"], "seconds"),
    ],
)
def test_a_wrong_start_is_told_in_one_sentence(words, sentence):
    done = processes.run(processes.audiorep("serve", *words, "--port", 0))
    assert done.returncode == 2
    assert sentence in done.stderr
    assert "Traceback" not in done.stderr


def test_a_port_that_is_taken_is_told(strict):
    done = processes.run(processes.audiorep("serve", "esc50", "--port", strict.port))
    assert done.returncode == 2
    assert "cannot be listened on: Address already in use" in done.stderr


def test_the_log_tells_requests_and_not_their_content():
    with served("esc50") as server:
        server.post("/v1/classify?name=secret.flac", SIREN.read_bytes(), {"authorization": f"Bearer {TOKEN}"})
        server.end()
        text = "".join(server.log)
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    assert [(line["method"], line["route"], line["status"]) for line in lines][-1] == ("POST", "/v1/classify", 200)
    assert "secret" not in text
    assert TOKEN not in text


def test_the_api_is_described_without_a_server():
    done = processes.run(processes.audiorep("serve", "esc50", "--openapi"))
    assert json.loads(done.stdout)["info"]["title"] == "audiorep"
