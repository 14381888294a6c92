"""The models that a service has loaded, by name and version."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Any, TypeVar

from trivet import parity, scoring
from trivet.contract import Model
from trivet.errors import PredictionError
from trivet.hosts.service.answers import Result, Waiting
from trivet.hosts.service.batcher import QUICK_SECONDS, Batcher
from trivet.hosts.service.faults import Refused
from trivet.hosts.service.lane import Thread
from trivet.records import RecordReader
from trivet.validation import MODEL_ERROR, Decoded, no_problems

T = TypeVar("T")

WARM_UP_ROWS = 8
WARM_UP_ROUNDS = 20

BUSY_FACTOR = 20
"""Beside a service under load, a call takes so much longer by the clock than by its own work."""


@dataclass(frozen=True, slots=True)
class Version:
    """One version of a model, as those see it who are told of its batches.

    Attributes:
        model: The model.
        reader: Reads its rows from JSON.
        name: Its name in the project file, by which it is asked.
        example: One of its input rows, if it came with one.
        summary: What is told of it to those who read the results only.
    """

    model: Model
    reader: RecordReader
    name: str = ""
    example: Mapping[str, Any] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Served(Version):
    """One version of a model, warmed up and with its queue.

    The queue knows the version and not this, or neither would ever be freed: the collector does
    not look at what was there when the service began.

    Attributes:
        batcher: Its queue.
    """

    batcher: Batcher


@dataclass(slots=True)
class Family:
    """The loaded versions of one model; requests without a version go to the default."""

    name: str
    default: str
    versions: dict[str, Served] = field(default_factory=dict)


Observer = Callable[[Version, Sequence[Waiting], Result, float], None]
"""Told of every batch; see `trivet.hosts.service.batcher.Watch`."""


class Models:
    """All models of a service.

    Args:
        key: Columns carried beside the inputs.
        max_batch: Rows that are scored in one call.
        max_queue: Rows that may wait for one model.
        hang_after: Seconds after which a call of a model is given up.

    Attributes:
        changes: How often models came, went or became the default.
        lost: Warm-ups that never came back.
    """

    def __init__(
        self, key: tuple[str, ...], max_batch: int, max_queue: int, hang_after: float = 30.0
    ) -> None:
        self.key = key
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._hang_after = hang_after
        self._observers: tuple[Observer, ...] = ()
        self._families: dict[str, Family] = {}
        self._lock = threading.Lock()
        self.changes = 0
        self.lost = 0

    @property
    def families(self) -> Mapping[str, Family]:
        """The models by name."""
        return self._families

    def observe(self, observer: Observer) -> None:
        """Have an observer told of every batch of the models that are added from now on."""
        self._observers = (*self._observers, observer)

    def add(
        self,
        name: str,
        model: Model,
        *,
        default: bool = True,
        example: Mapping[str, Any] | None = None,
        summary: Mapping[str, Any] | None = None,
    ) -> Served:
        """Warm a model up, and make it the default version of its name.

        Requests under way keep the version that they began with. May be called from any thread.

        Args:
            name: Its name in the project file.
            model: The model.
            default: Whether it answers requests that name no version; the first one does anyway.
            example: One of its input rows.
            summary: What is told of it to those who read the results only.

        Raises:
            PredictionError: It fails on its example, returns something else than its outputs, or
                does not come back.
        """
        reader = RecordReader(model.inputs, self.key)
        if example:
            self._within(model, lambda: _check(model, reader, example))
        known = self._families.get(name)
        live = known is not None and known.versions[known.default].batcher.quick
        rows = _rows(reader, model, example)
        quick = self._within(model, lambda: warm_up(model, rows, live=live))
        batcher = Batcher(model, reader, quick, self._max_batch, self._max_queue, self._hang_after)
        told = (model, reader, name, example or {}, summary or {})
        served, version = Served(*told, batcher=batcher), Version(*told)
        observers = self._observers
        if observers:

            def watch(batch: Sequence[Waiting], result: Result, seconds: float) -> None:
                for observer in observers:
                    observer(version, batch, result, seconds)

            batcher.watch = watch
        with self._lock:
            family = self._families.get(name)
            before = None if family is None else family.versions.get(model.version)
            if family is None:
                self._families[name] = Family(name, model.version, {model.version: served})
            else:
                family.versions = {**family.versions, model.version: served}
                if default:
                    family.default = model.version
            self.changes += 1
        if before is not None:
            before.batcher.retire()
        return served

    def _within(self, model: Model, work: Callable[[], T]) -> T:
        """Call a model that may hang, which must stop neither a start nor later versions."""
        done: Future[T] = Future()

        def run() -> None:
            try:
                done.set_result(work())
            except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
                done.set_exception(error)

        thread = Thread(f"warm-up-{model.name}")
        thread.do(run)
        thread.end()
        if not wait([done], self._hang_after).done:
            self.lost += 1
            raise PredictionError(
                f"model {model.name} {model.version} does not come back: its first call took more "
                f"than {self._hang_after:g} s ([service] timeout)"
            )
        return done.result()

    def drop(self, name: str, version: str) -> None:
        """Forget a version that is not the default; requests under way still get their answer."""
        with self._lock:
            family = self._families[name]
            if version == family.default:
                raise ValueError(f"{name} {version} is in use")
            gone = family.versions.get(version)
            family.versions = {v: s for v, s in family.versions.items() if v != version}
            self.changes += 1
        if gone is not None:
            gone.batcher.retire()

    def find(self, name: str, version: str | None = None) -> Served:
        """Return a loaded model.

        Raises:
            Refused: There is none of that name or version.
        """
        family = self._families.get(name)
        if family is None:
            known = ", ".join(self._families)
            raise Refused("not_found", f"there is no model {name!r}; there are {known}")
        wanted = family.default if version is None else version  # before the versions, as it is set
        served = family.versions.get(wanted)
        if served is None:
            known = ", ".join(family.versions)
            raise Refused(
                "not_found", f"model {name!r} has no version {version!r} here; it has {known}"
            )
        return served


def _rows(reader: RecordReader, model: Model, example: Mapping[str, Any] | None) -> Decoded:
    """Return rows to warm up with: the model's example, or some made from its schema."""
    if example:
        return reader.columns([reader.read_object(example)] * WARM_UP_ROWS)
    return Decoded(parity.synthetic(model.inputs, WARM_UP_ROWS), no_problems())


