"""Databases of each kind and the process that runs the command in them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faults.attempts import Zygote

NewDatabase = Callable[[], str]


@pytest.fixture(params=["sqlite", "postgresql"])
def new_database(request: pytest.FixtureRequest, tmp_path: Path) -> NewDatabase:
    """Give a maker of empty databases of one kind."""
    if request.param == "sqlite":
        numbers = itertools.count(1)
        return lambda: f"sqlite:///{tmp_path / f'{next(numbers)}.db'}"
    make: NewDatabase = request.getfixturevalue("postgres").new_database
    return make


@pytest.fixture
def zygote(tmp_path: Path) -> Iterator[Zygote]:
    """Give the process that runs commands, and kills them."""
    with Zygote(tmp_path / "log") as zygote:
        yield zygote
