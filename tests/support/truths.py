"""Deployments with known predictions, and sources of true values for them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pyarrow as pa

from support.ledgers import DAY, Lineage
from trivet import owners
from trivet.databases import Connection, connect
from trivet.monitoring import Profile, Reference
from trivet.results import ledger, rows, tables
from trivet.results.actuals import pull, spans
from trivet.results.actuals_settings import ActualsSettings
from trivet.results.asking import asking
from trivet.results.layout import open_results
from trivet.results.measuring import refresh
from trivet.results.profiles import Counted, references_of
from trivet.results.quality import Group, groups

NOW = dt.datetime(2026, 2, 1, 12, 30, 15, 250_000, tzinfo=dt.UTC)
ALWAYS = (dt.datetime(2000, 1, 1, tzinfo=dt.UTC), dt.datetime(2100, 1, 1, tzinfo=dt.UTC))
TREE = [{"name": "minutes", "type": "float64"}]
CLASSES = [
    {"name": "label", "type": "string"},
    {"name": "probability_no", "type": "float64"},
    {"name": "probability_yes", "type": "float64"},
]


def day(number: int) -> dt.datetime:
    return dt.datetime(2026, 1, 1, tzinfo=dt.UTC) + number * DAY


def manifest(
    outputs: Sequence[Mapping[str, Any]], version: str = "1", **references: Reference
) -> dict[str, Any]:
    """Return what a host registers; references by ``side__column``."""
    told = {name.replace("__", "."): ref.to_dict() for name, ref in references.items()}
    return {
        "name": "m",
        "version": version,
        "digest": f"d{version}",
        "outputs": list(outputs),
        "metrics": {"mae": 1.0},
        "references": told,
    }


@dataclass
class Truths:
    """A results database, and a source in which true values arrive."""

    db: Connection
    source: str
    root: Path
    now: dt.datetime = NOW
    manifests: dict[str, dict[str, Any]] = field(default_factory=dict)

    @classmethod
    @contextmanager
    def open(cls, url: str, root: Path) -> Iterator[Self]:
        with open_results(url) as db:
            yield cls(db, f"sqlite:///{root / 'truth.db'}", root)

    def register(
        self,
        name: str = "rides",
        outputs: Sequence[Mapping[str, Any]] = TREE,
        *,
        kind: str = "batch",
        key: tuple[str, ...] = ("ride",),
        keep: tuple[str, ...] = ("zone",),
        version: str = "1",
        schedule: str = "@daily",
        **references: Reference,
    ) -> None:
        told = manifest(outputs, version, **references)
        self.manifests[name] = told
        ledger.register(
            self.db,
            ledger.Deployment(
                name=name, kind=kind, model="m", view=tables.view_of(name), key=key, keep=keep,
                manifest=told, schedule=schedule if kind == "batch" else "", timezone="UTC",
                start=day(0),
            ),
            self.now,
        )  # fmt: skip

    def score(
        self,
        number: int,
        name: str = "rides",
        version: str = "1",
        profiles: Mapping[tuple[str, str], Profile] | None = None,
        tally: ledger.Tally | None = None,
        **columns: Any,
    ) -> ledger.Attempt:
        """Publish predictions of a day, given by column."""
        batch = pa.record_batch(columns)
        tables.prepare(self.db, name, batch.schema)
        lineage = Lineage("m", version, f"d{version}")
        attempt = ledger.claim(
            self.db, name, (day(number), day(number + 1)), lineage,
            owner=owners.me("test"), cause="manual", now=self.now,
        )  # fmt: skip
        assert attempt is not None
        none = pa.RecordBatch.from_pylist([], tables.REJECTS)
        tables.append(self.db, attempt, tables.stamped(attempt, [batch]), none)
        tables.append_profiles(self.db, attempt, profiles or {})
        done = tally or ledger.Tally(read=batch.num_rows, scored=batch.num_rows)
        ledger.publish(self.db, attempt, done, self.now)
        return attempt

    def fail(self, number: int, name: str = "rides", error: str = "why") -> None:
        attempt = ledger.claim(
            self.db, name, (day(number), day(number + 1)), Lineage("m", "1", "d1"),
            owner=owners.me("test"), cause="schedule", now=self.now,
        )  # fmt: skip
        assert attempt is not None
        ledger.abandon(self.db, attempt, "failed", ledger.Tally(), self.now, error)

    def serve(
        self,
        at: dt.datetime,
        keys: Sequence[str],
        inputs: pa.RecordBatch,
        name: str = "rides",
        ids: Sequence[str] | None = None,
        version: str = "1",
        **outputs: Any,
    ) -> int:
        """Log predictions as a service does; return how many were there already."""
        n = len(keys)
        number = rows.lineage(self.db, name, Lineage("m", version, f"d{version}"), self.now)
        answers = pa.record_batch(outputs)
        beside = pa.schema([pa.field("ride", pa.string()), *answers.schema])
        rows.prepare(self.db, name, rows.SERVICE, beside)
        columns = {
            "lineage": pa.array([number] * n, pa.int64()),
            "source": pa.array([f'{{"ride":"{key}"}}' for key in keys]),
            "id": pa.array(list(ids or [f"{at:%d%H%M}-{i}" for i in range(n)])),
            "scored_at": pa.array([at] * n, pa.timestamp("us", "UTC")),
            "seconds": pa.array([0.01] * n),
            "inputs": pa.array(["{}"] * n),
            "ride": pa.array(list(keys)),
        } | dict(zip(answers.schema.names, answers.columns, strict=True))
        counted = Counted(inputs, tuple(answers.schema.names), references_of(self.manifests[name]))
        none = pa.RecordBatch.from_pylist([], rows.REJECTS)
        return rows.append(self.db, name, pa.record_batch(columns), none, counted)

    def arrive(self, table: str = "truth", **columns: Sequence[Any]) -> None:
        """Add true values to the source, by column."""
        with connect(self.source, root=self.root, write=True) as db:
            names = list(columns)
            db.execute(f"CREATE TABLE IF NOT EXISTS {table} ({', '.join(names)})")
            for row in zip(*columns.values(), strict=True):
                given = dict(zip(names, row, strict=True))
                values = ", ".join("NULL" if v is None else f"${n}" for n, v in given.items())
                known = {n: v for n, v in given.items() if v is not None}
                db.execute(f"INSERT INTO {table} ({', '.join(names)}) VALUES ({values})", **known)

    def settings(self, query: str, **more: Any) -> ActualsSettings:
        return ActualsSettings(
            **{"name": "rides", "source": self.source, "query": query, "value": "minutes"} | more
        )

    def pull(self, settings: ActualsSettings, *, again: bool = False) -> int:
        """Pull what there is to pull and measure; return how many periods were measured."""
        for bounds in spans(self.db, settings, self.now, again=again):
            pull(self.db, settings, bounds, root=self.root, now=self.now)
        return refresh(self.db, settings, self.now)

    def groups(self, segment: str = "", name: str = "rides") -> list[Group]:
        return groups(asking(self.db), name, *ALWAYS, segment)

    def metrics(self, segment: str = "", name: str = "rides") -> dict[tuple[int, str, str], Any]:
        """Return measures by day, version and segment's value."""
        return {
            ((g.start - day(0)).days, g.version, g.value): g.measure.metrics()
            for g in self.groups(segment, name)
        }
