"""Events between the thread that polls and those that score and keep."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from trivet.brokers.base import Fetched
from trivet.hosts.stream.intake import Batch, Chunk, Intake

SECONDS = 30.0


def chunk(partition: int, begin: int, *values: bytes | None) -> Chunk:
    n = len(values)
    offsets = range(begin, begin + n)
    fetched = Fetched(partition, offsets, [b"k"] * n, values, [()] * n, [0] * n)
    return Chunk.of(fetched, begin, time.monotonic())


def events(partition: int, begin: int, count: int) -> Chunk:
    return chunk(partition, begin, *[b"12345"] * count)


def taken(intake: Intake, most: int) -> Batch:
    batch = intake.take(most, 0.0)
    assert batch is not None
    return batch


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(1, 9)), min_size=1, max_size=12),
    st.integers(1, 10),
)
def test_every_event_is_taken_once_and_in_order(
    parts: Iterable[tuple[int, int]], most: int
) -> None:
    intake = Intake(1000, 10**6)
    ends = dict.fromkeys(range(3), 0)
    for partition, count in parts:
        intake.put([events(partition, ends[partition], count)])
        ends[partition] += count
    intake.close()
    seen = dict.fromkeys(range(3), 0)
    while (batch := intake.take(most, 0.0)) is not None:
        assert 0 < batch.count <= most
        for partition, (begin, end) in batch.spans.items():
            assert begin == seen[partition]
            seen[partition] = end
        intake.done(batch, kept=True)
    assert seen == ends
    assert intake.kept() == {p: end for p, end in ends.items() if end}
    assert intake.kept() == {}
    assert intake.events == 0
    assert intake.room == 1000


def test_there_is_room_for_so_many_events_and_so_many_bytes() -> None:
    intake = Intake(10, 100)
    intake.put([events(0, 0, 4)])
    assert intake.room == 6
    assert intake.wait_for_room(0.0)
    intake.put([events(1, 0, 12)])
    assert intake.room == 0
    assert not intake.wait_for_room(0.001)
    intake.drop([1])
    assert intake.room == 6
    intake.put([chunk(2, 0, b"x" * 100, None)])
    assert intake.room == 0
    assert not intake.wait_for_room(0.001)
    intake.close()
    assert not intake.wait_for_room(SECONDS)


def test_a_batch_waits_for_company_until_there_is_enough() -> None:
    intake = Intake(100, 10**6)
    found: list[Batch | None] = []
    thread = threading.Thread(target=lambda: found.append(intake.take(5, SECONDS)))
    thread.start()
    intake.put([events(0, 0, 2)])
    intake.put([events(1, 0, 3)])
    thread.join(SECONDS)
    assert [batch and batch.count for batch in found] == [5]


def test_a_batch_whose_events_are_dropped_meanwhile_is_empty() -> None:
    intake = Intake(100, 10**6)
    intake.put([events(0, 0, 2)])
    found: list[Batch | None] = []
    thread = threading.Thread(target=lambda: found.append(intake.take(5, SECONDS)))
    thread.start()
    while not intake._changed._waiters:  # type: ignore[attr-defined]
        time.sleep(0.001)
    intake.drop()
    thread.join(SECONDS)
    assert [batch and batch.count for batch in found] == [0]


def test_after_a_reset_nothing_comes_in_until_the_partitions_are_placed() -> None:
    intake = Intake(100, 10**6)
    intake.put([events(0, 0, 2), events(1, 0, 2)])
    batch = taken(intake, 2)
    intake.reset()
    assert intake.is_stale
    assert batch.generation != intake.generation
    intake.put([events(0, 2, 2)])
    assert intake.events == 2
    assert not intake.settle([0], 0.001)
    assert intake.settle([1], 0.0)
    intake.done(batch, kept=False)
    assert intake.settle([0], 0.0)
    intake.begin_anew()
    assert not intake.is_stale
    intake.put([events(0, 0, 2)])
    assert taken(intake, 9).spans == {0: (0, 2)}


def test_what_was_kept_of_a_partition_that_goes_is_forgotten() -> None:
    intake = Intake(100, 10**6)
    intake.put([events(0, 0, 2), events(1, 0, 2)])
    intake.done(taken(intake, 9), kept=True)
    intake.forget([0])
    assert intake.kept() == {1: 2}
    assert {partition: at for partition, (at, _) in intake.reached().items()} == {1: 2}
