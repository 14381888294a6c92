"""Where a stream goes on, asked of the results database and of the broker."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from support.streams import Stream, event, wait_until
from trivet import brokers
from trivet.brokers.base import Broker
from trivet.errors import TransientError
from trivet.hosts.stream.places import GroupPlaces, ResultsPlaces, committed, first_offsets


@pytest.fixture
def stream(tmp_path: Path) -> Stream:
    made = Stream(tmp_path, f"sqlite:///{tmp_path / 'events.db'}", "")
    made.create(partitions=2)
    return made


@pytest.fixture
def broker(stream: Stream) -> Iterator[Broker]:
    with closing(brokers.connect(stream.broker, stream.root)) as made:
        yield made


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def test_a_group_that_has_committed_nothing_begins_where_it_is_told(
    stream: Stream, broker: Broker
) -> None:
    for number in range(5):
        stream.publish(event(number), key=lambda _: b"k")
    moment = now() + dt.timedelta(milliseconds=2)
    wait_until(lambda: now() > moment)
    for number in range(3):
        stream.publish(event(number), key=lambda _: b"k")
    ends = {partition: end for partition, (_, end) in broker.bounds("rides").items()}
    assert sorted(ends.values()) == [0, 8]
    begin = {start: first_offsets(broker, "rides", [0, 1], start) for start in ("earliest", moment)}
    assert begin["earliest"] == {0: 0, 1: 0}
    assert begin[moment] == {partition: 5 if end else 0 for partition, end in ends.items()}
    assert first_offsets(broker, "rides", [0, 1], "latest") == ends
    later = now() + dt.timedelta(days=1)
    assert first_offsets(broker, "rides", [0, 1], later) == ends
    assert first_offsets(broker, "rides", [], "latest") == {}


def test_a_group_is_left_where_it_is(broker: Broker) -> None:
    assert committed(broker, "rides", "tips", []) == {}
    assert committed(broker, "rides", "tips", [0, 1]) == {}
    places = GroupPlaces(broker, "rides", "tips")
    assert places.begin([0, 1], {1: 7, 5: 9}) == {1: 7}
    places.close()


def test_results_that_are_away_are_asked_again(tmp_path: Path, broker: Broker) -> None:
    url = "postgresql://nobody:none@127.0.0.1:1/none"
    places = ResultsPlaces(url, tmp_path, "tips", broker, "rides", "tips", "earliest")
    for _ in range(2):
        with pytest.raises(TransientError):
            places.begin([0], {})
    places.close()
