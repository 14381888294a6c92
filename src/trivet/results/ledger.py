"""The runs ledger: who runs which interval, how it ended, and which attempt counts.

An attempt holds a lease that its process prolongs. One whose process is gone (on this host) or
whose lease has run out is declared killed by whoever wants its interval next; should it still be
alive, it finds that out at its next write and publishes nothing.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import pyarrow as pa

from trivet import owners
from trivet.databases import Connection
from trivet.databases.values import from_text
from trivet.errors import IntervalBusy, RunLost
from trivet.results.statements import named

LEASE_SECONDS = 60.0
"""How long an attempt counts as alive after its last sign of life, seen from another host."""

Moment = dt.datetime


@dataclass(frozen=True, slots=True)
class Deployment:
    """What a host registers of a deployment, for those who read only the results."""

    name: str
    kind: str
    model: str
    view: str
    key: tuple[str, ...]
    keep: tuple[str, ...]
    manifest: Mapping[str, Any]
    schedule: str = ""
    timezone: str = ""
    start: Moment | None = None
    delay: dt.timedelta = dt.timedelta()


class Lineage(Protocol):
    """What is written down of the model that scores; every `trivet.contract.Model` has it."""

    @property
    def name(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def digest(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Attempt:
    """One execution over one interval."""

    id: int
    number: int
    deployment: str
    start: Moment
    end: Moment


@dataclass(slots=True)
class Tally:
    """What an attempt counted; it grows while the attempt runs."""

    read: int = 0
    scored: int = 0
    rejected: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Run:
    """One attempt as the ledger has it; see the table ``trivet_runs``."""

    attempt: int
    deployment: str
    interval_start: Moment
    interval_end: Moment
    number: int
    state: str
    cause: str
    owner: str
    model_name: str
    model_version: str
    model_digest: str
    started_at: Moment
    ended_at: Moment | None
    rows_read: int
    rows_scored: int
    rows_rejected: int
    seconds: Mapping[str, float]
    warning: str | None
    error: str | None
    is_published: bool


def register(db: Connection, deployment: Deployment, now: Moment) -> None:
    """Insert or refresh a deployment."""
    start = deployment.start or Moment(1970, 1, 1, tzinfo=dt.UTC)
    manifest = json.dumps(deployment.manifest, default=str)
    db.execute(
        named("register", db.dialect.name),
        name=deployment.name,
        kind=deployment.kind,
        model=deployment.model,
        schedule=deployment.schedule,
        timezone=deployment.timezone,
        start_at=start,
        delay_seconds=deployment.delay.total_seconds(),
        view_name=deployment.view,
        key_columns=json.dumps(deployment.key),
        keep_columns=json.dumps(deployment.keep),
        manifest=manifest,
        registered_at=now,
    )
    db.execute(
        named("register_manifest", db.dialect.name),
        deployment=deployment.name,
        model_version=str(deployment.manifest.get("version", "")),
        model_digest=str(deployment.manifest.get("digest", "")),
        manifest=manifest,
        registered_at=now,
    )


def claim(
    db: Connection,
    deployment: str,
    interval: tuple[Moment, Moment],
    model: Lineage,
    *,
    owner: str,
    cause: str,
    now: Moment,
    alone: bool = False,
    again: bool = True,
) -> Attempt | None:
    """Begin an attempt at an interval.

    Args:
        db: The results database.
        deployment: A registered deployment.
        interval: Its start and end.
        model: The model that will score it.
        owner: Who runs it, from `trivet.owners.me`; an earlier attempt of the same owner
            is over.
        cause: ``manual``, ``schedule`` or ``backfill``.
        now: The moment to write down.
        alone: Refuse also while another interval of the deployment runs.
        again: Begin even if the interval is published already.

    Returns:
        The attempt, or None if the interval is published and need not be scored again.

    Raises:
        IntervalBusy: A live process runs it.
    """
    dialect = db.dialect.name
    with db.transaction():
        db.rows(named("lock_deployment", dialect), deployment=deployment)
        clock = _clock(db)
        for other in db.rows(named("running", dialect), deployment=deployment).to_pylist():
            if other["owner"] == owner:
                _end(db, other["attempt"], "failed", now, Tally(), "the connection was lost")
            elif not owners.is_alive(other["owner"]) or other["lease_until"] < clock:
                _end(db, other["attempt"], "killed", now, Tally(), "its process is gone")
            elif alone or _moment(other["interval_start"]) == interval[0]:
                raise IntervalBusy(
                    f"{deployment} {_moment(other['interval_start']):%Y-%m-%dT%H:%MZ} is being run "
                    f"by {owners.describe(other['owner'])} (attempt {other['attempt']}); "
                    "wait for it, or see: trivet runs"
                )
        # After the running ones: who is not among them any more has published before this.
        if not again and interval[0] in published(db, deployment):
            return None
        row = db.rows(
            named("claim", dialect),
            deployment=deployment,
            interval_start=interval[0],
            interval_end=interval[1],
            cause=cause,
            owner=owner,
            lease_until=clock + LEASE_SECONDS,
            model_name=model.name,
            model_version=model.version,
            model_digest=model.digest,
            started_at=now,
        ).to_pylist()[0]
    return Attempt(row["attempt"], row["number"], deployment, *interval)


def heartbeat(db: Connection, attempt: Attempt) -> bool:
    """Prolong an attempt's lease; return False if it was declared dead."""
    until = _clock(db) + LEASE_SECONDS
    return bool(
        db.rows(named("heartbeat", db.dialect.name), attempt=attempt.id, lease_until=until).num_rows
    )


