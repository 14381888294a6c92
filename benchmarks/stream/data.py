"""The model and the events; run as a process of its own.

    python -m stream.data FOLDER BROKER TOPIC EVENTS

Saves the model of the batch benchmark in FOLDER and appends rides, drawn with a fixed seed from
the real trips of examples/taxi, to a topic of four partitions.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec

from batch.data import FEATURES, train, trips
from trivet import brokers

PARTITIONS = 4
_encode = msgspec.json.Encoder().encode


def events(count: int) -> list[tuple[bytes, bytes]]:
    """Return keys and values: CloudEvents of some 330 bytes."""
    rows = trips(0, count, count).to_pylist()
    made = []
    for row in rows:
        ride = row["trip_id"]
        data = {"ride_id": ride, **{name: row[name] for name in FEATURES}}
        value = {
            "specversion": "1.0",
            "id": f"6f9619ff-8b86-d011-b42d-{ride:012d}",
            "source": "/taxi/backend",
            "type": "ride.requested",
            "time": row["pickup_at"],
            "subject": f"ride/{ride}",
            "datacontenttype": "application/json",
            "data": data,
        }
        made.append((str(ride).encode(), _encode(value)))
    return made


def publish(url: str, topic: str, made: list[tuple[bytes, bytes]]) -> None:
    """Append events to a topic, and wait until they are durable."""
    broker = brokers.connect(url)
    broker.create(topic, PARTITIONS)
    appender = broker.appender()
    for number, (key, value) in enumerate(made):
        appender.append(topic, key, value)
        if number % 20_000 == 19_999:
            while appender.flush(10):
                pass
    while appender.flush(10):
        pass
    appender.close()
    broker.close()


def main() -> None:
    folder, url, topic, count = sys.argv[1:]
    if not (Path(folder) / "models").exists():
        train(Path(folder))
    publish(url, topic, events(int(count)))


if __name__ == "__main__":
    main()
