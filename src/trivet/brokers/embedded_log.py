"""The logs in the embedded broker's file: appended to in chunks, read from any offset, trimmed.

Events appended together are one row, a chunk: a reader takes a thousand events with one step of
the database, and a thread that computes beside it is not in its way.
"""

from __future__ import annotations

import datetime as dt
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from trivet.brokers.base import Failed, Fetched, Headers
from trivet.brokers.embedded_file import LogFile
from trivet.errors import OffsetGone, TopicNotFound

SHIFT = 40
"""A chunk's id is its log's number, shifted by so many bits, plus its first offset."""

CHUNK_EVENTS = 1000
CHUNK_BYTES = 2**20
_FETCH_BYTES = 2**25
"""A fetch ends after the chunk that brings it beyond so many bytes."""
_TRIM_CHUNKS = 500

_Body = tuple[list[bytes | None] | None, list[bytes | None], list[Headers] | None]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Body).decode


@dataclass(slots=True, eq=False)
class Pending:
    """Events of one log that wait to be written, column by column."""

    keys: list[bytes | None] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)
    headers: dict[int, Headers] = field(default_factory=dict)
    failed: list[Failed] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def bodies(self) -> list[tuple[int, bytes]]:
        """Return the events as chunks: how many, and the body."""
        made, start = [], 0
        while start < len(self.values):
            end = self._chunk_end(start)
            keys: list[bytes | None] | None = self.keys[start:end]
            if not any(key is not None for key in keys or ()):
                keys = None
            headers = None
            if self.headers:
                headers = _shortened([self.headers.get(place, ()) for place in range(start, end)])
            made.append((end - start, _encode((keys, self.values[start:end], headers))))
            start = end
        return made

    def _chunk_end(self, start: int) -> int:
        end = min(start + CHUNK_EVENTS, len(self.values))
        size = sum(self.sizes[start:end])
        while size > CHUNK_BYTES and end > start + 1:
            end -= 1
            size -= self.sizes[end]
        return end


def _shortened(headers: list[Headers]) -> list[Headers] | None:
    """Write headers that all events share once."""
    first = headers[0]
    if all(each is first or each == first for each in headers):
        return [first] if first else None
    return headers


def logs_of(file: LogFile, topic: str) -> dict[int, int]:
    """Return the number of each partition's log.

    Raises:
        TopicNotFound: There is no such topic.
    """
    found = {partition: log for log, partition in file.rows("logs", topic=topic)}
    if not found:
        raise TopicNotFound(f"{file.path} has no topic {topic!r}; create it first")
    return found


def state(file: LogFile, log: int) -> tuple[int, int, int]:
    """Return the oldest offset of a log, the next one, and when it was last appended to.

    Raises:
        TopicNotFound: Its topic was deleted.
    """
    for first, end, moment in file.rows("log_state", log=log):
        return first, end, moment
    raise TopicNotFound(f"{file.path}: the topic was deleted; create it first")


def append(file: LogFile, bodies: Mapping[int, Sequence[tuple[int, bytes]]]) -> None:
    """Append chunks to logs, within `LogFile.writing`."""
    now = time.time_ns() // 1_000_000
    for log, chunks in bodies.items():
        _, offset, last = state(file, log)
        moment, size, rows = max(now, last), 0, []
        for events, body in chunks:
            rows.append(((log << SHIFT) + offset, events, moment, body))
            offset, size = offset + events, size + len(body)
        file.many("add_chunk", iter(rows))
        file.rows("advance", log=log, next_offset=offset, time=moment, bytes=size)


def read(file: LogFile, topic: str, partition: int, log: int, offset: int, most: int) -> Fetched:
    """Read at least `most` events, if there are so many, or whole chunks beyond it.

    Raises:
        OffsetGone: There is no such offset any more, or not yet.
    """
    with file.reading():
        first, end, _ = state(file, log)
        if not first <= offset <= end:
            raise OffsetGone(
                f"topic {topic!r}, partition {partition}: offset {offset} is not there, the log "
                f"has {first} to {end}; start again from the earliest or latest one"
            )
        if offset == end:
            return Fetched(partition, (), (), (), None, ())
        return _gathered(partition, log, offset, most, _chunks(file, log, offset))