def guard(db: Connection, attempt: Attempt) -> None:
    """Within a transaction, make sure that an attempt counts as alive until it commits.

    Raises:
        RunLost: It was declared dead.
    """
    if not db.rows(named("guard", db.dialect.name), attempt=attempt.id).num_rows:
        raise _lost(attempt)


def publish(db: Connection, attempt: Attempt, tally: Tally, now: Moment) -> None:
    """Make an attempt the one that counts for its interval: one tiny transaction.

    Raises:
        RunLost: It was declared dead.
    """
    with db.transaction():
        if not _end(db, attempt.id, "succeeded", now, tally, ""):
            raise _lost(attempt)
        db.execute(
            named("publish", db.dialect.name),
            deployment=attempt.deployment,
            interval_start=attempt.start,
            interval_end=attempt.end,
            attempt=attempt.id,
        )


def abandon(
    db: Connection, attempt: Attempt, state: str, tally: Tally, now: Moment, error: str
) -> None:
    """End an attempt without publishing it; ``failed`` or ``stopped``."""
    _end(db, attempt.id, state, now, tally, error)


def published(db: Connection, deployment: str) -> dict[Moment, int]:
    """Return the published intervals' starts, and how many rows each read."""
    rows = db.rows(named("published", db.dialect.name), deployment=deployment)
    return dict(zip(_moments(rows["interval_start"]), rows["rows_read"].to_pylist(), strict=True))


def failures(db: Connection, deployment: str) -> dict[Moment, tuple[int, Moment]]:
    """Return intervals never published whose attempts failed: how often, and when last."""
    rows = db.rows(named("failures", db.dialect.name), deployment=deployment)
    ended = _moments(rows["last_ended_at"])
    counts = rows["failures"].to_pylist()
    return dict(zip(_moments(rows["interval_start"]), zip(counts, ended, strict=True), strict=True))


def runs(db: Connection, deployment: str = "", limit: int = 50) -> list[Run]:
    """Return the newest attempts first, of one deployment or of all."""
    table = db.rows(named("runs", db.dialect.name), deployment=deployment, limit=limit)
    for name in ("interval_start", "interval_end", "started_at", "ended_at"):
        table = table.set_column(table.schema.get_field_index(name), name, from_text(table[name]))
    rows = table.to_pylist()
    return [
        Run(
            **row
            | {"seconds": json.loads(row["seconds"]), "is_published": bool(row["is_published"])}
        )
        for row in rows
    ]


def _end(db: Connection, attempt: int, state: str, now: Moment, tally: Tally, error: str) -> bool:
    ended = db.rows(
        named("finish", db.dialect.name),
        attempt=attempt,
        state=state,
        ended_at=now,
        rows_read=tally.read,
        rows_scored=tally.scored,
        rows_rejected=tally.rejected,
        seconds=json.dumps({stage: round(s, 3) for stage, s in tally.seconds.items()}),
        warning=tally.warning,
        error=error[:4000],
    )
    return bool(ended.num_rows)


def _lost(attempt: Attempt) -> RunLost:
    return RunLost(
        f"{attempt.deployment} {attempt.start:%Y-%m-%dT%H:%MZ}: attempt {attempt.id} was declared "
        f"dead after {LEASE_SECONDS:.0f} s without a sign of life; nothing of it is published"
    )


def _clock(db: Connection) -> float:
    return float(db.rows(named("clock", db.dialect.name))["now"][0].as_py())


def _moment(value: Any) -> Moment:
    return _moments(pa.chunked_array([pa.array([value])]))[0]


def _moments(column: pa.ChunkedArray) -> list[Moment]:
    moments: list[Moment] = from_text(column).to_pylist()
    return [moment.astimezone(dt.UTC) for moment in moments]
