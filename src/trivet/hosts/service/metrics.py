"""Prometheus metrics, counted in shared memory so that any worker can tell the sum of all.

Each process counts in a file of its own, mapped into memory: an increment is one addition, and
what a killed process had counted is not lost. Names and labels are in a second file beside it.
The parent owns the folder. Counts of dead processes go on counting, their gauges do not.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import tempfile
import threading
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trivet.hosts.service.batcher import Result, Waiting
from trivet.hosts.service.serving import Models, Served

SLOTS = 65_536
"""Numbers of one process; a series beyond them is not counted."""

LATENCY = (
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
SIZES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0, 16_384.0)

HELP: Mapping[str, tuple[str, str]] = {
    "trivet_requests": ("counter", "Requests by model, version, protocol and status."),
    "trivet_request_seconds": ("histogram", "Seconds from a request's head to its answer."),
    "trivet_batch_rows": ("histogram", "Rows that were scored in one call."),
    "trivet_model_seconds": ("histogram", "Seconds that one call of a model took."),
    "trivet_rows_scored": ("counter", "Rows that have a prediction."),
    "trivet_rejects": ("counter", "Problems of rejected rows by code."),
    "trivet_queue_rows": ("gauge", "Rows that wait for a model."),
    "trivet_model_threads_lost": ("gauge", "Calls of a model that have not come back."),
    "trivet_model_info": ("gauge", "Loaded versions of models; 1 for the one in use, else 0."),
    "trivet_model_loads": ("counter", "New versions of models by what became of them."),
    "trivet_log_rows": ("counter", "Rows of the prediction log by what became of them."),
    "trivet_log_queue_rows": ("gauge", "Rows that wait to be logged."),
    "trivet_workers": ("gauge", "Processes that serve."),
    "trivet_worker_restarts": ("counter", "Processes that died and were replaced."),
}
"""Every metric: what it is and what it tells."""

Labels = tuple[tuple[str, str], ...]
Bounds = tuple[float, ...]
Totals = dict[tuple[str, Labels, Bounds], list[float]]
Found = Iterator[tuple[str, Labels, Bounds, list[float]]]

_FILE = re.compile(r"(\d+)\.numbers")


@dataclass(frozen=True, slots=True)
class _Series:
    """One line of a process's names: which numbers belong to which series."""

    slot: int
    name: str
    labels: Labels
    bounds: tuple[float, ...]

    @property
    def width(self) -> int:
        return len(self.bounds) + 2 if self.bounds else 1


class Board:
    """The numbers of one process.

    Args:
        folder: Where the files are; without one, nobody else reads them.
        number: The process's number, which no other process of the service ever had.
    """

    def __init__(self, folder: Path | None = None, number: int = 0) -> None:
        self._names: Path | None = None
        self._next = 0
        self._lock = threading.Lock()
        self._series: list[_Series] = []
        if folder is None:
            memory: Any = bytearray(8 * SLOTS)
        else:
            self._names = folder / f"{number}.names"
            self._names.touch()
            with (folder / f"{number}.numbers").open("w+b") as file:
                file.truncate(8 * SLOTS)
                memory = mmap.mmap(file.fileno(), 8 * SLOTS)
        self.numbers: Any = memoryview(memory).cast("d")  # of floats

    def place(self, name: str, labels: Mapping[str, str], bounds: Sequence[float] = ()) -> int:
        """Reserve the numbers of a series: one, or buckets and sum; return the first one's place.

        With no room left, they are numbers that nobody reads.
        """
        with self._lock:
            series = _Series(self._next, name, tuple(sorted(labels.items())), tuple(bounds))
            if self._next + series.width > SLOTS - len(LATENCY) - 2:
                return SLOTS - len(LATENCY) - 2
            self._next += series.width
            self._series.append(series)
            if self._names is not None:
                parts = [series.slot, name, series.labels, series.bounds]
                with self._names.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(parts) + "\n")
        return series.slot

    def values(self) -> Found:
        """Give each series' name, labels, bounds and numbers."""
        for s in list(self._series):
            yield s.name, s.labels, s.bounds, self.numbers[s.slot : s.slot + s.width].tolist()


