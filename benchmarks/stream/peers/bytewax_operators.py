"""Bytewax as its documentation writes applications: an operator a step, batches by ``collect``.

    python bytewax_operators.py MODEL SERVER TOPIC OUTPUT EVENTS GROUP

It reads from the topic's begin to its end, and needs no group.
"""

import json
import sys
import time
from datetime import timedelta
from typing import Any

import bytewax.operators as op
import lightgbm
import numpy as np
from bytewax.connectors.kafka import KafkaSinkMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.testing import run_main

model_path, server, topic, output, count, _ = sys.argv[1:]
booster = lightgbm.Booster(model_file=model_path)
names = booster.feature_name()
times: list[float] = []


def decode(message: Any) -> Any:
    if not times:
        times.append(time.perf_counter())
    return json.loads(message.value)["data"]


def score(batch: Any) -> list[Any]:
    _, rows = batch
    matrix = np.array([[row[name] for name in names] for row in rows], dtype=np.float64)
    found: Any = booster.predict(matrix, num_threads=1)
    times.append(time.perf_counter())
    pairs = zip(rows, found.tolist(), strict=True)
    return [{"ride_id": row["ride_id"], "prediction": value} for row, value in pairs]


def message(scored: Any) -> Any:
    return KafkaSinkMessage(str(scored["ride_id"]).encode(), json.dumps(scored).encode())


flow = Dataflow("rides")
source = kop.input("in", flow, brokers=[server], topics=[topic], tail=False)
keyed = op.key_on("key", op.map("decode", source.oks, decode), lambda _: "all")
batches = op.collect("collect", keyed, timeout=timedelta(milliseconds=5), max_size=4096)
made = op.map("message", op.flat_map("score", batches, score), message)
kop.output("out", made, brokers=[server], topic=output)
run_main(flow)
print(json.dumps({"events": int(count), "seconds": times[-1] - times[0]}))
