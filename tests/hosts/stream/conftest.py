"""A stream on every broker and every results database."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.streams import Stream


@pytest.fixture
def broker_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'events.db'}"


@pytest.fixture
def stream(tmp_path: Path, broker_url: str, results_url: str) -> Stream:
    made = Stream(tmp_path, broker_url, results_url)
    made.create()
    return made
