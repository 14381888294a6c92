from __future__ import annotations

import datetime as dt
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

import trivet
from support.events import Event, Place, everything, make_place
from trivet.brokers import connect
from trivet.errors import BrokerError, BufferFull
from trivet.events import CloudEvents

SENDING = """
import sys
from trivet import Producer
producer = Producer(sys.argv[1], source="/test")
number = 0
while True:
    for _ in range(50):
        producer.send(sys.argv[2], f"key-{number % 7}", {"number": number})
        number += 1
    producer.flush()
    print(number, flush=True)
"""


@pytest.fixture(params=["embedded", "kafka"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    return make_place(request.param, request, tmp_path)


def test_events_arrive_in_order_as_cloudevents(place: Place) -> None:
    topic = place.new_topic()
    with trivet.Producer(place.url, source="/taxi") as producer:
        ids = [producer.send(topic, "ride", {"n": n}, type="ride.ended") for n in range(100)]
        producer.flush()
    broker = connect(place.url)
    found = CloudEvents().decode(broker.read(topic, 0, 0, 1000), topic)
    assert not found.bad
    assert list(found.ids) == ids
    assert set(found.sources) == {"/taxi"}
    assert set(found.types) == {"ride.ended"}
    assert [msgspec.json.decode(bytes(data)) for data in found.data] == [
        {"n": n} for n in range(100)
    ]
    assert all(time is not None and time.tzinfo is not None for time in found.times)
    broker.close()


def test_a_topic_is_created_once(place: Place) -> None:
    topic = f"{place.new_topic()}-more"
    with trivet.Producer(place.url, source="/taxi") as producer:
        producer.create_topic(topic, 3)
        producer.create_topic(topic, 2)
        producer.send(topic, "k", {"n": 1})
    with pytest.raises(BrokerError, match="closed"):
        producer.create_topic(topic)
    broker = connect(place.url)
    assert broker.topics()[topic] == 3
    broker.close()


def test_plain_json_is_sent_as_it_is(place: Place) -> None:
    topic = place.new_topic()
    with trivet.Producer(place.url, format="json") as producer:
        producer.send(topic, None, {"n": 1})
        producer.send(topic, b"k", b'{"n": 2}')
    broker = connect(place.url)
    assert everything(broker, topic)[0] == [(None, b'{"n":1}', ()), (b"k", b'{"n": 2}', ())]
    broker.close()


def test_binary_mode_keeps_the_attributes_in_headers(place: Place) -> None:
    topic, moment = place.new_topic(), dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)
    with trivet.Producer(place.url, source="/s", format="cloudevents-binary") as producer:
        producer.send(topic, "k", {"n": 1}, id="7", time=moment, subject="x")
        producer.send(topic, "k", {"n": 2}, id="8", time=moment.replace(tzinfo=None))
    broker = connect(place.url)
    fetched = broker.read(topic, 0, 0, 10)
    assert list(fetched.values) == [b'{"n":1}', b'{"n":2}']
    found = CloudEvents().decode(fetched, topic)
    assert list(found.ids) == ["7", "8"]
    assert list(found.times) == [moment, moment]
    assert list(found.subjects) == ["x", None]
    broker.close()


def test_a_full_buffer_is_told_and_nothing_is_lost(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'e.db'}?partitions=1"
    sent = 0
    with trivet.Producer(url, source="/s", buffer=10) as producer:
        with pytest.raises(BufferFull):  # noqa: PT012
            while True:
                producer.send("t", "k", {"n": sent})
                sent += 1
        producer.flush()
        producer.send("t", "k", {"n": sent})
    broker = connect(url)
    assert len(everything(broker, "t")[0]) == sent + 1
    broker.close()


def test_mistakes_are_told(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'e.db'}"
    with pytest.raises(BrokerError, match="needs a source"):
        trivet.Producer(url)
    with pytest.raises(BrokerError, match="format 'xml'"):
        trivet.Producer(url, format="xml")  # type: ignore[arg-type]
    producer = trivet.Producer(url, source="/s")
    with pytest.raises(BrokerError, match="topic 't': the event cannot be written"):
        producer.send("t", "k", {"n": object()})
    producer.close()
    producer.close()
    with pytest.raises(BrokerError, match="closed"):
        producer.send("t", "k", {})
    with pytest.raises(BrokerError, match="closed"):
        producer.flush()


def sent(place: Place, topic: str) -> dict[int, list[Event]]:
    broker = place.connect()
    found = everything(broker, topic)
    broker.close()
    return found


def test_events_arrive_in_order_by_key(place: Place) -> None:
    topic = place.new_topic(3)
    with trivet.Producer(place.url, source="/test") as producer:
        for number in range(300):
            producer.send(topic, f"key-{number % 7}", {"number": number})
    seen: dict[bytes | None, list[int]] = {}
    for events in sent(place, topic).values():
        for key, value, _ in events:
            event = json.loads(value or b"")
            assert (event["source"], event["type"], event["specversion"]) == ("/test", topic, "1.0")
            seen.setdefault(key, []).append(event["data"]["number"])
    assert len(seen) == 7
    assert all(numbers == sorted(numbers) for numbers in seen.values())
    assert sorted(n for numbers in seen.values() for n in numbers) == list(range(300))


def test_a_topic_must_be_there(place: Place) -> None:
    url = f"{place.url}?partitions=0" if place.kind == "embedded" else place.url
    producer = trivet.Producer(url, "/test")

    def send() -> None:
        producer.send("nowhere", None, {})
        producer.flush()

    with pytest.raises(BrokerError, match="nowhere"):
        send()
    producer.close()


def test_a_killed_producer_loses_nothing_that_was_flushed(place: Place) -> None:
    topic = place.new_topic(2)
    for round_ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", SENDING, place.url, topic], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        acknowledged = 0
        for _ in range(3 + round_):
            acknowledged = int(process.stdout.readline())
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read().split()
        process.wait()
        process.stdout.close()
        acknowledged = max([acknowledged, *(int(number) for number in rest)])
        numbers = [
            json.loads(value or b"")["data"]["number"]
            for events in sent(place, topic).values()
            for _, value, _ in events
        ]
        assert all(numbers.count(n) >= 1 for n in range(acknowledged))


def test_kafka_that_is_away_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trivet.brokers.kafka._CALL_SECONDS", 0.1)

    def send() -> None:
        with trivet.Producer(
            "kafka://127.0.0.1:1?message.timeout.ms=500&socket.timeout.ms=500", "/test"
        ) as sender:
            sender.send("t", None, {})

    with pytest.raises(BrokerError, match=r"127\.0\.0\.1:1"):
        send()