def _chunks(file: LogFile, log: int, offset: int) -> Iterator[tuple[int, int, bytes]]:
    low = log << SHIFT
    yield from file.some("chunks", low=low, start=low + offset, high=(log + 1) << SHIFT)


def _gathered(
    partition: int, log: int, offset: int, most: int, chunks: Iterator[tuple[int, int, bytes]]
) -> Fetched:
    keys: list[bytes | None] = []
    values: list[bytes | None] = []
    times: list[int] = []
    headers: list[Headers] | None = None
    size = 0
    for chunk, moment, body in chunks:
        its_keys, its_values, its_headers = _decode(body)
        skip = offset + len(values) - (chunk - (log << SHIFT))
        count = len(its_values) - skip
        if its_headers is not None and headers is None:
            headers = [()] * len(values)
        if headers is not None:
            same = its_headers or [()]
            headers += same * count if len(same) == 1 else same[skip:]
        keys += [None] * count if its_keys is None else its_keys[skip:] if skip else its_keys
        values += its_values[skip:] if skip else its_values
        times += [moment] * count
        size += len(body)
        if len(values) >= most or size >= _FETCH_BYTES:
            break
    return Fetched(partition, range(offset, offset + len(values)), keys, values, headers, times)


def split(fetched: Fetched, most: int) -> tuple[Fetched, Fetched | None]:
    """Return the first events, and the rest if there is one."""
    if len(fetched.offsets) <= most:
        return fetched, None
    return cut(fetched, 0, most), cut(fetched, most, len(fetched.offsets))


def cut(fetched: Fetched, start: int, end: int) -> Fetched:
    """Return some of the events."""
    return Fetched(
        fetched.partition,
        fetched.offsets[start:end],
        fetched.keys[start:end],
        fetched.values[start:end],
        fetched.headers and fetched.headers[start:end],
        fetched.times[start:end],
    )


def offset_at(file: LogFile, log: int, moment: dt.datetime) -> int:
    """Return the offset of the first event appended at a moment or later, or the next one."""
    with file.reading():
        low, high, _ = state(file, log)
        base, wanted, end = log << SHIFT, moment.timestamp() * 1000, (log + 1) << SHIFT
        while low < high:  # times never go back within a log
            middle = (low + high) // 2
            found = file.rows("chunk_after", start=base + middle, high=end)
            if found and found[0][2] < wanted:
                low = found[0][0] - base + found[0][1]
            else:
                high = middle
        return _begin_of_chunk(file, log, low)


def _begin_of_chunk(file: LogFile, log: int, offset: int) -> int:
    """Return where the first chunk from an offset on begins, or the next event will."""
    base = log << SHIFT
    found = file.rows("chunk_after", start=base + offset, high=(log + 1) << SHIFT)
    return int(found[0][0] - base if found else state(file, log)[1])


def trim(file: LogFile, keep_for: dt.timedelta, keep_bytes: int | None) -> None:
    """Drop the oldest chunks, in short transactions.

    Those that are older than `keep_for`, those without which the others are `keep_bytes`, and all
    of a topic that was deleted.
    """
    before = (time.time() - keep_for.total_seconds()) * 1000
    for log, _, is_deleted in file.rows("all_logs"):
        while _trim_some(file, log, math.inf if is_deleted else before, keep_bytes):
            pass


def _trim_some(file: LogFile, log: int, before: float, keep_bytes: int | None) -> bool:
    """Drop some chunks; say whether there may be more to drop."""
    base = log << SHIFT
    with file.writing():
        held = next(row[1] for row in file.rows("all_logs") if row[0] == log)
        too_many = 0 if keep_bytes is None else held - keep_bytes
        cut_at = dropped = count = 0
        oldest = file.rows("oldest", low=base, high=(log + 1) << SHIFT, most=_TRIM_CHUNKS)
        for chunk, events, moment, size in oldest:
            if moment >= before and dropped + size > too_many:
                break
            cut_at, dropped, count = chunk + events, dropped + size, count + 1
        if count:
            file.rows("drop_chunks", low=base, high=cut_at)
            file.rows("forget", log=log, first_offset=cut_at - base, bytes=dropped)
        return count == _TRIM_CHUNKS
