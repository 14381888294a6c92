"""Processes that act on ten thousand scores, to be killed at any moment."""

from __future__ import annotations

import datetime as dt
import multiprocessing
import multiprocessing.process
import random
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa

from support.campaigns import Campaign, interval_of
from support.deployments import day
from trivet.actions.action import Action, Surroundings
from trivet.brokers import connect as connect_broker
from trivet.settings import load_project

TOPIC = "offers"


@dataclass(frozen=True)
class Place:
    """Where an action is, as a process of its own needs to know it.

    Attributes:
        root: The project's folder.
        now: What the clock says.
        broker: Url of the broker.
    """

    root: Path
    now: dt.datetime
    broker: str

    def action(self) -> Action:
        project = load_project(self.root, {})
        batch = project.batch["toy-scores"]
        around = Surroundings(
            root=self.root,
            project="test",
            results=project.results.url,
            source=batch.source,
            calendar=batch.calendar,
            delay=batch.delay,
            clock=lambda: self.now,
            stop=threading.Event(),
            broker=lambda: connect_broker(self.broker, self.root),
        )
        return Action(project.action["offer"], around)


def act(place: Place) -> None:
    """Decide on the first day and deliver, until nothing is left that is due."""
    action = place.action()
    action.register()
    action.decide(interval_of(1), cause="manual")
    while action.seconds_until_next() is not None:
        action.deliver()


class Processes:
    """Starts processes quickly: each is forked from one that has everything imported."""

    def __init__(self) -> None:
        self._context = multiprocessing.get_context("forkserver")
        self._context.set_forkserver_preload(["support.offers", "httpx", "markdown_it", "jinja2"])

    def start(self, place: Place) -> multiprocessing.process.BaseProcess:
        process = self._context.Process(target=act, args=(place,), daemon=True)
        process.start()
        return process


def filled(campaign: Campaign, count: int) -> None:
    """Score so many customers of the first day."""
    with campaign.open_source() as db:
        numbers = pa.array(range(1, count + 1), pa.int64())
        names = pa.array([f"N{i}" for i in range(1, count + 1)])
        trips = {
            "trip_id": numbers,
            "a": pa.array([1.0] * count),
            "n": numbers,
            "city": pa.array(["nice"] * count),
            "note": names,
            "at": pa.array([day(1)] * count, pa.timestamp("us", "UTC")),
        }
        people = {
            "customer_id": numbers,
            "first_name": names,
            "email": pa.array([f"c{i}@example.com" for i in range(1, count + 1)]),
        }
        db.append("trips", pa.record_batch(trips))
        db.append("customers", pa.record_batch(people))
    campaign.score(1)


@dataclass
class Kills:
    """What was killed and what was seen."""

    killed: int = 0
    started: int = 0


def kill_at_random(
    processes: Processes, place: Place, kills: int, draw: random.Random, longest: float
) -> Kills:
    """Keep two processes at the action, killing one of them again and again; then let it end."""
    seen = Kills()
    running = [processes.start(place) for _ in range(2)]
    seen.started = 2
    while seen.killed < kills:
        time.sleep(draw.uniform(0.0, longest))
        victim = running.pop(draw.randrange(2))
        if victim.exitcode is None:
            victim.kill()
            seen.killed += 1
        victim.join()
        assert victim.exitcode in (0, -9), victim.exitcode
        running.append(processes.start(place))
        seen.started += 1
        if victim.exitcode == 0 and _done(place):
            break
    for process in running:
        process.join()
        assert process.exitcode == 0
    act(place)
    return seen


def _done(place: Place) -> bool:
    action = place.action()
    (decided,) = action.history(1)
    return set(decided.deliveries) == {"sent"}


@contextmanager
def topic(broker: str, root: Path) -> Iterator[None]:
    """Create the topic of the offers."""
    connected = connect_broker(broker, root)
    connected.create(TOPIC, 2)
    yield
    connected.close()


def events(broker: str, root: Path) -> list[Mapping[str, Any]]:
    """Return every event of the topic."""
    connected = connect_broker(broker, root)
    found = []
    for partition, (low, high) in connected.bounds(TOPIC).items():
        offset = low
        while offset < high:
            fetched = connected.read(TOPIC, partition, offset, 1000)
            if not fetched.offsets:
                break
            found += [msgspec.json.decode(value) for value in fetched.values if value]
            offset = fetched.offsets[-1] + 1
    connected.close()
    return found
