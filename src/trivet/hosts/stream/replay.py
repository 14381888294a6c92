"""Dead letters sent again, once what was wrong is put right."""

from __future__ import annotations

import dataclasses
import datetime as dt
from collections.abc import Sequence

from trivet.brokers.base import Broker
from trivet.databases import Connection
from trivet.errors import BrokerUnavailable, ResultsError
from trivet.results.dead_letters import DeadLetter, Place, dead_letter, mark_replayed

FLUSH_SECONDS = 30.0


def whole(broker: Broker, letter: DeadLetter) -> DeadLetter:
    """Return a dead letter with its bytes, from the topic where they were too many to keep.

    Raises:
        ResultsError: The topic no longer has it.
    """
    if letter.value is not None or not letter.size:
        return letter
    place = letter.place
    found = broker.read(place.topic, place.partition, place.offset, 1)
    if not found.offsets or found.offsets[0] != place.offset:
        raise ResultsError(
            f"{place} is no longer in its topic, and its {letter.size:,} bytes were too many to "
            "be kept; have its producer send it again"
        )
    return dataclasses.replace(letter, value=found.values[0])


def replay(
    db: Connection, broker: Broker, deployment: str, places: Sequence[Place], now: dt.datetime
) -> int:
    """Append dead letters to the end of their topic as they came; return how many.

    An event keeps its id, so one that was scored meanwhile is not scored twice.

    Raises:
        ResultsError: One is none, or is no longer in its topic.
        BrokerUnavailable: The broker did not take them.
    """
    letters = [whole(broker, dead_letter(db, deployment, place)) for place in places]
    appender = broker.appender()
    try:
        for letter in letters:
            appender.append(letter.place.topic, letter.key, letter.value or b"", letter.headers)
        if left := appender.flush(FLUSH_SECONDS):
            raise BrokerUnavailable(f"{left} events were not taken; nothing was marked as replayed")
    finally:
        appender.close()
    for letter in letters:
        mark_replayed(db, deployment, letter.place, now)
    return len(letters)
