"""Reports that a real web server receives: signed, repeated, and never to another address."""

from __future__ import annotations

import hashlib
import hmac
import http.server
import json
import threading
import time
from collections.abc import Iterator

import pytest
from support.reports import event, gap, snippet

from audiorep.errors import ConfigError
from audiorep.listen import webhook
from audiorep.listen.outlets import Outlet
from audiorep.listen.reports import Report
from audiorep.listen.webhook import Webhook

NEVER = threading.Event()


class Receiver:
    """A web server that keeps what is posted, and answers with the given statuses and then 204."""

    def __init__(self) -> None:
        outer = self
        self.statuses: list[int] = []
        self.headers: dict[str, str] = {}
        self.posts: list[tuple[dict[str, str], bytes]] = []

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.posts.append((dict(self.headers), body))
                self.send_response(outer.statuses.pop(0) if outer.statuses else 204)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.end_headers()

            def log_message(self, *words: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_address[1]}/sounds"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    found = Receiver()
    yield found
    found.close()


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(webhook, "FIRST_WAIT", 0.01)


def test_a_report_arrives_as_json_and_can_be_checked(receiver):
    Webhook(receiver.address, "our secret").write(event(), NEVER)
    [(headers, body)] = receiver.posts
    assert json.loads(body)["label"] == "siren"
    assert headers["Content-Type"] == "application/json"
    seconds, digest = (part.partition("=")[2] for part in headers["X-Audiorep-Signature"].split(","))
    assert abs(int(seconds) - time.time()) < 60
    assert digest == hmac.new(b"our secret", seconds.encode() + b"." + body, hashlib.sha256).hexdigest()


def test_without_a_secret_nothing_is_signed(receiver):
    Webhook(receiver.address).write(gap(), NEVER)
    assert "X-Audiorep-Signature" not in receiver.posts[0][0]


def test_a_server_in_trouble_is_tried_again_with_the_same_number(receiver):
    receiver.statuses = [503, 500, 429]
    Webhook(receiver.address).write(event(), NEVER)
    assert len(receiver.posts) == 4
    assert len({headers["X-Audiorep-Delivery"] for headers, _ in receiver.posts}) == 1
    assert len({body for _, body in receiver.posts}) == 1
    Webhook(receiver.address).write(event(), NEVER)
    assert len({headers["X-Audiorep-Delivery"] for headers, _ in receiver.posts}) == 2


def test_it_waits_as_long_as_the_server_asks(receiver):
    receiver.statuses, receiver.headers = [503], {"Retry-After": "1"}
    begun = time.monotonic()
    Webhook(receiver.address).write(event(), NEVER)
    assert time.monotonic() - begun >= 0.9


@pytest.mark.parametrize("status", [400, 401, 404, 301])
def test_a_refusal_is_not_repeated(receiver, status):
    receiver.statuses, receiver.headers = [status], {"Location": receiver.address}
    with pytest.raises(OSError, match=f"it answered {status}"):
        Webhook(receiver.address).write(event(), NEVER)
    assert len(receiver.posts) == 1


def test_a_server_that_stays_in_trouble_costs_so_many_tries(receiver, monkeypatch):
    monkeypatch.setattr(webhook, "TRIES", 3)
    receiver.statuses = [503] * 9
    with pytest.raises(OSError, match="it answered 503, after 3 tries"):
        Webhook(receiver.address).write(event(), NEVER)
    assert len(receiver.posts) == 3


def test_at_the_end_there_is_one_try(receiver):
    closing = threading.Event()
    closing.set()
    receiver.statuses = [503] * 9
    with pytest.raises(OSError, match="after 1 try"):
        Webhook(receiver.address).write(event(), closing)
    address = receiver.address
    receiver.close()
    with pytest.raises(OSError, match="refused, after 1 try"):
        Webhook(address).write(event(), closing)


def test_sound_that_is_not_written_is_not_posted(receiver):
    assert not Webhook(receiver.address).wants(snippet())
    assert Webhook(receiver.address).wants(gap())


def test_reports_wait_for_a_server_that_comes_back(receiver):
    receiver.statuses = [503, 503]
    said: list[str] = []
    outlet: Outlet[Report] = Outlet(Webhook(receiver.address), said.append)
    for number in range(5):
        outlet.put(event(f"sound {number}"))
    deadline = time.monotonic() + 10
    while len(receiver.posts) < 7 and time.monotonic() < deadline:
        time.sleep(0.01)
    outlet.close()
    assert [json.loads(body)["label"] for _, body in receiver.posts][2:] == [f"sound {number}" for number in range(5)]
    assert (outlet.lost, said) == (0, [])


@pytest.mark.parametrize("address", ["example.org", "ftp://example.org/", "http://", "", "http:///path"])
def test_addresses_of_no_webhook(address):
    with pytest.raises(ConfigError, match="is no address of a webhook"):
        Webhook(address)


def test_passwords_in_addresses_are_neither_taken_nor_shown():
    with pytest.raises(ConfigError) as refused:
        Webhook("https://me:secret@example.org/")
    assert "secret;" not in str(refused.value).replace("AUDIOREP_WEBHOOK_SECRET", "")
    assert "me:" not in str(refused.value)
    assert Webhook("https://example.org/a?token=hidden").name == "https://example.org/a"
