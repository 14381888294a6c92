"""Log lines of a process that runs for long: one JSON object each, or plain text."""

from __future__ import annotations

import datetime as dt
import logging
import sys
from typing import Any

import msgspec


def set_up_logging(*, json: bool, level: int = logging.INFO) -> None:
    """Send the log of Trivet and of the HTTP server, if there is one, to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines() if json else logging.Formatter("%(message)s"))
    for name, least in (("trivet", level), ("uvicorn.error", max(level, logging.ERROR))):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(least)


class JsonLines(logging.Formatter):
    """One JSON object a record; ``extra={"fields": {...}}`` of a log call adds to it."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(
                timespec="milliseconds"
            ),
            "level": record.levelname.lower(),
            "logger": record.name,
            "process": record.process,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return msgspec.json.encode(line | getattr(record, "fields", {})).decode()
