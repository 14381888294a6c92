"""Prometheus metrics, counted in shared memory so that any process can tell the sum of all.

Each process counts in a file of its own, mapped into memory: an increment is one addition, and
what a killed process had counted is not lost. Names and labels are in a second file beside it.
The parent owns the folder. Counts of dead processes go on counting, their gauges do not.
"""

from __future__ import annotations

import json
import mmap
import os
import re
import shutil
import tempfile
import threading
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trivet.errors import TrivetError

SLOTS = 65_536
"""Numbers of one process; a series beyond them is not counted."""

IN_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of a random name is made in it
"""A file system without a disk, where there is one.

What is mapped from a disk's file is written back now and then, and the next addition to it waits
for the file system: as long as a busy disk takes, and with it everybody in the event loop.
"""

ROOM = 16 * 8 * SLOTS
"""Bytes that must be free in it, or a disk is taken: enough for some processes."""

LARGEST = 64
"""Bounds of a histogram at most."""

Help = Mapping[str, tuple[str, str]]
"""By metric: what it is (``counter``, ``gauge``, ``histogram``, or ``info``: a gauge of which the
largest counts, not the sum) and what it tells."""

Labels = tuple[tuple[str, str], ...]
Bounds = tuple[float, ...]
Totals = dict[tuple[str, Labels, Bounds], list[float]]
Found = Iterable[tuple[str, Labels, Bounds, list[float]]]

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

    Raises:
        TrivetError: There is no room for them.
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
            path = folder / f"{number}.numbers"
            try:
                self._names.touch()
                # Not a hole: an addition to one would kill the process once there is no room.
                path.write_bytes(bytes(8 * SLOTS))
            except OSError as error:
                raise TrivetError(
                    f"{folder}: {error.strerror}: no room for {8 * SLOTS // 1024} KiB, in which a "
                    "process counts; free some"
                ) from error
            with path.open("r+b") as file:
                memory = mmap.mmap(file.fileno(), 8 * SLOTS)
        self.numbers: Any = memoryview(memory).cast("d")  # of floats

    def place(self, name: str, labels: Mapping[str, str], bounds: Sequence[float] = ()) -> int:
        """Reserve the numbers of a series: one, or buckets and sum; return the first one's place.

        With no room left, for numbers or for their name, they are numbers that nobody reads.
        """
        with self._lock:
            series = _Series(self._next, name, tuple(sorted(labels.items())), tuple(bounds))
            if self._next + series.width > SLOTS - LARGEST - 2 or not self._named(series):
                return SLOTS - LARGEST - 2
            self._next += series.width
            self._series.append(series)
        return series.slot

    def _named(self, series: _Series) -> bool:
        """Write a series' name where others read it; return whether there was room."""
        if self._names is None:
            return True
        parts = [series.slot, series.name, series.labels, series.bounds]
        end = self._names.stat().st_size
        try:
            with self._names.open("a", encoding="utf-8") as file:
                file.write(json.dumps(parts) + "\n")
        except OSError:
            os.truncate(self._names, end)  # half a line would spoil the next one
            return False
        return True

    def values(self) -> Found:
        """Give each series' name, labels, bounds and numbers."""
        for s in list(self._series):
            yield s.name, s.labels, s.bounds, self.numbers[s.slot : s.slot + s.width].tolist()


class Counts:
    """What one process counts.

    Args:
        known: Every metric.
        folder: Where all processes count; without one, this is the only one.
        number: See `Board`.

    Attributes:
        numbers: Where a series' numbers are, from the place that `place` gave.
    """

    def __init__(self, known: Help, folder: Path | None = None, number: int = 0) -> None:
        self._known = known
        self._folder = folder
        self._board = Board(folder, number)
        self._places: dict[tuple[str, ...], int] = {}
        self.numbers = self._board.numbers

    def place(self, name: str, labels: Mapping[str, str], bounds: Sequence[float] = ()) -> int:
        """Return where a series is: one number, or its buckets, one more of them, and the sum."""
        key = (name, *labels.values())
        place = self._places.get(key)
        if place is None:
            place = self._places[key] = self._board.place(name, labels, bounds)
        return place

    def count(self, name: str, by: float, **labels: str) -> None:
        """Add to a counter.

        What an alert waits for is counted as 0 at the start: Prometheus sees an increase only from
        a value that it has seen.
        """
        self.numbers[self.place(name, labels)] += by

    def gauge(self, name: str, value: float, **labels: str) -> None:
        """Set a gauge."""
        self.numbers[self.place(name, labels)] = value

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """Return the metrics of all processes as text, and its content type."""
        if self._folder is None:
            return rendered(
                _added(self._board.values(), {}, self._known, live=True), self._known, accept
            )
        return rendered(summed(self._folder, self._known), self._known, accept)


