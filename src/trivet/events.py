"""What is written into a topic: CloudEvents 1.0 in structured or binary mode, or plain JSON.

Events are read column by column: a batch of messages becomes lists of ids, sources, types and
times, and the data of each as the bytes that it came in, which whoever knows the schema decodes.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import msgspec

from trivet.brokers.base import Fetched, Headers

STRUCTURED: Headers = (("content-type", b"application/cloudevents+json; charset=UTF-8"),)
"""The headers of every event in structured mode."""

Mode = Literal["structured", "binary"]

_ATTRIBUTE = re.compile(r"[a-z0-9]{1,20}")
_OF_THE_STANDARD = frozenset(
    {"id", "source", "type", "specversion", "time", "subject"}
    | {"datacontenttype", "dataschema", "data", "data_base64"}
)
_JSON = b"application/json"
_SECONDS_END = 1e11
"""A smaller number is a time in seconds, any other in milliseconds."""

_encode = msgspec.json.Encoder().encode
_Text = Annotated[str, msgspec.Meta(min_length=1)]
_Moment = Annotated[dt.datetime, msgspec.Meta(tz=True)]


class _Envelope(msgspec.Struct, gc=False):
    """A CloudEvent in structured mode."""

    id: _Text
    source: _Text
    type: _Text
    specversion: Literal["1.0"]
    time: _Moment | None = None
    subject: str | None = None
    data: msgspec.Raw = msgspec.Raw(b"")
    data_base64: str | None = None


_envelope = msgspec.json.Decoder(_Envelope).decode


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """Events as columns; each has one item for each message that is an event.

    Attributes:
        places: Where in the batch of messages each was; all of them, if none is bad.
        ids: With the source, what tells an event from any other.
        sources: Who made it.
        types: What kind of thing happened.
        times: When it happened; None if the event does not say.
        subjects: What it happened to; None if the event does not say.
        data: The bytes of each event's data, JSON as a rule; empty if it has none.
        bad: Messages that are no events: the place, and why.
    """

    places: Sequence[int]
    ids: Sequence[str]
    sources: Sequence[str]
    types: Sequence[str]
    times: Sequence[dt.datetime | None]
    subjects: Sequence[str | None]
    data: Sequence[bytes | msgspec.Raw]
    bad: Sequence[tuple[int, str]]


@dataclass(slots=True)
class _Columns:
    """Gathers events; `add` takes them in the order of `Decoded`'s attributes."""

    rows: list[tuple[int, str, str, str, dt.datetime | None, str | None, bytes | msgspec.Raw]] = (
        field(default_factory=list)
    )
    bad: list[tuple[int, str]] = field(default_factory=list)

    def decoded(self) -> Decoded:
        columns: Any = zip(*self.rows, strict=True) if self.rows else [()] * 7
        return Decoded(*[*columns, self.bad])


class CloudEvents:
    """Reads and writes CloudEvents 1.0.

    Args:
        mode: How events are written; both modes are read.
    """

    def __init__(self, mode: Mode = "structured") -> None:
        self.mode = mode

    def decode(self, fetched: Fetched, topic: str) -> Decoded:
        """Read messages, whichever mode each is in."""
        made = _Columns()
        add, refuse = made.rows.append, made.bad.append
        headers = fetched.headers
        last, binary = None, False
        for place, value in enumerate(fetched.values):
            if headers is not None and headers[place] is not last:
                last = headers[place]
                binary = any(name == "ce_specversion" for name, _ in last)
            try:
                if value is None:
                    raise ValueError("it has no value (a tombstone)")
                if binary and last is not None:
                    add((place, *_from_headers(last), value))
                    continue
                e = _read(value)
                data = e.data if e.data_base64 is None else _bytes_of(e.data_base64)
                add((place, e.id, e.source, e.type, e.time, e.subject, data))
            except (ValueError, RecursionError) as error:  # msgspec's and Unicode's are ValueErrors
                refuse((place, f"not a CloudEvent: {error}"[:200]))
        return made.decoded()

    def encode(
        self,
        data: bytes,
        *,
        id: str,  # noqa: A002 - the attribute's name
        source: str,
        type: str,  # noqa: A002
        time: dt.datetime | None = None,
        subject: str | None = None,
        extensions: Mapping[str, str] | None = None,
    ) -> tuple[bytes, Headers]:
        """Return the value and the headers of an event whose data is JSON.

        Args:
            data: The data, as JSON.
            id: Unlike that of any other event of the source.
            source: Who made it, as a URI reference.
            type: What kind of thing happened.
            time: When it happened.
            subject: What it happened to.
            extensions: Attributes beyond the standard's, named by `check_extensions`.
        """
        attributes: dict[str, Any] = {
            "specversion": "1.0",
            "id": id,
            "source": source,
            "type": type,
        }
        if time is not None:
            attributes["time"] = time
        if subject is not None:
            attributes["subject"] = subject
        if extensions:
            attributes |= extensions
        if self.mode == "structured":
            attributes["datacontenttype"] = "application/json"
            attributes["data"] = msgspec.Raw(data)
            return _encode(attributes), STRUCTURED
        if time is not None:
            attributes["time"] = msgspec.to_builtins(time)
        named = ((f"ce_{name}", text.encode()) for name, text in attributes.items())
        return data, (*named, ("content-type", _JSON))


