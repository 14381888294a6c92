"""Sample rows through the stream host: events of an embedded broker of the check's own."""

from __future__ import annotations

import dataclasses
import json
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from trivet import brokers
from trivet.check.batch import ROW, outcome, own_schema
from trivet.check.outcome import Outcome
from trivet.current import Ready, Source
from trivet.databases.dialects import of
from trivet.errors import ModelError
from trivet.hosts.stream.settings import StreamSettings
from trivet.hosts.stream.worker import Plan, Worker
from trivet.results.layout import open_results
from trivet.results.offsets import offsets

TOPIC = "sample"
PARTITIONS = 2
END_SECONDS = 120.0


class Place(NamedTuple):
    """Where the rows' predictions go.

    Attributes:
        name: What it is called in the table.
        results: Url of the results.
    """

    name: str
    results: str


@contextmanager
def places(results: str, root: Path) -> Iterator[list[Place]]:
    """Give the ways of a stream: into SQLite, and into its own kind of database."""
    with (
        tempfile.TemporaryDirectory(prefix="trivet-check-") as folder,
        own_schema(results, root) as own,
    ):
        found = [Place("events to sqlite", f"sqlite:///{folder}/results.db")]
        if of(results).name != "sqlite":
            found.append(Place(f"events to {of(results).name}", own))
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
        place: Where their predictions go.
        ready: The model.
        settings: The deployment.
        rows: The sample.
        root: The folder that relative paths start from.
        size: Events of a batch at most.

    Raises:
        ModelError: They were not all scored in time.
    """
    name = f"{settings.name[:30]}-{size}"
    changed = dataclasses.replace(
        settings,
        name=name,
        topic=TOPIC,
        key=(ROW,),
        keep=(),
        results=True,
        output="",
        dead_letters="none",
        group="",
        start="earliest",
        types=(),
        id_field="",
        time_field="",
        max_batch=size,
        workers=1,
        metrics_port=None,
    )
    taken = range(rows.num_rows)
    with tempfile.TemporaryDirectory(prefix="trivet-check-") as folder:
        url = f"sqlite:///{folder}/events.db"
        _publish(url, changed, taken, rows)
        plan = Plan(
            settings=changed,
            source=Source(settings.model, ""),
            broker=url,
            results=place.results,
            root=root,
        )
        worker = Worker(plan, in_use=lambda: ready)
        failure: list[Exception] = []
        thread = threading.Thread(target=_run, args=(worker, failure), name="stream")
        thread.start()
        try:
            _wait(place.results, root, name, rows.num_rows, thread)
        finally:
            worker.stop()
            thread.join()
        if failure:
            raise failure[0]
    return outcome(place.results, root, name, ready.model, taken)


def _publish(
    url: str, settings: StreamSettings, places: Sequence[int], rows: pa.RecordBatch
) -> None:
    with closing(brokers.connect(url)) as broker:
        broker.create(TOPIC, PARTITIONS)
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
                appender.append(TOPIC, str(number).encode(), text)
            appender.flush(END_SECONDS)


def _spell(value: object) -> object:
    if isinstance(value, str | int | float | None):
        return value
    return value.isoformat()  # type: ignore[attr-defined]


def _wait(results: str, root: Path, name: str, events: int, thread: threading.Thread) -> None:
    pause = threading.Event()
    with open_results(results, root=root) as db:
        for _ in range(round(END_SECONDS / 0.02)):
            if sum(offsets(db, name, TOPIC).values()) >= events or not thread.is_alive():
                return
            pause.wait(0.02)
    raise ModelError(f"{events} events were not scored within {END_SECONDS:.0f} s")


def _run(worker: Worker, failure: list[Exception]) -> None:
    try:
        worker.run()
    except Exception as error:  # noqa: BLE001 - it belongs to whoever waits
        failure.append(error)
