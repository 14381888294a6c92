"""The rides that are fit to learn from, and the months that are learnt from and tested on."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

DATA = Path(__file__).with_name("data") / "trips.parquet"
ZONE = ZoneInfo("America/New_York")
FIRST_DAY = dt.datetime(2019, 1, 1, tzinfo=ZONE)
COLUMNS = (
    "trip_id",
    "pickup_at",
    "pickup_zone",
    "dropoff_zone",
    "passengers",
    "card",
    "minutes",
    "fare",
    "tip",
    "total",
)
Floats = npt.NDArray[np.float64]


def read(path: Path = DATA) -> pa.RecordBatch:
    """Read the sane rides with `COLUMNS`; `passengers` is 0 and `card` null where nobody told.

    The metered distance and the fare serve to throw out broken records; no model sees the
    distance, which only the end of a ride tells.
    """
    trips = pq.read_table(path)
    seconds = pc.subtract(*(trips[at].cast(pa.int64()) for at in ("dropoff_at", "pickup_at")))
    card = pc.if_else(
        pc.less_equal(trips["payment_type"], 2), pc.equal(trips["payment_type"], 1), None
    )
    made = {
        "minutes": pc.divide(seconds.cast(pa.float64()), 60e6),
        "passengers": pc.fill_null(trips["passenger_count"], 0),
        "card": card,
        "fare": trips["fare_amount"],
        "tip": trips["tip_amount"],
        "total": trips["total_amount"],
    }
    for name, column in made.items():
        trips = trips.append_column(name, column)
    sane = (
        (pc.field("pickup_at") >= FIRST_DAY)
        & (pc.field("minutes") >= 1)
        & (pc.field("minutes") <= 60)
        & (pc.field("trip_distance") > 0)
        & (pc.field("trip_distance") <= 100)
        & (pc.field("fare") > 0)
        & (pc.field("fare") <= 500)
        & (pc.field("pickup_zone") <= 263)
        & (pc.field("dropoff_zone") <= 263)
    )
    return trips.filter(sane).select(list(COLUMNS)).combine_chunks().to_batches()[0]


def told(rides: pa.RecordBatch) -> pa.RecordBatch:
    """Return the rides whose passengers and payment are known, with passengers from 1 to 6."""
    return rides.filter(
        (pc.field("passengers") >= 1) & (pc.field("passengers") <= 6) & pc.field("card").is_valid()
    )


def by_card(rides: pa.RecordBatch) -> pa.RecordBatch:
    """Return the rides of `told` that were paid by card: only their tips are recorded."""
    return told(rides).filter(pc.field("card"))


def between(rides: pa.RecordBatch, start: dt.datetime, end: dt.datetime) -> pa.RecordBatch:
    """Return the rides picked up from `start` up to `end`, itself excluded."""
    return rides.filter((pc.field("pickup_at") >= start) & (pc.field("pickup_at") < end))


def month(text: str) -> dt.datetime:
    """Return the first moment of a month such as 2019-07, in New York."""
    year, number = text.split("-")
    return dt.datetime(int(year), int(number), 1, tzinfo=ZONE)


def numbers(rides: pa.RecordBatch, column: str) -> Floats:
    """Return a column as numbers."""
    values: Floats = rides[column].to_numpy(zero_copy_only=False).astype(np.float64)
    return values
