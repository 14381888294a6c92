"""The model that a uri leads to, followed while the uri leads elsewhere from time to time."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from trivet.artifacts import LoadedModel, load, locate
from trivet.contract import Model
from trivet.errors import ModelNotFound, SettingsError
from trivet.formats import mlflow
from trivet.monitoring import Reference


@dataclass(frozen=True, slots=True)
class Ready:
    """A loaded model with what the manifest adds to it.

    Attributes:
        model: The model.
        references: Reference bins by side (``input`` or ``output``) and column.
        summary: What is registered of the manifest.
    """

    model: Model
    references: Mapping[tuple[str, str], Reference] = field(default_factory=dict)
    summary: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a model comes from.

    Attributes:
        name: Its name in the project file.
        uri: Where it is; see `trivet.load`.
        version: The version that a deployment names, None for the one that the uri leads to.
        trust: Whether code that the artifact carries may run.
        threads: Threads that its library may use for one call.
        where: The section and key that lead to it, told when nothing is there.
        beside: Columns that the deployment puts beside the model's outputs, each behind the
            section and key that name it.
    """

    name: str
    uri: str
    version: str | None = None
    trust: bool = False
    threads: int = 1
    where: str = ""
    beside: tuple[tuple[str, str], ...] = ()

    @property
    def asked(self) -> str:
        """The uri with the version.

        Raises:
            SettingsError: Both name a version.
        """
        if self.version is None:
            return self.uri
        if self.uri.startswith("models:/"):
            return f"{self.uri.partition('@')[0]}/{self.version}"
        if "@" in self.uri:
            raise SettingsError(
                self._told(
                    f"{self.name}@{self.version} names a version, and so does "
                    f"[models.{self.name}] uri = {self.uri!r}; name it in one place"
                )
            )
        return f"{self.uri}@{self.version}"

    def place(self, root: Path) -> object:
        """Return what changes when the uri leads elsewhere; None for a class.

        A registry is asked over the network, a model store costs one small file.

        Raises:
            ModelError: Nothing is there.
        """
        uri = self.asked
        with self._named():
            return mlflow.resolve(uri)[1:] if uri.startswith("models:/") else locate(uri, root)

    def load(self, root: Path) -> LoadedModel:
        """Load what the uri leads to now.

        Raises:
            ModelError: It cannot be found, read or trusted.
            SettingsError: An output has the name of a column that is put beside it.
        """
        uri = self.asked
        with self._named():
            is_class = not uri.startswith("models:/") and locate(uri, root) is None
            if is_class and str(root) not in sys.path:
                sys.path.insert(0, str(root))  # module:Class lies beside the project file
            loaded = load(uri, root=root, trust=self.trust, name=self.name, threads=self.threads)
        clashes = clashing(self.name, loaded, self.beside)
        if clashes:
            raise SettingsError(*(f"{where}: {what}" for where, what in clashes))
        return loaded

    @contextmanager
    def _named(self) -> Iterator[None]:
        try:
            yield
        except ModelNotFound as error:
            raise ModelNotFound(self._told(str(error))) from error

    def _told(self, what: str) -> str:
        return f"{self.where}: {what}" if self.where else what


def clashing(name: str, model: Model, beside: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return what is wrong with columns beside a model's outputs, each behind its key."""
    outputs = {output.lower() for output in model.outputs.names}  # SQLite takes one for the other
    return [
        (
            where,
            f"{column!r} is an output of the model {name} too, and one of the two would be lost; "
            "rename it",
        )
        for where, column in beside
        if column.lower() in outputs
    ]


class InUse:
    """Gives the model that a source leads to, loaded again when it leads elsewhere than before.

    Args:
        source: Where the model comes from.
        root: The folder that relative paths start from.
    """

    def __init__(self, source: Source, root: Path) -> None:
        self._source = source
        self._root = root
        self._lock = threading.Lock()
        self._place: object = None
        self._ready: Ready | None = None

    def __call__(self) -> Ready:
        """Return the model in use.

        Raises:
            ModelError: It cannot be found, read or trusted.
        """
        with self._lock:
            place = self._source.place(self._root)
            if self._ready is None or place != self._place:
                loaded = self._source.load(self._root)
                manifest = loaded.manifest
                self._ready = Ready(loaded, manifest.references, manifest.summary())
                self._place = place
            return self._ready