def _check(model: Model, reader: RecordReader, example: Mapping[str, Any]) -> None:
    """Make sure that a model answers its own example, unless its schema refuses that."""
    found = scoring.score(model, reader.columns([reader.read_object(example)])).problems
    if MODEL_ERROR in found.column("code").to_pylist():
        raise PredictionError(
            f"model {model.name} {model.version} fails on its own example: "
            f"{found.column('reason')[0]}; save it again"
        )


def warm_up(
    model: Model,
    rows: Decoded,
    *,
    live: bool = False,
    clock: Callable[[], float] = time.perf_counter,
    work: Callable[[], float] = time.thread_time,
) -> bool:
    """Score rows until the model is warm; say whether it is a quick one.

    A model may know of limits that its schema does not tell, so that rows made up are no proof
    against it when it raises; to return something else than its outputs always is.

    Args:
        model: The model.
        rows: What to score.
        live: Whether requests are being served meanwhile by a version that is quick: then the
            time of the thread's own work counts, for the clock counts that of others too.
        clock: Tells the time.
        work: Tells the time that this thread has worked.

    Raises:
        PredictionError: The model returned something else than its outputs.
    """
    best = least = float("inf")
    for _ in range(WARM_UP_ROUNDS):
        began, at_work = clock(), work()
        scoring.score(model, rows)
        best, least = min(best, clock() - began), min(least, work() - at_work)
        if min(best, least) > 50 * QUICK_SECONDS:
            break
    if live:
        return least <= QUICK_SECONDS and best <= BUSY_FACTOR * QUICK_SECONDS
    return best <= QUICK_SECONDS
