"""The outbox: decisions and intended deliveries, in the results database.

A delivery is written down before it is sent. Who sends it holds a lease on it; one whose process
is gone (on this host) or whose lease has run out is taken up by the next process. It may have been
sent already then: its id, the same each time, tells the receiver.
"""

from __future__ import annotations

import datetime as dt
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
import pyarrow as pa

from trivet import owners
from trivet.actions.selection import Assigned
from trivet.actions.settings import ActionSettings
from trivet.databases import Connection
from trivet.databases.values import from_text
from trivet.hosts.schedule import Interval
from trivet.results.statements import named

LEASE_SECONDS = 120.0
"""How long a delivery is its sender's after the sender's last sign of life; longer than any try."""

Moment = dt.datetime

_FIRST, _LAST = Moment(1, 1, 2, tzinfo=dt.UTC), Moment(9999, 12, 30, tzinfo=dt.UTC)
_ANY = 1e15


@dataclass(frozen=True, slots=True)
class Undecided:
    """A published interval that the action has not looked at.

    Attributes:
        interval: The interval.
        cause: Why its predictions were made: ``manual``, ``schedule`` or ``backfill``.
    """

    interval: Interval
    cause: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """A delivery that this process has taken up."""

    id: str
    key: str
    interval: Interval
    tries: int
    selected: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Decided:
    """One decision as the history has it; once `pruned`, without its people."""

    interval_start: Moment
    interval_end: Moment
    attempt: int
    cause: str
    decided_at: Moment
    approved_at: Moment | None
    treated: int
    control: int
    over_limit: int
    cooldown: int
    suppressed: int
    pruned: bool
    deliveries: Mapping[str, int] = field(default_factory=dict)
    reasons: Mapping[str, int] = field(default_factory=dict)


def register(db: Connection, settings: ActionSettings, now: Moment) -> None:
    """Insert or refresh an action."""
    db.execute(
        named("register_action", db.dialect.name),
        name=settings.name,
        deployment=settings.after,
        channel=settings.target.channel,
        key_columns=json.dumps(settings.key),
        max_treated=settings.limit or 0,
        cooldown_seconds=settings.cooldown.total_seconds(),
        control=float(settings.control),
        registered_at=now,
    )


def undecided(db: Connection, settings: ActionSettings, since: Moment = _FIRST) -> list[Undecided]:
    """Return published intervals that ended after a moment and were not looked at."""
    rows = db.rows(
        named("undecided", db.dialect.name),
        action=settings.name,
        deployment=settings.after,
        since=since,
    )
    bounds = zip(moments(rows["interval_start"]), moments(rows["interval_end"]), strict=True)
    intervals = [Interval(*pair) for pair in bounds]
    return [Undecided(*pair) for pair in zip(intervals, rows["cause"].to_pylist(), strict=True)]


def published_attempt(db: Connection, deployment: str, interval: Interval) -> int | None:
    """Return the attempt that counts for an interval, or None if it is not published."""
    found = db.rows(
        named("published_attempt", db.dialect.name),
        deployment=deployment,
        interval_start=interval.start,
    )
    return int(found["attempt"][0].as_py()) if found.num_rows else None


def newest_published(db: Connection, deployment: str) -> Interval | None:
    """Return the newest interval of a deployment that is published, or None."""
    rows = db.rows(named("newest_published", db.dialect.name), deployment=deployment, limit=1)
    if not rows.num_rows:
        return None
    return Interval(moments(rows["interval_start"])[0], moments(rows["interval_end"])[0])


def is_decided(db: Connection, action: str, interval: Interval) -> bool:
    """Say whether an action has looked at an interval."""
    statement = named("decided", db.dialect.name)
    return bool(db.rows(statement, action=action, interval_start=interval.start).num_rows)


def cooling(
    db: Connection, settings: ActionSettings, interval: Interval, now: Moment
) -> frozenset[str]:
    """Return the keys chosen less than ``cooldown`` ago, by the clock or by interval."""
    if not settings.cooldown:
        return frozenset()
    rows = db.rows(
        named("cooling", db.dialect.name),
        action=settings.name,
        interval_start=interval.start,
        since=now - settings.cooldown,
        interval_since=interval.start - settings.cooldown,
        interval_until=interval.start + settings.cooldown,
    )
    return frozenset(rows["row_key"].to_pylist())


