"""What other programs send with, on every broker."""

from __future__ import annotations

import datetime as dt
import json
import os
import signal
import subprocess
import sys

import pytest

from support.events import Place, everything
from trivet import Producer
from trivet.brokers.base import Broker
from trivet.errors import BrokerError, BufferFull

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


def test_events_arrive_in_order_by_key(place: Place, broker: Broker) -> None:
    topic = place.new_topic(3)
    with Producer(place.url, source="/test") as producer:
        for number in range(300):
            producer.send(topic, f"key-{number % 7}", {"number": number})
    seen: dict[bytes | None, list[int]] = {}
    for events in everything(broker, topic).values():
        for key, value, _ in events:
            event = json.loads(value or b"")
            assert (event["source"], event["type"], event["specversion"]) == ("/test", topic, "1.0")
            seen.setdefault(key, []).append(event["data"]["number"])
    assert len(seen) == 7
    assert all(numbers == sorted(numbers) for numbers in seen.values())
    assert sorted(n for numbers in seen.values() for n in numbers) == list(range(300))


def test_an_event_says_what_it_was_told(place: Place, broker: Broker) -> None:
    topic = place.new_name()
    noon = dt.datetime(2026, 3, 1, 12, tzinfo=dt.UTC)
    with Producer(place.url, source="/test", mode="binary") as producer:
        producer.create(topic, 1)
        assert producer.send(topic, b"k", b'{"x":1}', id="a", type="ride", time=noon) == "a"
    [(key, value, headers)] = everything(broker, topic)[0]
    assert (key, value) == (b"k", b'{"x":1}')
    told = dict(headers)
    assert told["ce_id"] == b"a"
    assert told["ce_subject"] == b"k"
    assert told["ce_time"] == b"2026-03-01T12:00:00Z"


def test_plain_json_is_sent_as_it_is(place: Place, broker: Broker) -> None:
    topic = place.new_topic()
    with Producer(place.url, format="json") as producer:
        producer.send(topic, None, {"x": 1})
    assert everything(broker, topic)[0] == [(None, b'{"x":1}', ())]


def test_a_topic_must_be_there(place: Place) -> None:
    url = f"{place.url}?partitions=0" if place.kind == "embedded" else place.url
    producer = Producer(url)

    def send() -> None:
        producer.send("nowhere", None, {})
        producer.flush()

    with pytest.raises(BrokerError, match="nowhere"):
        send()
    producer.close()


def test_a_full_buffer_is_told_and_nothing_is_dropped(place: Place, broker: Broker) -> None:
    topic = place.new_topic()
    producer = Producer(place.url, most=20)
    sent = 0

    def fill() -> None:
        nonlocal sent
        while True:
            producer.send(topic, "k", {"number": sent})
            sent += 1

    with pytest.raises(BufferFull):
        fill()
    producer.flush()
    producer.send(topic, "k", {"number": sent})
    producer.close()
    numbers = [json.loads(v or b"")["data"]["number"] for _, v, _ in everything(broker, topic)[0]]
    assert numbers == list(range(sent + 1))


def test_a_killed_producer_loses_nothing_that_was_flushed(place: Place, broker: Broker) -> None:
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
            for events in everything(broker, topic).values()
            for _, value, _ in events
        ]
        assert all(numbers.count(n) >= 1 for n in range(acknowledged))


def test_a_broker_that_is_away_is_told(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("no")
    (folder / "events.db").write_bytes(b"this is no database" * 100)
    with pytest.raises(BrokerError, match=r"events\.db"):
        Producer(f"sqlite:///{folder / 'events.db'}")


def test_kafka_that_is_away_is_told() -> None:
    def send() -> None:
        with Producer("kafka://127.0.0.1:1?message.timeout.ms=500&socket.timeout.ms=500") as sender:
            sender.send("t", None, {})

    with pytest.raises(BrokerError, match=r"127\.0\.0\.1:1"):
        send()
