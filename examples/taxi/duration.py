"""The ride-duration model: minutes from pickup to dropoff, asked before the ride.

A backend that sends a car knows three things: when and where the ride starts and where it is to
end. The model turns them into features itself, so that every host computes them the same way.
"""

from __future__ import annotations

import datetime as dt
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from trivet.formats import Spec, lightgbm
from trivet.schema import Field, Schema

ZONES = 264
"""Taxi zones are numbered 1 to 263; 0 stays unused."""

COORDINATES = 8
LONGEST = 60.0
NEW_YORK = pa.timestamp("us", tz="America/New_York")
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class ZoneMap:
    """A map of the city drawn from ride times: zones with short rides between them lie close.

    Zone numbers say nothing about where a zone is. Most of the 69,169 pairs of zones have no ride
    in the training data; on the map each of them has a distance nonetheless.

    Attributes:
        places: Coordinates of the zones, in minutes, shape (COORDINATES, ZONES).
        distances: Minutes between the zones on the map, shape (ZONES, ZONES).
    """

    places: Floats
    distances: Floats

    @classmethod
    def fit(cls, pickup: Integers, dropoff: Integers, minutes: Floats) -> Self:
        """Draw the map: mean ride times, shortest paths through them, classical scaling.

        Args:
            pickup: Zones where the rides began, shape (n,).
            dropoff: Zones where they ended, shape (n,).
            minutes: How long they took, shape (n,).
        """
        total = np.zeros((ZONES, ZONES))
        count = np.zeros((ZONES, ZONES))
        for a, b in ((pickup, dropoff), (dropoff, pickup)):
            np.add.at(total, (a, b), minutes)
            np.add.at(count, (a, b), 1)
        # A single ride is too noisy to count as a road.
        path = np.where(count >= 2, total / np.maximum(count, 1), np.inf)
        np.fill_diagonal(path, 0.0)
        for via in range(ZONES):
            path = np.minimum(path, path[:, via, None] + path[None, via, :])
        path[np.isinf(path)] = LONGEST
        centre = np.eye(ZONES) - 1 / ZONES
        values, vectors = np.linalg.eigh(-0.5 * centre @ path**2 @ centre)
        scale = np.sqrt(np.maximum(values[-COORDINATES:], 0.0))
        places = np.ascontiguousarray((vectors[:, -COORDINATES:] * scale).T)
        distances = np.sqrt(np.square(places[:, :, None] - places[:, None, :]).sum(axis=0))
        return cls(places, distances)

    def save(self, path: Path) -> None:
        """Write the map; both arrays, so that no machine computes the distances again."""
        np.savez_compressed(path, places=self.places, distances=self.distances)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a map that `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(arrays["places"], arrays["distances"])


FEATURES = Schema(
    Field(name=name, type="float64")
    for name in (
        "minute_of_day",
        "weekday",
        *(f"pickup_{i}" for i in range(COORDINATES)),
        *(f"dropoff_{i}" for i in range(COORDINATES)),
        "map_distance",
    )
)


class TripDuration:
    """Predicts a ride's minutes from its pickup time and its two zones.

    Zones 264 and 265 are the source's words for unknown: they are out of range, as is a pickup
    before the data begin.
    """

    inputs = Schema(
        [
            Field(name="pickup_at", type="timestamp", min=dt.datetime(2019, 1, 1, tzinfo=dt.UTC)),
            Field(name="pickup_zone", type="int64", min=1, max=263),
            Field(name="dropoff_zone", type="int64", min=1, max=263),
        ]
    )
    outputs = Schema([Field(name="duration_minutes", type="float64")])
    parallel = True  # numpy and LightGBM leave the interpreter to others while they compute

    def __init__(self, zones: ZoneMap, booster: Path) -> None:
        """Put the parts together.

        Args:
            zones: Where the zones lie.
            booster: A LightGBM model in its text form, trained on `FEATURES`.
        """
        self.zones = zones
        self.booster = booster
        # Trivet's reader calls LightGBM's library itself: importing the Python package costs
        # seconds, and its checks cost more than a prediction.
        self._predictor = lightgbm.read(booster, Spec(FEATURES, self.outputs))

    def transform(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Turn raw inputs into what the booster reads."""
        return features(batch, self.zones)

    def predict(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Predict from the rows that `transform` made."""
        return self._predictor.predict(batch)

    def save(self, directory: Path) -> None:
        """Write what was learnt into a directory."""
        self.zones.save(directory / "zones.npz")
        shutil.copyfile(self.booster, directory / "booster.txt")

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read a model that `save` wrote."""
        return cls(ZoneMap.load(directory / "zones.npz"), directory / "booster.txt")


def features(batch: pa.RecordBatch, zones: ZoneMap) -> pa.RecordBatch:
    """Compute the features: New York's clock and calendar, and the two places on the map."""
    local = pc.local_timestamp(batch.column("pickup_at").cast(NEW_YORK)).cast(pa.int64()).to_numpy()
    minute = local // 60_000_000
    day = minute // 1440
    pickup = batch.column("pickup_zone").to_numpy()
    dropoff = batch.column("dropoff_zone").to_numpy()
    columns = [
        minute % 1440,
        (day + 3) % 7,  # Monday is 0; the first of January 1970 was a Thursday
        *zones.places[:, pickup],
        *zones.places[:, dropoff],
        zones.distances[pickup, dropoff],
    ]
    return pa.RecordBatch.from_arrays(
        [pa.array(np.asarray(column, np.float64)) for column in columns], schema=FEATURES.arrow
    )