def rendered(total: Totals, known: Help, accept: str = "") -> tuple[bytes, str]:
    """Return metrics as text, and its content type."""
    from prometheus_client import CollectorRegistry  # noqa: PLC0415 - not before it is asked
    from prometheus_client.exposition import choose_encoder  # noqa: PLC0415

    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(total, known))
    encode, kind = choose_encoder(accept)
    return encode(registry), kind


def summed(folder: Path, known: Help) -> Totals:
    """Add up what all processes count, the dead ones too."""
    for _ in range(10):
        try:
            return _read(folder, known)
        except FileNotFoundError:  # a process died meanwhile, and its counts were moved
            continue
    return {}


def retire(folder: Path, number: int, known: Help) -> None:
    """Add what a dead process counted to that of all dead ones, without its gauges."""
    if not (folder / f"{number}.numbers").exists():
        return
    dead, gone = _dead(folder)
    _added(_of(folder, number), dead, known, live=False)
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


def _read(folder: Path, known: Help) -> Totals:
    found = (_FILE.fullmatch(path.name) for path in list(folder.iterdir()))
    numbers = [int(match[1]) for match in found if match]
    # Before the dead ones: who dies in between is counted with one or the other, never with none.
    living = {number: list(_of(folder, number)) for number in numbers}
    total, gone = _dead(folder)
    for number, series in living.items():
        if number not in gone:
            _added(series, total, known, live=True)
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


def _added(found: Found, total: Totals, known: Help, *, live: bool) -> Totals:
    for name, labels, bounds, numbers in found:
        kind = known[name][0]
        if kind in ("gauge", "info") and not live:
            continue
        key = name, labels, bounds
        so_far = total.get(key)
        if so_far is None:
            total[key] = numbers
        elif kind == "info":
            total[key] = [max(so_far[0], numbers[0])]
        else:
            total[key] = [a + b for a, b in zip(so_far, numbers, strict=True)]
    return total


class _Collector:
    """Hands the sums to the client library, which knows how to write them down."""

    def __init__(
        self, total: Mapping[tuple[str, Labels, Bounds], Sequence[float]], known: Help
    ) -> None:
        self._total = total
        self._known = known

    def collect(self) -> Iterator[Any]:
        from prometheus_client import core  # noqa: PLC0415 - see above

        families: dict[str, Any] = {}
        makers = {
            "counter": core.CounterMetricFamily,
            "gauge": core.GaugeMetricFamily,
            "info": core.GaugeMetricFamily,
            "histogram": core.HistogramMetricFamily,
        }
        for (name, labels, bounds), numbers in sorted(self._total.items()):
            kind, text = self._known[name]
            names = [label for label, _ in labels]
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


def _in_memory() -> Path | None:
    """Return where files never reach a disk; None for the usual folder of temporary files."""
    if not os.access(IN_MEMORY, os.W_OK | os.X_OK):
        return None
    there = os.statvfs(IN_MEMORY)
    return IN_MEMORY if there.f_bavail * there.f_frsize >= ROOM else None


@dataclass(slots=True)
class CountsFolder:
    """The folder where processes count, gone at the end."""

    path: Path = field(
        default_factory=lambda: Path(tempfile.mkdtemp(prefix="trivet-counts-", dir=_in_memory()))
    )

    def __enter__(self) -> Path:
        return self.path

    def __exit__(self, *_: object) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
