"""What only the embedded broker has: its file, its url, processes that die."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.events import Remembers, everything, fill, settle, take, values_of
from trivet.brokers import connect, place
from trivet.errors import BrokerError, BrokerUnavailable, TopicNotFound, UnsupportedBroker

PRODUCE = """
import itertools, sys
from trivet.brokers import connect
appender = connect(sys.argv[1]).appender()
for batch in itertools.count():
    for n in range(20):
        appender.append("t", b"%s %d" % (sys.argv[2].encode(), n % 3), b"%d" % (batch * 20 + n))
    assert appender.flush(60) == 0
    print(batch, flush=True)
"""
CONSUME = """
import sys
from trivet.brokers import connect

class Listener:
    def assigned(self, partitions):
        return {}
    def revoked(self, partitions, *, lost):
        pass

member = connect(sys.argv[1]).member("t", "g", Listener())
while True:
    for fetched in member.poll(10, 1):
        member.commit({fetched.partition: fetched.offsets[-1] + 1})
        for value in fetched.values:
            print(value.decode(), flush=True)
"""


@contextmanager
def running(code: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", code, *words], stdout=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def lines(process: subprocess.Popen[str], count: int) -> list[str]:
    assert process.stdout is not None
    return [process.stdout.readline() for _ in range(count)]


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'events.db'}"


def test_what_killed_producers_were_told_is_there(url: str) -> None:
    acknowledged = {}
    for number in range(4):
        with running(PRODUCE, url, f"{number}a") as one, running(PRODUCE, url, f"{number}b") as two:
            lines(two, 1 + number)
            lines(one, 1 + number)
            for process, name in ((one, "a"), (two, "b")):
                process.send_signal(signal.SIGKILL)
                assert process.stdout is not None
                rest = process.stdout.read().splitlines()
                acknowledged[f"{number}{name}"] = 1 + number + len(rest)
    broker = connect(url)
    found: dict[str, list[int]] = {}
    for events in everything(broker, "t").values():
        for key, value, _ in events:
            found.setdefault((key or b"").decode(), []).append(int(value or b""))
    for name, batches in acknowledged.items():
        for part in range(3):
            numbers = found[f"{name} {part}"]
            assert numbers == sorted(set(numbers))
        everywhere = sorted(n for part in range(3) for n in found[f"{name} {part}"])
        assert everywhere[: batches * 20] == list(range(batches * 20))
        assert len(everywhere) % 20 == 0  # a batch is there as a whole or not at all
    broker.close()


def test_a_killed_member_leaves_its_partitions_to_others(url: str) -> None:
    broker = connect(url + "?lease=1h")
    broker.create("t", 4)
    fill(broker, "t", [b"%d" % n for n in range(20)])
    with running(CONSUME, url + "?lease=1h") as process:
        seen = lines(process, 20)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert [int(line) for line in seen] == list(range(20))
    listener = Remembers()
    member = broker.member("t", "g", listener)
    settle({member: listener}, 4)  # long before the lease has run out; and nothing comes again
    fill(broker, "t", [b"more"])
    assert values_of(take(member, 1)) == [b"more"]
    member.close()
    broker.close()


def test_an_appender_waits_for_a_file_that_is_held(url: str) -> None:
    broker = connect(url)
    broker.create("t")
    appender = broker.appender()
    appender.append("t", b"k", b"1")
    assert appender.flush(10) == 0
    rival = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    rival.execute("BEGIN IMMEDIATE")
    appender.append("t", b"k", b"2")
    rival.execute("COMMIT")
    rival.close()
    assert appender.flush(10) == 0
    assert len(everything(broker, "t")[0]) == 2
    appender.close()
    broker.close()


def test_a_file_held_too_long_is_told_and_nothing_is_lost(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broker = connect(url)
    broker.create("t")
    appender = broker.appender()
    monkeypatch.setattr("trivet.brokers.embedded_file._PATIENCE", 0.05)
    rival = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    rival.execute("BEGIN IMMEDIATE")
    for n in range(3):
        appender.append("t", b"k", b"%d" % n, (("n", b"%d" % n),))
        assert appender.flush(0.01) == n + 1
    with pytest.raises(BrokerUnavailable, match="locked"):
        broker.create("other")
    rival.execute("COMMIT")
    rival.close()
    assert appender.flush(10) == 0
    found = everything(broker, "t")[0]
    assert found == [(b"k", b"%d" % n, (("n", b"%d" % n),)) for n in range(3)]
    appender.close()
    broker.close()


def test_events_that_cannot_be_written_are_given_up_aloud(url: str) -> None:
    broker = connect(url)
    broker.create("t")
    appender, told = broker.appender(), list[str]()
    rival = sqlite3.connect(url.removeprefix("sqlite:///"))
    rival.execute("DROP TABLE chunks")
    rival.close()
    appender.append("t", b"k", b"1", failed=told.append)
    assert appender.flush(10) == 0
    assert "chunks" in told[0]
    appender.append("t", b"k", b"2")
    with pytest.raises(BrokerError, match="1 events were given up"):
        appender.flush(10)
    assert appender.flush(10) == 0
    appender.close()
    broker.close()


def test_old_events_are_deleted(url: str, until: Callable[[Callable[[], bool]], None]) -> None:
    broker = connect(url + "?keep_for=0s&partitions=1")
    fill(broker, "t", [b"v"])
    until(lambda: broker.bounds("t") == {0: (1, 1)})
    assert not broker.read("t", 0, 1, 10).offsets
    broker.close()


def test_topics_are_made_by_their_first_use_or_not(url: str) -> None:
    broker = connect(url + "?partitions=3")
    fill(broker, "made", [b"v"])
    assert broker.topics() == {"made": 3}
    broker.close()
    strict = connect(url + "?partitions=0")
    appender = strict.appender()
    with pytest.raises(TopicNotFound):
        appender.append("other", b"k", b"v")
    appender.close()
    strict.close()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("sqlite://", "write sqlite:///folder/events.db"),
        ("sqlite://host/file.db", "write sqlite:///folder/events.db"),
        ("sqlite:///e.db?mode=ro", "unknown parameter 'mode'"),
        ("sqlite:///e.db?synchronous=off", "full or normal"),
        ("sqlite:///e.db?keep_for=ever", "keep_for"),
        ("sqlite:///e.db?partitions=-1", "whole number"),
    ],
)
def test_a_url_that_cannot_be_used_is_explained(url: str, told: str, tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match=told):
        connect(url, tmp_path)


def test_an_unknown_scheme_is_named_without_its_secrets() -> None:
    with pytest.raises(UnsupportedBroker, match="amqp://host") as told:
        connect("amqp://me:secret@host/x?token=secret")
    assert "secret" not in str(told.value)
    assert place("kafka://a:1,b:2?sasl.password=x") == "kafka://a:1,b:2"


def test_another_file_is_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "results.db"
    with sqlite3.connect(other) as db:
        db.execute("CREATE TABLE mine (x)")
    db.close()
    with pytest.raises(BrokerError, match="another kind of database"):
        connect(f"sqlite:///{other}")
    text = tmp_path / "notes.txt"
    text.write_text("no database at all, but long enough to be taken for one" * 20)
    with pytest.raises(BrokerError, match="not a database"):
        connect(f"sqlite:///{text}")
    with pytest.raises(BrokerUnavailable):
        connect(f"sqlite:///{tmp_path}")


def test_a_file_of_a_newer_layout_is_left_alone(url: str) -> None:
    connect(url).close()
    db = sqlite3.connect(url.removeprefix("sqlite:///"))
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(BrokerError, match="upgrade Trivet"):
        connect(url)


def test_who_uses_a_topic_is_told_that_it_was_deleted(url: str) -> None:
    broker = connect(url + "?partitions=0")
    broker.create("t")
    fill(broker, "t", [b"old"] * 3)
    member = broker.member("t", "g", Remembers())
    appender = broker.appender()
    appender.append("t", None, b"old")
    assert appender.flush(10) == 0
    take(member, 4)
    broker.delete("t")
    broker.create("other")
    with pytest.raises(TopicNotFound, match="'t'"):
        member.poll(1, 0)
    appender.append("t", None, b"lost")
    with pytest.raises(BrokerError, match=r"given up: .* the topic was deleted"):
        appender.flush(10)
    with pytest.raises(TopicNotFound, match="'t'"):
        appender.append("t", None, b"refused")
    assert broker.bounds("other") == {0: (0, 0)}
    broker.create("t", 2)
    appender.append("t", None, b"new")
    assert appender.flush(10) == 0
    assert values_of(take(member, 1)) == [b"new"]
    assert sorted(broker.topics().items()) == [("other", 1), ("t", 2)]
    for each in (appender, member, broker):
        each.close()


def test_a_member_goes_on_when_its_group_was_deleted(
    url: str, until: Callable[[Callable[[], bool]], None]
) -> None:
    broker = connect(url + "?lease=1ms")
    broker.create("t", 2)
    listener = Remembers()
    member = broker.member("t", "g", listener)
    settle({member: listener}, 2)

    def is_deleted() -> bool:
        try:
            broker.delete_group("g")
        except BrokerError:  # while its lease lasts
            return False
        return True

    until(is_deleted)
    until(lambda: not member.poll(1, 0) and len(listener.told) > 2)
    assert [what for what, _ in listener.told] == ["assigned", "lost", "assigned"]
    member.close()
    broker.close()
