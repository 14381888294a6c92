"""Bytewax as a shell around the raw loop: its batches through ``flat_map_batch``.

    python bytewax_batches.py MODEL SERVER TOPIC OUTPUT EVENTS GROUP

It reads from the topic's begin to its end, and needs no group.
"""

import json
import sys
import time
from typing import Any

import bytewax.operators as op
import lightgbm
import msgspec
import numpy as np
from bytewax.connectors.kafka import KafkaSinkMessage
from bytewax.connectors.kafka import operators as kop
from bytewax.dataflow import Dataflow
from bytewax.testing import run_main

model_path, server, topic, output, count, _ = sys.argv[1:]
booster = lightgbm.Booster(model_file=model_path)
names = booster.feature_name()
decode = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode
times: list[float] = []


def score(messages: list[Any]) -> list[Any]:
    if not messages:
        return []
    times.append(time.perf_counter())
    rows = [decode(message.value)["data"] for message in messages]
    matrix = np.array([[row[name] for name in names] for row in rows], dtype=np.float64)
    found: Any = booster.predict(matrix, num_threads=1)
    made = [
        KafkaSinkMessage(message.key, encode({"ride_id": row["ride_id"], "prediction": value}))
        for message, row, value in zip(messages, rows, found.tolist(), strict=True)
    ]
    times.append(time.perf_counter())
    return made


flow = Dataflow("rides")
source = kop.input("in", flow, brokers=[server], topics=[topic], tail=False, batch_size=4096)
kop.output("out", op.flat_map_batch("score", source.oks, score), brokers=[server], topic=output)
run_main(flow)
print(json.dumps({"events": int(count), "seconds": times[-1] - times[0]}))
