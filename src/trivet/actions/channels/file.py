"""Deliveries as files in a folder, one each, for whatever picks them up."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from trivet.actions.channels import Message
from trivet.errors import DeliveryDelayed

_DRAFT = ".draft-"


class Folder:
    """A folder; a file in it is whole from the moment it is there."""

    most = 100

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def look(self) -> str:
        there = next(each for each in (self._folder, *self._folder.parents) if each.exists())
        if not there.is_dir() or not os.access(there, os.W_OK):
            raise DeliveryDelayed(f"{self._folder}: nothing can be written into {there}")
        return f"into {self._folder}"

    def send(self, messages: Sequence[Message]) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for message in messages:
                self._put(f"{message.id}.json", message.payload())
            self._sync()
        except OSError as error:
            raise DeliveryDelayed(f"{self._folder}: {error.strerror}") from error

    def close(self) -> None:
        """Remove the drafts of processes that were killed: who writes one holds a lock on it."""
        if os.name != "posix":
            return
        for draft in self._folder.glob(f"{_DRAFT}*"):
            with suppress(OSError), draft.open("rb") as file:
                _lock(file.fileno())
                draft.unlink()

    def _put(self, name: str, content: bytes) -> None:
        descriptor, draft = tempfile.mkstemp(prefix=_DRAFT, dir=self._folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
                _lock(file.fileno())
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            Path(draft).replace(self._folder / name)
        finally:
            Path(draft).unlink(missing_ok=True)

    def _sync(self) -> None:
        if os.name == "posix":  # the names too are on disk then
            descriptor = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Lock a file until it is closed, by its process or by that one's end."""
    if os.name == "posix":
        import fcntl  # noqa: PLC0415 - elsewhere there is none

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
