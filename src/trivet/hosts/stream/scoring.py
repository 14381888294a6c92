"""A batch of events scored: what there is to keep, to send and to reject."""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import pyarrow as pa

from trivet import scoring
from trivet.contract import Model
from trivet.current import Ready
from trivet.errors import TrivetError
from trivet.hosts.stream.intake import Batch
from trivet.hosts.stream.metrics import Metrics
from trivet.hosts.stream.reading import EventReader, Events, Raw
from trivet.hosts.stream.settings import StreamSettings
from trivet.records import text_of
from trivet.results.rows import without_nul
from trivet.schema import TYPES, Schema
from trivet.scoring import MAX_MODEL_ERRORS
from trivet.validation import Rows

log = logging.getLogger("trivet.stream")

Clock = Callable[[], dt.datetime]


@dataclass(frozen=True, slots=True)
class Problem:
    """Why an event has no prediction."""

    field: str
    code: str
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Rejected:
    """One event that has no prediction.

    Attributes:
        raw: The event as it came.
        id: Its id.
        source: Where it came from.
        key: Its key columns, as JSON.
        problems: Why.
    """

    raw: Raw
    id: str
    source: str
    key: str
    problems: Sequence[Problem]


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """What became of a batch.

    Attributes:
        batch: The batch.
        ready: The model that scored it.
        at: When.
        seconds: How long the call of the model took.
        inputs: What the model saw of each event with a prediction.
        predictions: Columns ``source``, ``id``, ``scored_at`` and ``event_at``, those carried
            beside, and the model's outputs; a row an event.
        keys: Each row's key in the topic.
        rejected: The events without a prediction.
        skipped: Events that were not asked for.
    """

    batch: Batch
    ready: Ready
    at: dt.datetime
    seconds: float
    inputs: pa.RecordBatch
    predictions: pa.RecordBatch
    keys: Callable[[], Sequence[bytes | None]]
    rejected: Sequence[Rejected]
    skipped: int


