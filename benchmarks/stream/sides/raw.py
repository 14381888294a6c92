"""The floor: the loop that one writes by hand, without validation, lineage, metrics or duplicates.

    python raw.py MODEL BROKER TOPIC SINK EVENTS GROUP [WARM]

SINK is the path of an SQLite file (rows and offsets in one durable transaction) or ``topic:NAME``
(events and offsets in one transaction of the broker). The embedded broker's file is read by the
broker's own reading, Kafka by confluent-kafka. With WARM, events are taken as soon as they are
there, and how late their results were is told of all but the first so many.
"""

import json
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import lightgbm
import msgspec
import numpy as np

from trivet import brokers

BATCH = 4096
model_path, url, topic, sink, count, group, *warm = sys.argv[1:]
booster = lightgbm.Booster(model_file=model_path)
names = booster.feature_name()
decode = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode
kafka = url.startswith("kafka://")
server = url.removeprefix("kafka://")

Batch = tuple[dict[int, int], list[Any], list[str]]
Keep = Callable[[dict[int, int], list[Any], list[float]], None]


class Listening:
    def assigned(self, partitions: Any) -> dict[int, int]:
        return {}

    def revoked(self, partitions: Any, *, lost: bool) -> None:
        pass


if kafka:
    from confluent_kafka import Consumer, Producer, TopicPartition

    settings = {"bootstrap.servers": server, "group.id": group, "auto.offset.reset": "earliest"}
    consumer = Consumer({**settings, "enable.auto.commit": False})
    consumer.subscribe([topic])
else:
    broker = brokers.connect(url)
    member = broker.member(topic, group, Listening())


def batches() -> Iterator[Batch]:
    while True:
        if kafka:
            if warm:  # consume() would wait for the whole batch
                first = consumer.poll(0.1)
                messages = [] if first is None else [first, *consumer.consume(BATCH - 1, 0)]
            else:
                messages = consumer.consume(BATCH, 0.02)
            values = [message.value() or b"" for message in messages]
            ends = {m.partition() or 0: (m.offset() or 0) + 1 for m in messages}
        else:
            values, ends = [], {}
            for fetched in member.poll(BATCH, 0.1):
                values += [value or b"" for value in fetched.values]
                ends[fetched.partition] = fetched.offsets[-1] + 1
        if values:
            events = list(map(decode, values))
            happened = [event["time"] for event in events] if warm else []
            yield ends, [event["data"] for event in events], happened


def into_sqlite() -> Keep:
    results = sqlite3.connect(sink, isolation_level=None)
    results.execute("PRAGMA journal_mode = WAL")
    results.execute("PRAGMA synchronous = FULL")
    results.execute("CREATE TABLE predictions (ride_id INTEGER, prediction REAL)")
    results.execute("CREATE TABLE offsets (partition INTEGER PRIMARY KEY, next INTEGER)")

    def keep(ends: dict[int, int], rows: list[Any], predictions: list[float]) -> None:
        results.execute("BEGIN IMMEDIATE")
        rides = (row["ride_id"] for row in rows)
        results.executemany(
            "INSERT INTO predictions VALUES (?, ?)", zip(rides, predictions, strict=True)
        )
        results.executemany(
            "INSERT INTO offsets VALUES (?, ?) ON CONFLICT DO UPDATE SET next = excluded.next",
            ends.items(),
        )
        results.execute("COMMIT")

    return keep


def into_topic() -> Keep:
    output = sink.partition(":")[2]
    if not kafka:
        appender = broker.appender(transaction=group)

        def keep_embedded(ends: dict[int, int], rows: list[Any], predictions: list[float]) -> None:
            appender.begin()
            for row, prediction in zip(rows, predictions, strict=True):
                value = encode({"ride_id": row["ride_id"], "prediction": prediction})
                appender.append(output, str(row["ride_id"]).encode(), value)
            appender.commit(member, ends)

        return keep_embedded
    producer = Producer({"bootstrap.servers": server, "transactional.id": group})
    producer.init_transactions(30)

    def keep(ends: dict[int, int], rows: list[Any], predictions: list[float]) -> None:
        producer.begin_transaction()
        for row, prediction in zip(rows, predictions, strict=True):
            value = encode({"ride_id": row["ride_id"], "prediction": prediction})
            producer.produce(output, value, str(row["ride_id"]).encode())
        parts = [TopicPartition(topic, partition, end) for partition, end in ends.items()]
        producer.send_offsets_to_transaction(parts, consumer.consumer_group_metadata(), 30)
        producer.commit_transaction(30)

    return keep


def main() -> None:
    keep = into_topic() if sink.startswith("topic:") else into_sqlite()
    done, wanted, began = 0, int(count), 0.0
    late: list[float] = []
    for ends, rows, happened in batches():
        began = began or time.perf_counter()
        matrix = np.array([[row[name] for name in names] for row in rows], dtype=np.float64)
        found: Any = booster.predict(matrix, num_threads=1)
        keep(ends, rows, found.tolist())
        now = time.time()
        late += [now - datetime.fromisoformat(moment).timestamp() for moment in happened]
        done += len(rows)
        if done >= wanted:
            break
    told = {"events": done, "seconds": time.perf_counter() - began}
    if warm:
        measured = np.array(late[int(warm[0]) :]) * 1000
        told |= {f"p{p}_ms": float(np.percentile(measured, p)) for p in (50, 99)}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
