"""What a stream counts, for Prometheus."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from trivet.contract import Model
from trivet.counts import Counts, Help

LATENCY = (
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0, 600.0,
    3600.0,
)  # fmt: skip
SIZES = (1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0, 16_384.0)

HELP: Help = {
    "trivet_stream_events": ("counter", "Events by what became of them."),
    "trivet_stream_batch_events": ("histogram", "Events that were scored in one call."),
    "trivet_stream_model_seconds": ("histogram", "Seconds that one call of the model took."),
    "trivet_stream_latency_seconds": (
        "histogram",
        "Seconds from an event's own time until its prediction was kept or sent.",
    ),
    "trivet_stream_lag_events": ("gauge", "Events of a partition that are not scored yet."),
    "trivet_stream_under_way_events": ("gauge", "Events that were read and are not kept yet."),
    "trivet_stream_dead_letters": ("counter", "Problems of rejected events by code."),
    "trivet_stream_rebalances": ("counter", "Partitions that came, went or were lost."),
    "trivet_stream_retries": ("counter", "Tries again, by what failed."),
    "trivet_stream_stalled": ("gauge", "1 for a partition with events that does not move."),
    "trivet_stream_paused": ("gauge", "1 while nothing is read because too much is under way."),
    "trivet_stream_model_info": ("info", "The version of the model in use."),
    "trivet_stream_model_loads": ("counter", "New versions of the model by what became of them."),
    "trivet_stream_workers": ("gauge", "Processes that consume."),
    "trivet_stream_worker_restarts": ("counter", "Processes that died and were replaced."),
}
"""Every metric: what it is and what it tells."""

_BOUNDS = np.asarray(LATENCY)


class Metrics(Counts):
    """What one process of a stream counts.

    Args:
        deployment: The deployment.
        folder: Where all its processes count; without one, this is the only one.
        number: See `trivet.counts.Board`.
    """

    def __init__(self, deployment: str, folder: Path | None = None, number: int = 0) -> None:
        super().__init__(HELP, folder, number)
        self._labels = {"deployment": deployment}
        self._outcomes = {
            name: self.place("trivet_stream_events", self._labels | {"outcome": name})
            for name in ("scored", "rejected", "skipped", "duplicate")
        }
        self._sizes = self.place("trivet_stream_batch_events", self._labels, SIZES)
        self._calls = self.place("trivet_stream_model_seconds", self._labels, LATENCY)
        self._latency = self.place("trivet_stream_latency_seconds", self._labels, LATENCY)
        self._model: Mapping[str, str] | None = None
        for what in ("assigned", "revoked", "lost"):
            self.rebalance(what, 0)
        for outcome in ("loaded", "refused"):
            self.count("trivet_stream_model_loads", 0, **self._labels, outcome=outcome)
        for what in ("results", "broker"):
            self.count("trivet_stream_retries", 0, **self._labels, what=what)

    def batch(self, events: int, seconds: float) -> None:
        """Count a batch that was scored."""
        numbers = self.numbers
        numbers[self._sizes + bisect_left(SIZES, events)] += 1.0
        numbers[self._sizes + len(SIZES) + 1] += events
        numbers[self._calls + bisect_left(LATENCY, seconds)] += 1.0
        numbers[self._calls + len(LATENCY) + 1] += seconds

    def outcome(self, name: str, events: int) -> None:
        """Count events by what became of them."""
        self.numbers[self._outcomes[name]] += events

    def latency(self, event_at: pa.Array, now: float) -> None:
        """Count how long ago events happened, whose predictions are kept now."""
        if not len(event_at):
            return
        seconds = now - event_at.cast(pa.int64()).to_numpy() / 1e6
        counts = np.bincount(np.searchsorted(_BOUNDS, seconds), minlength=len(LATENCY) + 1)
        numbers = self.numbers
        for place in np.flatnonzero(counts).tolist():
            numbers[self._latency + place] += float(counts[place])
        numbers[self._latency + len(LATENCY) + 1] += float(seconds.sum())

    def dead_letter(self, code: str) -> None:
        """Count one problem of a rejected event."""
        self.count("trivet_stream_dead_letters", 1, **self._labels, code=code)

    def rebalance(self, what: str, partitions: int) -> None:
        """Count partitions that came or went."""
        self.count("trivet_stream_rebalances", partitions, **self._labels, what=what)

    def retry(self, what: str) -> None:
        """Count one try again."""
        self.count("trivet_stream_retries", 1, **self._labels, what=what)

    def load(self, outcome: str) -> None:
        """Count a version of the model that was looked at."""
        self.count("trivet_stream_model_loads", 1, **self._labels, outcome=outcome)

    def model(self, model: Model) -> None:
        """Tell which model is in use."""
        if self._model is not None:
            self.gauge("trivet_stream_model_info", 0.0, **self._labels, **self._model)
        self._model = {"model": model.name, "version": model.version, "digest": model.digest[:12]}
        self.gauge("trivet_stream_model_info", 1.0, **self._labels, **self._model)

    def tell(self, name: str, value: float) -> None:
        """Set a gauge of the deployment."""
        self.gauge(name, value, **self._labels)

    def partition(self, partition: int, lag: float, *, stalled: bool) -> None:
        """Tell how a partition is."""
        labels = self._labels | {"partition": str(partition)}
        self.gauge("trivet_stream_lag_events", lag, **labels)
        self.gauge("trivet_stream_stalled", float(stalled), **labels)
