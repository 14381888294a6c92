"""FastStream in batch mode: one call of the model a batch, events validated by its models.

python faststream_batch.py MODEL SERVER TOPIC OUTPUT EVENTS GROUP
"""

import asyncio
import json
import logging
import sys
import time
from datetime import datetime
from typing import Any

import lightgbm
import numpy as np
from faststream import AckPolicy, FastStream
from faststream.confluent import KafkaBroker
from pydantic import BaseModel

model_path, server, topic, output, count, group = sys.argv[1:]
booster = lightgbm.Booster(model_file=model_path)
names = booster.feature_name()
logging.disable(logging.INFO)
broker = KafkaBroker(server)
app = FastStream(broker)
times: list[float] = []
sizes: list[int] = []


class Data(BaseModel):
    ride_id: int
    pickup_zone: int
    dropoff_zone: int
    trip_distance: float
    hour: int
    passengers: int


class Ride(BaseModel):
    id: str
    source: str
    type: str
    time: datetime
    data: Data


@broker.publisher(output, batch=True)
@broker.subscriber(
    topic,
    batch=True,
    max_records=4096,
    group_id=group,
    auto_offset_reset="earliest",
    ack_policy=AckPolicy.ACK,
)
async def score(events: list[Ride]) -> list[dict[str, Any]]:
    times.append(time.perf_counter())
    rows = [event.data for event in events]
    matrix = np.array([[getattr(row, name) for name in names] for row in rows], dtype=np.float64)
    found: Any = booster.predict(matrix, num_threads=1)
    times.append(time.perf_counter())
    if sum(sizes) < int(count):
        sizes.append(len(rows))
        if sum(sizes) >= int(count):
            told = {"events": sum(sizes), "seconds": times[-1] - times[0]}
            print(json.dumps(told), flush=True)
            app.exit()
    pairs = zip(rows, found.tolist(), strict=True)
    return [{"ride_id": row.ride_id, "prediction": value} for row, value in pairs]


asyncio.run(app.run())