class PlainJson:
    """Reads and writes values as they are.

    Args:
        id_field: The member of each object that is its id; without it, topic, partition and offset
            are.
        time_field: The member that says when it happened: a time as RFC 3339 (without an offset
            UTC), or seconds or milliseconds since 1970.
    """

    def __init__(self, id_field: str = "", time_field: str = "") -> None:
        self.id_field, self.time_field = id_field, time_field
        members: list[Any] = [("id", str | int)] if id_field else []
        members += [("time", dt.datetime | float | None, None)] if time_field else []
        names = {"id": id_field, "time": time_field}
        shape = msgspec.defstruct("Row", members, rename=names, gc=False)
        self._decoder = msgspec.json.Decoder(shape) if members else None

    def decode(self, fetched: Fetched, topic: str) -> Decoded:
        """Read messages; with neither field, nothing of their values is looked at."""
        made = _Columns()
        partition = fetched.partition
        for place, value in enumerate(fetched.values):
            try:
                if value is None:
                    raise ValueError("it has no value (a tombstone)")
                row: Any = self._decoder.decode(value) if self._decoder else None
                id_ = (
                    str(row.id)
                    if self.id_field
                    else f"{topic}-{partition}-{fetched.offsets[place]}"
                )
                time = _utc(row.time) if self.time_field else None
                made.rows.append((place, id_, topic, "", time, None, value))
            except (ValueError, RecursionError, OverflowError) as error:
                made.bad.append((place, f"not an event: {error}"[:200]))
        return made.decoded()

    def encode(self, data: bytes, **_: object) -> tuple[bytes, Headers]:
        """Return the data as it is."""
        return data, ()


def check_extensions(names: Sequence[str]) -> None:
    """Refuse names that no extension attribute may have.

    Raises:
        ValueError: With the name.
    """
    for name in names:
        if not _ATTRIBUTE.fullmatch(name) or name in _OF_THE_STANDARD:
            raise ValueError(
                f"{name!r} cannot be an extension attribute of a CloudEvent: write lower-case "
                "letters and digits, 20 at most, and no name of the standard"
            )


def _read(value: bytes) -> _Envelope:
    """Read an event in structured mode, whose data may have NaN and infinity in it.

    JSON has no word for them, but most writers put theirs there: whoever reads the data says which
    field it is.
    """
    try:
        return _envelope(value)
    except msgspec.DecodeError:
        if b"NaN" not in value and b"Infinity" not in value:
            raise
        whole = json.loads(value)
        if not isinstance(whole, dict) or "data" not in whole:
            raise
        data = json.dumps(whole.pop("data")).encode()
        envelope = msgspec.convert(whole, _Envelope)
        envelope.data = msgspec.Raw(data)
        return envelope


def _from_headers(headers: Headers) -> tuple[str, str, str, dt.datetime | None, str | None]:
    """Read the attributes of an event in binary mode."""
    found = {name[3:]: text.decode() for name, text in headers if name.startswith("ce_")}
    for name in ("id", "source", "type"):
        if not found.get(name):
            raise ValueError(f"the header ce_{name} is missing or empty")
    if found["specversion"] != "1.0":
        raise ValueError(f"the header ce_specversion is {found['specversion'][:20]!r}, not 1.0")
    time = found.get("time")
    moment = None if time is None else msgspec.convert(time, _Moment)
    return found["id"], found["source"], found["type"], moment, found.get("subject")


def _bytes_of(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"data_base64: {error}") from None


def _utc(moment: dt.datetime | float | None) -> dt.datetime | None:
    if moment is None:
        return None
    if isinstance(moment, dt.datetime):
        return moment.replace(tzinfo=dt.UTC) if moment.tzinfo is None else moment
    seconds = moment if abs(moment) < _SECONDS_END else moment / 1000
    return dt.datetime.fromtimestamp(seconds, dt.UTC)


Format = CloudEvents | PlainJson
