"""Workers killed, brokers and databases restarted: every event counts once, in order by key."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from support.kafka import KafkaServer
from support.postgres import PostgresServer
from support.streams import Stream, event
from trivet.errors import BrokerUnavailable, TopicNotFound

PATIENCE = 300.0
KEYS = 50


def _key(number: int) -> bytes:
    return str(number % KEYS).encode()


def chaos(
    stream: Stream,
    events: int,
    kills: int,
    count: Callable[[], int],
    *,
    between: Callable[[int], None] = lambda _: None,
    **settings: Any,
) -> dict[str, Any]:
    """Publish events while workers are killed, until all are counted; return what happened."""
    order = {
        "root": str(stream.root),
        "broker": stream.broker,
        "results": stream.results,
        "prefix": stream.prefix,
        "settings": {"max_batch": 500, **settings},
        "kills": kills,
        "seed": kills,
        "log": str(stream.root / "workers.log"),
    }
    command = [sys.executable, "-m", "support.stream_chaos", json.dumps(order)]
    tests = Path(__file__).parents[1]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=tests,
        env={**os.environ, "PYTHONPATH": str(tests)},
    ) as program:
        assert program.stdout is not None
        assert program.stdin is not None
        try:
            published = 0
            for line in program.stdout:
                killed = json.loads(line)["kills"]
                upto = events * killed // kills
                more = range(published, upto)
                stream.publish(*(event(n) for n in more), key=lambda i: _key(i + more.start))
                published = upto
                between(killed)
                if killed == kills:
                    break
            until = time.monotonic() + PATIENCE
            while (there := count()) < events:
                assert time.monotonic() < until, f"{there} of {events}"
                time.sleep(0.2)
            program.stdin.close()
            told: dict[str, Any] = json.loads(program.stdout.read().splitlines()[-1])
        finally:
            program.kill()
    log = (stream.root / "workers.log").read_text()
    assert "Traceback" not in log, log[-3000:]
    assert set(told["codes"]) <= {0, -signal.SIGTERM}  # one that had not yet begun may just end
    return told


def held(stream: Stream, events: int) -> None:
    """Check that each event is there once, and that those of a key came in their order."""
    rows = stream.rows("SELECT ride, tip, scored_at FROM tips")
    assert len(rows) == events
    assert {int(row["ride"]) for row in rows} == set(range(events))
    assert all(row["tip"] == (int(row["ride"]) % 500) * 0.1 for row in rows)
    last: dict[int, Any] = {}
    for row in sorted(rows, key=lambda r: int(r["ride"])):
        key = int(row["ride"]) % KEYS
        assert key not in last or last[key] <= row["scored_at"]
        last[key] = row["scored_at"]


def embedded(root: Path) -> Stream:
    made = Stream(root, f"sqlite:///{root / 'events.db'}", f"sqlite:///{root / 'results.db'}")
    made.create(partitions=4)
    return made


def on_kafka(root: Path, server: KafkaServer, results: str) -> Stream:
    made = Stream(root, server.url, results, prefix=f"{server.new_name('k')}-")
    made.create(partitions=4)
    return made


def _run_embedded(root: Path, events: int, kills: int) -> None:
    stream = embedded(root)
    told = chaos(stream, events, kills, stream.count)
    held(stream, events)
    print(f"embedded to sqlite: {events} events, {told}")


def _run_kafka(
    root: Path, kafka: KafkaServer, postgres: PostgresServer, events: int, kills: int
) -> None:
    stream = on_kafka(root, kafka, postgres.new_database())

    def between(killed: int) -> None:
        if killed == kills // 3:
            postgres.restart()
        if killed == kills // 2:
            kafka.restart()

    told = chaos(stream, events, kills, stream.count, between=between)
    held(stream, events)
    print(f"kafka to postgresql: {events} events, {told}, broker and database restarted")


def _run_topic(stream: Stream, events: int, kills: int) -> None:
    """Into a topic alone, in transactions."""

    def count() -> int:
        # The first worker that lives for long enough makes it.
        with suppress(TopicNotFound, BrokerUnavailable):
            return len(stream.values("tipped"))
        return 0

    told = chaos(stream, events, kills, count, results=False, output="tipped")
    rides = [int(e["data"]["ride"]) for e in stream.read("tipped")]
    assert sorted(rides) == list(range(events))
    last: dict[int, int] = {}
    for ride in rides:
        assert last.get(ride % KEYS, -1) < ride
        last[ride % KEYS] = ride
    print(f"{stream.broker.partition(':')[0]} to topic: {events} events, {told}")


def test_embedded_workers_killed(tmp_path: Path) -> None:
    _run_embedded(tmp_path, 3_000, 10)


def test_kafka_workers_killed_broker_and_database_restarted(
    tmp_path: Path, own_kafka: KafkaServer, own_postgres: Callable[[], PostgresServer]
) -> None:
    _run_kafka(tmp_path, own_kafka, own_postgres(), 3_000, 8)


@pytest.mark.parametrize("broker", ["embedded", "kafka"])
def test_transactions_into_a_topic(
    tmp_path: Path, broker: str, request: pytest.FixtureRequest
) -> None:
    if broker == "kafka":
        server = request.getfixturevalue("kafka")
        stream = on_kafka(tmp_path, server, f"sqlite:///{tmp_path / 'results.db'}")
    else:
        stream = embedded(tmp_path)
    _run_topic(stream, 2_000, 6)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_embedded_workers_killed_at_length(tmp_path: Path) -> None:
    _run_embedded(tmp_path, 100_000, 200)


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_kafka_workers_killed_at_length(
    tmp_path: Path, own_kafka: KafkaServer, own_postgres: Callable[[], PostgresServer]
) -> None:
    _run_kafka(tmp_path, own_kafka, own_postgres(), 100_000, 200)
