"""Predictions and dead letters as events of other topics."""

from __future__ import annotations

import base64
import datetime as dt
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from trivet.brokers.base import Appender, Headers
from trivet.errors import BrokerError, BrokerUnavailable, BufferFull, EventTooLarge
from trivet.events import STRUCTURED, CloudEvents, Format, PlainJson
from trivet.hosts.stream.reading import format_of
from trivet.hosts.stream.scoring import Rejected, Scored
from trivet.hosts.stream.settings import StreamSettings

PREDICTION, DEAD_LETTER = "trivet.prediction", "trivet.deadletter"
"""The types of the events that a stream sends."""

ABOUT = ("id", "causeid", "causesource", "modelname", "modelversion", "modeldigest")
"""What a prediction in plain JSON tells beside its row."""

FIXED = ("source", "id", "scored_at", "event_at")

LARGEST_VALUE = 512 * 2**10
"""Bytes of an event that its dead letter carries; a longer one is only named."""

FLUSH_SECONDS = 5.0

Message = tuple[bytes | None, bytes, Headers]
_encode = msgspec.json.Encoder().encode


def source_of(deployment: str) -> str:
    """Return the source of the events that a deployment sends."""
    return f"/trivet/{deployment}"


def result_id(source: str, id_: str) -> str:
    """Return the id of what became of an event: the same whenever it is sent.

    A source is a URI reference, which has no space in it.
    """
    return f"{source} {id_}"


class Sender:
    """Appends what became of batches to the topics of a deployment; used by one thread.

    Args:
        settings: The deployment.
        appender: Where to.
    """

    def __init__(self, settings: StreamSettings, appender: Appender) -> None:
        self._settings = settings
        self._appender = appender
        self._format = format_of(settings)
        self._refused: list[str] = []

    def append(self, scored: Scored) -> None:
        """Append, without waiting for it to be durable.

        Raises:
            BrokerUnavailable: It cannot be reached.
            BrokerError: It refuses an event.
        """
        settings = self._settings
        self._refused.clear()
        if settings.output:
            for message in predictions(settings.name, self._format, scored):
                self._append(settings.output, message)
        if settings.dead_topic is not None:
            for message in letters(settings.name, scored.rejected, scored.at):
                self._append(settings.dead_topic, message)

    def flush(self) -> None:
        """Wait until what was appended is durable.

        Raises:
            BrokerUnavailable: It is not yet.
            BrokerError: An event was refused.
        """
        left = self._appender.flush(FLUSH_SECONDS)
        self.check()
        if left:
            raise BrokerUnavailable(f"{left} events of {self._settings.name} are not durable yet")

    def check(self) -> None:
        """Raise what befell events that were appended.

        Raises:
            BrokerError: An event was refused.
        """
        if self._refused:
            raise BrokerError(f"{self._settings.name}: an event was refused: {self._refused[0]}")

    def _append(self, topic: str, message: Message) -> None:
        key, value, headers = message
        while True:
            try:
                return self._appender.append(topic, key, value, headers, self._refused.append)
            except BufferFull:
                if self._appender.flush(FLUSH_SECONDS):
                    raise BrokerUnavailable(f"topic {topic!r} takes no more events") from None
            except EventTooLarge as error:
                raise BrokerError(f"topic {topic!r} refuses an event: {error}") from None


class _Prediction(msgspec.Struct, gc=False):
    """A prediction as a CloudEvent in structured mode, written by one call."""

    id: str
    causeid: str
    causesource: str
    data: Any
    time: str
    source: str
    modelname: str
    modelversion: str
    modeldigest: str
    type: str = PREDICTION
    specversion: str = "1.0"
    datacontenttype: str = "application/json"


@functools.lru_cache(maxsize=64)
def _shape(names: tuple[str, ...], *, about: bool) -> Callable[..., msgspec.Struct]:
    """Return what puts a row's values under their names, and what they are about beside them."""
    members: list[Any] = [(f"m{place}", Any) for place in range(len(names))]
    rename = {f"m{place}": name for place, name in enumerate(names)}
    if about:
        members.append(("trivet", Any))
    return msgspec.defstruct("Row", members, rename=rename, gc=False)


def predictions(deployment: str, how: Format, scored: Scored) -> Iterator[Message]:
    """Give the events of a batch's predictions, in order."""
    model = scored.ready.model
    columns = scored.predictions
    names = tuple(name for name in columns.schema.names if name not in FIXED)
    data = zip(*(columns.column(name).to_pylist() for name in names), strict=True)
    ids, sources = columns.column("id").to_pylist(), columns.column("source").to_pylist()
    rows = zip(scored.keys(), ids, sources, data, strict=True)
    plain = isinstance(how, PlainJson)
    row = _shape(names, about=plain)
    lineage = (model.name, model.version, model.digest)
    if plain:
        for key, id_, cause, values in rows:
            about = (result_id(cause, id_), id_, cause, *lineage)
            yield key, _encode(row(*values, dict(zip(ABOUT, about, strict=True)))), ()
        return
    always = (msgspec.to_builtins(scored.at), source_of(deployment), *lineage)
    for key, id_, cause, values in rows:
        made = _Prediction(f"{cause} {id_}", id_, cause, row(*values), *always)
        yield key, _encode(made), STRUCTURED


def letters(deployment: str, rejected: Sequence[Rejected], at: dt.datetime) -> Iterator[Message]:
    """Give the events of a batch's dead letters: CloudEvents, whatever the stream's format."""
    how = CloudEvents()
    for each in rejected:
        raw = each.raw
        whole = len(raw.value) <= LARGEST_VALUE
        data = {
            "deployment": deployment,
            "topic": raw.place.topic,
            "partition": raw.place.partition,
            "offset": raw.place.offset,
            "id": each.id,
            "source": each.source,
            "key": msgspec.Raw(each.key.encode("utf-8", "replace")),
            "problems": [
                {"field": p.field, "code": p.code, "reason": p.reason} for p in each.problems
            ],
            "event_key": None if raw.key is None else base64.b64encode(raw.key).decode(),
            "event_value": base64.b64encode(raw.value).decode() if whole else None,
            "event_bytes": len(raw.value),
            "event_headers": [[n, base64.b64encode(v).decode()] for n, v in raw.headers],
        }
        value, headers = how.encode(
            _encode(data),
            id=str(raw.place),
            source=source_of(deployment),
            type=DEAD_LETTER,
            time=at,
        )
        yield raw.key, value, headers
