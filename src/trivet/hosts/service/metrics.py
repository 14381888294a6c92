"""What the service counts, for Prometheus."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path

from trivet.counts import Counts, Help
from trivet.hosts.service.answers import Result, Waiting
from trivet.hosts.service.serving import Models, Served, Version

LATENCY = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0, 16_384.0)

HELP: Help = {
    "trivet_requests": ("counter", "Requests by model, version, protocol and status."),
    "trivet_request_seconds": ("histogram", "Seconds from a request's head to its answer."),
    "trivet_batch_rows": ("histogram", "Rows that were scored in one call."),
    "trivet_model_seconds": ("histogram", "Seconds that one call of a model took."),
    "trivet_rows_scored": ("counter", "Rows that have a prediction."),
    "trivet_rejects": ("counter", "Problems of rejected rows by code."),
    "trivet_queue_rows": ("gauge", "Rows that wait for a model."),
    "trivet_model_threads_lost": ("gauge", "Calls of a model that have not come back."),
    "trivet_model_info": ("info", "Loaded versions of models; 1 for the one in use, else 0."),
    "trivet_model_loads": ("counter", "New versions of models by what became of them."),
    "trivet_log_rows": ("counter", "Rows of the prediction log by what became of them."),
    "trivet_log_queue_rows": ("gauge", "Rows that wait to be logged."),
    "trivet_workers": ("gauge", "Processes that serve."),
    "trivet_worker_restarts": ("counter", "Processes that died and were replaced."),
}
"""Every metric: what it is and what it tells."""


class Metrics(Counts):
    """What one process counts.

    Args:
        folder: Where all processes of the service count; without one, this is the only one.
        number: See `trivet.counts.Board`.
    """

    def __init__(self, folder: Path | None = None, number: int = 0) -> None:
        super().__init__(HELP, folder, number)
        self._requests: dict[tuple[str, str, str, int], tuple[int, int]] = {}
        self._batches: dict[tuple[str, str], tuple[int, int, int]] = {}
        self._loaded: set[tuple[str, str, str]] = set()
        self._looking = threading.Lock()

    def request(self, served: Served | None, protocol: str, status: int, seconds: float) -> None:
        """Count one request."""
        if served is None:
            key = ("", "", protocol, status)
        else:
            key = (served.name, served.model.version, protocol, status)
        places = self._requests.get(key) or self._place_request(key)
        numbers = self.numbers
        numbers[places[0]] += 1.0
        start = places[1]
        numbers[start + bisect_left(LATENCY, seconds)] += 1.0
        numbers[start + len(LATENCY) + 1] += seconds

    def batch(
        self, served: Version, batch: Sequence[Waiting], result: Result, seconds: float
    ) -> None:
        """Count one batch; an observer of `trivet.hosts.service.serving.Models`."""
        key = (served.name, served.model.version)
        places = self._batches.get(key) or self._place_batch(key)
        numbers = self.numbers
        sizes, times, scored = places
        rows = float(sum([waiting.count for waiting in batch]))
        numbers[sizes + bisect_left(SIZES, rows)] += 1.0
        numbers[sizes + len(SIZES) + 1] += rows
        numbers[times + bisect_left(LATENCY, seconds)] += 1.0
        numbers[times + len(LATENCY) + 1] += seconds
        if isinstance(result, Exception):
            return
        numbers[scored] += float(result.predictions.num_rows)
        if result.problems.num_rows:
            for found in result.problems.column("code").value_counts().to_pylist():
                rejects = found["counts"]
                self.count("trivet_rejects", rejects, model=served.name, code=found["values"])

    def look(self, models: Models) -> None:
        """Set the gauges that tell how the models are."""
        with self._looking:  # a version is loaded on a thread of its own
            gone, self._loaded = self._loaded, set()
            for family in models.families.values():
                queued = lost = 0
                for version, served in family.versions.items():
                    queued += served.batcher.queued
                    lost += served.batcher.lost
                    which = family.name, version, served.model.digest[:12]
                    self._tell(which, float(version == family.default))
                    self._loaded.add(which)
                self.gauge("trivet_queue_rows", queued, model=family.name)
                self.gauge("trivet_model_threads_lost", lost, model=family.name)
            for which in gone - self._loaded:
                self._tell(which, 0.0)

    def _tell(self, which: tuple[str, str, str], value: float) -> None:
        model, version, digest = which
        self.gauge("trivet_model_info", value, model=model, version=version, digest=digest)

    def _place_request(self, key: tuple[str, str, str, int]) -> tuple[int, int]:
        model, version, protocol, status = key
        labels = {"model": model, "version": version, "protocol": protocol}
        counter = self.place("trivet_requests", labels | {"code": str(status)})
        seconds = self.place("trivet_request_seconds", labels, LATENCY)
        places = self._requests[key] = counter, seconds
        return places

    def _place_batch(self, key: tuple[str, str]) -> tuple[int, int, int]:
        labels = {"model": key[0], "version": key[1]}
        places = self._batches[key] = (
            self.place("trivet_batch_rows", labels, SIZES),
            self.place("trivet_model_seconds", labels, LATENCY),
            self.place("trivet_rows_scored", labels),
        )
        return places
