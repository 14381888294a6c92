"""``[stream.NAME]``: one model over the events of a topic."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from trivet.results.rows import STREAM, reserved

Start = Literal["earliest", "latest"] | dt.datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamSettings:
    """A stream deployment.

    Attributes:
        name: The deployment's name.
        model: A name of ``[models]``.
        topic: The topic whose events are scored.
        key: Members of an event's data that together name a row, carried beside the inputs.
        keep: More members of the data that are copied beside the predictions.
        results: Whether predictions are kept in the results database.
        output: Topic that predictions are sent to; empty for none.
        dead_letters: Topic for events that cannot be scored, ``NAME.dead`` by default; ``none``
            leaves them in the results database only.
        group: The consumer group, by default the deployment's name.
        start: Where a group begins that has committed nothing: ``earliest``, ``latest`` or a
            moment such as ``2026-01-31T12:00Z``.
        format: How events are written: CloudEvents, or plain JSON objects.
        id_field: Of plain JSON: the member that is an event's id; without one, its place is.
        time_field: Of plain JSON: the member that is an event's time; without one, the broker's.
        types: Types of CloudEvents that are scored, others are skipped; empty for all.
        delivery: How predictions get into ``output`` where no results are kept: in a transaction
            with the offsets, or at least once.
        max_batch: Events that are scored in one call.
        max_wait: How long the first event of a batch waits for others.
        max_event: Bytes that an event may have.
        max_queue: Events that may be under way: read, and not committed yet.
        max_queue_bytes: Bytes that they may have.
        workers: Processes.
        reload: Whether a new current version of the model is looked for, or only on SIGHUP.
        reload_every: How often it is looked for.
        stop_timeout: How long events under way may take after a stop signal.
        stalled_after: After so long without a step, a partition with events is told as stalled.
        metrics_host: The address that metrics are served on.
        metrics_port: The port that metrics are served on; without one, they are not.
    """

    name: str
    model: str
    topic: str
    key: tuple[str, ...]
    keep: tuple[str, ...] = ()
    results: bool = True
    output: str = ""
    dead_letters: str = ""
    group: str = ""
    start: str = "earliest"
    format: Literal["cloudevents", "json"] = "cloudevents"
    id_field: str = ""
    time_field: str = ""
    types: tuple[str, ...] = ()
    delivery: Literal["transaction", "at-least-once"] = "transaction"
    max_batch: int = 4096
    max_wait: dt.timedelta = dt.timedelta(milliseconds=5)
    max_event: int = 2**20
    max_queue: int = 20_000
    max_queue_bytes: int = 64 * 2**20
    workers: int = 1
    reload: Literal["watch", "signal"] = "watch"
    reload_every: dt.timedelta = dt.timedelta(seconds=1)
    stop_timeout: dt.timedelta = dt.timedelta(seconds=30)
    stalled_after: dt.timedelta = dt.timedelta(minutes=1)
    metrics_host: str = "127.0.0.1"
    metrics_port: int | None = None

    def __post_init__(self) -> None:
        mistakes = list(self._mistakes())
        if mistakes:
            raise ValueError("\n".join(mistakes))

    def _mistakes(self) -> Iterator[str]:
        for name, least, most in (
            ("max_batch", 1, None),
            ("max_event", 1, None),
            ("max_queue", 1, None),
            ("max_queue_bytes", 1, None),
            ("workers", 1, 1024),
            ("metrics_port", 0, 65_535),
        ):
            value = getattr(self, name)
            if value is not None and (value < least or (most is not None and value > most)):
                between = f"{least} or more" if most is None else f"a number from {least} to {most}"
                yield f"{name}: {between}"
        for name in ("reload_every", "stalled_after"):
            if not getattr(self, name):
                yield f"{name}: more than nothing"
        yield from (said for wrong, said in self._contradictions() if wrong)
        try:
            _ = self.begin
        except ValueError as error:
            yield f"start: {error}"

    def _contradictions(self) -> Iterator[tuple[bool, str]]:
        beside = (*self.key, *self.keep)
        dead, plain = self.dead_topic, self.format == "json"
        yield not self.topic, "topic: name the topic whose events are scored"
        yield not self.key, "key: name at least one member of the data"
        yield len(set(beside)) < len(beside), "keep: each name once, and not in key too"
        for setting, names in (("key", self.key), ("keep", self.keep)):
            for name in names:
                taken = name.lower() in reserved(STREAM)
                yield taken, f"{setting}: every row has a column {name!r} of its own; rename it"
        yield not (self.results or self.output), "results: if false, name an output topic"
        yield self.output == self.topic, "output: predictions would be scored again; name another"
        yield dead in (self.topic, self.output), "dead_letters: name a topic of their own"
        fields = bool(self.id_field or self.time_field)
        yield fields and not plain, 'id_field: CloudEvents have an id; for format = "json" only'
        yield bool(self.types) and plain, "types: plain JSON has no types; for CloudEvents only"

    @property
    def beside(self) -> tuple[tuple[str, str], ...]:
        """Columns that are kept beside the outputs, each behind the key that names it."""
        return tuple(
            (f"[stream.{self.name}] {key}", name)
            for key, names in (("key", self.key), ("keep", self.keep))
            for name in names
        )

    @property
    def begin(self) -> Start:
        """Where a group begins that has committed nothing."""
        return start_of(self.start)

    @property
    def member_group(self) -> str:
        """The consumer group."""
        return self.group or self.name

    @property
    def dead_topic(self) -> str | None:
        """The topic for dead letters, if there is one."""
        return None if self.dead_letters == "none" else self.dead_letters or f"{self.name}.dead"


def start_of(text: str) -> Start:
    """Read where a group begins.

    Raises:
        ValueError: The text names no such place.
    """
    if text == "earliest":
        return "earliest"
    if text == "latest":
        return "latest"
    try:
        moment = dt.datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is no place in a topic; write earliest, latest or 2026-01-31T12:00Z"
        ) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
