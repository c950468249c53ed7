"""`ServeConfig`: where a server listens, who may ask it, and how much of anything it takes."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from audiorep.config import Config, refuse
from audiorep.errors import ConfigError
from audiorep.escape import visible

LIMITS = ("body_bytes", "seconds", "channels", "rate", "queue", "sockets", "idle_seconds", "total_seconds")
"""Fields that clients may ask for."""
SHORTEST_TOKEN = 16  # characters; a shorter one is guessed


@dataclass(frozen=True)
class ServeConfig(Config):
    """Settings of a server.

    >>> audiorep.ServeConfig(port=9000, seconds=60).queue
    64

    Raises:
        ConfigError: a value is not allowed, or anyone on the network could ask the server.
    """

    host: str = "127.0.0.1"
    """Address to listen on; others than this machine's own need a token, or `insecure`."""
    port: int = 8000
    """0: any that is free."""
    workers: int = 1
    """Processes, each with its own session of every model."""
    threads: int = 0
    """Processor threads of the model in each process; 0: the cores, divided among the processes."""
    token: str = field(default="", repr=False)
    """What clients must know; empty: nothing."""
    insecure: bool = False
    """Whether a network may ask without a token."""
    tls_certificate: str = ""
    """PEM file; empty: no TLS."""
    tls_key: str = field(default="", repr=False)
    """PEM file of its private key."""
    origins: tuple[str, ...] = ()
    """Web sites, such as https://example.org, whose pages may ask; empty: only the server's own page."""
    body_bytes: int = 64 << 20
    """Largest request."""
    seconds: float = 3600.0
    """Longest sound."""
    channels: int = 32
    """Most channels of a sound."""
    rate: int = 1_000_000
    """Highest sample rate of a sound in Hz."""
    queue: int = 64
    """Requests that wait or are heard at a time in each process; more are answered 429."""
    sockets: int = 256
    """Live streams at a time in each process."""
    idle_seconds: float = 15.0
    """Longest silence of a client that has more to send, and of one that does not read."""
    total_seconds: float = 300.0
    """Longest time for one request; live streams have no end."""
    drain_seconds: float = 30.0
    """Time for requests to be answered when the server is told to end."""
    batch_windows: int = 0
    """Windows that the model hears at once; 0: what suits the device."""
    wait_seconds: float = -1.0
    """Time after its first window in which a batch may fill; negative: none on a processor, 5 ms on a GPU."""
    log: bool = True
    """Whether each request is written to standard error, as a line of JSON."""

    def __post_init__(self) -> None:
        refuse(self._checks(), "serve: ")

    @property
    def limits(self) -> dict[str, Any]:
        """The limits that clients may ask for."""
        return {name: getattr(self, name) for name in LIMITS}

    @property
    def is_tls(self) -> bool:
        """Whether clients are spoken to through TLS."""
        return bool(self.tls_certificate)

    def as_dict(self) -> dict[str, Any]:
        """All settings as plain values."""
        return asdict(self)

    def _checks(self) -> list[tuple[bool, str]]:
        whole = ("workers", "body_bytes", "channels", "rate", "queue", "sockets")
        positive = ("seconds", "idle_seconds", "total_seconds", "drain_seconds")
        return [
            *((getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; at least 1 is needed") for name in whole),
            *(
                (0 < getattr(self, name) < float("inf"), f"{name} is {getattr(self, name):g}; it must be above 0")
                for name in positive
            ),
            (0 <= self.port <= 65_535, f"port is {self.port}; 0 to 65535 is allowed"),
            (self.threads >= 0 and self.batch_windows >= 0, "threads and batch_windows cannot be negative"),
            (
                not self.token or (len(self.token) >= SHORTEST_TOKEN and self.token.isascii() and self.token.isprintable()),
                f"the token must be at least {SHORTEST_TOKEN} printable ASCII characters long",
            ),
            (
                bool(self.tls_certificate) == bool(self.tls_key),
                "TLS needs both a certificate and its key",
            ),
            *(
                (
                    re.fullmatch(r"https?://[\w.\-\[\]:]+", origin) is not None,
                    f"{visible(origin)} is no origin such as https://example.org",
                )
                for origin in self.origins
            ),
            (
                is_loopback(self.host) or bool(self.token) or self.insecure,
                f"{visible(self.host)} can be reached from other machines; add --token-file FILE, or --insecure if anyone "
                "may ask",
            ),
        ]


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def read_token(path: Path) -> str:
    """The token in a file: its first line.

    Raises:
        ConfigError: the file cannot be read or is empty.
    """
    try:
        with path.open(encoding="utf-8") as file:
            token = file.readline(4096).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}.") from None
    if not token:
        raise ConfigError(f"{path} holds no token in its first line. Make one with: openssl rand -hex 32")
    return token
