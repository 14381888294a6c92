from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.events import Place, close_senders, make_place
from trivet.brokers.base import Broker


@pytest.fixture(params=["embedded", "kafka"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Give every kind of broker."""
    return make_place(request.param, request, tmp_path)


@pytest.fixture
def broker(place: Place) -> Iterator[Broker]:
    made = place.connect()
    yield made
    made.close()


@pytest.fixture(autouse=True)
def senders() -> Iterator[None]:
    yield
    close_senders()
