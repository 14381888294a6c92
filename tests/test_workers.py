"""Processes that are replaced when they die, and end together."""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path

import pytest

from support import labour
from trivet import workers
from trivet.errors import ResultsError
from trivet.workers import Job, Workers

PATIENCE = 60.0
Act = Callable[[Path, Connection], None]


class Failed(Exception):
    """What the tests' host makes of an error of its processes."""


@dataclass
class Host:
    """A host of processes, and what it was told of them."""

    folder: Path
    act: Act
    size: int = 2
    ready: list[bytes] = field(default_factory=list)
    died: list[int] = field(default_factory=list)
    error: Exception | None = None

    def __post_init__(self) -> None:
        self.job = Job(
            name="test",
            target=labour.work,
            arguments=lambda number, place: (self.act, self.folder, number),
            ready=self.ready.append,
            died=self.died.append,
            error=lambda kind, reason: Failed(f"{kind}, {reason}"),
            end_seconds=PATIENCE,
            log=logging.getLogger("trivet.test"),
        )

    @contextmanager
    def running(self, **changes: object) -> Iterator[Workers]:
        made = Workers(replace(self.job, **changes), self.size)  # type: ignore[arg-type]

        def run() -> None:
            try:
                made.run()
            except Exception as error:  # noqa: BLE001 - the test looks at it
                self.error = error

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield made
        finally:
            made.stop()
            thread.join(PATIENCE)
            assert not thread.is_alive()

    @property
    def started(self) -> list[int]:
        """The processes that ever began, by their number."""
        paths = sorted(self.folder.glob("*.pid"), key=lambda path: int(path.stem))
        return [int(told) for path in paths if (told := path.read_text())]


def until(what: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.005)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture
def host(tmp_path: Path) -> Callable[[Act], Host]:
    return lambda act: Host(tmp_path, act)


def test_they_work_and_end(host: Callable[[Act], Host]) -> None:
    mine = host(labour.steady)
    with mine.running() as made:
        until(lambda: made.is_ready)
        pids = made.pids
    assert mine.error is None
    assert mine.ready == [b"all well"] * 2
    assert sorted(pids) == sorted(mine.started)
    assert all(map(gone, pids))
    assert made.pids == []
    assert not made.is_ready


def test_one_that_dies_is_replaced(
    host: Callable[[Act], Host], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(workers, "BACKOFF", (0.001, 0.01))
    mine = host(labour.steady)
    with mine.running() as made:
        for deaths in range(1, 4):
            until(lambda: made.is_ready)
            os.kill(made.pids[0], signal.SIGKILL)
            until(lambda d=deaths: len(mine.died) == d)  # type: ignore[misc]
        until(lambda: made.is_ready)
    assert mine.error is None
    assert len(set(mine.died)) == 3
    assert "died (signal 9); another one starts in 0.0 s" in caplog.text


def test_the_wait_grows_until_one_was_healthy(
    host: Callable[[Act], Host], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(workers, "BACKOFF", (0.025, 0.1))
    mine = host(labour.last)
    mine.size = 1
    with mine.running():
        until(lambda: len(mine.died) == 5)
    waits = [r.args[2] for r in caplog.records if "another one" in r.msg]  # type: ignore[index]
    assert waits[:5] == [0.0, 0.1, 0.1, 0.1, 0.1]
    assert "(exit code 3)" in caplog.text
    caplog.clear()
    monkeypatch.setattr(workers, "HEALTHY_SECONDS", 0.0)
    with mine.running():
        until(lambda: len(mine.died) == 8)
    waits = [r.args[2] for r in caplog.records if "another one" in r.msg]  # type: ignore[index]
    assert set(waits) == {0.0}


def test_all_look_for_new_versions(host: Callable[[Act], Host]) -> None:
    mine = host(labour.steady)
    with mine.running() as made:
        until(lambda: made.is_ready)
        made.reload()
        until(lambda: all((mine.folder / f"{pid}.looked").exists() for pid in made.pids))


def test_an_error_before_any_was_ready_ends_them(host: Callable[[Act], Host]) -> None:
    mine = host(labour.wrong)
    with mine.running():
        until(lambda: mine.error)
    assert str(mine.error) == "ResultsError, no such table"
    assert mine.died == []
    mine = host(labour.broken)
    with mine.running():
        until(lambda: mine.error)
    assert str(mine.error) == "KeyError, KeyError: 'x'"


@pytest.mark.parametrize("fatal", [(), (ResultsError.__name__,)])
def test_a_later_error_ends_them_if_it_would_come_again(
    fatal: tuple[str, ...], host: Callable[[Act], Host], caplog: pytest.LogCaptureFixture
) -> None:
    mine = host(labour.later_wrong)
    with mine.running(fatal=fatal) as made:
        until(lambda: made.is_ready)
        (mine.folder / "go").touch()
        until(lambda: mine.error if fatal else mine.died)
    assert isinstance(mine.error, Failed if fatal else type(None))
    assert ("died (no such table)" in caplog.text) == (not fatal)


def test_one_that_stands_still_is_killed(
    host: Callable[[Act], Host], caplog: pytest.LogCaptureFixture
) -> None:
    mine = host(labour.deaf)
    with mine.running(silence=0.05, end_seconds=0.0):
        until(lambda: mine.died)
    assert "gave no sign of life" in caplog.text


def test_one_that_does_not_end_is_killed(
    host: Callable[[Act], Host], caplog: pytest.LogCaptureFixture
) -> None:
    mine = host(labour.deaf)
    with mine.running(end_seconds=0.01) as made:
        until(lambda: made.is_ready)
        pids = made.pids
    assert all(map(gone, pids))
    assert "does not end; it is killed" in caplog.text


def test_a_second_stop_does_not_wait(host: Callable[[Act], Host]) -> None:
    mine = host(labour.deaf)
    with mine.running() as made:
        until(lambda: made.is_ready)
        pids = made.pids
        made.stop()
    assert all(map(gone, pids))


def test_one_that_is_not_ready_is_not_waited_for(host: Callable[[Act], Host]) -> None:
    mine = host(labour.late)
    with mine.running():
        until(lambda: len(mine.started) == 2)
    assert all(map(gone, mine.started))
