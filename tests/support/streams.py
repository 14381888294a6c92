"""Streams for tests: events published, a worker in a thread of the test, what came of it read."""

from __future__ import annotations

import datetime as dt
import json
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc

from trivet import brokers
from trivet.brokers.base import Headers
from trivet.contract import Model
from trivet.current import Ready, Source
from trivet.databases import connect
from trivet.hosts.stream.settings import StreamSettings
from trivet.hosts.stream.worker import Plan, Worker
from trivet.results.tables import view_of
from trivet.schema import Field, Schema

PATIENCE = 60.0
NOW = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)


@dataclass(frozen=True, kw_only=True)
class Tips:
    """Says a tenth of the fare; raises at 666, and may be held at 777."""

    name: str = "tip"
    version: str = "1"
    rate: float = 0.1
    parallel: bool = False
    hold: Callable[[], object] = lambda: None

    @property
    def digest(self) -> str:
        return f"{self.version}-{self.rate}"

    @property
    def inputs(self) -> Schema:
        return Schema(
            [
                Field(name="fare", type="float64", min=0, max=1000),
                Field(name="zone", type="string", nullable=True),
            ]
        )

    @property
    def outputs(self) -> Schema:
        return Schema([Field(name="tip", type="float64")])

    def predict(self, batch: pa.RecordBatch, /) -> pa.RecordBatch:
        fares = batch["fare"].to_pylist()
        if 666.0 in fares:
            raise ValueError("666 brings bad luck")
        if 777.0 in fares:
            self.hold()
        tips = pc.multiply(batch["fare"], self.rate)
        return pa.RecordBatch.from_arrays([tips], schema=self.outputs.arrow)


def event(number: int, /, **changes: Any) -> bytes:
    """Return a ride as a CloudEvent; changes go into its data, those with ``ce_`` to the event."""
    data = {"ride": number, "fare": float(number % 500), "zone": "soho", "seq": number}
    attributes = {key[3:]: value for key, value in changes.items() if key.startswith("ce_")}
    data |= {key: value for key, value in changes.items() if not key.startswith("ce_")}
    whole = {
        "specversion": "1.0",
        "id": f"ride-{number}",
        "source": "/backend",
        "type": "ride",
        "time": NOW.isoformat(),
        "data": data,
    }
    return json.dumps(whole | attributes).encode()


@dataclass
class Stream:
    """A stream deployment with its broker and its results."""

    root: Path
    broker: str
    results: str
    models: list[Model] = field(default_factory=lambda: [Tips()])
    settings: dict[str, Any] = field(default_factory=dict)
    accept_loss: bool = False
    prefix: str = ""

    def topic(self, name: str = "rides") -> str:
        """Return the name of a topic or group: a broker may be shared by many tests."""
        return f"{self.prefix}{name}"

    def made(self, **more: Any) -> StreamSettings:
        given = {
            "name": "tips",
            "model": "tip",
            "topic": self.topic(),
            "key": ("ride",),
            "keep": ("seq",),
            "stop_timeout": dt.timedelta(seconds=20),
        }
        made = {**given, **self.settings, **more}
        made = {k: tuple(v) if isinstance(v, list) else v for k, v in made.items()}
        made.setdefault("group", self.topic(made["name"]))
        made.setdefault("dead_letters", self.topic(f"{made['name']}.dead"))
        if made.get("output"):
            made["output"] = self.topic(made["output"])
        return StreamSettings(**made)

    def create(self, topic: str = "rides", partitions: int = 3) -> None:
        with _open(self.broker, self.root) as broker:
            broker.create(self.topic(topic), partitions)

    def publish(
        self,
        *values: bytes,
        topic: str = "rides",
        key: Callable[[int], bytes | None] = lambda n: str(n % 7).encode(),
        headers: Headers = (),
    ) -> None:
        """Append events, and wait until they are durable."""
        with _open(self.broker, self.root) as broker:
            appender = broker.appender()
            for number, value in enumerate(values):
                appender.append(self.topic(topic), key(number), value, headers)
            until = time.monotonic() + PATIENCE
            while appender.flush(1.0):
                assert time.monotonic() < until
            appender.close()

    def worker(self, number: int = 1, *, place: int = 0, **more: Any) -> Worker:
        settings = self.made(**more)
        plan = Plan(
            settings=settings,
            source=Source(settings.model, "models/none"),
            broker=self.broker,
            results=self.results,
            root=self.root,
            accept_loss=self.accept_loss,
        )
        return Worker(plan, number, place, in_use=lambda: Ready(self.models[0]))

    def running(self, number: int = 1, **more: Any) -> Running:
        return Running(self.worker(number, **more))

    def rows(self, query: str) -> list[dict[str, Any]]:
        with connect(self.results, root=self.root) as db:
            found: list[dict[str, Any]] = db.rows(query).to_pylist()
        return found

    def count(self, table: str = "predictions_tips") -> int:
        try:
            return int(self.rows(f"SELECT count(*) AS n FROM {table}")[0]["n"])
        except Exception:  # noqa: BLE001 - not there yet
            return 0

    def tips(self) -> dict[str, float]:
        view = view_of(self.made().name)
        return {row["ride"]: row["tip"] for row in self.rows(f"SELECT ride, tip FROM {view}")}

    def read(self, topic: str) -> list[dict[str, Any]]:
        """Return the events of a topic, decoded, by partition."""
        return [json.loads(value) for value in self.values(topic)]

    def values(self, topic: str) -> list[bytes]:
        found: list[bytes] = []
        with _open(self.broker, self.root) as broker:
            for partition, (begin, end) in broker.bounds(self.topic(topic)).items():
                at = begin
                while at < end:
                    part = broker.read(self.topic(topic), partition, at, 10_000)
                    if not part.offsets:
                        break
                    found += [value or b"" for value in part.values]
                    at = part.offsets[-1] + 1
        return found

    def lag(self) -> int:
        settings = self.made()
        with _open(self.broker, self.root) as broker:
            return sum(lag.events for lag in broker.lag(settings.topic, settings.member_group))


class Running:
    """A worker in a thread, for the length of a ``with`` block."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="worker")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        self.worker.stop()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "the worker does not end"

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def counted(self, name: str, **labels: str) -> float:
        from support.service_server import counted

        return counted(self.worker.metrics.render()[0].decode(), name, **labels)

    def _run(self) -> None:
        try:
            self.worker.run()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.error = error


class _open:  # noqa: N801 - used as a function
    def __init__(self, url: str, root: Path) -> None:
        self._broker = brokers.connect(url, root)

    def __enter__(self) -> Any:
        return self._broker

    def __exit__(self, *_: object) -> None:
        self._broker.close()


def wait_until(what: Callable[[], bool], running: Iterable[Running] = ()) -> None:
    """Wait for what workers will come to."""
    until = time.monotonic() + PATIENCE
    while not what():
        for each in running:
            if each.error is not None:
                raise each.error
        assert time.monotonic() < until, "it did not come to that"
        time.sleep(0.01)


def in_order(rows: Sequence[Mapping[str, Any]], key: str, order: str) -> bool:
    """Say whether the rows of each key come in the order of a column."""
    last: dict[Any, Any] = {}
    for row in rows:
        if row[key] in last and row[order] <= last[row[key]]:
            return False
        last[row[key]] = row[order]
    return True
