"""What librdkafka logs, told once: it repeats itself for as long as a broker is away."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from threading import Lock

AGAIN_SECONDS = 60.0
"""So long a line like one that was told stays at the level debug."""

_MOST = 500
"""Kinds of lines that are remembered."""

_OF_THE_MOMENT = re.compile(
    r"\[thrd:[^\]]*\]: |\(after [^)]*\)|rdkafka#\w+-\d+|\d+(?:\.\d+)?\s*ms\b"
)
"""Parts of a line that differ between two clients, or two tries, that meet the same."""


class KafkaLog:
    """Takes the lines of all clients of this process, as librdkafka's binding hands them over.

    Args:
        logger: Where they go.
        clock: For tests.
    """

    def __init__(self, logger: logging.Logger, clock: Callable[[], float] = time.monotonic) -> None:
        self._logger = logger
        self._clock = clock
        self._lock = Lock()
        self._told: dict[tuple[object, ...], tuple[float, int]] = {}  # when, and how many since

    def log(self, level: int, text: str, *parts: object) -> None:
        """Log a line; at the level debug if one like it was told lately."""
        line = text % parts if parts else text
        kind = (level, _OF_THE_MOMENT.sub("", " ".join(map(str, parts)) if parts else text))
        now = self._clock()
        with self._lock:
            when, since = self._told.get(kind, (float("-inf"), 0))
            is_new = now - when >= AGAIN_SECONDS
            if is_new:
                self._told.pop(kind, None)  # the newest stand last
                if len(self._told) >= _MOST:
                    del self._told[next(iter(self._told))]
            self._told[kind] = (now, 0) if is_new else (when, since + 1)
        more = f" ({since} more like it since the last)" if is_new and since else ""
        self._logger.log(level if is_new else logging.DEBUG, "%s%s", line, more)


LOG = KafkaLog(logging.getLogger("trivet.brokers"))
"""Given to every client."""
