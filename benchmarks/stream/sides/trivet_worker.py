"""Trivet: one worker of a stream, as ``trivet consume`` starts it.

    python trivet_worker.py FOLDER BROKER TOPIC RESULTS EVENTS WARM [SETTING=VALUE ...]

Validation, lineage, duplicates, offsets, dead letters, profiles and metrics are on. How late
results were is told of all but the first WARM events.
"""

import json
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from trivet.current import Source
from trivet.hosts.stream.settings import StreamSettings
from trivet.hosts.stream.worker import SWITCH_SECONDS, Plan, Worker


class Watch:
    """Sees each batch when it is kept."""

    def __init__(self, worker: Worker, events: int) -> None:
        self._count = worker.metrics.latency
        self._wanted, self._done = events, 0
        self.began = self.ended = 0.0
        self.seconds: list[Any] = []
        self.all_there = threading.Event()

    def __call__(self, event_at: Any, now: float) -> None:
        self._count(event_at, now)
        self.ended = time.perf_counter()
        self.seconds.append(now - event_at.cast("int64").to_numpy() / 1e6)
        self._done += len(event_at)
        if self._done >= self._wanted:
            self.all_there.set()


def main() -> None:
    folder, url, topic, results, count, warm, *more = sys.argv[1:]
    changed = {name: json.loads(text) for name, _, text in (part.partition("=") for part in more)}
    made: dict[str, Any] = {"name": "tips", "model": "tip", "topic": topic, "key": ("ride_id",)}
    with tempfile.TemporaryDirectory() as counts:
        plan = Plan(
            settings=StreamSettings(**made | changed),
            source=Source("tip", "models/trip-duration"),
            broker=url,
            results=results,
            root=Path(folder),
            counts=Path(counts),
        )
        sys.setswitchinterval(SWITCH_SECONDS)
        worker = Worker(plan)
        watch = Watch(worker, int(count))
        worker.metrics.latency = watch  # type: ignore[method-assign]
        put = worker._scorer.score

        def score(batch: Any) -> Any:
            watch.began = watch.began or time.perf_counter()
            return put(batch)

        worker._scorer.score = score  # type: ignore[method-assign]
        thread = threading.Thread(target=worker.run)
        thread.start()
        while not watch.all_there.wait(0.2) and thread.is_alive():
            pass
        worker.stop()
        thread.join()
    late = np.concatenate(watch.seconds) * 1000
    told = {"events": len(late), "seconds": watch.ended - watch.began}
    measured = late[int(warm) :]
    told |= {f"p{p}_ms": float(np.percentile(measured, p)) for p in (50, 99)}
    print(json.dumps(told))


if __name__ == "__main__":
    main()
