"""Reports at a real broker: topics, what it keeps, Home Assistant's sensors, and brokers that come and go."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import SAMPLES, processes
from support.broker import Observer, broker, free_port, needs_broker, until
from support.reports import event, gap

from audiorep.errors import ConfigError
from audiorep.listen import mqtt
from audiorep.listen.mqtt import Broker
from audiorep.listen.outlets import Outlet
from audiorep.listen.reports import Report

LABELS = ("siren", "Dog, bark", "dog bark")
NEVER = threading.Event()


@pytest.fixture
def port(tmp_path) -> Iterator[int]:
    found = free_port()
    with broker(tmp_path, found):
        yield found


@pytest.fixture
def observer(port) -> Iterator[Observer]:
    found = Observer(port)
    yield found
    found.close()


@needs_broker
def test_events_are_published_with_their_states(port, observer):
    sink = Broker(f"mqtt://127.0.0.1:{port}/home/sounds", ["yard"], LABELS)
    for report in (event(is_open=True), event(), gap(), Report("yard", 9.0, None, ended=True)):
        sink.write(report, NEVER)
    sink.close()
    until(lambda: observer.payloads("home/sounds/status")[-1:] == ["offline"])
    assert observer.payloads("home/sounds/status") == ["online", "offline"]
    assert observer.payloads("home/sounds/yard/siren/state") == ["ON", "OFF"]
    begun, ended = map(json.loads, observer.payloads("home/sounds/yard/siren/event"))
    assert (begun["end"], ended["end"], ended["label"]) == (None, 2.5, "siren")
    assert json.loads(observer.payloads("home/sounds/yard/gap")[0])["gap_seconds"] == 3.0
    assert json.loads(observer.payloads("home/sounds/yard/ended")[0])["ended"]
    assert not [topic for topic, *_ in observer.heard if topic.startswith("homeassistant")]
    late = Observer(port)  # the broker keeps states and no events
    until(lambda: len(late.heard) >= 2)
    assert {*late.heard} == {("home/sounds/status", "offline", True), ("home/sounds/yard/siren/state", "OFF", True)}
    late.close()


@needs_broker
def test_home_assistant_is_told_of_each_sound_once(port, observer):
    sink = Broker(f"mqtt://127.0.0.1:{port}", ["mic:USB", "yard"], LABELS, home_assistant=True)
    for report in (
        event("Dog, bark", is_open=True),
        event("Dog, bark"),
        event("dog bark"),
        event("Dog, bark", source="mic:USB"),
    ):
        sink.write(report, NEVER)
    sink.close()
    until(lambda: observer.payloads("audiorep/status")[-1:] == ["offline"])
    topics = [topic for topic, *_ in observer.heard if topic.startswith("homeassistant")]
    assert topics == [
        f"homeassistant/binary_sensor/audiorep_{own}/config" for own in ("yard_dog_bark", "yard_dog_bark_2", "mic_usb_dog_bark")
    ]
    about = json.loads(observer.payloads(topics[0])[0])
    assert about["name"] == "Dog, bark"
    assert about["unique_id"] == "audiorep_yard_dog_bark"
    assert about["device"]["name"] == "yard"
    assert about["availability_topic"] == "audiorep/status"
    assert observer.payloads(about["state_topic"]) == ["ON", "OFF"]
    assert len(observer.payloads(about["json_attributes_topic"])) == 2


@needs_broker
def test_a_sound_that_a_killed_process_left_on_is_turned_off(port, observer):
    observer.client.publish("audiorep/yard/siren/state", "ON", qos=1, retain=True)
    observer.client.publish("audiorep/other/siren/state", "ON", qos=1, retain=True)
    until(lambda: len(observer.heard) == 2)
    sink = Broker(f"mqtt://127.0.0.1:{port}", ["yard"], LABELS)
    until(lambda: observer.payloads("audiorep/yard/siren/state")[:2] == ["ON", "OFF"])
    sink.close()
    assert observer.payloads("audiorep/other/siren/state") == ["ON"]  # another process's


@pytest.mark.slow
@needs_broker
def test_reports_wait_for_a_broker_that_comes_back(tmp_path):
    port, said = free_port(), []
    outlet: Outlet[Report] = Outlet(Broker(f"mqtt://127.0.0.1:{port}", ["yard"], LABELS, say=said.append), said.append)
    outlet.put(event(is_open=True))
    until(lambda: said)
    assert said[0].startswith(f"the broker 127.0.0.1:{port} cannot be reached (")
    assert said[0].endswith("); it is tried again.")
    with broker(tmp_path, port):
        observer = Observer(port)
        until(lambda: observer.payloads("audiorep/yard/siren/state") == ["ON"])
        observer.close()
    until(lambda: len(said) == 3)  # it was there, and is gone
    outlet.put(event())
    with broker(tmp_path, port):
        observer = Observer(port)
        until(lambda: observer.payloads("audiorep/yard/siren/state")[-1:] == ["OFF"])
        outlet.close()
        observer.close()
    assert [words.rpartition(" ")[2] for words in said] == ["again."] * 4
    assert outlet.lost == 0


@needs_broker
def test_the_state_of_a_lost_event_is_made_good(port, observer):
    sink = Broker(f"mqtt://127.0.0.1:{port}", ["yard"], LABELS)
    sink.write(event(is_open=True), NEVER)
    sink.missed(event())
    sink.write(gap(), NEVER)
    sink.close()
    until(lambda: observer.payloads("audiorep/status")[-1:] == ["offline"])
    assert observer.payloads("audiorep/yard/siren/state") == ["ON", "OFF"]


@needs_broker
def test_a_broker_that_refuses_is_said_and_does_not_hold_the_end(tmp_path):
    port, said = free_port(), []
    with broker(tmp_path, port, anonymous=False):
        sink = Broker(f"mqtt://127.0.0.1:{port}", ["yard"], LABELS, say=said.append)
        outlet: Outlet[Report] = Outlet(sink, said.append)
        outlet.put(event())
        until(lambda: said)
        outlet.close()
    assert "cannot be reached (Not authorized)" in said[0]
    assert outlet.lost == 1


def test_a_broker_that_is_not_there_does_not_hold_the_end():
    before = {*threading.enumerate()}
    outlet: Outlet[Report] = Outlet(Broker(f"mqtt://127.0.0.1:{free_port()}", ["yard"], LABELS))
    outlet.put(event())
    outlet.close()
    assert outlet.lost == 1
    assert {*threading.enumerate()} <= before


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("http://host", "is no address of a broker"),
        ("mqtt://", "is no address of a broker"),
        ("mqtt://host:port", "is no address of a broker"),
        ("mqtt://me:secret@", "is no address of a broker"),
        ("mqtt://host/all/%23", "cannot be a topic"),
        ("mqtt://host/$SYS", "cannot be a topic"),
    ],
)
def test_addresses_of_no_broker(address, reason):
    with pytest.raises(ConfigError, match=reason) as refused:
        Broker(address, ["yard"], LABELS)
    assert "secret" not in str(refused.value)


def test_what_an_address_says(monkeypatch):
    monkeypatch.setenv(mqtt.PASSWORD, "from outside")
    assert mqtt._parts("mqtt://host") == ("host", 1883, "audiorep", "", "from outside", False)
    assert mqtt._parts("mqtts://me:a%20b@host/x/y/") == ("host", 8883, "x/y", "me", "a b", True)
    assert mqtt._parts("mqtts://me@[::1]:99") == ("::1", 99, "audiorep", "me", "from outside", True)


@needs_broker
@pytest.mark.slow
def test_the_command_publishes_and_a_kill_is_noticed(port, observer, tmp_path: Path):
    words = processes.audiorep(
        "listen", f"yard={SAMPLES / 'siren.flac'}", "--model", "esc50", "--mqtt", f"mqtt://127.0.0.1:{port}"
    )
    done = processes.run([*words, "--home-assistant", "--snippets", str(tmp_path / "cut")])
    assert done.returncode == 0, done.stderr
    until(lambda: observer.payloads("audiorep/status")[-1:] == ["offline"])
    assert observer.payloads("audiorep/yard/siren/state") == ["ON", "OFF"]
    cut = json.loads(observer.payloads("audiorep/yard/snippet")[0])
    assert Path(cut["snippet"]).exists()
    with processes.started([*words, "--realtime"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        until(lambda: observer.payloads("audiorep/status")[-1:] == ["online"], 60)
        process.send_signal(signal.SIGKILL)
        until(lambda: observer.payloads("audiorep/status")[-1:] == ["offline"])