class Metrics:
    """What one process counts.

    Args:
        folder: Where all processes of the service count; without one, this is the only one.
        number: See `Board`.
    """

    def __init__(self, folder: Path | None = None, number: int = 0) -> None:
        self._folder = folder
        self._board = Board(folder, number)
        self._numbers = self._board.numbers
        self._requests: dict[tuple[str, str, str, int], tuple[int, int]] = {}
        self._batches: dict[tuple[str, str], tuple[int, int, int]] = {}
        self._counters: dict[tuple[str, ...], int] = {}
        self._loaded: set[tuple[str, str, str]] = set()

    def request(self, served: Served | None, protocol: str, status: int, seconds: float) -> None:
        """Count one request."""
        if served is None:
            key = ("", "", protocol, status)
        else:
            key = (served.name, served.model.version, protocol, status)
        places = self._requests.get(key) or self._place_request(key)
        numbers = self._numbers
        numbers[places[0]] += 1.0
        start = places[1]
        numbers[start + bisect_left(LATENCY, seconds)] += 1.0
        numbers[start + len(LATENCY) + 1] += seconds

    def batch(
        self, served: Served, batch: Sequence[Waiting], result: Result, seconds: float
    ) -> None:
        """Count one batch; an observer of `trivet.hosts.service.serving.Models`."""
        key = (served.name, served.model.version)
        places = self._batches.get(key) or self._place_batch(key)
        numbers = self._numbers
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
            for code in result.problems.column("code").to_pylist():
                self.count("trivet_rejects", 1, model=served.name, code=code)

    def count(self, name: str, by: float, **labels: str) -> None:
        """Add to a counter."""
        self._numbers[self._place(name, labels)] += by

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        self._numbers[self._place(name, labels)] = value

    def look(self, models: Models) -> None:
        """Set the gauges that tell how the models are."""
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

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Return the metrics of all processes as text, and its content type."""
        from prometheus_client import CollectorRegistry  # noqa: PLC0415 - not before it is asked
        from prometheus_client.exposition import choose_encoder  # noqa: PLC0415

        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Collector(self._summed()))
        encode, kind = choose_encoder(accept)
        return encode(registry), kind

    def _summed(self) -> Totals:
        if self._folder is None:
            return _added(self._board.values(), {}, live=True)
        return summed(self._folder)

    def _place(self, name: str, labels: Mapping[str, str]) -> int:
        key = (name, *labels.values())
        place = self._counters.get(key)
        if place is None:
            place = self._counters[key] = self._board.place(name, labels)
        return place

    def _place_request(self, key: tuple[str, str, str, int]) -> tuple[int, int]:
        model, version, protocol, status = key
        labels = {"model": model, "version": version, "protocol": protocol}
        counter = self._place("trivet_requests", labels | {"code": str(status)})
        same = ("trivet_request_seconds", model, version, protocol)
        if same not in self._counters:
            place = self._board.place("trivet_request_seconds", labels, LATENCY)
            self._counters[same] = place
        places = self._requests[key] = counter, self._counters[same]
        return places

    def _place_batch(self, key: tuple[str, str]) -> tuple[int, int, int]:
        labels = {"model": key[0], "version": key[1]}
        places = self._batches[key] = (
            self._board.place("trivet_batch_rows", labels, SIZES),
            self._board.place("trivet_model_seconds", labels, LATENCY),
            self._board.place("trivet_rows_scored", labels),
        )
        return places


def summed(folder: Path) -> Totals:
    """Add up what all processes count, the dead ones too."""
    for _ in range(10):
        try:
            return _read(folder)
        except FileNotFoundError:  # a process died meanwhile, and its counts were moved
            continue
    return {}


def retire(folder: Path, number: int) -> None:
    """Add what a dead process counted to that of all dead ones, without its gauges."""
    if not (folder / f"{number}.numbers").exists():
        return
    dead, gone = _dead(folder)
    _added(_of(folder, number), dead, live=False)
    parts = {
        "gone": [*gone, number],
        "series": [[*key, numbers] for key, numbers in dead.items()],
    }
    descriptor, draft = tempfile.mkstemp(dir=folder)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(parts, file)
    Path(draft).replace(folder / "dead.json")
    for suffix in ("names", "numbers"):
        (folder / f"{number}.{suffix}").unlink()


def _read(folder: Path) -> Totals:
    total, gone = _dead(folder)
    for path in folder.iterdir():
        match = _FILE.fullmatch(path.name)
        if match and int(match[1]) not in gone:
            _added(_of(folder, int(match[1])), total, live=True)
    return total


def _dead(folder: Path) -> tuple[Totals, set[int]]:
    with suppress(FileNotFoundError):
        parts = json.loads((folder / "dead.json").read_text(encoding="utf-8"))
        series = {
            (name, tuple((k, v) for k, v in labels), tuple(bounds)): numbers
            for name, labels, bounds, numbers in parts["series"]
        }
        return series, set(parts["gone"])
    return {}, set()


def _of(folder: Path, number: int) -> Found:
    numbers = array("d", (folder / f"{number}.numbers").read_bytes())
    for line in (folder / f"{number}.names").read_text(encoding="utf-8").splitlines(keepends=True):
        if not line.endswith("\n"):
            break  # being written, or cut off with its process
        slot, name, labels, bounds = json.loads(line)
        series = _Series(slot, name, tuple((k, v) for k, v in labels), tuple(bounds))
        values = numbers[slot : slot + series.width].tolist()
        yield name, series.labels, series.bounds, values


def _added(
    found: Found,
    total: Totals,
    *,
    live: bool,
) -> Totals:
    for name, labels, bounds, numbers in found:
        if HELP[name][0] == "gauge" and not live:
            continue
        key = name, labels, bounds
        known = total.get(key)
        if known is None:
            total[key] = numbers
        elif name == "trivet_model_info":
            total[key] = [max(known[0], numbers[0])]
        else:
            total[key] = [a + b for a, b in zip(known, numbers, strict=True)]
    return total


class _Collector:
    """Hands the sums to the client library, which knows how to write them down."""

    def __init__(self, total: Mapping[tuple[str, Labels, Bounds], Sequence[float]]) -> None:
        self._total = total

    def collect(self) -> Iterator[Any]:
        from prometheus_client import core  # noqa: PLC0415 - see above

        families: dict[str, Any] = {}
        makers = {
            "counter": core.CounterMetricFamily,
            "gauge": core.GaugeMetricFamily,
            "histogram": core.HistogramMetricFamily,
        }
        for (name, labels, bounds), numbers in sorted(self._total.items()):
            kind, text = HELP[name]
            names = [key for key, _ in labels]
            family = families.get(name)
            if family is None:
                family = families[name] = makers[kind](name, text, labels=names)
            values = [value for _, value in labels]
            if kind != "histogram":
                family.add_metric(values, numbers[0])
                continue
            buckets, so_far = [], 0.0
            for bound, count in zip((*bounds, float("inf")), numbers, strict=False):
                so_far += count
                buckets.append(("+Inf" if bound == float("inf") else repr(bound), so_far))
            family.add_metric(values, buckets, numbers[-1])
        yield from families.values()
