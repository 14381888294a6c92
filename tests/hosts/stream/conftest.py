"""A stream on each broker and each results database."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.streams import Stream


@pytest.fixture(params=["embedded", "kafka"])
def stream(request: pytest.FixtureRequest, tmp_path: Path) -> Stream:
    """Give a stream: embedded with SQLite, or Kafka with PostgreSQL."""
    if request.param == "embedded":
        results = f"sqlite:///{tmp_path / 'results.db'}"
        made = Stream(tmp_path, f"sqlite:///{tmp_path / 'events.db'}", results)
    else:
        kafka = request.getfixturevalue("kafka")
        results = request.getfixturevalue("postgres_url")
        large = f"{kafka.url}?message.max.bytes=29000000"
        made = Stream(tmp_path, large, results, prefix=f"{kafka.new_name('t')}-")
    made.create()
    return made
