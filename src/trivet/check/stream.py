"""Sample rows through the stream host: events of an embedded broker, and of the project's own.

On the project's broker, topics and group are the check's own, and gone at the end.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pyarrow as pa

from trivet import brokers
from trivet.brokers.base import Broker
from trivet.check.batch import ROW, outcome, own_schema, rejects
from trivet.check.outcome import Outcome, Told, answers_of
from trivet.check.own_topics import DEAD, OUTPUT, is_shared, new_name, own_topics
from trivet.contract import Model
from trivet.current import Ready, Source
from trivet.databases.dialects import of
from trivet.errors import BrokerUnavailable, ModelError
from trivet.hosts.stream.settings import StreamSettings
from trivet.hosts.stream.worker import Plan, Worker
from trivet.results.layout import open_results
from trivet.results.offsets import offsets

END_SECONDS = 120.0
STOP_SECONDS = 30.0
"""So much longer than what is under way may take, a worker may take to end."""

SEEN_SECONDS = 10.0
"""How long what was committed to a topic may take to be there for readers."""

_LOOK_SECONDS = 0.02


class Place(NamedTuple):
    """Where events come from, and where their predictions go.

    Attributes:
        name: What it is called in the table.
        broker: Url of the broker.
        results: Url of the results.
        to_topic: Whether predictions are read back from an output topic.
    """

    name: str
    broker: str
    results: str
    to_topic: bool = False


@contextmanager
def places(
    settings: StreamSettings, broker: str, results: str, root: Path
) -> Iterator[list[Place]]:
    """Give the ways of a stream: embedded, into its own kind of database, and on its own broker.

    Args:
        settings: The deployment.
        broker: Url of the project's broker.
        results: Url of the project's results.
        root: The folder that relative paths start from.
    """
    kind = of(results).name
    with (
        tempfile.TemporaryDirectory(prefix="trivet-check-") as folder,
        own_schema(results, root) as own,
    ):
        embedded, sqlite = f"sqlite:///{folder}/events.db", f"sqlite:///{folder}/results.db"
        into = sqlite if kind == "sqlite" else own
        found = [Place("embedded to sqlite", embedded, sqlite)]
        if kind != "sqlite":
            found.append(Place(f"embedded to {kind}", embedded, into))
        if settings.output:
            found.append(Place("embedded to topic", embedded, sqlite, to_topic=True))
        if is_shared(broker):
            name = broker.partition(":")[0]
            if settings.results:
                found.append(Place(f"{name} to {kind}", broker, into))
            if settings.output:
                found.append(Place(f"{name} to topic", broker, into, to_topic=True))
        yield found


def run(
    place: Place,
    ready: Ready,
    settings: StreamSettings,
    rows: pa.RecordBatch,
    root: Path,
    size: int,
) -> Outcome:
    """Have the rows scored as events.

    Args:
        place: Where from and where to.
        ready: The model.
        settings: The deployment.
        rows: The sample.
        root: The folder that relative paths start from.
        size: Events of a batch at most.

    Raises:
        ModelError: They were not all scored in time.
        BrokerError: The broker does not do what is asked of it.
    """
    name = new_name(dt.datetime.now(dt.UTC))
    changed = dataclasses.replace(
        settings,
        name=name.removeprefix("trivet-"),
        topic=name,
        key=(ROW,),
        keep=(),
        results=settings.results or not place.to_topic,
        output=f"{name}{OUTPUT}" if place.to_topic else "",
        dead_letters=f"{name}{DEAD}" if place.to_topic and settings.dead_topic else "none",
        group=name,
        start="earliest",
        types=(),
        id_field="",
        time_field="",
        max_batch=size,
        workers=1,
        metrics_port=None,
    )
    plan = Plan(
        settings=changed,
        source=Source(settings.model, ""),
        broker=place.broker,
        results=place.results,
        root=root,
    )
    topics = [topic for topic in (name, changed.output, changed.dead_topic) if topic]
    taken = range(rows.num_rows)
    with (
        closing(brokers.connect(place.broker, root)) as broker,
        own_topics(broker, name, topics),
    ):
        _publish(broker, changed, taken, rows)
        with _kept(broker, plan, rows.num_rows) as is_kept:
            _work(settings.name, plan, ready, is_kept)
        if not place.to_topic:
            return outcome(place.results, root, changed.name, ready.model, taken)
        return _sent(broker, plan, ready.model, taken)


def _publish(
    broker: Broker, settings: StreamSettings, places: Sequence[int], rows: pa.RecordBatch
) -> None:
    with closing(broker.appender()) as appender:
        for number, row in zip(places, rows.to_pylist(), strict=True):
            data = {name: _spell(value) for name, value in row.items()} | {ROW: number}
            whole = {
                "specversion": "1.0",
                "id": str(number),
                "source": "/trivet/check",
                "type": "sample",
                "data": data,
            }
            value = data if settings.format == "json" else whole
            # NaN and infinity, which JSON has no word for, as most writers do.
            text = json.dumps(value, ensure_ascii=False).encode("utf-8", "replace")
            appender.append(settings.topic, str(number).encode(), text)
        if appender.flush(END_SECONDS):
            raise BrokerUnavailable(f"topic {settings.topic!r} takes no events")


def _spell(value: object) -> object:
    if isinstance(value, str | int | float | None):
        return value
    return value.isoformat()  # type: ignore[attr-defined]


def _work(stream: str, plan: Plan, ready: Ready, is_done: Callable[[], bool]) -> None:
    """Have a worker consume until everything is kept.

    Raises:
        ModelError: It does not get there, or does not end; the message names the stream.
    """
    worker = Worker(plan, in_use=lambda: ready)
    failure: list[Exception] = []
    # A daemon: one that hangs in a driver must not keep the command from its end.
    thread = threading.Thread(target=_run, args=(worker, failure), name="stream", daemon=True)
    thread.start()
    try:
        for _ in _looks(END_SECONDS):
            if not thread.is_alive() or is_done():
                break
        else:
            raise ModelError(
                f"[stream.{stream}]: the events were not scored within {END_SECONDS:.0f} s; look "
                "at its model and its broker with trivet consume"
            )
    finally:
        worker.stop()
        patience = plan.settings.stop_timeout.total_seconds() + STOP_SECONDS
        thread.join(patience)
    if thread.is_alive():
        raise ModelError(
            f"[stream.{stream}]: it did not end within {patience:.0f} s after it was told to "
            "stop: its model, the broker or the results hold it"
        )
    if failure:
        raise failure[0]


def _run(worker: Worker, failure: list[Exception]) -> None:
    try:
        worker.run()
    except Exception as error:  # noqa: BLE001 - it belongs to whoever waits
        failure.append(error)


def _looks(seconds: float) -> Iterator[None]:
    pause = threading.Event()
    for _ in range(round(seconds / _LOOK_SECONDS)):
        yield
        pause.wait(_LOOK_SECONDS)


@contextmanager
def _kept(broker: Broker, plan: Plan, events: int) -> Iterator[Callable[[], bool]]:
    """Give what tells whether all events are kept: the results know, or else the group."""
    settings = plan.settings

    def by_group() -> bool:
        try:
            lags = broker.lag(settings.topic, settings.member_group)
        except BrokerUnavailable:  # the group has only begun
            return False
        return sum(lag.committed or 0 for lag in lags) >= events

    if not settings.results:
        yield by_group
        return
    with open_results(plan.results, root=plan.root) as db:
        yield lambda: sum(offsets(db, settings.name, settings.topic).values()) >= events


def _sent(broker: Broker, plan: Plan, model: Model, taken: Sequence[int]) -> Outcome:
    """Return what the topics tell; of dead letters the results, if none are sent."""
    settings = plan.settings
    plain, problems = settings.format == "json", dict[int, Told]()
    if settings.dead_topic is None:
        problems = rejects(plan.results, plan.root, settings.name)
    for _ in _looks(SEEN_SECONDS):
        predictions = _events(broker, settings.output)
        if settings.dead_topic is not None:
            problems = dict(map(_told, _events(broker, settings.dead_topic)))
        if len(predictions) + len(problems) >= len(taken):
            break
    rows = [each if plain else each["data"] for each in predictions]
    found = {int(row[ROW]): row for row in rows}
    digests = {(each["trivet"] if plain else each)["modeldigest"] for each in predictions}
    answers = answers_of(model.outputs, [found.get(place) for place in taken])
    return Outcome(taken, answers, problems, frozenset(digests))


def _events(broker: Broker, topic: str) -> list[Any]:
    found: list[Any] = []
    for partition, (first, end) in broker.bounds(topic).items():
        at = first
        while at < end:
            part = broker.read(topic, partition, at, end - at)
            if not part.offsets:
                break  # what is left are marks of transactions
            found += map(msgspec.json.decode, (value or b"null" for value in part.values))
            at = part.offsets[-1] + 1
    return found


def _told(letter: Any) -> tuple[int, Told]:
    data = letter["data"]
    problems = ((each["field"], each["code"]) for each in data["problems"])
    return int(data["key"][ROW]), frozenset(problems)
