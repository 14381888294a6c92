"""A supervisor of tiny commands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.tiny import Running, Start
from trivet.up.board import claimed
from trivet.up.plan import Process


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Give a starter of supervisors; what still runs at the end is stopped."""
    with claimed(tmp_path) as board:
        made: list[Running] = []

        def make(*plan: Process) -> Running:
            made.append(Running(tmp_path, board, list(plan)))
            return made[-1]

        yield make
        for running in made:
            running.supervisor.stop()
            running.stop()
