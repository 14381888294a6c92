"""Events of the taxi backend: in order, none lost, whatever dies in between."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
from backend.live import Live
from backend.news import News
from backend.outbox import TOPIC, Outbox
from backend.rides import Estimate, Ride
from backend.storage import Database

from support.taxi_app import Company
from trivet import Producer, brokers
from trivet.events import CloudEvents

Until = Callable[[Callable[[], bool]], None]


def ride(number: int, user: str = "one") -> Ride:
    moment = f"2026-03-01T17:00:{number % 60:02d}Z"
    estimates = (Estimate(12.5, version="1"), Estimate(10.0, version="1"))
    return Ride(f"ride-{number:04d}", user, moment, moment, 230, 132, 1, "card", *estimates)


def add(database: Database, numbers: range) -> None:
    async def adding() -> None:
        rides = [ride(number) for number in numbers]
        await asyncio.gather(*(database.add(r, json.dumps(r.event())) for r in rides))

    asyncio.run(adding())


def sent(url: str) -> list[str]:
    """The ids of the events in the topic, in order."""
    broker = brokers.connect(url)
    try:
        if TOPIC not in broker.topics():
            return []
        ids: list[str] = []
        for partition, bounds in broker.bounds(TOPIC).items():
            place, end = bounds
            while place < end:
                fetched = broker.read(TOPIC, partition, place, 1000)
                ids += CloudEvents().decode(fetched, TOPIC).ids
                place = fetched.offsets[-1] + 1
        return ids
    finally:
        broker.close()


def test_events_go_out_in_order_and_leave_the_outbox(tmp_path: Path, until: Until) -> None:
    url = f"sqlite:///{tmp_path / 'events.db'}"
    outbox = Outbox(url)
    database = Database(tmp_path / "rides.db", outbox.wake)
    outbox.start(database)
    try:
        add(database, range(100))
        until(lambda: not database.waiting(1))
        add(database, range(100, 150))
        until(lambda: not database.waiting(1))
    finally:
        outbox.stop()
        database.close()
    assert sent(url) == [f"ride-{number:04d}-requested" for number in range(150)]


def test_while_the_broker_is_down_rides_are_taken(tmp_path: Path, until: Until) -> None:
    folder = tmp_path / "broker"
    folder.touch()  # a file where its folder should be
    url = f"sqlite:///{folder / 'events.db'}"
    outbox = Outbox(url)
    database = Database(tmp_path / "rides.db", outbox.wake)
    outbox.start(database)
    try:
        add(database, range(30))
        assert len(database.waiting(100)) == 30
        folder.unlink()
        folder.mkdir()
        until(lambda: not database.waiting(1))
    finally:
        outbox.stop()
        database.close()
    assert sent(url) == [f"ride-{number:04d}-requested" for number in range(30)]


def test_what_was_not_sent_survives_a_stop(tmp_path: Path, until: Until) -> None:
    database = Database(tmp_path / "rides.db")
    add(database, range(5))
    database.close()
    url = f"sqlite:///{tmp_path / 'events.db'}"
    database, outbox = Database(tmp_path / "rides.db"), Outbox(url)
    outbox.start(database)
    try:
        until(lambda: not database.waiting(1))
    finally:
        outbox.stop()
        database.close()
    assert len(sent(url)) == 5


def test_a_killed_backend_loses_no_acknowledged_ride(
    tmp_path: Path, quick_models: Path, until: Until
) -> None:
    company = Company(tmp_path / "taxi", quick_models)
    good = f"sqlite:///{tmp_path / 'events.db'}"
    away = tmp_path / "away"
    away.touch()

    def take(first: int, count: int) -> list[str]:
        headers = {"authorization": f"Bearer {company.token}"}
        with httpx.Client(base_url=company.backend, headers=headers, timeout=60) as client:
            ids = [f"ride-{number:04d}" for number in range(first, first + count)]
            for ride_id in ids:
                body = {"ride_id": ride_id, "pickup_zone": 230, "dropoff_zone": 132}
                assert client.post("/api/rides", json=body).status_code == 201
        return ids

    with company.running_backend("--broker", f"sqlite:///{away / 'events.db'}") as process:
        taken = take(0, 20)
        process.send_signal(signal.SIGKILL)
    with company.running_backend("--broker", good) as process:
        taken += take(20, 20)
        process.send_signal(signal.SIGKILL)
    with company.running_backend("--broker", good):
        database = Database(company.folder / "data" / "rides.db")
        try:
            until(lambda: not database.waiting(1))
        finally:
            database.close()
    ids = list(dict.fromkeys(sent(good)))  # one may have been sent twice
    assert ids == [f"{ride_id}-requested" for ride_id in taken]


def test_the_answers_are_kept_and_told(tmp_path: Path, until: Until) -> None:
    url = f"sqlite:///{tmp_path / 'events.db'}"
    database = Database(tmp_path / "rides.db")
    add(database, range(3))
    live = Live()

    async def following() -> list[Any]:
        page = live.join("one")
        news = News(url, database, live)
        news.start(asyncio.get_running_loop())
        try:
            return [await asyncio.wait_for(page.get(), 60) for _ in range(2)]
        finally:
            await asyncio.to_thread(news.stop)

    tip = {"ride_id": "ride-0001", "tip": 2.0, "tip_low": 1.0, "tip_high": 3.0}
    other = {**tip, "ride_id": "ride-0002"}
    with Producer(url, "/trivet/tip") as producer:
        said: list[tuple[str, dict[str, Any]]]
        said = [("a", tip), ("a", tip), ("b", {"tip": "none"}), ("c", {**tip, "ride_id": "x"})]
        for name, data in [*said, ("d", other)]:
            moment = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
            producer.send("answers", "key", data, type="trivet.prediction", id=name, time=moment)
    try:
        told = asyncio.run(following())
        assert [b'"ride-0001"' in told[0], b'"ride-0002"' in told[1]] == [True, True]
        kept = asyncio.run(database.ride("ride-0001"))
        assert kept is not None
        assert kept.answers == {"tip": {"tip": 2.0, "tip_low": 1.0, "tip_high": 3.0}}
    finally:
        database.close()
    assert all(lag.events == 0 for lag in _lag(url))


def _lag(url: str) -> list[Any]:
    broker = brokers.connect(url)
    try:
        return list(broker.lag("answers", "backend"))
    finally:
        broker.close()
