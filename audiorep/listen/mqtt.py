"""Reports published to an MQTT broker, with sensors that Home Assistant finds by itself."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote, urlsplit

from audiorep import __version__
from audiorep.errors import ConfigError, require
from audiorep.escape import visible
from audiorep.listen.reports import Report, as_dict
from audiorep.listen.topics import slug, slugs

PORTS = {"mqtt": 1883, "mqtts": 8883}
LOOK_SECONDS = 0.25  # between looks whether to end
KEEP_ALIVE = 30  # seconds
SHORTEST_WAIT, LONGEST_WAIT = 1, 30  # seconds before a broker is tried again
DISCOVERY = "homeassistant"
PASSWORD = "AUDIOREP_MQTT_PASSWORD"


class Broker:
    """Publishes reports under `BASE/SOURCE/…`, and whether it is there under `BASE/status`.

    | topic | what |
    |---|---|
    | `BASE/status` | `online` or `offline`, kept by the broker; also when the process is killed |
    | `BASE/SOURCE/LABEL/state` | `ON` while an event lasts, else `OFF`, kept by the broker |
    | `BASE/SOURCE/LABEL/event` | each event as JSON, when it begins and when it has ended |
    | `BASE/SOURCE/lost`, `…/gap`, `…/snippet`, `…/ended` | JSON |

    Args:
        address: `mqtt://USER:PASSWORD@HOST:PORT/BASE`, or `mqtts://` with TLS.
        sources: names of the sources.
        labels: of the model.
        home_assistant: whether a sensor is announced for each label of a source, when it is first heard.
        say: is given a sentence when the broker is lost and when it is found again.

    Raises:
        ConfigError: the address is none, or the broker's base cannot be a topic.
        MissingExtraError: paho-mqtt is not installed.
    """

    def __init__(
        self,
        address: str,
        sources: Iterable[str],
        labels: Iterable[str],
        home_assistant: bool = False,
        say: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._host, self._port, self._base, user, password, over_tls = _parts(address)
        self.name = f"the broker {visible(self._host)}:{self._port}"
        self._sources, self._labels, self._announces, self._say = slugs(sources), slugs(labels), home_assistant, say
        self._announced: set[str] = set()
        self._on: set[str] = set()  # topics of states that are on
        self._states: dict[str, str] = {}  # of reports that were lost
        self._there, self._problem = threading.Event(), ""
        self._client = self._connect(user, password, over_tls)

    def wants(self, report: Report) -> bool:
        """Whether readers are told of it."""
        return report.is_told

    def write(self, report: Report, closing: threading.Event) -> None:
        """Publishes a report, as soon as the broker is there.

        Raises:
            OSError: it is not there and the end has come.
        """
        while self._states:
            topic, state = self._states.popitem()
            self._publish(topic, state, True, closing)
        for topic, payload, is_kept in self._messages(report):
            self._publish(topic, payload, is_kept, closing)

    def missed(self, report: Report) -> None:
        """Notes the state that a lost event leaves behind, which is published with the next report."""
        if report.event is not None:
            self._states[self._state_topic(report, report.event.label)] = "ON" if report.event.is_open else "OFF"

    def close(self) -> None:
        """Says that nothing more comes, and leaves."""
        if self._there.is_set():
            self._client.publish(f"{self._base}/status", "offline", qos=1, retain=True)
        self._client.disconnect()
        self._client.loop_stop()

    def _connect(self, user: str, password: str, over_tls: bool) -> Any:
        mqtt = require("paho.mqtt.client", extra="listen")
        client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
        if user:
            client.username_pw_set(user, password or None)
        if over_tls:
            client.tls_set()
        client.will_set(f"{self._base}/status", "offline", qos=1, retain=True)
        client.reconnect_delay_set(SHORTEST_WAIT, LONGEST_WAIT)
        client.on_connect, client.on_disconnect, client.on_message = self._connected, self._disconnected, self._found
        client.on_connect_fail = lambda client, data: self._lost("it does not answer")
        client.connect_async(self._host, self._port, KEEP_ALIVE)
        client.loop_start()
        return client

    def _connected(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._lost(str(reason))
            return
        client.publish(f"{self._base}/status", "online", qos=1, retain=True)
        if not self._on:  # what a killed process left on is turned off
            client.subscribe([(f"{self._base}/{source}/+/state", 1) for source in self._sources.values()])
        if self._problem:
            self._say(f"{self.name} is there again.")
        self._problem = ""
        self._there.set()

    def _disconnected(self, client: Any, data: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:
            self._lost(str(reason))

    def _lost(self, problem: str) -> None:
        self._there.clear()
        if not self._problem:
            self._say(f"{self.name} cannot be reached ({problem}); it is tried again.")
        self._problem = problem

    def _found(self, client: Any, data: Any, message: Any) -> None:
        is_ours = message.topic.startswith(tuple(f"{self._base}/{source}/" for source in self._sources.values()))
        if is_ours and message.retain and message.payload == b"ON" and message.topic not in self._on:
            client.publish(message.topic, "OFF", qos=1, retain=True)

    def _publish(self, topic: str, payload: str, is_kept: bool, closing: threading.Event) -> None:
        while not self._there.wait(LOOK_SECONDS):
            if closing.is_set():
                raise OSError(self._problem or "it does not answer")
        (self._on.add if payload == "ON" else self._on.discard)(topic)
        sent = self._client.publish(topic, payload, qos=1, retain=is_kept)
        try:
            while not sent.is_published():
                if closing.is_set() and not self._there.is_set():
                    raise OSError(self._problem)
                sent.wait_for_publish(LOOK_SECONDS)
        except RuntimeError:  # the connection went just now; the client sends it with the next one
            return

    def _messages(self, report: Report) -> list[tuple[str, str, bool]]:
        """(topic, payload, whether the broker keeps it)."""
        text, source = json.dumps(as_dict(report), ensure_ascii=False), f"{self._base}/{self._source(report)}"
        if report.event is None:
            kinds = {"lost": report.lost, "gap": report.gap, "snippet": report.snippet, "ended": report.ended}
            kind = next(name for name, told in kinds.items() if told)
            return [(f"{source}/{kind}", text, False)]
        state = self._state_topic(report, report.event.label)
        event = (f"{state.removesuffix('state')}event", text, False)
        return [*self._announcement(report, state), event, (state, "ON" if report.event.is_open else "OFF", True)]

    def _announcement(self, report: Report, state: str) -> list[tuple[str, str, bool]]:
        """Home Assistant's discovery of a binary sensor, once."""
        assert report.event is not None
        if not self._announces or state in self._announced:
            return []
        self._announced.add(state)
        base, source = slug(self._base), self._source(report)
        own = f"{base}_{source}_{self._labels.get(report.event.label, slug(report.event.label))}"
        device = {
            "identifiers": [f"{base}_{source}"],
            "name": report.source,
            "manufacturer": "audiorep",
            "sw_version": __version__,
        }
        about = {
            "name": report.event.label,
            "unique_id": own,
            "state_topic": state,
            "json_attributes_topic": f"{state.removesuffix('state')}event",
            "availability_topic": f"{self._base}/status",
            "device_class": "sound",
            "device": device,
        }
        return [(f"{DISCOVERY}/binary_sensor/{own}/config", json.dumps(about, ensure_ascii=False), True)]

    def _state_topic(self, report: Report, label: str) -> str:
        return f"{self._base}/{self._source(report)}/{self._labels.get(label, slug(label))}/state"

    def _source(self, report: Report) -> str:
        return self._sources.get(report.source, slug(report.source))


def _parts(address: str) -> tuple[str, int, str, str, str, bool]:
    """Host, port, base, user, password, and whether TLS is used.

    Raises:
        ConfigError: the address is none, or its path can be no topic.
    """
    problem = "is no address of a broker; mqtt://HOST/BASE or mqtts://USER@HOST:PORT/BASE is needed"
    try:
        place = urlsplit(address)
        host, port = place.hostname or "", place.port or PORTS.get(place.scheme, 0)
        host = host if place.scheme in PORTS else ""
    except ValueError:
        host, port = "", 0
    if not host or not port:
        raise ConfigError(f"{visible(address.rpartition('@')[2])} {problem}.")
    base = unquote(place.path).strip("/") or "audiorep"
    if set("+#\0") & set(base) or base.startswith("$"):
        raise ConfigError(f"{visible(base)} cannot be a topic: it holds +, # or a null, or begins with $.")
    password = unquote(place.password) if place.password else os.environ.get(PASSWORD, "")
    return host, port, base, unquote(place.username or ""), password, place.scheme == "mqtts"
