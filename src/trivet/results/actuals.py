"""True values: pulled from where they arrive, kept by key, joined to the predictions later."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from trivet.databases import Connection, connect
from trivet.databases.values import from_text
from trivet.errors import QueryError, ResultsError
from trivet.results.actuals_settings import ActualsSettings
from trivet.results.keys import key_sql, key_texts
from trivet.results.statements import identifier, named, with_moments, with_names
from trivet.results.tables import columns_of, table_of
from trivet.schema import Field, Schema

ANY_INTERVAL = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
"""The interval of a true value that belongs to its key in whatever interval."""

_ACTUALS = pa.schema(
    [
        pa.field("deployment", pa.string()),
        pa.field("row_key", pa.string()),
        pa.field("interval_start", pa.timestamp("us", "UTC")),
        pa.field("number", pa.float64()),
        pa.field("label", pa.string()),
        pa.field("pulled_at", pa.timestamp("us", "UTC")),
    ]
)

Bounds = tuple[dt.datetime, dt.datetime]


@dataclass(frozen=True, slots=True)
class Registered:
    """What the results know of a deployment.

    Attributes:
        name: The deployment.
        kind: ``batch``, ``service`` or ``stream``.
        key: Its key columns.
        keep: Its kept columns.
        outputs: Name and type of the model's outputs.
    """

    name: str
    kind: str
    key: tuple[str, ...]
    keep: tuple[str, ...]
    outputs: dict[str, str]


class Pulled(NamedTuple):
    """What a pull came to: rows that the query gave, and those without a key or a value."""

    rows: int
    unusable: int


def registered(db: Connection, deployment: str) -> Registered:
    """Return what a host has registered of a deployment.

    Raises:
        ResultsError: It was never run.
    """
    found = db.rows(named("registered", db.dialect.name), deployment=deployment).to_pylist()
    if not found:
        raise ResultsError(
            f"the results know no deployment {deployment!r} yet; run it once, then pull"
        )
    row = found[0]
    outputs = json.loads(row["manifest"]).get("outputs", [])
    return Registered(
        row["name"],
        row["kind"],
        tuple(json.loads(row["key_columns"])),
        tuple(json.loads(row["keep_columns"])),
        {each["name"]: each["type"] for each in outputs},
    )


def pull(
    db: Connection,
    settings: ActualsSettings,
    bounds: Bounds,
    *,
    root: Path,
    now: dt.datetime,
) -> Pulled:
    """Read true values and keep them; what is there already is replaced.

    Memory stays flat. Killed half-way, the same pull does the rest.

    Args:
        db: The results database.
        settings: What to read.
        bounds: The interval, or the span since the last pull.
        root: The folder that relative paths start from.
        now: The moment to write down.

    Raises:
        QueryError: The database refuses the query, or it lacks a column.
        ResultsError: The deployment is unknown, or a column's type does not fit.
    """
    known = registered(db, settings.of)
    interval = bounds[0] if settings.by_interval and known.kind == "batch" else ANY_INTERVAL
    parameters = (
        {"interval_start": bounds[0], "interval_end": bounds[1]}
        if settings.by_interval
        else {"since": bounds[0]}
    )
    where = f"[actuals.{settings.name}]"
    key = settings.key or known.key
    if not key or len(key) != len(known.key):
        raise ResultsError(
            f"{where} key: {len(key)} columns, the key of {known.name} has {len(known.key)} "
            f"({', '.join(known.key)}); name one for each"
        )
    db.execute(named("stage_actuals", db.dialect.name))
    rows = unusable = 0
    fields = [] if _is_class(settings, known) else [
        Field(name=settings.value, type="float64", nullable=True)
    ]  # fmt: skip
    try:
        with connect(settings.source, root=root) as source:
            have = source.columns(settings.query, parameters)
            lacking = [name for name in (*key, settings.value) if name not in have]
            if lacking:
                raise QueryError(f"it has no column {', '.join(lacking)}; it has {', '.join(have)}")
            for batch, _ in source.stream(settings.query, parameters, Schema(fields)):
                rows += batch.num_rows
                truths = _truths(batch, settings, key, interval, now)
                unusable += batch.num_rows - truths.num_rows
                _store(db, _last_of_each_key(truths))
    except (QueryError, ResultsError) as error:
        raise type(error)(f"{where} query: {error}") from error
    _done(db, known, interval, bounds, now, Pulled(rows, unusable))
    return Pulled(rows, unusable)


def pulls(db: Connection, deployment: str) -> list[dict[str, Any]]:
    """Return what was pulled for a deployment, the newest first."""
    table = db.rows(named("pulls", db.dialect.name), deployment=deployment)
    table = with_moments(table, "interval_start", "interval_end", "pulled_at")
    found: list[dict[str, Any]] = table.to_pylist()
    return found


def actuals(db: Connection, deployment: str, interval_start: dt.datetime) -> pa.Table:
    """Return the true values of an interval: ``row_key``, ``number`` and ``label``.

    Those that belong to a key in whatever interval have `ANY_INTERVAL`.
    """
    return db.rows(
        named("actuals", db.dialect.name), deployment=deployment, interval_start=interval_start
    )


def _is_class(settings: ActualsSettings, known: Registered) -> bool:
    if settings.positive or "label" in known.outputs:
        return not settings.output or not _is_number(known.outputs.get(settings.output, ""))
    return any(name.startswith("probability_") for name in known.outputs)


def _is_number(kind: str) -> bool:
    return kind.startswith(("int", "float"))


def _truths(
    batch: pa.RecordBatch,
    settings: ActualsSettings,
    key: Sequence[str],
    interval: dt.datetime,
    now: dt.datetime,
) -> pa.RecordBatch:
    """Return the rows that have a key and a value, as they are kept."""
    texts = key_texts(batch, key)
    value = batch.column(settings.value)
    number, label = _values(value, settings.value)
    n = batch.num_rows
    whole = pa.RecordBatch.from_arrays(
        [
            pa.repeat(settings.of, n),
            texts,
            pa.repeat(pa.scalar(interval, _ACTUALS.field("interval_start").type), n),
            number,
            label,
            pa.repeat(pa.scalar(now, _ACTUALS.field("pulled_at").type), n),
        ],
        schema=_ACTUALS,
    )
    told = pc.or_(number.is_valid(), label.is_valid())
    return whole.filter(pc.and_(texts.is_valid(), told))


def _last_of_each_key(truths: pa.RecordBatch) -> pa.RecordBatch:
    table = pa.table({"row_key": truths.column("row_key"), "place": range(truths.num_rows)})
    last = table.group_by("row_key", use_threads=False).aggregate([("place", "max")])
    return truths.take(last["place_max"].combine_chunks())


def _values(value: pa.Array, name: str) -> tuple[pa.Array, pa.Array]:
    """Return values as numbers and as classes."""
    kind = value.type
    n = len(value)
    if pa.types.is_dictionary(kind):
        value, kind = value.dictionary_decode(), kind.value_type
    if pa.types.is_boolean(kind):
        return value.cast(pa.int8()).cast(pa.float64()), value.cast(pa.string())
    if pa.types.is_integer(kind):
        return pc.cast(value, pa.float64(), safe=False), value.cast(pa.string())
    if pa.types.is_floating(kind) or pa.types.is_decimal(kind):
        numbers = pc.cast(value, pa.float64(), safe=False)
        numbers = pc.if_else(pc.is_finite(numbers), numbers, None)
        return numbers, _whole(numbers)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.nulls(n, pa.float64()), value.cast(pa.string())
    if pa.types.is_null(kind):
        return pa.nulls(n, pa.float64()), pa.nulls(n, pa.string())
    raise ResultsError(f"column {name!r} is {kind}, which is no true value; cast it in the query")


def _whole(numbers: pa.Array) -> pa.Array:
    """Return numbers that are whole as the name of a class; a column with any other has none."""
    is_whole = pc.equal(pc.floor(numbers), numbers).fill_null(True)
    small = pc.less(pc.abs(numbers), 2.0**53).fill_null(True)
    if not pc.all(pc.and_(is_whole, small)).as_py():
        return pa.nulls(len(numbers), pa.string())
    return numbers.cast(pa.int64()).cast(pa.string())


def _store(db: Connection, truths: pa.RecordBatch) -> None:
    """Replace values by those of a batch, in short transactions."""
    dialect = db.dialect
    step = dialect.turn_rows or max(truths.num_rows, 1)
    for start in range(0, truths.num_rows, step):
        with db.turn():
            db.append("staging_actuals", truths.slice(start, step), temporary=True)
            db.execute(named("replace_actuals", dialect.name))
            db.execute(named("unstage_actuals", dialect.name))


def _done(
    db: Connection,
    known: Registered,
    interval: dt.datetime,
    bounds: Bounds,
    now: dt.datetime,
    pulled: Pulled,
) -> None:
    """Write down that the pull is complete, and what has to be measured again."""
    dialect = db.dialect.name
    table = table_of(known.name)
    columns = columns_of(db, table)
    if pulled.rows and dialect == "postgresql":
        db.execute(named("analyze_actuals", dialect))
    with db.transaction():
        db.execute(
            named("add_pull", dialect),
            deployment=known.name,
            interval_start=bounds[0],
            interval_end=bounds[1],
            pulled_at=now,
            row_count=pulled.rows,
            unusable_count=pulled.unusable,
        )
        if interval != ANY_INTERVAL:
            db.execute(
                named("forget_measured_interval", dialect),
                deployment=known.name,
                interval_start=interval,
            )
        elif columns:
            statement = {"batch": "forget_measured_attempts"}.get(
                known.kind, "forget_measured_hours"
            )
            sql = with_names(
                statement,
                dialect,
                table=identifier(table),
                key=key_sql(columns, known.key, dialect),
                hour=named("hour_of", dialect),
            )
            db.execute(sql, deployment=known.name, interval_start=interval, pulled_at=now)


def spans(
    db: Connection, settings: ActualsSettings, now: dt.datetime, *, again: bool = False
) -> list[Bounds]:
    """Return what is to be pulled: intervals that have true values by now, or all that is newer.

    Args:
        db: The results database.
        settings: What is pulled.
        now: The present moment.
        again: Also what was pulled already.
    """
    done = pulls(db, settings.of)
    if not settings.by_interval:
        last = max((each["pulled_at"] for each in done), default=None)
        since = ANY_INTERVAL if last is None or again else last - settings.overlap
        return [(since, now)]
    known = registered(db, settings.of)
    every = _intervals(db, known, now - settings.delay)
    skip = set() if again else {each["interval_start"] for each in done}
    late = {start for start, _ in every[len(every) - settings.lookback - 1 :]}
    if not settings.lookback:
        late = set()
    return [bounds for bounds in every if bounds[0] not in skip or bounds[0] in late]


def _intervals(db: Connection, known: Registered, before: dt.datetime) -> list[Bounds]:
    """Return the published intervals that ended by then; of rows, the days that have any."""
    dialect = db.dialect.name
    if known.kind == "batch":
        table = db.rows(named("published", dialect), deployment=known.name)
        starts, ends = (
            from_text(table[name]).to_pylist() for name in ("interval_start", "interval_end")
        )
        return [each for each in zip(starts, ends, strict=True) if each[1] <= before]
    table = db.rows(named("measured_hours", dialect), deployment=known.name)
    hours: Iterable[dt.datetime] = from_text(table["period_start"]).to_pylist()
    days = sorted({hour.replace(hour=0) for hour in hours})
    return [
        (day, day + dt.timedelta(days=1)) for day in days if day + dt.timedelta(days=1) <= before
    ]
