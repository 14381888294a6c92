"""A project with rows of every kind: good, rejected, repeated; one of its days has none."""

from __future__ import annotations

import datetime as dt
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

import trivet
from faults.fare import Fare
from trivet.databases import connect

NAME = "taxi-fare"
VIEW = "taxi_fare"
TABLE = f"predictions_{VIEW}"

FIRST = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
DAYS = 7  # the first of them has no row
RESULTS = "FAULTS_RESULTS"

_ZONES = ("north", "south", "east", "west")

_COLUMNS = {
    "sqlite": "line INTEGER, trip_id INTEGER, at TIMESTAMP, distance REAL, passengers INTEGER, "
    "zone TEXT, note TEXT, tip REAL",
    "postgresql": "line BIGINT, trip_id BIGINT, at TIMESTAMPTZ, distance DOUBLE PRECISION, "
    "passengers BIGINT, zone TEXT, note TEXT, tip DOUBLE PRECISION",
}

_TOML = """
[project]
name = "faults"

[results]
url = "${{{results}}}"

[models.fare]
uri = "models/fare"
trust = true

[batch.{name}]
model = "fare"
source = "{source}"
query = '''
    SELECT trip_id, distance, passengers, zone, note, tip, line FROM trips
    WHERE at >= $interval_start AND at < $interval_end ORDER BY line
'''
key = ["trip_id"]
keep = ["zone", "note", "tip", "line"]
schedule = "@daily"
start = {start:%Y-%m-%d}
catchup = "all"
delay = "{delay}"
max_rejects = 0.5
overlap = "{overlap}"
workers = 2
"""


@dataclass(frozen=True, slots=True)
class Project:
    """A project file, its model and its source.

    Attributes:
        file: ``trivet.toml``.
        days: Days that it has, the empty first one included.
    """

    file: Path
    days: int

    @property
    def last(self) -> dt.date:
        return (FIRST + dt.timedelta(days=self.days - 1)).date()

    def backfill(self, *options: str) -> list[str]:
        span = ["--from", f"{FIRST:%Y-%m-%d}", "--to", f"{self.last}"]
        return ["--file", str(self.file), "backfill", NAME, *span, *options]

    def schedule(self) -> list[str]:
        return ["--file", str(self.file), "schedule", "--once"]


def make_project(
    folder: Path, source: str, *, rows: int, days: int = DAYS, overlap: str = "queue", seed: int = 1
) -> Project:
    """Write a project whose source has about so many rows a day."""
    folder.mkdir(parents=True, exist_ok=True)
    trips = [_day(day, rows + 37 * day, seed) for day in range(1, days)]
    _fill(source, pa.concat_batches(trips))
    trivet.save(
        Fare(), folder / "models", name="fare", version="1", sample=_sample(trips[0].slice(0, 500))
    )
    # The schedule is to end with the last day: what is over after it is not due for a while.
    end = FIRST + dt.timedelta(days=days, hours=12)
    delay = int((dt.datetime.now(dt.UTC) - end).total_seconds() // 60)
    file = folder / "trivet.toml"
    file.write_text(
        _TOML.format(
            results=RESULTS,
            name=NAME,
            source=source,
            start=FIRST,
            delay=f"{delay}m",
            overlap=overlap,
        )
    )
    return Project(file, days)


def _fill(url: str, trips: pa.RecordBatch) -> None:
    with connect(url, write=True) as db:
        db.execute(f"CREATE TABLE trips ({_COLUMNS[db.dialect.name]})")
        db.append("trips", trips)
        db.execute("CREATE INDEX trips_at ON trips (at)")


def _sample(trips: pa.RecordBatch) -> pa.Table:
    good = [
        row for row in trips.to_pylist() if row["distance"] is not None and row["zone"] in _ZONES
    ]
    good = [row for row in good if 0 <= row["distance"] <= 100]
    return pa.Table.from_pylist(good).select(Fare.inputs.names)


def _day(day: int, rows: int, seed: int) -> pa.RecordBatch:
    """Return a day's trips: one row in fifty is bad, one in sixty repeats a key."""
    draw = random.Random(f"{seed}/{day}")
    midnight = FIRST + dt.timedelta(days=day)
    found: list[dict[str, Any]] = []
    for number in range(rows):
        line = day * 1_000_000 + number
        row = {
            "line": line,
            "trip_id": line * 7 % 1_000_003 + day * 10_000_000,
            "at": midnight + dt.timedelta(seconds=draw.randrange(86_400)),
            "distance": draw.uniform(0.1, 30.0),
            "passengers": draw.choice((None, 1, 2, 3)),
            "zone": draw.choice(_ZONES),
            "note": draw.choice((None, "", "été", "it's")),
            "tip": draw.choice((None, 0.0, 1.5)),
        }
        if draw.random() < 0.02:
            row |= draw.choice(({"distance": None}, {"distance": -3.0}, {"zone": "mars"}))
        if found and draw.random() < 1 / 60:
            row["trip_id"] = draw.choice(found)["trip_id"]
        found.append(row)
    types = {"at": pa.timestamp("us", "UTC"), "tip": pa.float64(), "distance": pa.float64()}
    batch = pa.RecordBatch.from_pylist(found)
    fields = [pa.field(f.name, types.get(f.name, f.type)) for f in batch.schema]
    return batch.cast(pa.schema(fields))