def lock(db: Connection, action: str) -> None:
    """Within a transaction, keep other decisions of the action waiting."""
    db.rows(named("lock_action", db.dialect.name), action=action)


def decide(
    db: Connection,
    settings: ActionSettings,
    interval: Interval,
    attempt: int,
    assigned: Sequence[Assigned],
    *,
    rows: Sequence[Mapping[str, Any]],
    ids: Mapping[str, str],
    cause: str,
    now: Moment,
) -> None:
    """Within a transaction that holds the lock, write a decision and its intended deliveries.

    Args:
        db: The results database.
        settings: The action.
        interval: What it acts on.
        attempt: Whose predictions were looked at.
        assigned: Everybody's group.
        rows: The rows of the select, by place.
        ids: The idempotency key of each key that is treated.
        cause: ``manual`` or ``schedule``.
        now: The moment to write down.
    """
    db.execute(
        named("decide", db.dialect.name),
        action=settings.name,
        interval_start=interval.start,
        interval_end=interval.end,
        attempt=attempt,
        cause=cause,
        decided_at=now,
    )
    db.append("trivet_assignments", _assignments(settings.name, interval, assigned, rows))
    treated = [each for each in assigned if each.group == "treated"]
    n = len(treated)
    deliveries = {
        "id": pa.array([ids[each.key] for each in treated], pa.string()),
        "action": pa.array([settings.name] * n, pa.string()),
        "interval_start": pa.array([interval.start] * n, pa.timestamp("us", "UTC")),
        "row_key": pa.array([each.key for each in treated], pa.string()),
        "place": pa.array([each.place for each in treated], pa.int64()),
        "state": pa.array(["proposed" if settings.review else "pending"] * n, pa.string()),
        "created_at": pa.array([now] * n, pa.timestamp("us", "UTC")),
        "changed_at": pa.array([now] * n, pa.timestamp("us", "UTC")),
    }
    db.append("trivet_deliveries", pa.record_batch(deliveries))


def recover(db: Connection, action: str) -> int:
    """Give back the deliveries of senders that are gone; return how many there were."""
    dialect, clock, found = db.dialect.name, _clock(db), 0
    for row in db.rows(named("senders", dialect), action=action).to_pylist():
        before = clock if owners.is_alive(row["owner"]) else _ANY
        if row["lease_until"] < before:
            found += release(db, action, row["owner"], before=before)
    return found


def claim(db: Connection, action: str, owner: str, limit: int) -> list[Claimed]:
    """Take up deliveries that are due, the oldest and best first."""
    dialect, clock = db.dialect.name, _clock(db)
    rows = db.rows(
        named("claim_deliveries", dialect),
        action=action,
        owner=owner,
        clock=clock,
        lease_until=clock + LEASE_SECONDS,
        limit=limit,
    )
    if not rows.num_rows:
        return []
    known = db.rows(named("selected_rows", dialect), action=action, owner=owner).to_pylist()
    ends = dict(zip((row["id"] for row in known), _moments_of(known, "interval_end"), strict=True))
    selected = {row["id"]: msgspec.json.decode(row["selected"]) for row in known}
    found = rows.to_pylist()
    starts = _moments_of(found, "interval_start")
    order = sorted(zip(starts, found, strict=True), key=lambda pair: (pair[0], pair[1]["place"]))
    return [
        Claimed(
            row["id"],
            row["row_key"],
            Interval(start, ends[row["id"]]),
            row["tries"],
            selected[row["id"]],
        )
        for start, row in order
    ]


def holds(db: Connection, delivery: str, owner: str) -> bool:
    """Say whether a delivery is still this owner's to send."""
    return bool(
        db.rows(named("holds_delivery", db.dialect.name), id=delivery, owner=owner).num_rows
    )


def prolong(db: Connection, action: str, owner: str) -> None:
    """Give a sign of life for all that an owner has taken up."""
    until = _clock(db) + LEASE_SECONDS
    db.execute(
        named("prolong_deliveries", db.dialect.name), action=action, owner=owner, lease_until=until
    )


