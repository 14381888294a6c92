"""Duplicate keys of a run, against a plain set of all keys seen."""

from __future__ import annotations

import datetime as dt
import decimal
import io
import itertools
import tempfile
import tracemalloc
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trivet.errors import RunError, SchemaError
from trivet.hosts import keys
from trivet.hosts.keys import KeyTracker, hash_keys

LOW, HIGH = -(2**63), 2**63 - 1
EPOCH = dt.datetime(2024, 5, 1, tzinfo=dt.UTC)

TINY = {"_CELLS": 16, "_PASS": 3, "_CHUNK": 2, "_SPANS": 2, "_SORTED": 1}

Key = tuple[object, ...]
Batches = list[list[Key]]


def found(batches: Iterable[Sequence[pa.Array]]) -> list[bool]:
    """Run the tracker over batches of key columns and tell the duplicates, row by row."""
    duplicate: list[bool] = []
    suspects: list[int] = []
    with KeyTracker() as tracker:
        for columns in batches:
            start = len(duplicate)
            duplicate += [False] * len(columns[0])
            split = tracker.split(columns)
            for rows in split:
                assert (np.diff(rows) > 0).all()
            assert sorted(np.concatenate(split)) == list(range(len(columns[0])))
            for row in split.repeat:
                duplicate[start + row] = True
            suspects += [start + int(row) for row in split.suspect]
        for row, is_duplicate in zip(suspects, tracker.settle(), strict=True):
            duplicate[row] = bool(is_duplicate)
    return duplicate


def expected(batches: Batches) -> list[bool]:
    rows = [key for batch in batches for key in batch]
    first: dict[Key, int] = {}
    return [first.setdefault(key, row) != row for row, key in enumerate(rows)]


def columns_of(batch: list[Key], types: Sequence[pa.DataType]) -> list[pa.Array]:
    """Make the columns of a batch, cut out of longer ones."""
    whole = [*batch[:1], *batch, *batch[-1:]]
    return [
        pa.array([key[at] for key in whole], kind).slice(min(1, len(batch)), len(batch))
        for at, kind in enumerate(types)
    ]


def numbers(*batches: Iterable[int]) -> list[list[pa.Array]]:
    return [[pa.array(list(batch), pa.int64())] for batch in batches]


INTEGERS = st.integers(-9, 9) | st.sampled_from([LOW, LOW + 1, -1, 0, HIGH - 1, HIGH])
TEXTS = st.text("aä\0漢😀", max_size=3) | st.sampled_from(["a" * 8, "a" * 9, "a" * 16, "ab" * 200])
TIMES = st.integers(-5, 5).map(lambda hours: EPOCH + dt.timedelta(hours=hours))
FLOATS = st.sampled_from([0.0, 1.5, -1.5, 1e300, -1e-300])
STAMP = pa.timestamp("us", tz="UTC")
KINDS: list[tuple[list[pa.DataType], st.SearchStrategy[Key]]] = [
    ([pa.int64()], st.tuples(INTEGERS)),
    ([pa.string()], st.tuples(TEXTS)),
    ([pa.large_string()], st.tuples(TEXTS)),
    ([pa.dictionary(pa.int8(), pa.string())], st.tuples(TEXTS)),
    ([STAMP], st.tuples(TIMES)),
    ([pa.float64()], st.tuples(FLOATS)),
    ([pa.int64(), pa.int64()], st.tuples(INTEGERS, INTEGERS)),
    ([pa.string(), pa.string()], st.tuples(TEXTS, TEXTS)),
    ([pa.int64(), STAMP, pa.string()], st.tuples(INTEGERS, TIMES, TEXTS)),
    ([pa.bool_(), pa.int16(), pa.int8()], st.tuples(st.booleans(), *[st.integers(-2, 2)] * 2)),
]


