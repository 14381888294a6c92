"""What a ride is: as it is asked for, as it is kept, and as it is told to its passenger."""

from __future__ import annotations

import datetime as dt
import secrets
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from backend.zones import KNOWN

Zone = Annotated[int, msgspec.Meta(ge=KNOWN.start, lt=KNOWN.stop)]
Dollars = Annotated[float, msgspec.Meta(ge=0, le=10_000)]
RideId = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9-]{8,64}$")]
Source = Literal["model", "fallback"]

ANSWERS = {
    "better-duration": ("duration_minutes", "duration_low", "duration_high"),
    "tip": ("tip", "tip_low", "tip_high"),
    "final-cost": ("cost", "cost_low", "cost_high"),
}
"""What the stream still says about a ride after the first answer: by stream, its numbers."""


class Refused(Exception):
    """A request that cannot be granted; says why, and what to do.

    Attributes:
        status: The HTTP status.
        detail: For people.
        headers: More headers of the answer.
    """

    def __init__(self, status: int, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.headers = dict(headers or {})


class Request(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A ride as it is asked for.

    Attributes:
        pickup_zone: Where it starts.
        dropoff_zone: Where it is to end.
        passengers: How many ride.
        payment: How they will pay.
        ride_id: Chosen by the caller, so that asking twice gives one ride.
        pickup_at: When it starts; only the fleet may say so, for everybody else it is now.
    """

    pickup_zone: Zone
    dropoff_zone: Zone
    passengers: Annotated[int, msgspec.Meta(ge=1, le=6)] = 1
    payment: Literal["card", "cash"] = "card"
    ride_id: RideId | None = None
    pickup_at: dt.datetime | None = None


class Ended(msgspec.Struct, frozen=True):
    """What was true in the end."""

    at: str
    duration_minutes: float
    fare: float
    tip: float
    total: float


class End(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How a ride ended: its passenger tells the tip, the fleet's meter tells the rest."""

    tip: Dollars = 0.0
    duration_minutes: Annotated[float, msgspec.Meta(ge=0, le=1440)] | None = None
    fare: Dollars | None = None
    total: Dollars | None = None

    def told(self, at: str, elapsed: float, card: bool) -> Ended:
        """Return what was true: what the meter told, or what it would have told after so long.

        Args:
            at: When the ride ended.
            elapsed: Minutes since the pickup, by the clock.
            card: Whether it was paid by card; only then a tip is recorded.
        """
        minutes = elapsed if self.duration_minutes is None else self.duration_minutes
        fare = round(2.5 + 0.8 * minutes, 2) if self.fare is None else self.fare
        tip = self.tip if card else 0.0
        total = round(fare + tip + 3.3, 2) if self.total is None else self.total
        return Ended(at, minutes, fare, tip, total)


class Estimate(msgspec.Struct, frozen=True):
    """One number for the passenger, and where it comes from.

    Attributes:
        value: The number.
        source: The model, or what rides usually take when the model did not answer.
        version: The model's version; empty for a fallback.
        reason: Why it is a fallback; empty otherwise.
    """

    value: float
    source: Source = "model"
    version: str = ""
    reason: str = ""


class Ride(msgspec.Struct, frozen=True):
    """A ride as it is kept and told.

    Attributes:
        ride_id: Its id.
        user_id: Whose it is; not told.
        requested_at: When it was asked for.
        pickup_at: When it starts.
        pickup_zone: Where it starts.
        dropoff_zone: Where it is to end.
        passengers: How many ride.
        payment: How they pay.
        duration: First estimate of its minutes.
        fare: First estimate of its metered fare, $.
        answers: What came over the stream, by kind.
        ended: How it ended, once it has.
    """

    ride_id: str
    user_id: str
    requested_at: str
    pickup_at: str
    pickup_zone: int
    dropoff_zone: int
    passengers: int
    payment: str
    duration: Estimate
    fare: Estimate
    answers: Mapping[str, Mapping[str, Any]] = {}
    ended: Ended | None = None

    def told(self) -> dict[str, Any]:
        """Return what its passenger may know."""
        told: dict[str, Any] = msgspec.to_builtins(self)
        del told["user_id"]
        return told

    def event(self) -> dict[str, Any]:
        """Return what the stream is told when it is requested."""
        return {
            "ride_id": self.ride_id,
            "pickup_at": self.pickup_at,
            "pickup_zone": self.pickup_zone,
            "dropoff_zone": self.dropoff_zone,
            "passengers": self.passengers,
            "card": self.payment == "card",
            "first_duration": self.duration.value,
            "first_fare": self.fare.value,
            "first_source": self.first_source,
            "duration_version": self.duration.version,
            "fare_version": self.fare.version,
        }

    @property
    def first_source(self) -> Source:
        """Whether both first estimates are the models' own."""
        both = self.duration.source == self.fare.source == "model"
        return "model" if both else "fallback"


def text_of(moment: dt.datetime) -> str:
    """Return a moment in UTC as the events and the page have it."""
    utc = moment.astimezone(dt.UTC)
    return utc.isoformat(timespec="milliseconds" if utc.microsecond else "seconds")[:-6] + "Z"


def new_id() -> str:
    """Return an id for a ride."""
    return secrets.token_hex(12)
