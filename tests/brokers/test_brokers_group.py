"""Consumer groups, the same on every broker."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence

import pytest

from support.events import (
    Place,
    Remembers,
    fill,
    nexts,
    settle,
    take,
    values_of,
)
from trivet.brokers.base import Broker, Member, Start
from trivet.errors import BrokerError, MembershipLost, OffsetGone


def test_each_group_gets_every_event(place: Place, broker: Broker) -> None:
    topic = place.new_topic(3)
    sent = [b"%d" % n for n in range(60)]
    for value in sent:
        fill(broker, topic, [value], key=value)
    for group in ("one", "two"):
        member = broker.member(topic, place.new_name(group), Remembers())
        assert set(values_of(take(member, 60))) == set(sent)
        assert not member.poll(10, 0.01)
        member.close()


def test_a_group_goes_on_where_it_committed(place: Place, broker: Broker) -> None:
    topic, group = place.new_topic(), place.new_name("group")
    fill(broker, topic, [b"%d" % n for n in range(10)])
    first = broker.member(topic, group, Remembers())
    assert len(values_of(take(first, 10))) == 10
    first.commit({0: 4})
    assert [(lag.committed, lag.end, lag.events) for lag in broker.lag(topic, group)] == [
        (4, 10, 6)
    ]
    first.close()
    second = broker.member(topic, group, Remembers())
    assert values_of(take(second, 6)) == [b"4", b"5", b"6", b"7", b"8", b"9"]
    second.close()


def test_a_deleted_group_begins_anew(place: Place, broker: Broker) -> None:
    topic, group = place.new_topic(), place.new_name("group")
    fill(broker, topic, [b"%d" % n for n in range(3)])
    member = broker.member(topic, group, Remembers())
    take(member, 3)
    member.commit({0: 2})
    with pytest.raises(BrokerError, match=f"'{group}' has members"):
        broker.delete_group(group)
    member.close()
    broker.delete_group(group)
    assert [lag.committed for lag in broker.lag(topic, group)] == [None]
    broker.delete_group(group)
    again = broker.member(topic, group, Remembers())
    assert values_of(take(again, 3)) == [b"0", b"1", b"2"]
    again.close()


def test_a_group_that_committed_nothing_is_behind_by_all(place: Place, broker: Broker) -> None:
    topic = place.new_topic(2)
    fill(broker, topic, [b"v"] * 5)
    lags = broker.lag(topic, place.new_name("group"))
    assert [(lag.partition, lag.committed) for lag in lags] == [(0, None), (1, None)]
    assert sorted(lag.events for lag in lags) == [0, 5]


def test_the_listener_says_where_to_begin(place: Place, broker: Broker) -> None:
    topic = place.new_topic()
    fill(broker, topic, [b"%d" % n for n in range(10)])
    listener = Remembers(begin={0: 7})
    member = broker.member(topic, place.new_name("group"), listener)
    assert values_of(take(member, 3)) == [b"7", b"8", b"9"]
    assert listener.told == [("assigned", (0,))]
    member.close()
    assert listener.told == [("assigned", (0,))]  # leaving on purpose, one knows


def test_a_listener_that_fails_is_asked_again(place: Place, broker: Broker) -> None:
    class Fails(Remembers):
        tries = 0

        def assigned(self, partitions: Sequence[int]) -> Mapping[int, int]:
            self.tries += 1
            if self.tries < 3:
                raise KeyError("the database is away")
            return super().assigned(partitions)

    topic, listener = place.new_topic(), Fails(begin={0: 5})
    fill(broker, topic, [b"%d" % n for n in range(10)])
    member = broker.member(topic, place.new_name("group"), listener)
    failures = 0
    for _ in range(2):
        with pytest.raises(KeyError, match="away"):
            take(member, 1)
        failures += 1
    assert values_of(take(member, 5)) == [b"5", b"6", b"7", b"8", b"9"]
    assert (failures, listener.tries) == (2, 3)
    member.close()


@pytest.mark.parametrize("start", ["latest", "time"])
def test_a_new_group_begins_where_it_is_told(place: Place, broker: Broker, start: str) -> None:
    topic, group = place.new_topic(), place.new_name("group")
    fill(broker, topic, [b"old"] * 5)
    fill(broker, topic, [b"older"])
    moment = dt.datetime.fromtimestamp(broker.read(topic, 0, 5, 1).times[0] / 1000, dt.UTC)
    where: Start = "latest" if start == "latest" else moment + dt.timedelta(milliseconds=1)
    while dt.datetime.now(dt.UTC) <= moment + dt.timedelta(milliseconds=2):
        pass
    if start == "time":
        fill(broker, topic, [b"new"])
    first = broker.member(topic, group, Remembers(), start=where)
    if start == "latest":
        while broker.lag(topic, group)[0].committed is None:
            assert not first.poll(10, 0.02)
        fill(broker, topic, [b"new"])
    first.close()  # without a commit: the group has begun all the same
    second = broker.member(topic, group, Remembers(), start=where)
    assert values_of(take(second, 1)) == [b"new"]
    second.close()


def test_a_time_after_everything_is_the_end(place: Place, broker: Broker) -> None:
    topic, group = place.new_topic(), place.new_name("group")
    fill(broker, topic, [b"old"] * 5)
    tomorrow = dt.datetime.now(dt.UTC) + dt.timedelta(days=1)
    member = broker.member(topic, group, Remembers(), start=tomorrow)
    while broker.lag(topic, group)[0].committed is None:
        assert not member.poll(10, 0.02)
    assert broker.lag(topic, group)[0].committed == 5
    member.close()


def test_paused_partitions_wait_and_others_go_on(place: Place, broker: Broker) -> None:
    topic, listener = place.new_topic(2), Remembers()
    member = broker.member(topic, place.new_name("group"), listener)
    settle({member: listener}, 2)
    homes: dict[bytes | None, int] = {}
    for number in range(20):
        fill(broker, topic, [b"x"], key=b"%d" % number)
    for fetched in take(member, 20):
        homes |= dict.fromkeys(fetched.keys, fetched.partition)
    member.pause([0])
    for key in homes:
        fill(broker, topic, [b"paused"], key=key)
    there = [key for key, home in homes.items() if home == 1]
    assert {each.partition for each in take(member, len(there))} == {1}
    assert not member.poll(100, 0.1)
    member.resume([0])
    assert len(values_of(take(member, 20 - len(there)))) == 20 - len(there)
    member.close()


def test_seek(place: Place, broker: Broker) -> None:
    topic = place.new_topic()
    fill(broker, topic, [b"%d" % n for n in range(10)])
    member = broker.member(topic, place.new_name("group"), Remembers())
    take(member, 3, most=3)
    member.seek(0, 8)
    assert values_of(take(member, 2)) == [b"8", b"9"]
    member.seek(0, 2)
    assert values_of(take(member, 8)) == [b"%d" % n for n in range(2, 10)]
    with pytest.raises(MembershipLost):
        member.seek(1, 0)
    member.close()


def test_a_poll_gives_no_more_than_it_may(place: Place, broker: Broker) -> None:
    topic = place.new_topic()
    fill(broker, topic, [b"%d" % n for n in range(100)])
    member = broker.member(topic, place.new_name("group"), Remembers())
    found: list[bytes | None] = []
    while len(found) < 100:
        some = values_of(member.poll(7, 1))
        assert len(some) <= 7
        found += some
    assert found == [b"%d" % n for n in range(100)]
    member.close()


def test_members_come_and_go(place: Place, broker: Broker) -> None:
    topic, group = place.new_topic(6), place.new_name("group")
    members: dict[Member, Remembers] = {}
    sent = 0

    def send() -> None:
        nonlocal sent
        fill(broker, topic, [b"v"], key=b"%d" % sent)
        sent += 1

    def drain(count: int) -> None:
        """Take what was sent meanwhile: each event comes to one member."""
        got = 0
        while got < count:
            for member in members:
                some = member.poll(100, 0.02)
                got += len(values_of(some))
                member.commit(nexts(some))
        assert got == count

    for count in (1, 2, 3):
        listener = Remembers()
        members[broker.member(topic, group, listener)] = listener
        settle(members, 6)
        assert len(set().union(*(each.held for each in members.values()))) == 6
        for _ in range(12):
            send()
        drain(12)
        assert len(members) == count
    while len(members) > 1:
        leaver = next(iter(members))
        del members[leaver]
        leaver.close()
        settle(members, 6)
        for _ in range(6):
            send()
        drain(6)
    (last,) = members
    assert not last.poll(10, 0.1)
    assert all(lag.events == 0 for lag in broker.lag(topic, group))
    last.close()


def test_the_listener_commits_before_partitions_go(place: Place, broker: Broker) -> None:
    topic, group = place.new_topic(2), place.new_name("group")
    polled: dict[int, int] = {}
    listener = Remembers()
    first = broker.member(topic, group, listener)
    listener.on_revoked = lambda gone: first.commit({p: polled[p] for p in gone if p in polled})
    settle({first: listener}, 2)
    for number in range(20):
        fill(broker, topic, [b"v"], key=b"%d" % number)
    for each in take(first, 20):
        polled |= nexts([each])
    other = Remembers()
    second = broker.member(topic, group, other)
    settle({first: listener, second: other}, 2)  # which asserts that no event comes again
    assert listener.told[-1][0] == "revoked"
    moved = next(iter(other.held))
    lag = next(each for each in broker.lag(topic, group) if each.partition == moved)
    assert lag.committed == polled[moved]
    with pytest.raises(MembershipLost, match=topic):
        first.commit({moved: 0})
    first.close()
    second.close()


def test_a_member_that_does_not_poll_loses_its_partitions(place: Place) -> None:
    broker = place.impatient()
    topic, group = place.new_topic(), place.new_name("group")
    fill(broker, topic, [b"%d" % n for n in range(10)])
    asleep, awake = Remembers(), Remembers()
    first = broker.member(topic, group, asleep)
    take(first, 10)
    second = broker.member(topic, group, awake)
    assert len(values_of(take(second, 10))) == 10
    with pytest.raises(MembershipLost):
        first.commit({0: 5})
    second.commit({0: 3})
    assert broker.lag(topic, group)[0].committed == 3
    while not any(told[0] == "lost" for told in asleep.told):
        first.poll(10, 0.05)
        second.poll(10, 0)
    second.close()
    assert values_of(take(first, 7))[-1] == b"9"  # it is a member again
    first.close()
    broker.close()


def test_who_comes_back_under_its_name_takes_its_partitions(place: Place, broker: Broker) -> None:
    topic, group = place.new_topic(2), place.new_name("group")
    before, after, other = Remembers(), Remembers(), Remembers()
    first = broker.member(topic, group, before, instance="a")
    second = broker.member(topic, group, other, instance="b")
    settle({first: before, second: other}, 2)
    again = broker.member(topic, group, after, instance="a")
    settle({again: after, second: other}, 2)
    assert after.held == before.held
    assert all(told[0] == "assigned" for told in other.told)
    with pytest.raises(BrokerError):
        first.commit({next(iter(before.held)): 0})
    for member in (first, second, again):
        member.close()


def test_an_offset_that_fell_out_of_retention_is_told_until_one_seeks(
    place: Place, broker: Broker
) -> None:
    topic, group = place.new_topic(), place.new_name("group")
    for n in range(5):
        fill(broker, topic, [b"%d" % n])
    oldest = place.shorten(topic)
    member = broker.member(topic, group, Remembers(begin={0: 0}))
    for _ in range(2):
        with pytest.raises(OffsetGone, match=topic):
            take(member, 1)
    member.seek(0, oldest)
    assert take(member, 1)[0].offsets[0] == oldest
    member.close()
