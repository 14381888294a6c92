"""Make the taxi company's database, data/trips.db, from data/trips.parquet.

It stands for the database that a real project has already: the batch deployments read it. Times
are text in UTC in SQLite's own form, 'YYYY-MM-DD HH:MM:SS', which compares and indexes as time.

Beside it data/usual.json: what rides between two zones usually take and cost. The backend tells
that when the models' service does not answer.

    python prepare.py
"""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import rides

DATA = Path(__file__).with_name("data")
ENOUGH = 10
"""So many rides between two zones say what is usual."""


def prepare(source: Path, target: Path) -> int:
    """Write the trips of a Parquet file into a new SQLite file.

    The file is made under another name and moved into place when it is whole, so a reader sees
    the old one or the new one.

    Args:
        source: The Parquet file.
        target: The SQLite file; replaced if it exists.

    Returns:
        How many trips were written.
    """
    trips = pq.read_table(source)
    for name, kind in zip(trips.column_names, trips.schema.types, strict=True):
        if pa.types.is_timestamp(kind):
            seconds = trips[name].cast(pa.timestamp("s", tz="UTC"))
            text = pc.strftime(seconds, format="%Y-%m-%d %H:%M:%S")
            trips = trips.set_column(trips.column_names.index(name), name, text)
    draft = target.with_name(target.name + ".new")
    _remove(draft)
    # Autocommit, so that the transaction below is the only one; a crash leaves a draft, which the
    # next run removes, so nothing needs to reach the disk before the end.
    with closing(sqlite3.connect(draft, isolation_level=None)) as database:
        database.execute("PRAGMA synchronous = OFF")
        database.execute("BEGIN")
        columns = ", ".join(_column(field) for field in trips.schema)
        database.execute(f"CREATE TABLE trips ({columns})")
        places = ", ".join("?" * trips.num_columns)
        for batch in trips.to_batches(max_chunksize=20_000):
            rows = zip(*(column.to_pylist() for column in batch.columns), strict=True)
            database.executemany(f"INSERT INTO trips VALUES ({places})", rows)
        database.execute("CREATE INDEX trips_pickup_at ON trips (pickup_at)")
        database.execute("COMMIT")
        database.execute("ANALYZE")
        database.execute("PRAGMA journal_mode = WAL")
    # The log of a replaced database must not be taken for the new one's.
    for suffix in ("-wal", "-shm"):
        target.with_name(target.name + suffix).unlink(missing_ok=True)
    draft.replace(target)
    return int(trips.num_rows)


def write_usual(source: Path, target: Path) -> int:
    """Write the medians of the first half year's rides, for pairs of zones with enough of them.

    Returns:
        How many pairs there are.
    """
    known = pa.table(rides.between(rides.read(source), rides.FIRST_DAY, rides.month("2019-07")))
    pair = ["pickup_zone", "dropoff_zone"]
    wanted = [("minutes", "approximate_median"), ("fare", "approximate_median"), ("fare", "count")]
    groups = known.group_by(pair).aggregate(wanted).filter(pc.field("fare_count") >= ENOUGH)
    names = ("minutes_approximate_median", "fare_approximate_median")
    columns = [groups[name].to_pylist() for name in (*pair, *names)]
    usual = {
        "overall": [pc.approximate_median(known[name]).as_py() for name in ("minutes", "fare")],
        "pairs": {
            f"{pickup}-{dropoff}": [round(minutes, 2), round(fare, 2)]
            for pickup, dropoff, minutes, fare in zip(*columns, strict=True)
        },
    }
    draft = target.with_name(target.name + ".new")
    draft.write_text(json.dumps(usual), encoding="utf-8")
    draft.replace(target)
    return int(groups.num_rows)


def _column(field: pa.Field) -> str:
    """Return a column's SQL; its name and type come from our own file."""
    if field.name == "trip_id":
        return "trip_id INTEGER PRIMARY KEY"
    if pa.types.is_integer(field.type):
        return f"{field.name} INTEGER"
    return f"{field.name} {'REAL' if pa.types.is_floating(field.type) else 'TEXT'}"


def _remove(database: Path) -> None:
    for suffix in ("", "-wal", "-shm", "-journal"):
        database.with_name(database.name + suffix).unlink(missing_ok=True)


def main() -> None:
    """Run the script."""
    start = time.perf_counter()
    target = DATA / "trips.db"
    rows = prepare(rides.DATA, target)
    print(f"{target}: {rows:,} trips in {time.perf_counter() - start:.1f} s")
    usual = DATA / "usual.json"
    print(f"{usual}: the usual ride between {write_usual(rides.DATA, usual):,} pairs of zones")


if __name__ == "__main__":
    main()
