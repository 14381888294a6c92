"""Append and read, the same on every broker."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.events import (
    SECONDS,
    Event,
    Place,
    close_senders,
    everything,
    fill,
    flush,
    rows,
    send,
)
from trivet.brokers.base import Appender, Broker
from trivet.errors import (
    BrokerError,
    BufferFull,
    EventTooLarge,
    OffsetGone,
    TopicNotFound,
)

NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
HEADERS = st.lists(st.tuples(NAMES, st.binary(max_size=20)), max_size=3).map(tuple)
EVENTS = st.lists(
    st.tuples(
        st.none() | st.binary(max_size=20),
        st.none() | st.binary(max_size=200),
        HEADERS,
    ),
    min_size=1,
    max_size=30,
)


def test_what_was_appended_is_read_in_order(place: Place, broker: Broker) -> None:
    topic = place.new_topic()
    before = int(time.time() * 1000)
    fill(broker, topic, [b"%d" % n for n in range(100)])
    found = broker.read(topic, 0, 0, 1000)
    assert list(found.values) == [b"%d" % n for n in range(100)]
    assert list(found.offsets) == list(range(100))
    assert found.partition == 0
    assert found.headers is None
    assert set(found.keys) == {b"k"}
    assert sorted(found.times) == list(found.times)
    assert before - 1000 <= found.times[0] <= time.time() * 1000 + 1000


def test_reading_begins_and_ends_where_it_is_told(place: Place, broker: Broker) -> None:
    topic = place.new_topic()
    for batch in range(4):
        fill(broker, topic, [b"%d" % (batch * 10 + n) for n in range(10)])
    found = broker.read(topic, 0, 15, 7)
    assert list(found.offsets) == list(range(15, 22))
    assert list(found.values) == [b"%d" % n for n in range(15, 22)]
    assert not broker.read(topic, 0, 40, 7).offsets
    assert broker.bounds(topic) == {0: (0, 40)}


def test_events_of_a_key_stay_together_in_order(place: Place, broker: Broker) -> None:
    topic = place.new_topic(5)
    appender = broker.appender()
    for number in range(500):
        appender.append(topic, b"key %d" % (number % 20), b"%d" % number)
    flush(appender)
    appender.close()
    found = everything(broker, topic)
    homes: dict[bytes | None, set[int]] = {}
    for partition, events in found.items():
        for key, _, _ in events:
            homes.setdefault(key, set()).add(partition)
        for wanted in {key for key, _, _ in events}:
            numbers = [int(value or b"") for key, value, _ in events if key == wanted]
            assert numbers == sorted(numbers)
    assert all(len(home) == 1 for home in homes.values())
    assert len(homes) == 20
    assert sum(map(len, found.values())) == 500
    assert len([p for p, events in found.items() if events]) > 1


def test_another_connection_puts_a_key_in_the_same_place(place: Place, broker: Broker) -> None:
    topic = place.new_topic(7)
    fill(broker, topic, [b"1"], key=b"same")
    other = place.connect()
    fill(other, topic, [b"2"], key=b"same")
    other.close()
    assert [len(events) for events in everything(broker, topic).values() if events] == [2]


@given(EVENTS)
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_bytes_come_back_as_they_were(
    place: Place, broker: Broker, events: list[Event]
) -> None:
    topic = "any-bytes"
    broker.create(topic)
    start = broker.bounds(topic)[0][1]
    send(broker, topic, events)
    assert rows(broker.read(topic, 0, start, 1000)) == events


def test_large_events_and_many_of_them(place: Place, broker: Broker) -> None:
    topic = place.new_topic()
    values = [bytes([n % 256]) * 200_000 for n in range(30)] + [b"small"] * 2500
    fill(broker, topic, values)
    assert [value for _, value, _ in everything(broker, topic)[0]] == values


def test_an_event_too_large_is_refused_and_others_go_on(place: Place, broker: Broker) -> None:
    topic = place.new_topic()
    appender = broker.appender()
    size = 2_000_000 if place.kind == "kafka" else 2**28 + 1
    with pytest.raises(EventTooLarge, match=topic):
        appender.append(topic, b"k", bytes(size))
    appender.append(topic, b"k", b"v")
    flush(appender)
    appender.close()
    assert list(broker.read(topic, 0, 0, 9).values) == [b"v"]


def test_what_is_appended_is_sent_without_a_flush(place: Place, broker: Broker) -> None:
    topic = place.new_topic()
    appender = broker.appender()
    appender.append(topic, None, b"v")
    deadline = time.monotonic() + SECONDS
    while not broker.read(topic, 0, 0, 1).offsets:
        assert time.monotonic() < deadline
    appender.close()


def append_many(appender: Appender, topic: str, count: int) -> None:
    for _ in range(count):
        appender.append(topic, b"k", b"v")


def test_a_full_buffer_is_told(place: Place) -> None:
    broker = place.connect(linger_ms__kafka=60_000)
    topic = place.new_topic()
    appender = broker.appender(most=50)
    with pytest.raises(BufferFull, match="wait to be"):
        append_many(appender, topic, 1_000_000)
    flush(appender)
    appender.append(topic, b"k", b"v")
    flush(appender)
    appender.close()
    broker.close()


def test_an_unknown_topic_is_named(place: Place) -> None:
    broker = place.connect(partitions__embedded=0)
    appender = broker.appender()
    for act in (
        lambda: appender.append("rides", b"k", b"v"),
        lambda: broker.read("rides", 0, 0, 1),
        lambda: broker.bounds("rides"),
        lambda: broker.lag("rides", "g"),
        lambda: broker.member("rides", "g", None),  # type: ignore[arg-type]
    ):
        with pytest.raises(TopicNotFound, match="'rides'"):
            act()
    appender.close()
    broker.close()


def test_an_unknown_partition_is_named(place: Place, broker: Broker) -> None:
    topic = place.new_topic(2)
    with pytest.raises(TopicNotFound, match="no partition 2, but 2"):
        broker.read(topic, 2, 0, 1)


def test_topics_are_listed_and_made_once(place: Place, broker: Broker) -> None:
    topic = place.new_topic(3)
    broker.create(topic, 8)
    assert broker.topics()[topic] == 3
    assert set(broker.bounds(topic)) == {0, 1, 2}


def test_a_deleted_topic_is_gone_and_may_be_made_anew(place: Place, broker: Broker) -> None:
    topic, other = place.new_topic(2), place.new_topic()
    for each in (topic, other):
        fill(broker, each, [b"old"] * 5)
    close_senders()
    broker.delete(topic)
    assert topic not in broker.topics()
    assert broker.topics()[other] == 1
    broker.delete(topic)
    broker.create(topic)
    assert broker.bounds(topic) == {0: (0, 0)}
    fill(broker, topic, [b"new"])
    assert [value for _, value, _ in everything(broker, topic)[0]] == [b"new"]
    assert len(everything(broker, other)[0]) == 5


@pytest.mark.parametrize("name", ["", "no spaces", ".", "a" * 250, "é"])
def test_a_bad_name_is_refused(broker: Broker, name: str) -> None:
    with pytest.raises(BrokerError):
        broker.create(name)


def test_no_partitions_are_refused(place: Place, broker: Broker) -> None:
    with pytest.raises(BrokerError):
        broker.create(place.new_name(), 0)


def test_an_offset_out_of_retention_is_told(place: Place, broker: Broker) -> None:
    topic = place.new_topic()
    for n in range(5):
        fill(broker, topic, [b"%d" % n])
    oldest = place.shorten(topic)
    with pytest.raises(OffsetGone, match=topic):
        broker.read(topic, 0, oldest - 1, 10)
    with pytest.raises(OffsetGone, match=topic):
        broker.read(topic, 0, 10_000, 10)
    end = broker.bounds(topic)[0][1]
    assert len(broker.read(topic, 0, oldest, 100).offsets) == end - oldest
