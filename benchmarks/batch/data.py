"""The trips, the model and the databases that hold them; run as a process of its own.

    python -m batch.data FOLDER ROWS POSTGRESQL_URL

Writes the model store, the model's text, the rows as a matrix, and the table `trips` into the
PostgreSQL database and into FOLDER/trips.db. They are drawn, with a fixed seed, from the real trips
of examples/taxi and spread evenly over January 2024: an id a trip, in the order of time.
"""

from __future__ import annotations

import functools
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import adbc_driver_postgresql.dbapi  # type: ignore[import-untyped]
import adbc_driver_sqlite.dbapi
import lightgbm
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

import trivet

FEATURES = ("pickup_zone", "dropoff_zone", "trip_distance", "hour", "passengers")
_CHUNK = 1_000_000
_REAL = Path(__file__).parents[2] / "examples" / "taxi" / "data" / "trips.parquet"
_MONTH_MICROSECONDS = 31 * 24 * 3600 * 10**6
_START = 1_704_067_200 * 10**6  # 2024-01-01 UTC
_COLUMNS = (
    ("trip_id", "BIGINT PRIMARY KEY", "INTEGER PRIMARY KEY"),
    ("pickup_at", "TIMESTAMPTZ NOT NULL", "TEXT NOT NULL"),
    ("pickup_zone", "INTEGER", "INTEGER"),
    ("dropoff_zone", "INTEGER", "INTEGER"),
    ("trip_distance", "DOUBLE PRECISION", "REAL"),
    ("hour", "INTEGER", "INTEGER"),
    ("passengers", "INTEGER", "INTEGER"),
)


@functools.cache
def real() -> pa.Table:
    """Return the features and the minutes of the real trips that have them all."""
    rows = pq.read_table(_REAL).filter(pc.field("passenger_count").is_valid())
    took = pc.subtract(rows["dropoff_at"].cast(pa.int64()), rows["pickup_at"].cast(pa.int64()))
    local = rows["pickup_at"].cast(pa.timestamp("us", "America/New_York"))
    found = pa.table(
        {
            "pickup_zone": rows["pickup_zone"].cast(pa.int32()),
            "dropoff_zone": rows["dropoff_zone"].cast(pa.int32()),
            "trip_distance": rows["trip_distance"],
            "hour": pc.hour(local).cast(pa.int32()),
            "passengers": rows["passenger_count"].cast(pa.int32()),
            "minutes": pc.divide(took.cast(pa.float64()), 60e6),
        }
    )
    sane = (pc.field("minutes") >= 1) & (pc.field("minutes") <= 120)
    return found.filter(sane).combine_chunks()


def trips(first: int, count: int, total: int) -> pa.Table:
    """Draw some of so many trips."""
    random = np.random.default_rng(first + 1)
    drawn = random.integers(0, real().num_rows, count)
    number = np.arange(first, first + count)
    moment = _START + number * _MONTH_MICROSECONDS // total
    rows = real().select(FEATURES).take(drawn)
    # Drawn more than once, they would be alike to the last bit: no way is driven twice the same.
    distance = rows["trip_distance"].to_numpy() * random.normal(1, 0.02, count)
    rows = rows.set_column(2, "trip_distance", pa.array(np.round(distance, 2)))
    rows = rows.add_column(0, "pickup_at", pa.array(moment, pa.timestamp("us", "UTC")))
    return rows.add_column(0, "trip_id", pa.array(number))


def matrix(rows: pa.Table) -> npt.NDArray[np.float64]:
    """Return the features, a row a trip."""
    return np.column_stack([rows[name].to_numpy().astype(np.float64) for name in FEATURES])


def train(folder: Path) -> None:
    """Save a regressor of 100 trees with 31 leaves, in a store and as LightGBM's own text."""
    rows = real()
    parameters = {
        "objective": "regression",
        "num_leaves": 31,
        "seed": 1,
        "num_threads": 2,
        "deterministic": True,
        "force_row_wise": True,
        "verbose": -1,
    }
    data = lightgbm.Dataset(matrix(rows), rows["minutes"].to_numpy(), feature_name=list(FEATURES))
    model = lightgbm.train(parameters, data, num_boost_round=100)
    assert model.num_trees() == 100
    model.save_model(folder / "model.txt")
    sample = rows.select(FEATURES).slice(0, 5_000)
    trivet.save(model, folder / "models", name="trip-duration", version="1", sample=sample)


def fill_postgresql(url: str, rows: int) -> None:
    """Make the table of trips in a PostgreSQL database."""
    columns = ", ".join(f"{name} {kind}" for name, kind, _ in _COLUMNS)
    with adbc_driver_postgresql.dbapi.connect(url, autocommit=True) as db:
        _execute(db, f"CREATE TABLE trips ({columns})")
        for part in _parts(rows):
            with db.cursor() as cursor:
                cursor.adbc_ingest("trips", part, mode="append")
        _execute(db, "CREATE INDEX trips_pickup_at ON trips (pickup_at)")
        _execute(db, "VACUUM (ANALYZE) trips")


def fill_sqlite(path: Path, rows: int) -> None:
    """Make the table of trips in an SQLite file."""
    columns = ", ".join(f"{name} {kind}" for name, _, kind in _COLUMNS)
    with closing(sqlite3.connect(path)) as made:
        made.execute("PRAGMA journal_mode = WAL")
        made.execute(f"CREATE TABLE trips ({columns})")
    with adbc_driver_sqlite.dbapi.connect(str(path)) as db:
        for part in _parts(rows):
            seconds = part["pickup_at"].cast(pa.timestamp("s", "UTC"), safe=False)
            text = pc.strftime(seconds, format="%Y-%m-%d %H:%M:%S")
            with db.cursor() as cursor:
                cursor.adbc_ingest("trips", part.set_column(1, "pickup_at", text), mode="append")
        db.commit()
    with closing(sqlite3.connect(path)) as made:
        made.execute("CREATE INDEX trips_pickup_at ON trips (pickup_at)")
        made.execute("ANALYZE")


def _parts(rows: int) -> Iterator[pa.Table]:
    for first in range(0, rows, _CHUNK):
        yield trips(first, min(_CHUNK, rows - first), rows)


def _execute(db: Any, statement: str) -> None:
    with db.cursor() as cursor:
        cursor.execute(statement)


def main() -> None:
    folder, rows, url = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "model.txt").exists():
        train(folder)
    if not (folder / "rows.npy").exists():
        np.save(folder / "rows.npy", np.concatenate([matrix(part) for part in _parts(rows)]))
    if not (folder / "trips.db").exists():
        draft = folder / "trips.db.new"
        draft.unlink(missing_ok=True)
        fill_sqlite(draft, rows)
        draft.rename(folder / "trips.db")
    fill_postgresql(url, rows)


if __name__ == "__main__":
    main()