@pytest.mark.parametrize(
    ("types", "values"), [pytest.param(*kind, id="/".join(map(str, kind[0]))) for kind in KINDS]
)
@settings(max_examples=40, deadline=None)
@given(tiny=st.booleans(), data=st.data())
def test_finds_what_a_set_of_all_keys_finds(
    types: list[pa.DataType], values: st.SearchStrategy[Key], tiny: bool, data: st.DataObject
) -> None:
    batch = st.lists(values, max_size=12)
    batch |= batch.map(lambda rows: sorted(rows, key=repr))  # often sorted by value, too
    batches = data.draw(st.lists(batch, max_size=8))
    with pytest.MonkeyPatch.context() as patch:
        if tiny:  # a filter that soon takes every key for a member
            for name, value in TINY.items():
                patch.setattr(keys, name, value)
        assert found(columns_of(rows, types) for rows in batches) == expected(batches)


@settings(deadline=None)
@given(
    runs=st.lists(
        st.tuples(INTEGERS, st.integers(0, 12), st.sampled_from([-2, -1, 0, 1, 3])), max_size=12
    )
)
def test_sorted_batches_that_meet_overlap_and_turn(runs: list[tuple[int, int, int]]) -> None:
    batches: Batches = [
        [(min(max(start + at * step, LOW), HIGH),) for at in range(count)]
        for start, count, step in runs
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(keys, "_SORTED", 2)
        patch.setattr(keys, "_SPANS", 2)
        assert found(columns_of(rows, [pa.int64()]) for rows in batches) == expected(batches)


def test_sorted_batches_are_told_fresh_without_the_filter() -> None:
    with KeyTracker() as tracker:
        for (column,) in numbers(range(100), range(100, 300, 2), range(-1, -99, -1)):
            assert len(tracker.split([column]).fresh) == len(column)
        repeated = tracker.split([pa.array(sorted([*range(900, 999), 950]))])
        assert repeated.repeat.tolist() == [51]
        assert len(repeated.suspect) == 0
        assert not tracker._filter._cells.any()
        assert len(tracker.settle()) == 0


def test_a_late_row_is_decided_at_the_end() -> None:
    with KeyTracker() as tracker:
        for columns in numbers(range(0, 200, 2), [7, 6, 7, 1000], range(300, 400), [7, 1000, 301]):
            split = tracker.split(columns)
        assert split.fresh.tolist() == []
        assert split.suspect.tolist() == [0, 1, 2]
        # 7 and 6 from the second batch, then 7, 1000 and 301.
        assert tracker.settle().tolist() == [False, True, True, True, True]


def test_a_span_does_not_swallow_a_batch_that_surrounds_scattered_keys() -> None:
    assert found(numbers([50, 3], range(100)))[2:] == [key in (50, 3) for key in range(100)]


def test_ranges_stay_few_and_cover_all_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_SPANS", 4)
    spans = keys._Spans()
    assert not spans.hold(np.array([LOW, 0, HIGH])).any()
    for low in (LOW, 100, HIGH - 1, 0, 205, 150, -50, 207):
        assert spans.add(low, low + 1)
    for low, high in ((LOW, HIGH), (90, 100), (151, 152), (HIGH, HIGH), (LOW, LOW)):
        assert not spans.add(low, high)
    assert spans._lows.tolist() == [LOW, -50, 205, HIGH - 1]
    assert spans._highs.tolist() == [LOW + 1, 151, 208, HIGH]
    assert spans.hold(np.array([LOW, LOW + 1, -50, 12, 151, 205, 208, HIGH - 1, HIGH])).all()
    assert not spans.hold(np.array([LOW + 2, -51, 152, 204, 209, HIGH - 2])).any()


SAMPLES: list[tuple[pa.DataType, list[Any]]] = [
    (pa.bool_(), [True, False]),
    *((kind, [0, 1, 100]) for kind in (pa.int8(), pa.uint16(), pa.int32(), pa.uint64())),
    (pa.uint64(), [0, HIGH, HIGH + 1, 2**64 - 1]),
    (pa.date32(), [dt.date(1969, 1, 1), dt.date(2024, 2, 29)]),
    (pa.date64(), [dt.date(1969, 1, 1), dt.date(2024, 2, 29)]),
    (pa.time32("s"), [dt.time(0), dt.time(23, 59)]),
    (pa.timestamp("ns"), [EPOCH.replace(tzinfo=None), dt.datetime(1900, 1, 1)]),  # noqa: DTZ001
    (pa.float16(), [np.float16(0.5), np.float16(-2)]),
    (pa.float32(), [0.5, -2.0]),
    (pa.float64(), [0.1, float("inf"), float("nan")]),
    (pa.decimal128(20, 2), [decimal.Decimal("1.20"), decimal.Decimal("-1.20")]),
    (pa.decimal256(50, 2), [decimal.Decimal("1.20"), decimal.Decimal("-1.20")]),
    (pa.binary(), [b"", b"\0", b"\0\0", b"a" * 300]),
    (pa.large_binary(), [b"", b"\0", b"\xff" * 7, b"\xff" * 8]),
    (pa.binary(3), [b"abc", b"abd"]),
    (pa.binary(0), [b""]),
    (pa.binary(16), [uuid.UUID(int=1).bytes, uuid.UUID(int=2**127).bytes]),
    (pa.binary(20), [b"a" * 20, b"a" * 19 + b"b"]),
    (pa.string(), ["", "\0", "a", "ä", "abcdefgh", "abcdefgh\0", "x" * 10_000]),
    (pa.string_view(), ["", "a", "a longer text than a view holds inline"]),
    (pa.binary_view(), [b"", b"a"]),
]


@pytest.mark.parametrize(("kind", "values"), SAMPLES, ids=lambda value: str(value)[:30])
def test_a_hash_depends_on_the_value_alone(kind: pa.DataType, values: list[Any]) -> None:
    column = pa.array([*values, *reversed(values)], kind)
    hashes = hash_keys([column])
    assert len(np.unique(hashes, axis=0)) == len(values)
    assert (hashes == hashes[::-1]).all()
    for start in range(len(column)):
        assert (hash_keys([column.slice(start)]) == hashes[start:]).all()
        assert (hash_keys([column.slice(start, 1)]) == hashes[start : start + 1]).all()
    if kind not in (pa.float16(), pa.string_view(), pa.binary_view()):  # no kernel in pyarrow
        encoded = pa.array([None, *column.to_pylist()], kind).slice(1).dictionary_encode()
        assert (hash_keys([encoded]) == hashes).all()


def test_the_width_of_a_text_or_a_number_does_not_matter() -> None:
    texts = pa.array(["", "a", "漢字", "x" * 20])
    for kind in (pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary()):
        assert (hash_keys([texts.cast(kind)]) == hash_keys([texts])).all()
    assert (hash_keys([pa.array([-1], pa.int8())]) == hash_keys([pa.array([-1])])).all()


def test_an_extension_type_is_its_storage() -> None:
    storage = pa.array([uuid.UUID(int=at).bytes for at in (5, 6, 5)], pa.binary(16))
    column = pa.ExtensionArray.from_storage(pa.uuid(), storage)
    assert (hash_keys([column]) == hash_keys([storage])).all()


def test_zeros_and_nans_are_one_key_each() -> None:
    nans = np.array([0x7FF8000000000000, 0xFFF8000000000001], np.uint64).view(np.float64)
    assert found([[pa.array([0.0, *nans])], [pa.array([-0.0, 1.0])]]) == [0, 0, 1, 1, 0]


def test_nulls_do_not_break_it() -> None:
    for kind in (pa.null(), pa.int32(), pa.float64(), pa.string(), pa.bool_(), pa.binary(16)):
        assert len(hash_keys([pa.nulls(3, kind)])) == 3
    assert len(hash_keys([pa.array([None, "a"]).dictionary_encode()])) == 2


def test_all_columns_of_a_key_count() -> None:
    batches: Batches = [[(1, 1), (1, 2)] * 2, [(3, 1), (4, 1)] * 2, [(1, 1), (4, 2), (4, 1)]]
    assert found(columns_of(rows, [pa.int64()] * 2) for rows in batches) == expected(batches)


def test_columns_do_not_run_into_each_other() -> None:
    pairs = [("ab", "c"), ("a", "bc"), ("", "abc"), ("abc", ""), ("c", "ab")]
    hashes = hash_keys(columns_of([*pairs], [pa.string(), pa.string()]))
    assert len(np.unique(hashes, axis=0)) == len(pairs)


@pytest.mark.parametrize("form", ["user-{:06d}", "{:06d}", "{}", "ride/{0:03x}/{0:08d}/{0:020b}"])
def test_structured_texts_do_not_collide(form: str) -> None:
    count = 300_000
    hashes = hash_keys([pa.array(form.format(at) for at in range(count))])
    for lane in hashes.T:  # 64 bits alone would do for so few
        assert len(np.unique(lane)) == count


def test_texts_that_differ_in_the_last_bytes_of_words_do_not_collide() -> None:
    letters = [chr(at) for at in range(33, 97)]
    texts = [f"0000000{a}0000000{b}0000000{c}" for a, b, c in itertools.product(letters, repeat=3)]
    hashes = hash_keys([pa.array(texts)])
    for lane in hashes.T:
        assert len(np.unique(lane)) == len(texts)


def test_many_rows_of_both_sorts_in_bounded_memory() -> None:
    rng = np.random.default_rng(5)
    batches = [rng.integers(0, 10**6, 20_000) for _ in range(50)]
    batches += [
        np.arange(2 * 10**6 + at, 2 * 10**6 + at + 20_000) for at in range(0, 10**6, 19_000)
    ]
    every = np.concatenate(batches)
    duplicate = np.ones(len(every), np.bool_)
    duplicate[np.unique(every, return_index=True)[1]] = False
    tracemalloc.start()
    try:
        with KeyTracker() as tracker:
            splits = [tracker.split([pa.array(batch)]) for batch in batches]
            kept = sum(rows.nbytes for split in splits for rows in split)
            settled = tracker.settle()
            _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak - kept < 45e6
    assert settled.sum() + sum(len(split.repeat) for split in splits) == duplicate.sum()
    starts = np.cumsum([0, *map(len, batches)])
    suspects = [start + split.suspect for start, split in zip(starts[:-1], splits, strict=True)]
    assert (settled == duplicate[np.concatenate(suspects)]).all()


def test_no_columns_with_rows_is_no_work() -> None:
    assert found([[pa.array([], pa.int64())], [pa.array([], pa.string())]]) == []


def test_a_nested_key_is_refused_by_its_type() -> None:
    with pytest.raises(SchemaError, match="list<"):
        hash_keys([pa.array([[1], [2]])])


def test_a_key_that_changes_its_type_is_refused() -> None:
    with KeyTracker() as tracker:
        tracker.split([pa.array([1])])
        with pytest.raises(SchemaError, match="other types"):
            tracker.split([pa.array(["1"])])


def test_a_write_cut_short_is_carried_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Short(io.FileIO):
        def write(self, data: Any) -> int:
            return super().write(data[:5])

    paths = iter([tmp_path / "fresh", tmp_path / "suspects"])
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda buffering: Short(next(paths), "w+"))
    assert found(numbers([5, 3, 4], [3, 6], [6, 4])) == [0, 0, 0, 1, 0, 1, 1]


def test_a_full_disk_is_told_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(buffering: int) -> IO[bytes]:
        return Path("/dev/full").open("r+b", buffering=buffering)

    monkeypatch.setattr(tempfile, "tempdir", "/small")
    monkeypatch.setattr(tempfile, "TemporaryFile", full)
    with KeyTracker() as tracker, pytest.raises(RunError, match=r"^/small: .*No space.*TMPDIR"):
        tracker.split([pa.array([1])])


def test_a_missing_folder_is_told_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    with KeyTracker() as tracker, pytest.raises(RunError, match=r"gone: .*TMPDIR"):
        tracker.split([pa.array([1])])
