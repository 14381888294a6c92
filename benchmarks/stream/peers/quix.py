"""Quix Streams: one event a call, as its applications are written.

python quix.py MODEL SERVER TOPIC OUTPUT EVENTS GROUP
"""

import json
import logging
import sys
import time
from typing import Any

import lightgbm
import numpy as np
from quixstreams import Application

model_path, server, topic, output, count, group = sys.argv[1:]
booster = lightgbm.Booster(model_file=model_path)
names = booster.feature_name()
logging.disable(logging.INFO)
times: list[float] = []


def score(value: Any) -> Any:
    times.append(time.perf_counter())
    data = value["data"]
    row = np.array([[data[name] for name in names]], dtype=np.float64)
    found: Any = booster.predict(row, num_threads=1)
    times.append(time.perf_counter())
    return {"ride_id": data["ride_id"], "prediction": float(found[0])}


app = Application(broker_address=server, consumer_group=group, auto_offset_reset="earliest")
stream = app.dataframe(app.topic(topic, value_deserializer="json"))
stream = stream.apply(score).to_topic(app.topic(output, value_serializer="json"))
app.run(count=int(count), timeout=120)
print(json.dumps({"events": int(count), "seconds": times[-1] - times[0]}))
