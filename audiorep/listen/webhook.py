"""Reports posted to a web server, signed and repeated until they arrive."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import threading
import time
import urllib.error
import urllib.request
import uuid
from email.message import Message
from typing import IO, Any

from audiorep.errors import ConfigError
from audiorep.escape import visible
from audiorep.listen.reports import Report, as_dict

TIMEOUT_SECONDS, LAST_SECONDS = 10.0, 1.0  # for an answer; and at the end
TRIES = 6
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0  # seconds between tries; each wait is twice the one before
TRY_AGAIN = (408, 425, 429)  # refusals that pass


class Webhook:
    """Posts each report as JSON.

    Headers: `X-Audiorep-Delivery`, the same for each try of a report; and with a secret `X-Audiorep-Signature`, which is
    `t=SECONDS,v1=HEX`: HMAC-SHA256 of `SECONDS.BODY`.

    Args:
        address: http or https.
        secret: that the receiver knows too; empty: not signed.

    Raises:
        ConfigError: the address is none of these.
    """

    def __init__(self, address: str, secret: str = "") -> None:
        kind, mark, rest = address.partition("://")
        if kind.lower() not in ("http", "https") or not mark or not rest.partition("/")[0]:
            raise ConfigError(f"{visible(address)} is no address of a webhook; http:// or https:// and a host are needed.")
        if "@" in rest.partition("/")[0]:
            raise ConfigError("The address of a webhook holds a password; sign with AUDIOREP_WEBHOOK_SECRET instead.")
        self.name = visible(f"{kind}://{rest.partition('?')[0]}")
        self._address, self._secret = address, secret.encode()
        self._open = urllib.request.build_opener(_NoRedirect).open

    def wants(self, report: Report) -> bool:
        """Whether readers are told of it."""
        return report.is_told

    def write(self, report: Report, closing: threading.Event) -> None:
        """Posts a report, several times if it must be.

        Raises:
            OSError: it was refused, or did not arrive in the last try.
        """
        body = json.dumps(as_dict(report), ensure_ascii=False).encode()
        delivery, wait = str(uuid.uuid4()), FIRST_WAIT
        for number in range(1, TRIES + 1):
            try:
                self._post(body, delivery, LAST_SECONDS if closing.is_set() else TIMEOUT_SECONDS)
                return
            except urllib.error.HTTPError as error:
                with error:
                    if error.code < 500 and error.code not in TRY_AGAIN:
                        raise OSError(f"it answered {error.code}") from None
                    problem, asked = f"it answered {error.code}", error.headers.get("Retry-After", "")
            except (OSError, http.client.HTTPException) as error:
                problem, asked = str(getattr(error, "reason", error)), ""
            if number == TRIES or closing.is_set():
                break
            closing.wait(min(LONGEST_WAIT, float(asked)) if asked.isdecimal() else wait)
            wait = min(2 * wait, LONGEST_WAIT)
        raise OSError(f"{problem}, after {number} {'try' if number == 1 else 'tries'}")

    def missed(self, report: Report) -> None:
        """Nothing follows from a lost report."""

    def close(self) -> None:
        """Nothing is held."""

    def _post(self, body: bytes, delivery: str, timeout: float) -> None:
        headers = {"Content-Type": "application/json", "User-Agent": "audiorep", "X-Audiorep-Delivery": delivery}
        if self._secret:
            headers["X-Audiorep-Signature"] = signature(self._secret, body, round(time.time()))
        with self._open(urllib.request.Request(self._address, body, headers), timeout=timeout) as answer:
            answer.read(1)


def signature(secret: bytes, body: bytes, seconds: int) -> str:
    """The signature of a body that is sent at a time of Unix."""
    digest = hmac.new(secret, f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={seconds},v1={digest}"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """What is signed for one address is not sent to another."""

    def redirect_request(
        self, req: urllib.request.Request, fp: IO[bytes], code: int, msg: str, headers: Message[str, str], newurl: str
    ) -> Any:
        return None
