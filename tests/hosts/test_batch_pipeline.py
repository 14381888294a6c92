"""Side by side, in order, bounded; and no thread is left behind, whatever happens."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from trivet.hosts.batch.pipeline import pipelined


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 100])
def test_results_come_in_the_order_of_the_items(workers: int, count: int) -> None:
    assert list(pipelined(range(count), lambda n: n * n, workers)) == [n * n for n in range(count)]


def test_workers_work_at_the_same_time() -> None:
    meeting = threading.Barrier(2, timeout=30)
    assert len(list(pipelined(range(4), lambda _: meeting.wait(), 2))) == 4


@pytest.mark.parametrize("workers", [1, 3])
def test_only_so_many_items_are_held(workers: int) -> None:
    taken, most = 0, 0

    def items() -> Iterator[int]:
        nonlocal taken
        while taken < 100:
            taken += 1
            yield taken

    done = 0
    for done, _ in enumerate(pipelined(items(), lambda n: n, workers), 1):
        most = max(most, taken - done)
    assert done == 100
    assert most <= workers + 4


def test_an_exception_of_an_item_comes_out_in_its_place() -> None:
    def items() -> Iterator[int]:
        yield from (1, 2)
        raise KeyError("third")

    got: list[int] = []
    with pytest.raises(KeyError, match="third"):
        got.extend(pipelined(items(), lambda n: n, 2))
    results = pipelined(items(), lambda n: n, 1)
    assert [next(results), next(results)] == [1, 2]
    with pytest.raises(KeyError):
        next(results)


def test_an_exception_of_the_work_comes_out_in_its_place() -> None:
    results = pipelined(iter(range(100)), lambda n: 6 // (n - 2), 2)
    assert [next(results), next(results)] == [-3, -6]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_closing_it_early_interrupts_a_read_under_way_and_closes_the_items() -> None:
    interrupted, closed = threading.Event(), threading.Event()

    def items() -> Iterator[int]:
        try:
            yield 1
            interrupted.wait()  # a slow query, until somebody cancels it
            yield 2
        finally:
            closed.set()

    with closing(pipelined(items(), lambda n: n, 1, interrupted.set)) as results:
        assert next(results) == 1
    assert closed.is_set()


def test_the_reader_gives_up_when_nobody_takes_what_it_has() -> None:
    results = pipelined(iter(range(1000)), lambda n: n, 1)
    assert next(results) == 0
    results.close()


def test_a_read_that_ended_is_not_interrupted() -> None:
    interrupted = threading.Event()
    assert list(pipelined([1, 2], lambda n: n, 1, interrupted.set)) == [1, 2]
    assert not interrupted.is_set()