def release(
    db: Connection, action: str, owner: str, *, after: float = 0.0, before: float = _ANY
) -> int:
    """Give back what an owner took up and has not ended, to be taken up after some seconds."""
    gone: int = db.rows(
        named("release_deliveries", db.dialect.name),
        action=action,
        owner=owner,
        due_at=_clock(db) + after if after else 0.0,
        before=before,
    ).num_rows
    return gone


def end(
    db: Connection,
    deliveries: Iterable[str],
    owner: str,
    state: str,
    now: Moment,
    *,
    reason: str = "",
    after: float = 0.0,
) -> int:
    """Write down how tries ended; return how many of the deliveries were still this owner's."""
    due = _clock(db) + after if after else 0.0
    return sum(
        db.rows(
            named("end_delivery", db.dialect.name),
            id=delivery,
            owner=owner,
            state=state,
            reason=reason,
            due_at=due,
            changed_at=now,
        ).num_rows
        for delivery in deliveries
    )


def seconds_until_next(db: Connection, action: str) -> float | None:
    """Return how long it is until the next delivery is due, or None if none waits."""
    due = db.rows(named("next_delivery", db.dialect.name), action=action)["due_at"][0].as_py()
    return None if due is None else max(0.0, due - _clock(db))


def approve(db: Connection, action: str, interval: Interval | None, now: Moment) -> int:
    """Let proposed deliveries go, of one interval or of all; return how many there were."""
    bounds = {
        "since": interval.start if interval else _FIRST,
        "until": interval.end if interval else _LAST,
    }
    dialect = db.dialect.name
    with db.transaction():
        db.execute(named("approve_runs", dialect), action=action, approved_at=now, **bounds)
        gone: int = db.rows(
            named("approve_deliveries", dialect), action=action, changed_at=now, **bounds
        ).num_rows
    return gone


def history(db: Connection, action: str, limit: int) -> list[Decided]:
    """Return the newest decisions, the newest first."""
    dialect = db.dialect.name
    table = db.rows(named("action_history", dialect), action=action, limit=limit)
    for name in ("interval_start", "interval_end", "decided_at", "approved_at"):
        table = table.set_column(table.schema.get_field_index(name), name, from_text(table[name]))
    rows = table.to_pylist()
    if not rows:
        return []
    states = db.rows(
        named("delivery_states", dialect), action=action, since=rows[-1]["interval_start"]
    ).to_pylist()
    found: dict[Moment, tuple[Counter[str], Counter[str]]] = {}
    for start, row in zip(_moments_of(states, "interval_start"), states, strict=True):
        by_state, by_reason = found.setdefault(start, (Counter(), Counter()))
        by_state[row["state"]] += row["n"]
        if row["reason"]:
            by_reason[row["reason"]] += row["n"]
    empty: tuple[Counter[str], Counter[str]] = (Counter(), Counter())
    return [
        Decided(
            **row | {"pruned": bool(row["pruned"])},
            deliveries=dict(found.get(row["interval_start"], empty)[0]),
            reasons=dict(found.get(row["interval_start"], empty)[1]),
        )
        for row in rows
    ]


def _assignments(
    action: str,
    interval: Interval,
    assigned: Sequence[Assigned],
    rows: Sequence[Mapping[str, Any]],
) -> pa.RecordBatch:
    n = len(assigned)
    selected = [msgspec.json.encode(rows[each.place]).decode() for each in assigned]
    return pa.record_batch(
        {
            "action": pa.array([action] * n, pa.string()),
            "interval_start": pa.array([interval.start] * n, pa.timestamp("us", "UTC")),
            "row_key": pa.array([each.key for each in assigned], pa.string()),
            "place": pa.array([each.place for each in assigned], pa.int64()),
            "assignment": pa.array([each.group for each in assigned], pa.string()),
            "selected": pa.array(selected, pa.string()),
        }
    )


def _clock(db: Connection) -> float:
    return float(db.rows(named("clock", db.dialect.name))["now"][0].as_py())


def _moments_of(rows: Sequence[Mapping[str, Any]], name: str) -> list[Moment]:
    return moments(pa.chunked_array([pa.array([row[name] for row in rows])])) if rows else []


def moments(column: pa.ChunkedArray) -> list[Moment]:
    """Return a column of moments as UTC, whatever the database keeps them as."""
    found: list[Moment] = from_text(column).to_pylist()
    return [moment.astimezone(dt.UTC) for moment in found]
