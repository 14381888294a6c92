"""Which rows of a run repeat the key of an earlier row: exact, in memory that does not grow.

Most rows are told at once that their key is new; the few that may repeat one are put aside and
decided at the end of the run, from the keys that were written to a temporary file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from trivet.errors import RunError, SchemaError

Words = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.intp]
Mask = npt.NDArray[np.bool_]

_CELLS = 2**22  # of the run's filter: 32 MB; 0.04 % of 10 million rows are suspects by mistake
_PASS = 2**18  # suspects that `KeyTracker.settle` holds in memory at a time, about
_CHUNK = 2**16  # rows read from a file at a time
_SPANS = 1024
_SORTED = 16  # rows from which a batch is not sorted by chance
_TAILS = np.array([2 ** (8 * size) - 1 for size in range(9)], np.uint64)  # masks, by bytes kept


def _mix(words: Words) -> Words:
    """Scramble each word, one to one (splitmix64: Steele, Lea and Flood 2014)."""
    mixed = words + np.uint64(0x9E3779B97F4A7C15)
    mixed ^= mixed >> np.uint64(30)
    mixed *= np.uint64(0xBF58476D1CE4E5B9)
    mixed ^= mixed >> np.uint64(27)
    mixed *= np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return mixed


class _Hash:
    """128 bits a row: two sums of its words, multilinear (Lemire and Kaser 2014).

    Each word is first scrambled under a key of its position, since the low bits of a multilinear
    hash are weak. The keys are fixed: equal runs do equal work.
    """

    def __init__(self, rows: int) -> None:
        self.sums = np.zeros((2, rows), np.uint64)

    def add(self, position: int, words: Words, rows: Rows | slice = slice(None)) -> None:
        key, factor = _mix(np.array([2 * position, 2 * position + 1], np.uint64))
        scrambled = _mix(words ^ key)
        self.sums[0, rows] += scrambled
        self.sums[1, rows] += scrambled * (factor | np.uint64(1))


def _text_words(column: pa.Array, offset_type: type[np.int32 | np.int64]) -> list[Words]:
    """Hash each text (or binary) and its length, eight bytes a step for all rows together."""
    _, offsets, data = column.buffers()
    ends = np.frombuffer(offsets, offset_type)[column.offset :][: len(column) + 1].astype(np.intp)
    size = ends[-1] - ends[0]
    text = np.empty(size + 8, np.uint8)
    if size:
        text[:size] = np.frombuffer(data, np.uint8)[ends[0] : ends[-1]]
    # The eight bytes from each place on as one word: a view.
    windows: Words = np.ndarray((size + 1,), np.dtype("<u8"), text.data, strides=(1,))
    starts, lengths = ends[:-1] - ends[0], np.diff(ends)
    shortest, longest = int(lengths.min()), int(lengths.max())

    result = _Hash(len(column))
    result.add(0, lengths.view(np.uint64))
    for at in range(0, longest, 8):
        rows = slice(None) if shortest > at else np.flatnonzero(lengths > at)
        even = shortest == longest  # no gather then
        words = windows[at : at + size : longest] if even else windows[starts[rows] + at]
        if shortest < at + 8:
            words = words & _TAILS[np.minimum(lengths[rows] - at, 8)]
        result.add(1 + at // 8, words, rows)
    return list(result.sums)


def _words(column: pa.Array) -> list[Words]:
    """Return a column as 64-bit words, equal for equal keys however the column is stored."""
    kind, is_ = column.type, pa.types
    if isinstance(kind, pa.BaseExtensionType):
        return _words(column.storage)
    if is_.is_dictionary(kind):
        return _words(column.dictionary_decode())
    if is_.is_string_view(kind) or is_.is_binary_view(kind):
        return _words(column.cast(pa.large_binary()))
    if is_.is_large_string(kind) or is_.is_large_binary(kind):
        return _text_words(column, np.int64)
    if is_.is_string(kind) or is_.is_binary(kind):
        return _text_words(column, np.int32)
    if is_.is_boolean(kind) or is_.is_null(kind):
        column, kind = column.cast(pa.int8()), pa.int8()
    if not (is_.is_primitive(kind) or is_.is_decimal(kind) or is_.is_fixed_size_binary(kind)):
        raise SchemaError(
            f"a key of type {kind} cannot be compared: let the query return a number, text or time"
        )
    return _fixed_words(column, kind.bit_width // 8)


def _fixed_words(column: pa.Array, width: int) -> list[Words]:
    first, rows = column.offset, len(column)
    data = np.frombuffer(column.buffers()[1], np.uint8)[first * width : (first + rows) * width]
    if pa.types.is_floating(column.type):
        floats = data.view(f"f{width}").astype(np.float64) + 0.0  # -0.0 is 0.0
        floats[np.isnan(floats)] = np.nan
        return [floats.view(np.uint64)]
    if width in (1, 2, 4, 8):
        sign = "u" if pa.types.is_unsigned_integer(column.type) else "i"
        return [data.view(f"{sign}{width}").astype(np.int64, copy=False).view(np.uint64)]
    padded = np.zeros((rows, max(8, -(-width // 8) * 8)), np.uint8)
    padded[:, :width] = data.reshape(rows, width)
    return list(padded.view(np.uint64).T)


def hash_keys(columns: Sequence[pa.Array]) -> Words:
    """Return one row of one or two 64-bit words a key, equal where the keys are equal.

    Keys of a fixed width up to 16 bytes (a number, a time, a binary UUID, two numbers) are their
    own words, so they differ where the keys differ; all others are hashed to 128 bits.

    Args:
        columns: The key's columns, of one length and without nulls.

    Raises:
        SchemaError: A column is nested.
    """
    rows = len(columns[0])
    words = [word for column in columns for word in _words(column)] if rows else []
    if len(words) > 2:
        result = _Hash(rows)
        for position, word in enumerate(words):
            result.add(position, word)
        words = list(result.sums)
    return np.stack(words, axis=1) if words else np.zeros((0, 1), np.uint64)


def _fingerprints(keys: Words) -> Words:
    """Return one scrambled word a key."""
    mixed = _mix(keys[:, 0])
    return mixed if keys.shape[1] == 1 else _mix(mixed ^ keys[:, 1])


def _repeats(keys: Words, prints: Words) -> Mask:
    """Tell the rows whose key an earlier row has; fastest where few have."""
    ordered = np.sort(prints)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    repeats = np.zeros(len(keys), np.bool_)
    if len(twice):
        rows = np.flatnonzero(twice[np.searchsorted(twice[:-1], prints)] == prints)
        rows = rows[np.lexsort(keys[rows].T)]  # stable: the first of a key comes first
        repeats[rows[1:]] = (keys[rows[1:]] == keys[rows[:-1]]).all(axis=1)
    return repeats


class _Filter:
    """A set of keys that may take a stranger for a member, never a member for a stranger.

    A Bloom filter (Bloom 1970) whose four bits lie in one cell (Putze, Sanders and Singler 2007),
    so a key costs one visit to memory; one hash has bits enough for all (two would be combined as
    in Kirsch and Mitzenmacher 2006).
    """

    def __init__(self, cells: int) -> None:
        self._cells = np.zeros(cells, np.uint64)  # no memory before a page is touched

    def place(self, prints: Words) -> tuple[Rows, Words]:
        """Return the cell and the bits of each print."""
        bits = np.zeros(len(prints), np.uint64)
        for shift in (0, 6, 12, 18):
            bits |= np.uint64(1) << ((prints >> np.uint64(shift)) & np.uint64(63))
        cells = (prints >> np.uint64(24)) & np.uint64(len(self._cells) - 1)
        return cells.astype(np.intp), bits

    def has(self, cells: Rows, bits: Words) -> Mask:
        held: Mask = (self._cells[cells] & bits) == bits
        return held

    def add(self, cells: Rows, bits: Words) -> None:
        while len(cells):
            self._cells[cells] |= bits  # of several rows of one cell, only one is written
            lost = ~self.has(cells, bits)
            cells, bits = cells[lost], bits[lost]


class _Spans:
    """Ranges of numbers, apart and in order, that hold all keys of the batches that came sorted."""

    def __init__(self) -> None:
        self._lows, self._highs = np.zeros((2, 0), np.int64)

    def hold(self, numbers: npt.NDArray[np.int64]) -> Mask:
        """Tell the numbers that lie in a range."""
        after = np.searchsorted(self._lows, numbers, side="right")
        return (after > 0) & (numbers <= np.append(self._highs, 0)[after - 1])

    def add(self, low: int, high: int) -> bool:
        """Record a range, and tell so, unless it meets another one."""
        at = int(np.searchsorted(self._lows, high, side="right"))
        if at and self._highs[at - 1] >= low:
            return False
        lows, highs = np.insert(self._lows, at, low), np.insert(self._highs, at, high)
        gaps = lows[1:].view(np.uint64) - highs[:-1].view(np.uint64)  # right even past 2**63
        apart = gaps > 1
        if apart.sum() >= _SPANS:
            apart[gaps.argmin()] = False
        self._lows, self._highs = lows[np.append(True, apart)], highs[np.append(apart, True)]
        return True


class _Spill:
    """Keys in a temporary file, in the order of their arrival."""

    def __init__(self) -> None:
        self.rows, self._width = 0, 1
        self._file: IO[bytes] | None = None

    def append(self, keys: Words) -> None:
        left = keys.data.cast("B") if len(keys) else b""
        try:
            while left:
                if self._file is None:
                    self._file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115
                left = left[self._file.write(left) :]
        except OSError as error:
            raise RunError(
                f"{tempfile.tempdir or 'temporary files'}: no place for the keys of this run, 8 to"
                f" 16 bytes a row ({error}): make room, or set TMPDIR to a folder that has it"
            ) from error
        self.rows, self._width = self.rows + len(keys), keys.shape[1]

    def share(self, part: int, parts: int) -> Iterator[tuple[Rows, Words, Words]]:
        """Read one of 2**n like shares of the keys: their positions, the keys, their prints."""
        assert self._file is not None
        self._file.seek(0)
        for start in range(0, self.rows, _CHUNK):
            keys = np.fromfile(self._file, np.uint64, _CHUNK * self._width)
            keys = keys.reshape(-1, self._width)
            prints = _fingerprints(keys)
            rows = np.flatnonzero(((prints >> np.uint64(48)) & np.uint64(parts - 1)) == part)
            yield start + rows, keys.take(rows, axis=0), prints[rows]

    def close(self) -> None:
        if self._file is not None:
            self._file.close()


class Split(NamedTuple):
    """The positions of a batch's rows, by what is known of them at once; each in order."""

    fresh: Rows
    """The first row of its key in the run."""
    suspect: Rows
    """Perhaps the first, perhaps not: to be put aside until `KeyTracker.settle`."""
    repeat: Rows
    """A duplicate: an earlier row of the same batch has its key."""


