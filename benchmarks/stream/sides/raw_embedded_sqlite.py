"""The floor: events of the embedded broker's file to SQLite, rows and offsets in one transaction.

    python raw_embedded_sqlite.py MODEL BROKER TOPIC RESULTS EVENTS

The loop that one writes by hand against the broker's own reading, without validation, lineage,
metrics, duplicates or groups.
"""

import json
import sqlite3
import sys
import time
from pathlib import Path

import lightgbm
import msgspec
import numpy as np

from trivet import brokers

model_path, url, topic, results_path, count = sys.argv[1:]
booster = lightgbm.Booster(model_file=model_path)
names = booster.feature_name()
decode = msgspec.json.Decoder().decode

broker = brokers.connect(url)
results = sqlite3.connect(results_path, isolation_level=None)
results.execute("PRAGMA journal_mode = WAL")
results.execute("PRAGMA synchronous = FULL")
results.execute("CREATE TABLE predictions (ride_id INTEGER, prediction REAL)")
results.execute("CREATE TABLE offsets (partition INTEGER PRIMARY KEY, next INTEGER)")

places = {partition: first for partition, (first, _) in broker.bounds(topic).items()}
done, wanted = 0, int(count)
began = time.perf_counter()
while done < wanted:
    for partition, offset in places.items():
        fetched = broker.read(topic, partition, offset, 4096)
        if not fetched.offsets:
            continue
        rows = [decode(value)["data"] for value in fetched.values]
        matrix = np.array([[row[name] for name in names] for row in rows], dtype=np.float64)
        predictions = booster.predict(matrix, num_threads=1)
        places[partition] = fetched.offsets[-1] + 1
        results.execute("BEGIN IMMEDIATE")
        results.executemany(
            "INSERT INTO predictions VALUES (?, ?)",
            zip((row["ride_id"] for row in rows), predictions.tolist(), strict=True),
        )
        results.execute(
            "INSERT INTO offsets VALUES (?, ?) ON CONFLICT DO UPDATE SET next = excluded.next",
            (partition, places[partition]),
        )
        results.execute("COMMIT")
        done += len(rows)
print(json.dumps({"events": done, "seconds": time.perf_counter() - began}))
Path(results_path).unlink()
