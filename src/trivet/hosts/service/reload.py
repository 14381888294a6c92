"""Models found, loaded and, while the service runs, replaced by the next current version.

A new version is loaded, checked and warmed up beside the one in use, on a thread; only then do
requests go to it. One that is broken is refused and told, and the old one goes on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from pathlib import Path

from trivet.artifacts import locate
from trivet.current import Source
from trivet.errors import TrivetError
from trivet.hosts.service.metrics import Metrics
from trivet.hosts.service.serving import Models

KEPT = 1
"""So many versions stay loaded beside the one in use, for requests that name them."""

log = logging.getLogger("trivet.service")

Stamp = tuple[int, int, int] | None

UNKNOWN = (-1, -1, -1)
"""The stamp of no file."""


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
            self._metrics.count("trivet_model_loads", 0, model=source.name, outcome="refused")
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
                if _passes(error):
                    self._stamps[source] = UNKNOWN
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
                try:
                    self.look(forced=forced)
                except Exception:
                    log.exception("the look for new versions of models failed; the next one comes")

    def _stamp(self, source: Source) -> Stamp:
        """Return what changes when another version becomes current."""
        pointer = _pointer(source, self._root)
        if pointer is None:
            return None
        try:
            found = pointer.stat()
        except FileNotFoundError:
            return None
        except OSError:  # of a file system that is away; what is known of it stays
            return self._stamps.get(source)
        return found.st_ino, found.st_mtime_ns, found.st_size

    def _load(self, source: Source) -> None:
        uri = source.asked
        registry = uri.startswith("models:/")
        place = None if registry else locate(uri, self._root)
        if place is not None and self._places.get(source) == str(place):
            return
        model = source.load(self._root)
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
            summary=model.manifest.summary(),
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


def _pointer(source: Source, root: Path) -> Path | None:
    """Return the file that says which version is current, if the source follows it."""
    if source.version is not None or "@" in source.uri or source.uri.startswith("models:/"):
        return None
    return root / source.uri / "current"


def _passes(error: BaseException | None) -> bool:
    """Say whether another try may end better: a file could not be read, its content is not bad."""
    while error is not None:
        if isinstance(error, (OSError, MemoryError)) and not isinstance(error, FileNotFoundError):
            return True
        error = error.__cause__
    return False
