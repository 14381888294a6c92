"""Deliveries as files in a folder, one each, for whatever picks them up."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from trivet.actions.channels import Message
from trivet.errors import DeliveryDelayed


class Folder:
    """A folder; a file in it is whole from the moment it is there."""

    most = 100

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def send(self, messages: Sequence[Message]) -> None:
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for message in messages:
                self._put(f"{message.id}.json", message.payload())
            self._sync()
        except OSError as error:
            raise DeliveryDelayed(f"{self._folder}: {error.strerror}") from error

    def close(self) -> None:
        pass

    def _put(self, name: str, content: bytes) -> None:
        descriptor, draft = tempfile.mkstemp(prefix=".", dir=self._folder)
        try:
            with os.fdopen(descriptor, "wb") as file:
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
