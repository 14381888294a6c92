"""Models found, loaded and, while the service runs, replaced by the next current version.

A new version is loaded, checked and warmed up beside the one in use, on a thread; only then do
requests go to it. One that is broken is refused and told, and the old one goes on.
"""

from __future__ import annotations

import dataclasses
import logging
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trivet.artifacts import LoadedModel, load, locate
from trivet.errors import SettingsError, TrivetError
from trivet.hosts.service.metrics import Metrics
from trivet.hosts.service.serving import Models

KEPT = 1
"""So many versions stay loaded beside the one in use, for requests that name them."""

log = logging.getLogger("trivet.service")

Stamp = tuple[int, int, int] | None


@dataclass(frozen=True, slots=True)
class Source:
    """Where one model of the service comes from.

    Attributes:
        name: Its name in the project file.
        uri: Where it is; see `trivet.load`.
        version: The version that the service names, None for the current one.
        trust: Whether code that the artifact carries may run.
        threads: Threads that its library may use for one call.
    """

    name: str
    uri: str
    version: str | None = None
    trust: bool = False
    threads: int = 1

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
                f"[service] models: {self.name}@{self.version} names a version, and so does "
                f"[models.{self.name}] uri = {self.uri!r}; name it in one place"
            )
        return f"{self.uri}@{self.version}"

    def pointer(self, root: Path) -> Path | None:
        """Return the file that says which version is current, if this follows it."""
        if self.version is not None or "@" in self.uri or self.uri.startswith("models:/"):
            return None
        pointer = root / self.uri / "current"
        return pointer if pointer.exists() else None


class Library:
    """Loads the service's models and follows their current versions.

    Args:
        sources: In the order of ``[service] models``.
        models: Where they are served from.
        root: The folder that relative paths start from.
        metrics: Counts the loads.
    """

    def __init__(
        self, sources: Sequence[Source], models: Models, root: Path, metrics: Metrics
    ) -> None:
        self._sources = sources
        self._models = models
        self._root = root
        self._metrics = metrics
        self._stamps: dict[Source, Stamp] = {}
        self._places: dict[Source, str] = {}
        self._earlier: dict[str, list[str]] = {}
        self._wake = threading.Event()
        self._forced = False
        self._ended = False
        self._thread: threading.Thread | None = None

    def load_all(self) -> None:
        """Load every model for the first time.

        Raises:
            TrivetError: One cannot be loaded or warmed up.
        """
        # A version in use comes before those that are named, to be the default.
        for source in sorted(self._sources, key=lambda s: s.version is not None):
            self._stamps[source] = self._stamp(source)
            self._load(source)

    def watch(self, every: float) -> None:
        """Begin to look for new current versions, every so many seconds."""
        self._thread = threading.Thread(
            target=self._run, args=(every,), name="model-reload", daemon=True
        )
        self._thread.start()

    def look_now(self) -> None:
        """Have every model that may have changed looked at again; from a signal handler, say."""
        self._forced = True
        self._wake.set()

    def end(self) -> None:
        """Look no more."""
        self._ended = True
        self._wake.set()

    def look(self, *, forced: bool = False) -> None:
        """Load what has become current since the last look; `forced` also where nothing tells."""
        for source in self._sources:
            if source.version is not None:
                continue
            stamp = self._stamp(source)
            if stamp == self._stamps.get(source) and not forced:
                continue
            self._stamps[source] = stamp
            try:
                self._load(source)
            except Exception as error:  # noqa: BLE001 - loading runs foreign code; the old one goes on
                self._metrics.count("trivet_model_loads", 1, model=source.name, outcome="refused")
                kind = "" if isinstance(error, TrivetError) else f"{type(error).__name__}: "
                in_use = self._models.families[source.name].default
                log.error(  # noqa: TRY400 - a user's mistake, told without a trace
                    "the new version of model %s is refused, %s goes on: %s%s",
                    source.name,
                    in_use,
                    kind,
                    error,
                )

    def _run(self, every: float) -> None:
        while not self._ended:
            self._wake.wait(every)
            self._wake.clear()
            forced, self._forced = self._forced, False
            if not self._ended:
                self.look(forced=forced)

    def _stamp(self, source: Source) -> Stamp:
        """Return what changes when another version becomes current."""
        pointer = source.pointer(self._root)
        if pointer is None:
            return None
        try:
            found = pointer.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _load(self, source: Source) -> None:
        uri = source.asked
        registry = uri.startswith("models:/")
        place = None if registry else locate(uri, self._root)
        if place is None and not registry and str(self._root) not in sys.path:
            sys.path.insert(0, str(self._root))  # module:Class lies beside the project file
        if place is not None and self._places.get(source) == str(place):
            return
        model = load(
            uri, root=self._root, trust=source.trust, name=source.name, threads=source.threads
        )
        family = self._models.families.get(source.name)
        if family is not None and model.version in family.versions:
            known = family.versions[model.version].model
            if known.digest == model.digest and (
                source.version is not None or family.default == model.version
            ):
                self._places[source] = str(place)
                return
        before = None if family is None else family.default
        self._models.add(
            source.name,
            model,
            default=source.version is None,
            example=model.manifest.example,
            summary=summary_of(model),
        )
        self._places[source] = str(place)
        self._metrics.count("trivet_model_loads", 1, model=source.name, outcome="loaded")
        self._metrics.look(self._models)
        log.info("model %s %s is loaded (%s)", source.name, model.version, model.digest[:12])
        if source.version is None and before is not None and before != model.version:
            self._forget(source.name, before)

    def _forget(self, name: str, before: str) -> None:
        """Keep the version that was in use until now, and let older ones go."""
        pinned = {s.version for s in self._sources if s.name == name}
        default = self._models.families[name].default
        earlier = [v for v in self._earlier.get(name, []) if v not in (before, default)]
        earlier.append(before)
        for version in earlier[:-KEPT]:
            if version not in pinned:
                self._models.drop(name, version)
        self._earlier[name] = earlier[-KEPT:]


def summary_of(loaded: LoadedModel) -> Mapping[str, Any]:
    """Return what is told of a model to those who read the results only."""
    manifest = loaded.manifest
    references = {f"input.{n}": ref for n, ref in manifest.input_references.items()}
    references |= {f"output.{n}": ref for n, ref in manifest.output_references.items()}
    dependence = manifest.batch_dependence
    return {
        "name": manifest.name,
        "version": manifest.version,
        "digest": manifest.digest,
        "format": manifest.format,
        "description": manifest.description,
        "created": manifest.created,
        "inputs": manifest.inputs.to_list(),
        "outputs": manifest.outputs.to_list(),
        "metrics": dict(manifest.metrics),
        "batch_dependence": dataclasses.asdict(dependence) if dependence else None,
        "references": {name: ref.to_dict() for name, ref in references.items()},
    }
