"""What is away when a worker needs it, and what goes to others while it works."""

from __future__ import annotations

import datetime as dt
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.streams import Running, Stream, Tips, event, wait_until
from trivet.brokers import embedded_file
from trivet.brokers.embedded_file import LogFile
from trivet.brokers.embedded_log import trim
from trivet.errors import BrokerUnavailable, OffsetGone, TransientError
from trivet.hosts.stream import consumer
from trivet.hosts.stream.places import ResultsPlaces

INTO = [{}, {"results": False, "output": "tipped", "delivery": "at-least-once"}]


@pytest.fixture
def stream(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stream:
    """Give an embedded stream whose topics are there, and whose worker has little patience."""
    monkeypatch.setattr(embedded_file, "_PATIENCE", 0.05)
    monkeypatch.setattr(consumer, "RETRY_SECONDS", (0.01, 0.02))
    results = f"sqlite:///{tmp_path / 'results.db'}"
    made = Stream(tmp_path, f"sqlite:///{tmp_path / 'events.db'}?lease=400ms", results)
    for topic in ("rides", "tips.dead", "tipped"):
        made.create(topic)
    return made


@contextmanager
def events_file(stream: Stream) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(stream.root / "events.db", isolation_level=None)) as db:
        yield db


@contextmanager
def busy(stream: Stream) -> Iterator[None]:
    """Let nobody write to the broker's file."""
    with events_file(stream) as db:
        db.execute("BEGIN IMMEDIATE")
        yield


def tries(running: Running) -> float:
    return running.counted("trivet_stream_retries_total", what="broker")


def test_a_broker_that_is_busy_is_waited_for(
    stream: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    stream.publish(event(1), event(2))
    with stream.running() as running:
        with busy(stream):
            wait_until(lambda: tries(running) > 1 or stream.count() == 2, [running])
        wait_until(lambda: stream.count() == 2, [running])
        with busy(stream):
            before = tries(running)
            wait_until(lambda: tries(running) > before + 1, [running])
        stream.publish(event(3))
        wait_until(lambda: stream.count() == 3, [running])
    assert running.error is None
    assert "tips waits: " in caplog.text


def test_a_worker_that_could_not_join_yet_can_be_stopped(stream: Stream) -> None:
    stream.publish(event(1))
    with busy(stream), stream.running() as running:
        wait_until(lambda: tries(running) > 1, [running])
        running.stop()
    assert running.error is None
    assert stream.count() == 0


def test_one_that_is_stopped_before_it_begins_begins_nothing(stream: Stream) -> None:
    stream.publish(event(1))
    worker = stream.worker()
    worker.stop()
    worker.run()
    assert worker.partitions == []
    assert stream.count() == 0


@pytest.mark.parametrize("error", [TransientError, BrokerUnavailable])
def test_partitions_wait_for_who_knows_where_to_begin(
    stream: Stream, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    left = [error("it is away")] * 3
    whole = ResultsPlaces.begin

    def begin(self: ResultsPlaces, partitions: Any, reached: Mapping[int, int]) -> Any:
        if left:
            raise left.pop()
        return whole(self, partitions, reached)

    monkeypatch.setattr(ResultsPlaces, "begin", begin)
    stream.publish(*(event(n) for n in range(50)))
    with stream.running() as running:
        wait_until(lambda: stream.count() == 50, [running])
    assert running.error is None
    assert not left


def test_a_partition_that_another_member_has_taken_is_left_to_it(stream: Stream) -> None:
    stream.publish(*(event(n) for n in range(50)))
    with stream.running() as running:
        wait_until(lambda: stream.count() == 50, [running])
        with events_file(stream) as db:
            db.execute(
                "INSERT INTO members (id, group_name, topic, owner, lease_until) "
                "SELECT 99, group_name, topic, owner, lease_until + 60 FROM members"
            )
            db.execute(
                "UPDATE claims SET member = 99 WHERE log = "
                "(SELECT l.id FROM logs l JOIN topics t ON t.id = l.topic "
                "WHERE t.name = 'rides' AND l.partition = 2)"
            )
            db.execute("UPDATE generations SET generation = generation + 1")
            wait_until(lambda: running.worker.partitions == [0, 1], [running])
            assert running.counted("trivet_stream_rebalances_total", what="lost") == 1
            db.execute("UPDATE members SET lease_until = 0 WHERE id = 99")
            wait_until(lambda: running.worker.partitions == [0, 1, 2], [running])
        stream.publish(*(event(n) for n in range(50, 90)))
        wait_until(lambda: stream.count() == 90, [running])
    assert running.error is None


@pytest.mark.parametrize("into", INTO, ids=["results", "topic"])
@pytest.mark.parametrize("accepted", [True, False])
def test_events_that_are_gone_before_they_are_read(
    stream: Stream, monkeypatch: pytest.MonkeyPatch, into: dict[str, Any], accepted: bool
) -> None:
    monkeypatch.setattr(consumer, "FULL_SECONDS", 0.01)
    came, go = threading.Event(), threading.Event()

    def hold() -> None:
        came.set()
        go.wait(60)

    stream.models[0] = Tips(hold=hold)
    stream.accept_loss = accepted
    stream.settings = {"max_queue": 1, "max_wait": dt.timedelta(), **into}
    stream.publish(event(0, fare=777), key=lambda _: b"k")
    with stream.running() as running:
        wait_until(came.is_set, [running])
        stream.publish(*(event(n) for n in range(1, 11)), key=lambda _: b"k")
        wait_until(lambda: running.counted("trivet_stream_paused") == 1, [running])
        _forget_all(stream)
        go.set()
        if accepted:
            stream.publish(event(20), event(21), key=lambda _: b"k")
            wait_until(lambda: _scored(stream, into) == {"0", "20", "21"}, [running])
        else:
            wait_until(lambda: not running.is_alive)
    if accepted:
        assert running.error is None
    else:
        assert isinstance(running.error, OffsetGone)
        assert "trivet consume tips --accept-loss" in str(running.error)


def _forget_all(stream: Stream) -> None:
    file = LogFile(stream.root / "events.db", "NORMAL")
    with closing(file):
        trim(file, dt.timedelta(seconds=-1), None)


def _scored(stream: Stream, into: Mapping[str, Any]) -> set[str]:
    if into:
        return {str(each["data"]["ride"]) for each in stream.read("tipped")}
    return set(stream.tips()) if stream.count() else set()
