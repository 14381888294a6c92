"""One attempt at one interval: read, score, append, publish."""

from __future__ import annotations

import datetime as dt
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pyarrow as pa

from trivet.contract import Model
from trivet.databases import Connection, connect
from trivet.errors import (
    DatabaseError,
    EmptyInterval,
    QueryError,
    RunLost,
    RunStopped,
    SchemaError,
    TooManyRejects,
    TrivetError,
)
from trivet.hosts.batch import reading
from trivet.hosts.batch.lease import Lease
from trivet.hosts.batch.pipeline import pipelined
from trivet.hosts.batch.scoring import ChunkScorer, Profiles, References, Scored, added
from trivet.hosts.batch.settings import BatchSettings
from trivet.hosts.schedule import Interval
from trivet.results import layout, ledger, tables
from trivet.results.ledger import Attempt, Tally
from trivet.schema import Field, Schema, type_name

_STOP_POLL_SECONDS = 0.2

Batches = Generator[tuple[pa.RecordBatch, pa.RecordBatch], None, None]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is.

    Attributes:
        deployment: Its name.
        interval: What it covers.
        rows: Rows done.
        rejected: How many of them were rejected.
        expected: Rows to come in all, as the last published interval had; None if there is none.
    """

    deployment: str
    interval: Interval
    rows: int
    rejected: int
    expected: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """What a run needs of its process, passed in.

    Attributes:
        root: The project's folder: relative paths start here.
        results: Url of the results database.
        clock: Tells the time, in UTC.
        stop: Set when the process was asked to end.
        keep_for: How long the results keep an interval; older ones are not due again.
        progress: Told after each chunk.
    """

    root: Path
    results: str
    clock: Callable[[], dt.datetime]
    stop: threading.Event
    keep_for: dt.timedelta | None = None
    progress: Callable[[Progress], None] = lambda _: None

    def open_results(self) -> Connection:
        """Connect to the results database."""
        return layout.open_results(self.results, root=self.root)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One interval to score.

    Attributes:
        settings: The deployment.
        model: What scores it.
        references: Bins for the profiles.
        interval: What to score.
        owner: See `trivet.results.ledger.claim`.
        cause: ``manual``, ``schedule`` or ``backfill``.
        alone: Whether to refuse while another interval of the deployment runs.
        again: Whether to score an interval that is published already.
        expected: How many rows to expect, for the progress.
    """

    settings: BatchSettings
    model: Model
    references: References
    interval: Interval
    owner: str
    cause: str
    alone: bool = False
    again: bool = True
    expected: int | None = None

    @property
    def label(self) -> str:
        """The deployment and the interval, for messages."""
        return f"{self.settings.name} {self.settings.calendar.label(self.interval)}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """A published attempt."""

    attempt: Attempt
    tally: Tally


def attempt(task: Task, around: Surroundings) -> Outcome | None:
    """Run one attempt and publish it.

    Returns:
        None if the interval is published already and need not be scored again.

    Raises:
        IntervalBusy: Another process runs the interval; nothing was begun.
        TransientError: The connection was lost; worth another attempt.
        TrivetError: The attempt failed; the ledger has the reason.
    """
    with around.open_results() as db:
        claimed = ledger.claim(
            db,
            task.settings.name,
            (task.interval.start, task.interval.end),
            task.model,
            owner=task.owner,
            cause=task.cause,
            now=around.clock(),
            alone=task.alone,
            again=task.again,
        )
    if claimed is None:
        return None
    tally = Tally()
    began = time.perf_counter()
    try:
        with Lease(claimed, around.open_results) as lease:
            _Filling(task, around, claimed, tally, lease).run()
            _judge(task, tally)
            # Opened anew: one that lay idle through a long run may have been cut on the way.
            with around.open_results() as db:
                tally.seconds["total"] = time.perf_counter() - began
                ledger.publish(db, claimed, tally, around.clock())
    except BaseException as error:
        cut = around.stop.is_set() and isinstance(error, DatabaseError)  # by `_interrupted`
        reason = _stopped(task) if cut else error
        _abandon(claimed, tally, around, reason)
        if cut:
            raise reason from error
        raise
    return Outcome(claimed, tally)


@dataclass(slots=True)
class _Filling:
    """Everything between claiming an attempt and publishing it."""

    task: Task
    around: Surroundings
    claimed: Attempt
    tally: Tally
    lease: Lease

    def run(self) -> None:
        """Read, score and append every row, and the profiles of all."""
        settings = self.task.settings
        parameters = {
            "interval_start": self.task.interval.start,
            "interval_end": self.task.interval.end,
        }
        with (
            connect(settings.source, root=self.around.root) as source,
            _interrupted(source, self.around.stop),
            self._writer() as writer,
        ):
            with _placed(self.task):
                _check_columns(self.task, source.columns(settings.query, parameters))
            stream = source.stream(settings.query, parameters, self.task.model.inputs)
            with closing(_Timed(stream)) as timed:
                with _placed(self.task):
                    first = next(timed, None)
                if first is None:
                    return
                beside = _beside(self.task, first[0])
                columns = [
                    field.arrow for schema in (beside, self.task.model.outputs) for field in schema
                ]
                tables.prepare(writer, settings.name, pa.schema(columns))
                chunks = reading.chunks(_chain(first, timed), settings.key)
                scorer = ChunkScorer(
                    self.task.model, self.claimed, settings.key, beside, self.task.references
                )
                workers = settings.workers if self.task.model.parallel else 1
                with closing(pipelined(chunks, scorer, workers, source.cancel)) as scored:
                    try:
                        self._append_all(writer, scored)
                    finally:
                        self.tally.seconds["read"] = timed.seconds

    def _append_all(self, writer: Connection, scored: Iterable[Scored]) -> None:
        profiles: Profiles = {}
        seconds = self.tally.seconds
        seconds |= dict.fromkeys(("score", "write"), 0.0)
        for part in scored:
            self._go_on()
            began = time.perf_counter()
            tables.append(writer, self.claimed, part.predictions, part.rejects)
            seconds["write"] += time.perf_counter() - began
            seconds["score"] += part.seconds
            profiles = added(profiles, part.profiles)
            self._count(part)
        # On this connection and waited for: a crash of the server before it ends the attempt, and
        # one after it finds all its rows on disk.
        writer.execute(writer.dialect.strict)
        tables.append_profiles(writer, self.claimed, profiles)

    def _count(self, part: Scored) -> None:
        tally, task = self.tally, self.task
        tally.read += part.read
        tally.rejected += part.rejected
        tally.scored += part.predictions.num_rows
        self.around.progress(
            Progress(task.settings.name, task.interval, tally.read, tally.rejected, task.expected)
        )

    def _go_on(self) -> None:
        if self.around.stop.is_set():
            raise _stopped(self.task)
        if self.lease.lost:
            raise RunLost(f"{self.task.label}: the run was declared dead")

    @contextmanager
    def _writer(self) -> Iterator[Connection]:
        with self.around.open_results() as writer:
            # Nobody sees these rows before the interval is published. The attempt's last commit
            # here is waited for, and with it all before.
            writer.execute(writer.dialect.relaxed)
            yield writer


@contextmanager
def _placed(task: Task) -> Iterator[None]:
    """Say where a query stands that the database refuses."""
    try:
        yield
    except QueryError as error:
        raise QueryError(f"[batch.{task.settings.name}] query: {error}") from error


def _stopped(task: Task) -> RunStopped:
    return RunStopped(f"{task.label}: stopped; it will run again")


def _judge(task: Task, tally: Tally) -> None:
    """Refuse to publish what the settings forbid."""
    name = task.settings.name
    if not tally.read:
        if not task.settings.allow_empty:
            raise EmptyInterval(
                f"{task.label}: the query returned no row, and allow_empty = false; "
                "is the source up to date?"
            )
        tally.warning = "the query returned no row"
    elif tally.rejected > task.settings.max_rejects * tally.read:
        raise TooManyRejects(
            f"{task.label}: {tally.rejected} of {tally.read} rows were rejected "
            f"({tally.rejected / tally.read:.1%}), max_rejects is {task.settings.max_rejects:.1%}; "
            f"see: trivet rejects {name}"
        )


def _check_columns(task: Task, have: list[str]) -> None:
    where = f"[batch.{task.settings.name}] query"
    needed = {
        "the model reads": task.model.inputs.names,
        "key names": task.settings.key,
        "keep names": task.settings.keep,
    }
    for who, names in needed.items():
        lacking = [name for name in names if name not in have]
        if lacking:
            raise SchemaError(
                f"{where}: it has no column {', '.join(lacking)}, which {who}; "
                f"it has {', '.join(have)}"
            )
    twice = sorted({name for name in have if have.count(name) > 1})
    if twice:
        raise SchemaError(
            f"{where}: it has two columns {', '.join(twice)}; name them apart with AS"
        )


def _beside(task: Task, first: pa.RecordBatch) -> Schema:
    """Return the types in which key and kept columns are stored, as a first batch shows them."""
    where, key = f"[batch.{task.settings.name}]", task.settings.key
    plain = tables.plain_columns(first.select(list(key + task.settings.keep)).schema)
    fields = [Field(name=f.name, type=str(type_name(f.type)), nullable=True) for f in plain]
    floats = [f.name for f in fields if f.name in key and f.type.startswith("float")]
    if floats:
        raise SchemaError(
            f"{where} key: {', '.join(floats)} is a floating-point column, in which two keys can "
            "become one; cast it to an integer or to text in the query"
        )
    clash = sorted({f.name for f in fields} & set(task.model.outputs.names))
    if clash:
        raise SchemaError(
            f"{where}: {', '.join(clash)} is a key or kept column and an output of the model; "
            "rename it in the query with AS"
        )
    return Schema(fields)


def _chain(first: tuple[pa.RecordBatch, pa.RecordBatch], rest: _Timed) -> Batches:
    yield first
    yield from rest


class _Timed:
    """Batches, and how long they took to come."""

    def __init__(self, batches: Batches) -> None:
        self._batches = batches
        self.seconds = 0.0

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[pa.RecordBatch, pa.RecordBatch]:
        began = time.perf_counter()
        try:
            return next(self._batches)
        finally:
            self.seconds += time.perf_counter() - began

    def close(self) -> None:
        self._batches.close()


@contextmanager
def _interrupted(source: Connection, stop: threading.Event) -> Iterator[None]:
    """Make a slow query give up when the process is to end."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_STOP_POLL_SECONDS):
            if stop.is_set():
                source.cancel()
                return

    watcher = threading.Thread(target=watch, name="stop", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _abandon(claimed: Attempt, tally: Tally, around: Surroundings, error: BaseException) -> None:
    """Write down why an attempt ended; if even that fails, its lease will run out."""
    if isinstance(error, RunLost):
        return
    stopped = isinstance(error, RunStopped | KeyboardInterrupt | SystemExit)
    state = "stopped" if stopped else "failed"
    text = str(error) or type(error).__name__
    # On a connection of its own: the attempt's may be the one that was lost.
    with suppress(TrivetError), around.open_results() as db:
        ledger.abandon(db, claimed, state, tally, around.clock(), text)
