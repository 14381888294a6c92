"""A results database with one deployment, and short ways to act on it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import pyarrow as pa
import pytest

from trivet import owners
from trivet.databases import Connection
from trivet.errors import RunLost
from trivet.results import ledger, tables
from trivet.results.layout import open_results
from trivet.results.ledger import Attempt, Tally
from trivet.schema import TYPES, Field, Schema

DEPLOYMENT = "churn-daily"
NOW = dt.datetime(2026, 2, 1, 12, 30, 15, 250_000, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)
COLUMNS = pa.schema([pa.field("key", pa.int64()), pa.field("score", pa.float64())])


@dataclass(frozen=True)
class Lineage:
    name: str = "churn"
    version: str = "3"
    digest: str = "sha256:abc"


def lineage() -> Lineage:
    return Lineage()


def interval(day: int) -> tuple[dt.datetime, dt.datetime]:
    start = dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + day * DAY
    return start, start + DAY


def rejects(attempt: Attempt, *keys: int, code: str = "null", reason: str = "r") -> pa.RecordBatch:
    n = len(keys)
    columns = [
        pa.array([attempt.deployment] * n, pa.string()),
        pa.array([attempt.id] * n, pa.int64()),
        pa.array([f'{{"key":{key}}}' for key in keys], pa.string()),
        *(pa.array([value] * n, pa.string()) for value in ("score", code, reason)),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=tables.REJECTS)


@dataclass
class Scene:
    db: Connection

    @classmethod
    @contextmanager
    def open(cls, url: str) -> Iterator[Self]:
        with open_results(url) as db:
            deployment = ledger.Deployment(
                name=DEPLOYMENT, kind="batch", model="churn", view=tables.view_of(DEPLOYMENT),
                key=("key",), keep=(), manifest={},
            )  # fmt: skip
            ledger.register(db, deployment, NOW)
            tables.prepare(db, DEPLOYMENT, COLUMNS)
            yield cls(db)

    def claim(self, day: int, *, owner: str = "", alone: bool = False) -> Attempt:
        attempt = ledger.claim(
            self.db, DEPLOYMENT, interval(day), lineage(),
            owner=owner or owners.me("test"), cause="manual", now=NOW, alone=alone,
        )  # fmt: skip
        assert attempt is not None
        return attempt

    def append(self, attempt: Attempt, *keys: int, reject: tuple[int, ...] = ()) -> None:
        columns = {
            "attempt": pa.array([attempt.id] * len(keys), pa.int64()),
            "key": pa.array(keys, pa.int64()),
            "score": pa.array([key / 2 for key in keys], pa.float64()),
        }
        tables.append(self.db, attempt, pa.record_batch(columns), rejects(attempt, *reject))

    def run(self, day: int, *keys: int, reject: tuple[int, ...] = ()) -> Attempt:
        """Claim, append and publish."""
        attempt = self.claim(day)
        self.append(attempt, *keys, reject=reject)
        ledger.publish(self.db, attempt, Tally(read=len(keys), scored=len(keys)), NOW)
        return attempt

    def fail(self, day: int, *keys: int, reject: tuple[int, ...] = ()) -> Attempt:
        attempt = self.claim(day)
        self.append(attempt, *keys, reject=reject)
        ledger.abandon(self.db, attempt, "failed", Tally(), NOW, "why")
        return attempt

    def expire(self, attempt: Attempt) -> None:
        sql = "UPDATE trivet_runs SET lease_until = 1 WHERE attempt = $attempt"
        self.db.execute(sql, attempt=attempt.id)

    def cannot_go_on(self, attempt: Attempt) -> None:
        """Check that an attempt which is over can do nothing any more."""
        before = self.count(tables.table_of(DEPLOYMENT)), self.count("trivet_published")
        assert not ledger.heartbeat(self.db, attempt)
        with pytest.raises(RunLost):
            self.append(attempt, 666, reject=(667,))
        with pytest.raises(RunLost):
            ledger.publish(self.db, attempt, Tally(), NOW)
        after = self.count(tables.table_of(DEPLOYMENT)), self.count("trivet_published")
        assert after == before

    def count(self, table: str, where: str = "1 = 1") -> int:
        found = self.db.rows(f"SELECT count(*) AS n FROM {table} WHERE {where}")
        return int(found["n"][0].as_py())

    def published_keys(self) -> list[int]:
        view = tables.view_of(DEPLOYMENT)
        found: list[int] = self.db.rows(f"SELECT key FROM {view} ORDER BY key")["key"].to_pylist()
        return found

    def read(self, query: str, **kinds: str) -> list[dict[str, Any]]:
        """Read as a dashboard does: through a stream with known types."""
        fields = Schema(Field(name=name, type=kind, nullable=True) for name, kind in kinds.items())
        rows: list[dict[str, Any]] = []
        for batch, problems in self.db.stream(query, {}, fields):
            assert not problems.num_rows
            rows += [
                row | {n: pa.scalar(row[n], TYPES[k]).as_py() for n, k in kinds.items()}
                for row in batch.to_pylist()
            ]
        return rows
