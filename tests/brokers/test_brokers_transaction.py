"""Appends and offsets committed together, the same on every broker."""

from __future__ import annotations

import time

import pytest

from support.events import SECONDS, Place, Remembers, everything, fill, nexts, settle, take
from trivet.brokers.base import Broker, Member
from trivet.errors import BrokerError, MembershipLost


def seen(broker: Broker, topic: str) -> list[bytes | None]:
    return [value for _, value, _ in everything(broker, topic)[0]]


def await_seen(broker: Broker, topic: str, wanted: list[bytes]) -> None:
    """Wait until readers see the events: Kafka marks a transaction just after its commit."""
    deadline = time.monotonic() + SECONDS
    while (found := seen(broker, topic)) != wanted:
        assert time.monotonic() < deadline, found


def test_events_and_offsets_are_committed_together(place: Place, broker: Broker) -> None:
    source, sink, group = place.new_topic(), place.new_topic(), place.new_name("group")
    fill(broker, source, [b"%d" % n for n in range(10)])
    member = broker.member(source, group, Remembers())
    appender = broker.appender(transaction=place.new_name("transaction"))
    fetched = take(member, 10)
    appender.begin()
    for each in fetched:
        for value in each.values:
            appender.append(sink, b"k", b"of " + (value or b""))
    assert not seen(broker, sink)
    appender.commit(member, nexts(fetched))
    sent = [b"of %d" % n for n in range(10)]
    await_seen(broker, sink, sent)
    assert broker.lag(source, group)[0].committed == 10
    appender.begin()
    appender.append(sink, b"k", b"more")
    appender.commit(member, {})
    await_seen(broker, sink, [*sent, b"more"])
    appender.close()
    member.close()


def test_an_abort_takes_back(place: Place, broker: Broker) -> None:
    topic = place.new_topic()
    appender = broker.appender(transaction=place.new_name("transaction"))
    member = broker.member(topic, place.new_name("group"), Remembers())
    appender.begin()
    appender.append(topic, b"k", b"not this")
    appender.abort()
    appender.abort()
    appender.begin()
    appender.append(topic, b"k", b"but this")
    appender.commit(member, {})
    await_seen(broker, topic, [b"but this"])
    appender.close()
    member.close()


def test_a_second_appender_of_a_name_shuts_out_the_first(place: Place, broker: Broker) -> None:
    topic, name = place.new_topic(), place.new_name("transaction")
    member = broker.member(topic, place.new_name("group"), Remembers())
    first = broker.appender(transaction=name)
    first.begin()
    first.append(topic, b"k", b"first")
    second = broker.appender(transaction=name)
    with pytest.raises(MembershipLost, match=name):
        first.commit(member, {})
    second.begin()
    second.append(topic, b"k", b"second")
    second.commit(member, {})
    await_seen(broker, topic, [b"second"])
    for each in (first, second):
        each.close()
    member.close()


def test_a_member_that_lost_its_partition_cannot_commit(place: Place) -> None:
    broker = place.impatient()
    source, sink, group = place.new_topic(), place.new_topic(), place.new_name("group")
    fill(broker, source, [b"v"])
    first = broker.member(source, group, Remembers())
    appender = broker.appender(transaction=place.new_name("transaction"))
    fetched = take(first, 1)
    appender.begin()
    appender.append(sink, b"k", b"zombie")
    listener = Remembers()
    second = broker.member(source, group, listener)
    settle_alone(second, listener)
    with pytest.raises(MembershipLost):
        appender.commit(first, nexts(fetched))
    appender.abort()
    assert not seen(broker, sink)
    assert broker.lag(source, group)[0].committed is None
    appender.close()
    second.close()
    first.close()
    broker.close()


def settle_alone(member: Member, listener: Remembers) -> None:
    while not listener.held:
        member.poll(10, 0.05)


def test_a_partition_given_up_cannot_be_committed(place: Place, broker: Broker) -> None:
    topic, group = place.new_topic(2), place.new_name("group")
    mine, others = Remembers(), Remembers()
    first = broker.member(topic, group, mine)
    settle({first: mine}, 2)
    second = broker.member(topic, group, others)
    settle({first: mine, second: others}, 2)
    appender = broker.appender(transaction=place.new_name("transaction"))
    appender.begin()
    appender.append(topic, b"k", b"v")
    with pytest.raises(MembershipLost):
        appender.commit(first, dict.fromkeys(others.held, 0))
    appender.abort()
    appender.close()
    first.close()
    second.close()


def test_what_needs_a_transaction_says_so(place: Place, broker: Broker) -> None:
    topic = place.new_topic()
    plain, named = broker.appender(), broker.appender(transaction=place.new_name("transaction"))
    with pytest.raises(BrokerError, match="without a transaction name"):
        plain.begin()
    with pytest.raises(BrokerError, match="begin"):
        named.append(topic, b"k", b"v")
    member = broker.member(topic, place.new_name("group"), Remembers())
    with pytest.raises(BrokerError, match="begin"):
        named.commit(member, {})
    member.close()
    named.begin()
    with pytest.raises(BrokerError, match="another broker"):
        named.commit(object(), {})  # type: ignore[arg-type]
    named.abort()
    plain.close()
    named.close()
