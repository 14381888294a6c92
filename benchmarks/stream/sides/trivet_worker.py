"""Trivet: one worker of a stream, as ``trivet consume`` starts it.

    python trivet_worker.py FOLDER BROKER TOPIC RESULTS EVENTS [SETTING=VALUE ...]

Validation, lineage, duplicates, offsets, dead letters and metrics are on.
"""

import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from trivet.current import Source
from trivet.hosts.stream.settings import StreamSettings
from trivet.hosts.stream.worker import SWITCH_SECONDS, Plan, Worker

folder, url, topic, results, count, *more = sys.argv[1:]
changed: dict[str, Any] = {}
for part in more:
    name, _, text = part.partition("=")
    changed[name] = json.loads(text)
settings = StreamSettings(
    **{"name": "tips", "model": "tip", "topic": topic, "key": ("ride_id",), **changed}
)
with tempfile.TemporaryDirectory() as counts:
    plan = Plan(
        settings=settings,
        source=Source("tip", "models/trip-duration"),
        broker=url,
        results=results,
        root=Path(folder),
        counts=Path(counts),
    )
    sys.setswitchinterval(SWITCH_SECONDS)
    worker = Worker(plan)
    latencies: list[tuple[Any, float]] = []
    seen = threading.Event()
    done = 0

    def watch(event_at: Any, now: float) -> None:
        global done
        done += len(event_at)
        latencies.append((event_at, now))
        if done >= int(count):
            seen.set()

    counted = worker.metrics.latency
    worker.metrics.latency = lambda at, now: (counted(at, now), watch(at, now))[0]  # type: ignore[method-assign]
    began = time.perf_counter()
    thread = threading.Thread(target=worker.run)
    thread.start()
    while not seen.wait(0.2) and thread.is_alive():
        pass
    ended = time.perf_counter()
    worker.stop()
    thread.join()
    print(json.dumps({"events": done, "seconds": ended - began}))
