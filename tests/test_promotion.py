"""The version in use: moved forward and back, at once, and remembered."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import trivet
from support.toy import Toy, Tripled
from trivet.errors import ModelError, ModelNotFound
from trivet.promotion import (
    HISTORY,
    Alias,
    Move,
    Store,
    path_to,
    pointer_of,
    promote,
    rollback,
    schema_changes,
)
from trivet.schema import Field, Schema

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """A store with three versions, the first in use."""
    for version, kind in (("1", Toy), ("2", Tripled), ("3", Toy)):
        trivet.save(kind(), tmp_path / "models", name="toy", version=version)
    return Store(tmp_path / "models" / "toy")


def test_forward_and_back(store: Store, tmp_path: Path) -> None:
    assert promote(store, "2", NOW) == Move(NOW, "1", "2")
    assert promote(store, "3", NOW) == Move(NOW, "2", "3")
    assert trivet.load("models/toy", root=tmp_path, trust=True).version == "3"
    assert rollback(store, NOW) == Move(NOW, "3", "2", back=True)
    assert rollback(store, NOW).after == "1"
    with pytest.raises(ModelError, match="no version is known that was in use before 1"):
        rollback(store, NOW)
    assert store.current() == "1"
    assert len(store.moves()) == 4


def test_what_is_in_use_already_or_not_there(store: Store) -> None:
    with pytest.raises(ModelError, match="in use already"):
        promote(store, "1", NOW)
    with pytest.raises(ModelNotFound, match="no version '4'"):
        promote(store, "4", NOW)
    assert (store.current(), store.moves()) == ("1", [])


def test_another_promotion_meanwhile(store: Store) -> None:
    with pytest.raises(ModelError, match="version 1 came into use meanwhile"):
        store.move(Move(NOW, "2", "3"))


def test_a_move_that_was_killed_half_way(store: Store) -> None:
    promote(store, "2", NOW)
    with (store.home / HISTORY).open("a") as file:  # noted, and then not made
        file.write('{"at":"2026-01-01T00:00:00Z","before":"2","after":"3"}\n{"at":')
    assert rollback(store, NOW).after == "1"
    promote(store, "3", NOW)
    assert rollback(store, NOW).after == "1"


def moves(*pairs: str) -> list[Move]:
    """Return moves written as "1>2" and, for a rollback, "2<1"."""
    return [Move(NOW, p[0].strip("-"), p[2], back=p[1] == "<") for p in pairs]


@pytest.mark.parametrize(
    ("made", "current", "path"),
    [
        ([], "", []),
        ([], "1", ["1"]),
        (moves("->1"), "1", ["1"]),
        (moves("1>2", "2>3"), "3", ["1", "2", "3"]),
        (moves("1>2", "2>3"), "2", ["1", "2"]),  # the last one was not made
        (moves("1>2", "1>3"), "3", ["1", "3"]),  # the first one was not
        (moves("1>2", "2<1", "1>3"), "3", ["1", "3"]),
        (moves("1>2", "2>1", "1<2"), "2", ["1", "2"]),
        (moves("1>2"), "7", ["1", "2", "7"]),  # moved by other means
    ],
)
def test_the_path_to_the_present(made: list[Move], current: str, path: list[str]) -> None:
    assert path_to(made, current) == path


@given(st.lists(st.integers(0, 4), max_size=12))
def test_a_rollback_undoes_what_was_promoted_last(steps: list[int]) -> None:
    """Against a plain stack: 0 takes back, any other number promotes that version."""
    stack, made = ["1"], list[Move]()
    for step in steps:
        current = stack[-1]
        if step == 0 and len(stack) > 1:
            stack.pop()
            made.append(Move(NOW, current, stack[-1], back=True))
        elif str(step) not in ("0", current):
            stack.append(str(step))
            made.append(Move(NOW, current, stack[-1]))
        assert path_to(made, stack[-1]) == stack


def test_what_can_be_moved(store: Store, tmp_path: Path) -> None:
    assert pointer_of("m", "models/toy", tmp_path) == store
    assert pointer_of("m", "models:/toy@champion", tmp_path) == Alias("toy", "champion")
    for uri in ("models/toy@1", "models/toy/1", "models:/toy/3", "support.toy:Toy"):
        with pytest.raises(ModelError, match="leads to one version only"):
            pointer_of("m", uri, tmp_path)
    with pytest.raises(ModelNotFound, match="train one"):
        pointer_of("m", "models/none", tmp_path)


def test_what_a_schema_changes() -> None:
    before = Schema(
        [
            Field(name="a", type="float64"),
            Field(name="b", type="int64"),
            Field(name="c", type="int64"),
        ]
    )
    after = Schema(
        [
            Field(name="a", type="float64", min=0),
            Field(name="b", type="string"),
            Field(name="d", type="date"),
        ]
    )
    assert schema_changes(before, after, "input") == [
        "input c is gone",
        "input a has other limits",
        "input b is string, and was int64",
        "input d is new (date)",
    ]
    assert not schema_changes(before, before, "input")