class KeyTracker:
    """Finds the rows of one run whose key an earlier row had; a context manager.

    Its memory is a filter of 32 MB (untouched while keys come sorted), a batch, and in the end a
    byte a suspect. The keys go to temporary files, 8 to 16 bytes a row.
    """

    def __init__(self) -> None:
        self._width = 0
        self._spans = _Spans()
        self._filter = _Filter(_CELLS)
        self._lowest, self._highest = 2**63, -(2**63) - 1  # of the numbers in the filter
        self._fresh, self._suspects = _Spill(), _Spill()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._fresh.close()
        self._suspects.close()

    def split(self, columns: Sequence[pa.Array]) -> Split:
        """Record the keys of a batch and tell which are new.

        Args:
            columns: The key's columns in this batch, of the same types in all, without nulls.

        Raises:
            RunError: The keys cannot be written to a temporary file.
            SchemaError: A column is nested, or of another type than before.
        """
        keys = hash_keys(columns)
        rows, width = keys.shape
        if not rows:
            return Split(*np.zeros((3, 0), np.intp))
        if self._width not in (0, width):
            raise SchemaError("the key's columns have other types than in the batches before")
        self._width = width

        numbers = keys[:, 0].view(np.int64) if width == 1 else None
        seen = np.zeros(rows, np.bool_)
        repeat = None if numbers is None else self._sorted_repeats(numbers)
        if repeat is None:
            prints = _fingerprints(keys)
            repeat = _repeats(keys, prints)
            places = self._filter.place(prints)
            seen = self._filter.has(*places)
            self._filter.add(*places)
            if numbers is not None:
                seen |= self._spans.hold(numbers)
                self._lowest = min(self._lowest, int(numbers.min()))
                self._highest = max(self._highest, int(numbers.max()))
        split = Split(*map(np.flatnonzero, (~(seen | repeat), seen & ~repeat, repeat)))
        self._fresh.append(keys.take(split.fresh, axis=0))
        self._suspects.append(keys.take(split.suspect, axis=0))
        return split

    def _sorted_repeats(self, numbers: npt.NDArray[np.int64]) -> Mask | None:
        """Tell the repeats of a sorted batch apart from all before, or None for other batches."""
        before, after = numbers[:-1], numbers[1:]
        if len(numbers) < _SORTED or not ((before <= after).all() or (before >= after).all()):
            return None
        low, high = sorted((int(numbers[0]), int(numbers[-1])))
        if (low <= self._highest and high >= self._lowest) or not self._spans.add(low, high):
            return None
        return np.append(np.False_, before == after)

    def settle(self) -> Mask:
        """Tell which suspects are duplicates, in the order of their appearance; ends the run."""
        del self._filter
        duplicate = np.zeros(self._suspects.rows, np.bool_)
        parts = 1 << (len(duplicate) // _PASS).bit_length()
        for part in range(parts if len(duplicate) else 0):
            members = _Filter(_CELLS >> 4)
            at, met, held = [], [], []
            for rows, keys, prints in self._suspects.share(part, parts):
                members.add(*members.place(prints))
                at.append(rows)
                held.append(keys)
            for _, keys, prints in self._fresh.share(part, parts):
                met.append(keys[members.has(*members.place(prints))])
            first = sum(map(len, met))
            both = np.concatenate(met + held)  # the fresh rows first: they came first
            duplicate[np.concatenate(at)] = _repeats(both, _fingerprints(both))[first:]
        return duplicate
