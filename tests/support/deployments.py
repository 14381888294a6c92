"""A whole project in a folder: a source, a saved model, a batch deployment, its results."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w
from click.testing import CliRunner, Result

import trivet
from support.toy import Toy
from trivet.artifacts import load
from trivet.cli import trivet as command
from trivet.current import Ready
from trivet.databases import Connection, connect
from trivet.hosts.batch.job import Job
from trivet.hosts.batch.run import Progress, Surroundings
from trivet.hosts.schedule import Interval
from trivet.results import history, layout, ledger
from trivet.settings import load_project

NOW = dt.datetime(2020, 1, 11, tzinfo=dt.UTC)

QUERY = (
    "SELECT trip_id, a, n, city, note FROM trips "
    "WHERE at >= $interval_start AND at < $interval_end ORDER BY at, seq"
)

_TYPES = {
    "sqlite": {"trip_id": "", "a": "", "n": "", "city": "", "note": "TEXT", "at": "TEXT"},
    "postgresql": {
        "trip_id": "BIGINT",
        "a": "DOUBLE PRECISION",
        "n": "BIGINT",
        "city": "TEXT",
        "note": "TEXT",
        "at": "TIMESTAMPTZ",
    },
}


def day(number: int) -> dt.datetime:
    """Return midnight of a day of January 2020."""
    return dt.datetime(2020, 1, number, tzinfo=dt.UTC)


def trips(number: int, count: int = 5, **changes: Any) -> list[dict[str, Any]]:
    """Return rows of one day, good ones unless changed."""
    return [
        {
            "trip_id": 1000 * number + i,
            "a": float(i),
            "n": i,
            "city": "nice",
            "note": f"row {i}",
            "at": day(number) + dt.timedelta(minutes=i),
        }
        | changes
        for i in range(1, count + 1)
    ]


@dataclass
class Project:
    """A project folder; what it is made of can be changed before and between runs."""

    root: Path
    source: str = "sqlite:///source.db"
    results: str = "sqlite:///results.db"
    batch: dict[str, Any] = field(default_factory=dict)
    name: str = "toy-scores"
    stop: threading.Event = field(default_factory=threading.Event)
    now: dt.datetime = NOW
    progress: Callable[[Progress], None] = lambda _: None

    def __post_init__(self) -> None:
        self.save(Toy(), "1")
        with self.open_source() as db:
            types = _TYPES[db.dialect.name]
            columns = ", ".join(f"{name} {kind}" for name, kind in types.items())
            serial = "INTEGER PRIMARY KEY" if db.dialect.name == "sqlite" else "SERIAL"
            db.execute(f"CREATE TABLE trips (seq {serial}, {columns})")
        self.write()

    def save(self, model: object, version: str) -> Path:
        return trivet.save(model, self.root / "models", name="toy", version=version)

    def write(self, **more: Any) -> Path:
        """Write ``trivet.toml`` with changes to the batch section; None leaves a key out."""
        self.batch |= more
        section = {
            "model": "toy",
            "source": self.source,
            "query": QUERY,
            "key": ["trip_id"],
            "keep": ["note"],
            "schedule": "@daily",
            "start": dt.date(2020, 1, 1),
            "catchup": "all",
            "retry_for": "0s",
            "workers": 1,
        } | self.batch
        file = self.root / "trivet.toml"
        document = {
            "results": {"url": self.results},
            "models": {"toy": {"uri": "models/toy", "trust": True}},
            "batch": {self.name: {k: v for k, v in section.items() if v is not None}},
        }
        file.write_text(tomli_w.dumps(document), encoding="utf-8")
        return file

    def open_source(self) -> Connection:
        return connect(self.source, root=self.root, write=True)

    def open_results(self) -> Connection:
        return layout.open_results(self.results, root=self.root)

    def add(self, *days: Iterable[Mapping[str, Any]]) -> None:
        """Add rows to the source."""
        with self.open_source() as db, db.transaction():
            for row in (row for rows in days for row in rows):
                names = ", ".join(row)
                values = dict(row)
                if db.dialect.name == "sqlite" and isinstance(values.get("at"), dt.datetime):
                    values["at"] = values["at"].strftime("%Y-%m-%d %H:%M:%S")
                holes = ", ".join("NULL" if v is None else f"${k}" for k, v in values.items())
                given = {k: v for k, v in values.items() if v is not None}
                db.execute(f"INSERT INTO trips ({names}) VALUES ({holes})", **given)

    def change(self, sql: str) -> None:
        with self.open_source() as db:
            db.execute(sql)

    def job(self, load_model: Callable[[], Ready] | None = None, **more: Any) -> Job:
        """Return the deployment as the command line would wire it, on a clock of our own."""
        settings = load_project(self.write(**more), {}).batch[self.name]
        around = Surroundings(
            root=self.root,
            results=self.results,
            clock=lambda: self.now,
            stop=self.stop,
            progress=self.progress,
        )
        return Job(settings, load_model or self.load, around)

    def load(self) -> Ready:
        return Ready(load("models/toy", root=self.root, trust=True))

    def score(self, number: int = 1, **more: Any) -> ledger.Tally:
        """Score one day and return what was counted."""
        job = self.job(**more)
        job.register()
        outcome = job.run(interval(number), cause="manual")
        assert outcome is not None
        return outcome.tally

    def rows(self, sql: str) -> list[dict[str, Any]]:
        with self.open_results() as db:
            rows: list[dict[str, Any]] = db.rows(sql).to_pylist()
        return rows

    def scores(self, columns: str = "trip_id, score") -> list[tuple[Any, ...]]:
        """Return what a reader of the view sees."""
        view = self.name.replace("-", "_")
        found = self.rows(f"SELECT {columns} FROM {view} ORDER BY interval_start, trip_id")
        return [tuple(row.values()) for row in found]

    def runs(self) -> list[ledger.Run]:
        """Return the attempts, the oldest first."""
        with self.open_results() as db:
            return ledger.runs(db, limit=10_000)[::-1]

    def states(self) -> list[str]:
        return [run.state for run in self.runs()]

    def rejects(self) -> list[tuple[str, str, str]]:
        """Return key, field and code of each reject."""
        with self.open_results() as db:
            found = history.rejects(db, self.name, None, 10_000)
        return [(r["row_key"], r["field"], r["code"]) for r in found]

    def invoke(self, *arguments: str) -> Result:
        """Run a command in this process."""
        return CliRunner().invoke(command, ["--file", str(self.root), *arguments])

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Run a command in a process of its own."""
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "trivet", "--file", str(self.root), *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | environment,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run a command in a process of its own to its end."""
        with self.start(*arguments) as process:
            out, err = process.communicate(timeout=60)
        return process.returncode, out, err


def interval(number: int) -> Interval:
    return Interval(day(number), day(number) + dt.timedelta(days=1))
