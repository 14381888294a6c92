"""The models of the taxi app: those asked when a ride is requested, those that follow its event.

All of them know the same few things: when and where the ride starts and where it is to end, some
of them also how many ride and how they pay. None knows the metered distance, which only the end
of the ride tells. Each turns what it knows into features itself, so that every host computes them
the same way, and none reads another's estimate: one bad estimate spoils nothing else.
"""

from __future__ import annotations

import datetime as dt
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

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


BASICS = (
    "minute_of_day",
    "weekday",
    *(f"pickup_{i}" for i in range(COORDINATES)),
    *(f"dropoff_{i}" for i in range(COORDINATES)),
    "map_distance",
)

# Zones 264 and 265 are the source's words for unknown: they are out of range, as is a pickup
# before the data begin.
ROUTE = (
    Field(name="pickup_at", type="timestamp", min=dt.datetime(2019, 1, 1, tzinfo=dt.UTC)),
    Field(name="pickup_zone", type="int64", min=1, max=263),
    Field(name="dropoff_zone", type="int64", min=1, max=263),
)
PASSENGERS = Field(name="passengers", type="int64", min=1, max=6)
CARD = Field(name="card", type="bool")


class RideModel:
    """Boosted trees over the features of a ride; a subclass says which facts and which answers.

    Attributes:
        inputs: What is known of a ride.
        outputs: What is predicted.
        facts: Inputs beside the route, taken as features as they are.
        sources: How many boosters there are.
    """

    inputs: ClassVar[Schema]
    outputs: ClassVar[Schema]
    facts: ClassVar[tuple[str, ...]] = ()
    sources: ClassVar[int] = 1
    parallel = True  # numpy and LightGBM leave the interpreter to others while they compute

    def __init__(self, zones: ZoneMap, boosters: Sequence[Path]) -> None:
        """Put the parts together.

        Args:
            zones: Where the zones lie.
            boosters: LightGBM models in their text form, trained on `features()`.
        """
        self.zones = zones
        self.boosters = tuple(boosters)
        spec = Spec(self.features(), _VALUE)
        # Trivet's reader calls LightGBM's library itself: importing the Python package costs
        # seconds, and its checks cost more than a prediction.
        self._trees = [lightgbm.read(booster, spec) for booster in self.boosters]

    @classmethod
    def features(cls) -> Schema:
        """Return the columns that the boosters read."""
        return Schema(Field(name=name, type="float64") for name in (*BASICS, *cls.facts))

    def transform(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Turn raw inputs into what the boosters read."""
        return features(batch, self.zones, self.facts)

    def predict(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Predict from the rows that `transform` made."""
        values = [trees.predict(batch).column(0).to_numpy() for trees in self._trees]
        return pa.RecordBatch.from_arrays(
            [pa.array(column) for column in self.combine(values)], schema=self.outputs.arrow
        )

    def combine(self, values: Sequence[Floats]) -> Sequence[Floats]:
        """Turn the boosters' answers into the outputs."""
        return values

    def save(self, directory: Path) -> None:
        """Write what was learnt into a directory."""
        self.zones.save(directory / "zones.npz")
        for number, booster in enumerate(self.boosters):
            shutil.copyfile(booster, directory / f"booster-{number}.txt")

    @classmethod
    def load(cls, directory: Path) -> Self:
        """Read a model that `save` wrote."""
        boosters = [directory / f"booster-{number}.txt" for number in range(cls.sources)]
        return cls(ZoneMap.load(directory / "zones.npz"), boosters)


class TripDuration(RideModel):
    """Minutes from pickup to dropoff, for whoever waits for the answer."""

    inputs = Schema(ROUTE)
    outputs = Schema([Field(name="duration_minutes", type="float64")])


class Fare(RideModel):
    """What the meter will show, $, without surcharges, tolls and tip."""

    inputs = Schema(ROUTE)
    outputs = Schema([Field(name="fare", type="float64")])


class BetterDuration(RideModel):
    """Minutes again, from several times the trees, with a range that holds four rides of five."""

    inputs = Schema([*ROUTE, PASSENGERS])
    outputs = Schema(
        Field(name=name, type="float64")
        for name in ("duration_minutes", "duration_low", "duration_high")
    )
    facts = ("passengers",)
    sources = 5

    def combine(self, values: Sequence[Floats]) -> Sequence[Floats]:
        """Take the mean of three, and the other two as the range around it."""
        middle = (values[0] + values[1] + values[2]) / 3
        return middle, np.minimum(values[3], middle), np.maximum(values[4], middle)


class Tip(RideModel):
    """The tip, $, of a passenger who pays by card: the median, and the quartiles around it."""

    inputs = Schema([*ROUTE, PASSENGERS])
    outputs = Schema(Field(name=name, type="float64") for name in ("tip", "tip_low", "tip_high"))
    facts = ("passengers",)
    sources = 3

    def combine(self, values: Sequence[Floats]) -> Sequence[Floats]:
        """Keep the quartiles in their order, for they were learnt apart; no tip is negative."""
        low, middle, high = np.maximum(np.sort(np.stack(values), axis=0), 0.0)
        return middle, low, high


class FinalCost(RideModel):
    """What the passenger pays in the end, $, all in, with a range that holds four rides of five."""

    inputs = Schema([*ROUTE, PASSENGERS, CARD])
    outputs = Schema(Field(name=name, type="float64") for name in ("cost", "cost_low", "cost_high"))
    facts = ("passengers", "card")
    sources = 3

    def combine(self, values: Sequence[Floats]) -> Sequence[Floats]:
        """Keep the quantiles in their order, for they were learnt apart."""
        low, middle, high = np.sort(np.stack(values), axis=0)
        return middle, low, high


_VALUE = Schema([Field(name="value", type="float64")])


def features(batch: pa.RecordBatch, zones: ZoneMap, facts: Sequence[str] = ()) -> pa.RecordBatch:
    """Compute the features: New York's clock and calendar, the two places on the map, the facts."""
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
        *(batch.column(fact).to_numpy(zero_copy_only=False) for fact in facts),
    ]
    return pa.RecordBatch.from_arrays(
        [pa.array(np.asarray(column, np.float64)) for column in columns],
        names=[*BASICS, *facts],
    )
