"""A plain producer: real trips pushed as events in their own order, without any backend.

    python replay.py --rides 1000 --speed 36000

It pushes and expects no answer. The consumers score its events as they do the backend's; nothing
but the broker has to run.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from fleet import trips_of
from rides import DATA, between, month, read

import trivet

HERE = Path(__file__).parent
TOPIC, TYPE, SOURCE = "rides", "ride.requested", "/taxi/replay"


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--broker", default=f"sqlite:///{HERE / 'data' / 'events.db'}")
    parser.add_argument("--from", dest="first", type=month, default=month("2019-07"))
    parser.add_argument("--rides", type=int, default=1000)
    parser.add_argument(
        "--speed", type=float, default=0.0, help="so much faster than life; 0: at once"
    )
    chosen = parser.parse_args()
    rides = between(read(DATA), chosen.first, month("2020-07"))
    start, first = time.monotonic(), None
    with trivet.Producer(chosen.broker, SOURCE) as producer:
        producer.create_topic(TOPIC)
        for trip in trips_of(rides, chosen.rides):
            first = first or trip["pickup_at"]
            if chosen.speed:
                due = (trip["pickup_at"] - first).total_seconds() / chosen.speed
                time.sleep(max(0.0, start + due - time.monotonic()))
            ride_id = f"replay-{trip['trip_id']:06d}"
            data = {
                "ride_id": ride_id,
                "pickup_at": trip["pickup_at"],
                "pickup_zone": trip["pickup_zone"],
                "dropoff_zone": trip["dropoff_zone"],
                "passengers": min(max(trip["passengers"], 1), 6),
                "card": bool(trip["card"]),
            }
            producer.send(TOPIC, ride_id, data, type=TYPE, id=ride_id, time=trip["pickup_at"])
    seconds = time.monotonic() - start
    print(f"{chosen.rides:,} events in {seconds:.1f} s")


if __name__ == "__main__":
    main()
