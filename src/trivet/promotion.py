"""Which version of a model is in use: moved forward by a promotion, back by a rollback.

In a model store the pointer is the file ``current``, replaced by an atomic rename, with the moves
in ``.history`` beside it. In an MLflow registry the pointer is the alias of the uri, with the
moves in a tag of the registered model.
"""

from __future__ import annotations

import datetime as dt
import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import msgspec

from trivet import artifacts
from trivet.errors import ModelError, ModelNotFound
from trivet.formats import mlflow
from trivet.manifest import FILE_NAME
from trivet.schema import Schema

HISTORY = ".history"

_KEPT = 30
"""So many moves fit into a tag of a registry."""


class Move(msgspec.Struct, frozen=True, omit_defaults=True):
    """One change of the version in use.

    Attributes:
        at: When.
        before: The version that was in use; empty for none.
        after: The version that came into use.
        back: Whether it was a rollback.
    """

    at: dt.datetime
    before: str
    after: str
    back: bool = False


class Pointer(Protocol):
    """What says which version of a model is in use."""

    def current(self) -> str:
        """Return the version in use, empty for none."""
        ...

    def moves(self) -> list[Move]:
        """Return the moves so far, the oldest first."""
        ...

    def move(self, move: Move) -> None:
        """Put the pointer on another version, for all readers at once, and remember it."""
        ...


def promote(pointer: Pointer, version: str, now: dt.datetime) -> Move:
    """Have a version in use.

    Raises:
        ModelNotFound: There is no such version.
        ModelError: It is in use already.
    """
    before = pointer.current()
    if before == version:
        raise ModelError(f"version {version} is in use already")
    move = Move(now, before, version)
    pointer.move(move)
    return move


def rollback(pointer: Pointer, now: dt.datetime) -> Move:
    """Have the version in use that was so before the present one was promoted.

    A second rollback goes one further back, not forward again.

    Raises:
        ModelError: No earlier version is known.
    """
    before = pointer.current()
    path = path_to(pointer.moves(), before)
    if len(path) < 2:
        raise ModelError(
            f"no version is known that was in use before {before or 'the first'}; "
            "name one with `trivet model promote`"
        )
    move = Move(now, before, path[-2], back=True)
    pointer.move(move)
    return move


def path_to(moves: Sequence[Move], current: str) -> list[str]:
    """Return the versions that led to the present one, without those that were rolled back.

    A move is written down before the pointer is put on. One that was not made after all is told
    by what came next: it begins where this one did.
    """
    path: list[str] = []

    def put(version: str) -> None:
        if version and path[-1:] != [version]:
            path.append(version)

    followings = [*(move.before for move in moves[1:]), current][: len(moves)]
    for move, following in zip(moves, followings, strict=True):
        put(move.before)
        if following == move.before:
            continue
        if move.back and move.after in path:
            while path[-1] != move.after:
                path.pop()
        put(move.after)
    put(current)
    return path


@dataclass(frozen=True, slots=True)
class Store:
    """The pointer of a model in a model store."""

    home: Path

    def current(self) -> str:
        pointer = self.home / "current"
        return pointer.read_text(encoding="utf-8").strip() if pointer.exists() else ""

    def moves(self) -> list[Move]:
        try:
            lines = (self.home / HISTORY).read_bytes().splitlines()
        except FileNotFoundError:
            return []
        found = []
        for line in lines:
            try:
                found.append(msgspec.json.decode(line, type=Move))
            except msgspec.DecodeError:  # its writer was killed: that move was not made
                continue
        return found

    def move(self, move: Move) -> None:
        artifacts.require(f"{self.home}@{move.after}", Path())
        with (self.home / HISTORY).open("ab") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if self.current() != move.before:
                raise ModelError(
                    f"{self.home}: version {self.current()} came into use meanwhile; look again"
                )
            file.write(b"\n" + msgspec.json.encode(move) + b"\n")
            file.flush()
            artifacts.set_current(self.home, move.after)


@dataclass(frozen=True, slots=True)
class Alias:
    """An alias of a model in MLflow's registry."""

    name: str
    alias: str

    @property
    def _tag(self) -> str:
        return f"trivet.history.{self.alias}"

    def current(self) -> str:
        with _asking(self.name) as client:
            aliases = client.get_registered_model(self.name).aliases
        return str(aliases.get(self.alias, ""))

    def versions(self) -> list[dict[str, Any]]:
        """Return what the registry knows of each version, the oldest first."""
        with _asking(self.name) as client:
            found = client.search_model_versions(f"name='{self.name}'")
            runs = {each.run_id: client.get_run(each.run_id) for each in found if each.run_id}
        return [
            {
                "version": str(each.version),
                "created": dt.datetime.fromtimestamp(
                    each.creation_timestamp / 1000, dt.UTC
                ).isoformat(),
                "format": "mlflow",
                "metrics": dict(runs[each.run_id].data.metrics) if each.run_id else {},
                "description": each.description or "",
                "digest": "",
            }
            for each in sorted(found, key=lambda each: int(each.version))
        ]

    def moves(self) -> list[Move]:
        with _asking(self.name) as client:
            text = client.get_registered_model(self.name).tags.get(self._tag, "[]")
        try:
            return msgspec.json.decode(text, type=list[Move])
        except msgspec.DecodeError:
            return []

    def move(self, move: Move) -> None:
        moves = [*self.moves(), move][-_KEPT:]
        with _asking(self.name) as client:
            client.get_model_version(self.name, move.after)
            client.set_registered_model_tag(
                self.name, self._tag, msgspec.json.encode(moves).decode()
            )
            client.set_registered_model_alias(self.name, self.alias, move.after)


@contextmanager
def _asking(name: str) -> Iterator[Any]:
    client = mlflow.client()
    try:
        yield client
    except Exception as error:  # of MLflow, its stores and their clients
        raise ModelNotFound(
            f"models:/{name}: the registry does not do it: {error}; "
            "set MLFLOW_TRACKING_URI to the registry that has the model"
        ) from error


def pointer_of(name: str, uri: str, root: Path) -> Pointer:
    """Return what says which version a uri of the project leads to.

    Raises:
        ModelNotFound: Nothing is there.
        ModelError: The uri leads to one version for ever.
    """
    if uri.startswith("models:/"):
        registered, at, alias = uri.removeprefix("models:/").partition("@")
        if at:
            return Alias(registered, alias)
    elif "@" not in uri:
        home = root / uri
        if home.is_dir() and not (home / FILE_NAME).exists():
            return Store(home)
        if not home.exists() and ":" not in uri:
            raise ModelNotFound(f"no model at {home}; train one, or correct the uri {uri!r}")
    raise ModelError(
        f"[models.{name}] uri = {uri!r} leads to one version only, so there is nothing to move; "
        "write models/NAME or models:/NAME@ALIAS there"
    )


def schema_changes(before: Schema, after: Schema, side: str) -> list[str]:
    """Return one line for each column in which two versions' schemas differ."""
    old, new = ({field.name: field for field in schema} for schema in (before, after))
    found = [f"{side} {name} is gone" for name in old if name not in new]
    for name, field in new.items():
        if name not in old:
            found.append(f"{side} {name} is new ({field.type})")
        elif field.type != old[name].type:
            found.append(f"{side} {name} is {field.type}, and was {old[name].type}")
        elif field != old[name]:
            found.append(f"{side} {name} has other limits")
    return found
