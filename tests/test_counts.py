"""Counts in shared memory: of one process, of all, and of those that died."""

from __future__ import annotations

import resource
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.service_server import counted
from trivet import counts as module
from trivet.counts import LARGEST, Board, Counts, CountsFolder, Help, retire, summed
from trivet.errors import TrivetError

HELP: Help = {
    "rejects": ("counter", "Rejects."),
    "restarts": ("counter", "Restarts."),
    "workers": ("gauge", "Workers."),
    "requests_seconds": ("histogram", "Seconds of a request."),
    "model_info": ("info", "Whether a version is in use."),
}
BOUNDS = (0.01, 0.025)


def test_openmetrics_if_asked() -> None:
    body, kind = Counts(HELP).render("application/openmetrics-text; version=1.0.0")
    assert kind.startswith("application/openmetrics-text")
    assert body == b"# EOF\n"


def test_processes_are_summed_and_the_dead_go_on_counting(tmp_path: Path) -> None:
    alive, dead, parent = (Counts(HELP, tmp_path, number) for number in (1, 2, 0))
    for metrics, by in ((alive, 3), (dead, 4)):
        metrics.count("rejects", by, model="m", code="type")
        metrics.gauge("workers", 1)
        place = metrics.place("requests_seconds", {}, (0.01, 0.025))
        metrics.numbers[place + 1] += 1
    parent.count("restarts", 1)

    def told() -> str:
        return alive.render()[0].decode()

    assert counted(told(), "rejects_total") == 7
    assert counted(told(), "workers") == 2
    assert counted(told(), "requests_seconds_bucket", le="0.025") == 2
    retire(tmp_path, 2, HELP)
    retire(tmp_path, 2, HELP)
    assert counted(told(), "rejects_total") == 7
    assert counted(told(), "requests_seconds_bucket", le="0.01") == 0
    assert counted(told(), "requests_seconds_bucket", le="0.025") == 2
    assert counted(told(), "workers") == 1
    assert counted(told(), "restarts_total") == 1
    retire(tmp_path, 1, HELP)
    assert counted(parent.render()[0].decode(), "rejects_total") == 7


def test_a_line_that_was_cut_off_is_not_read(tmp_path: Path) -> None:
    metrics = Counts(HELP, tmp_path, 1)
    metrics.count("rejects", 2, model="m", code="type")
    with (tmp_path / "1.names").open("a") as file:
        file.write('[1, "rej')
    assert list(summed(tmp_path, HELP).values()) == [[2.0]]


def test_reading_while_processes_die(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Counts(HELP, tmp_path, 1).count("rejects", 2, model="m", code="type")
    real = module._read
    failures = [FileNotFoundError, FileNotFoundError]

    def read(folder: Path, known: module.Help) -> module.Totals:
        if failures:
            raise failures.pop()
        return real(folder, known)

    monkeypatch.setattr(module, "_read", read)
    assert len(summed(tmp_path, HELP)) == 1
    failures.extend([FileNotFoundError] * 100)
    assert summed(tmp_path, HELP) == {}


def test_there_is_an_end_to_series(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLOTS", LARGEST + 2 + 5)
    board = Board()
    first = board.place("requests_seconds", {}, BOUNDS)
    assert first == 0
    beyond = board.place("model_seconds", {}, BOUNDS)
    board.numbers[beyond + len(BOUNDS) + 1] += 1
    assert [name for name, *_ in board.values()] == ["requests_seconds"]


def test_of_an_info_the_largest_counts(tmp_path: Path) -> None:
    for number, value in ((1, 1.0), (2, 0.0)):
        Counts(HELP, tmp_path, number).gauge("model_info", value, version="1")
    assert list(summed(tmp_path, HELP).values()) == [[1.0]]


def test_the_folder_of_the_counts_is_on_no_disk_where_there_is_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "IN_MEMORY", tmp_path)
    with CountsFolder() as folder:
        assert folder.parent == tmp_path
        Board(folder, 1)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(module, "IN_MEMORY", tmp_path / "none")
    with CountsFolder() as folder:
        assert folder.parent == Path(tempfile.gettempdir())
    monkeypatch.setattr(module, "IN_MEMORY", tmp_path)
    monkeypatch.setattr(module, "ROOM", 2**62)
    with CountsFolder() as folder:
        assert folder.parent == Path(tempfile.gettempdir())


def test_a_process_that_is_retired_meanwhile_goes_on_counting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, by in ((1, 100), (2, 5)):
        Counts(HELP, tmp_path, number).count("restarts", by)
    for step in ("_dead", "_of"):  # what a sum reads first, and then
        real = getattr(module, step)

        def between(*given: Any, step: str = step, real: Any = real) -> Any:
            found = real(*given)
            monkeypatch.setattr(module, step, real)
            retire(tmp_path, 1 if step == "_dead" else 2, HELP)
            return found

        monkeypatch.setattr(module, step, between)
        assert list(summed(tmp_path, HELP).values()) == [[105.0]]
    assert list(summed(tmp_path, HELP).values()) == [[105.0]]


@pytest.fixture
def limit() -> Iterator[Callable[[int], None]]:
    """Have files of this process grow to some size only, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_no_room_for_what_a_process_counts(tmp_path: Path, limit: Callable[[int], None]) -> None:
    limit(8 * module.SLOTS - 1)
    with pytest.raises(TrivetError, match="no room for 512 KiB, in which a process counts; free"):
        Counts(HELP, tmp_path, 1)


def test_what_is_counted_has_its_room_from_the_start() -> None:
    with CountsFolder() as folder:
        Board(folder, 1)
        there = (folder / "1.numbers").stat()
    assert there.st_blocks * 512 >= there.st_size == 8 * module.SLOTS


def test_a_series_whose_name_has_no_room_is_not_counted(
    tmp_path: Path, limit: Callable[[int], None]
) -> None:
    metrics = Counts(HELP, tmp_path, 1)
    metrics.count("restarts", 1)
    names = tmp_path / "1.names"
    limit(names.stat().st_size + 10)
    metrics.count("rejects", 1, model="m", code="type")
    limit(resource.RLIM_INFINITY)
    metrics.count("rejects", 2, model="n", code="type")
    metrics.count("rejects", 2, model="m", code="type")
    assert list(summed(tmp_path, HELP).values()) == [[1.0], [2.0]]