class Scorer:
    """Scores batches with the model in use, and follows it from one version to the next.

    Args:
        settings: The deployment.
        in_use: Gives the model in use.
        metrics: Counts what becomes of new versions.
        clock: Tells the time.

    Raises:
        ModelError: There is no model to begin with.
    """

    def __init__(
        self,
        settings: StreamSettings,
        in_use: Callable[[], Ready],
        metrics: Metrics,
        clock: Clock = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self._settings = settings
        self._in_use = in_use
        self._metrics = metrics
        self._clock = clock
        self._every = settings.reload_every.total_seconds()
        self._watch = settings.reload == "watch"
        self._asked = threading.Event()
        self._next_look = 0.0
        self._told = ""
        self._use(in_use())

    @property
    def ready(self) -> Ready:
        """The model that scores the next batch, if no newer one is found."""
        return self._ready

    def look(self) -> None:
        """Look for a new version before the next batch; from a signal handler, say."""
        self._asked.set()

    def score(self, batch: Batch) -> Scored:
        """Score a batch.

        Raises:
            PredictionError: The model raises on half of the events, or returns something else than
                its outputs: the model, not the events, is to blame.
        """
        self._follow()
        ready, reader = self._ready, self._reader
        events = reader.read(batch)
        most = max(MAX_MODEL_ERRORS, events.count // 2)
        began = time.perf_counter()
        scored = scoring.score(ready.model, events.decoded, most)
        seconds = time.perf_counter() - began
        at = self._clock()
        return Scored(
            batch,
            ready,
            at,
            seconds,
            scored.inputs,
            self._columns(events, scored, at),
            lambda: events.keys(None if scored.rows is None else scored.rows.tolist()),
            self._rejected(events, scored) if scored.problems.num_rows else (),
            events.skipped,
        )

    def _follow(self) -> None:
        """Take the version that is now current; one that cannot be used is told, once a look."""
        now = time.monotonic()
        if not self._asked.is_set() and (not self._watch or now < self._next_look):
            return
        self._asked.clear()
        self._next_look = now + self._every
        try:
            found = self._in_use()
            if found is not self._ready:
                self._use(found)
                log.info(
                    "%s: model %s %s is in use from the next batch on",
                    self._settings.name,
                    found.model.name,
                    found.model.version,
                )
        except Exception as error:  # noqa: BLE001 - loading runs foreign code; the old one goes on
            kind = "" if isinstance(error, TrivetError) else f"{type(error).__name__}: "
            told = f"{kind}{error}"
            if told != self._told:
                self._told = told
                self._metrics.load("refused")
                model = self._ready.model
                log.error(  # noqa: TRY400 - a user's mistake, told without a trace
                    "%s: the new version of the model is refused, %s %s goes on: %s",
                    self._settings.name,
                    model.name,
                    model.version,
                    told,
                )

    def _use(self, ready: Ready) -> None:
        self._reader = EventReader(self._settings, ready.model.inputs)
        self._carried = carried(self._settings, ready.model)
        self._ready = ready
        self._told = ""
        self._next_look = time.monotonic() + self._every
        self._metrics.load("loaded")
        self._metrics.model(ready.model)

    def _columns(self, events: Events, scored: scoring.Scored, at: dt.datetime) -> pa.RecordBatch:
        """Put what is kept of each scored event side by side."""
        rows = scored.rows
        count = scored.predictions.num_rows
        times = events.times
        columns = {
            "source": _texts(_taken(events.sources, rows)),
            "id": _texts(_taken(events.ids, rows)),
            "scored_at": pa.repeat(pa.scalar(at, TYPES["timestamp"]), count),
            "event_at": times if rows is None else times.take(pa.array(rows)),
        }
        inputs = scored.inputs
        for field, beside in zip(self._carried, events.beside, strict=True):
            if field.name in inputs.schema.names:
                columns[field.name] = without_nul(inputs.column(field.name))
            else:
                columns[field.name] = text_column(_taken(beside, rows))
        for name, column in zip(
            scored.predictions.schema.names, scored.predictions.columns, strict=True
        ):
            columns[name] = without_nul(column)
        return pa.RecordBatch.from_pydict(columns)

    def _rejected(self, events: Events, scored: scoring.Scored) -> list[Rejected]:
        told: dict[int, list[Problem]] = {}
        for found in scored.problems.to_pylist():
            problem = Problem(found["field"], found["code"], found["reason"])
            told.setdefault(found["row"], []).append(problem)
        names = self._settings.key
        rejected = []
        for row, problems in sorted(told.items()):
            values = [text_of(column[row]) for column in events.beside[: len(names)]]
            key = msgspec.json.encode(dict(zip(names, values, strict=True))).decode()
            raw = events.raw(self._settings.topic, row)
            rejected.append(Rejected(raw, events.ids[row], events.sources[row], key, problems))
        return rejected


def carried(settings: StreamSettings, model: Model) -> pa.Schema:
    """Return the columns carried beside the inputs: as the model's input, if it is one, or text."""
    types = {field.name: TYPES[field.type] for field in model.inputs}
    names = (*settings.key, *settings.keep)
    return pa.schema([pa.field(name, types.get(name, pa.string())) for name in names])


def kept_columns(settings: StreamSettings, model: Model) -> pa.Schema:
    """Return the columns of a deployment's rows beside the fixed ones."""
    outputs: Schema = model.outputs
    return pa.schema([*carried(settings, model), *outputs.arrow])


def _taken(values: Sequence[Any], rows: Rows | None) -> Sequence[Any]:
    return values if rows is None else [values[row] for row in rows.tolist()]


def _texts(values: Sequence[str]) -> pa.Array:
    try:
        return without_nul(pa.array(values, pa.string()))
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can escape
        return pa.array([text_of(value) for value in values], pa.string())


def text_column(values: Sequence[Any]) -> pa.Array:
    """Return values carried beside the inputs as the texts that they are kept as."""
    try:
        column = pa.array(values)
    except (pa.ArrowException, UnicodeEncodeError, OverflowError):
        column = None
    # The others have texts of their own; these two are the rule, and cheap together.
    if column is not None and pa.types.is_int64(column.type):
        return column.cast(pa.string())
    if column is not None and pa.types.is_string(column.type):
        return without_nul(column)
    return pa.array([text_of(value) for value in values], pa.string())
