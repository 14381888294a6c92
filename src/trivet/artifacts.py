"""Model directories: save a trained model, find it by uri and load it after checking it.

A store is a folder with ``NAME/VERSION/model.toml`` beside the artifact, and ``NAME/current``
holding the version in use. A version is written once and never changed.
"""

from __future__ import annotations

import datetime as dt
import importlib.metadata
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from trivet import formats
from trivet.errors import (
    ChecksumMismatch,
    IncompatibleModel,
    InvalidModel,
    ModelError,
    ModelNotFound,
    UntrustedModel,
)
from trivet.foreign import of_class, of_mlflow
from trivet.formats._contributions import fields as reasons
from trivet.manifest import FILE_NAME, Manifest, checksum
from trivet.samples import as_batch, learn, settle
from trivet.schema import Field, Schema

if TYPE_CHECKING:
    import numpy.typing as npt

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
CURRENT = "current"
_MINOR_BREAKS = frozenset({"scikit-learn"})


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model read from disk; satisfies `trivet.contract.Model`."""

    manifest: Manifest
    predictor: formats.Predictor

    @property
    def name(self) -> str:
        """The model's name."""
        return self.manifest.name

    @property
    def version(self) -> str:
        """The version of this one."""
        return self.manifest.version

    @property
    def digest(self) -> str:
        """See `trivet.manifest.Manifest.digest`."""
        return self.manifest.digest

    @property
    def inputs(self) -> Schema:
        """The columns that `predict` reads."""
        return self.manifest.inputs

    @property
    def outputs(self) -> Schema:
        """The columns that `predict` returns."""
        return self.manifest.outputs

    @property
    def parallel(self) -> bool:
        """Whether several threads may call `predict` at once and gain from it."""
        return self.predictor.parallel

    def predict(self, batch: pa.RecordBatch, /) -> pa.RecordBatch:
        """Predict for every row of a batch; see `trivet.contract.Model.predict`."""
        return self.predictor.predict(batch)


def save(
    model: object,
    directory: str | os.PathLike[str],
    *,
    name: str,
    version: str,
    inputs: Schema | Iterable[Field] | None = None,
    outputs: Schema | Iterable[Field] | None = None,
    sample: Any = None,
    target: npt.ArrayLike | None = None,
    metrics: Mapping[str, float] | None = None,
    description: str = "",
    contributions: int = 0,
) -> Path:
    """Write a model into a store, ready for `load`.

    Args:
        model: A trained model of one of the formats in `trivet.formats`.
        directory: The store, such as ``models``.
        name: The model's name.
        version: Its version; each is written once.
        inputs: The input schema; by default that of a Python class, else inferred from the sample
            or read off the model.
        outputs: The output schema; by default read off the model.
        sample: Rows as the model gets them (a pandas or Polars frame, an Arrow table, a dict of
            columns): gives the example, the reference bins and, with `target`, the metrics.
        target: The true values of the sample's rows, shape (n,).
        metrics: Figures of your own (a holdout's, say); they win over those of the sample.
        description: One line for people.
        contributions: So many reasons are told with each prediction (LightGBM, XGBoost).

    Returns:
        The version's directory. The first version of a name becomes the current one.

    Raises:
        ModelError: No format can save it, a schema is lacking, the sample or target cannot be
            read, or the version exists.
        SchemaError: A row of the sample does not fit the inputs.
        PredictionError: The saved model does not give its declared outputs for the sample.
    """
    for what, text in (("name", name), ("version", version)):
        if not isinstance(text, str) or not _NAME.fullmatch(text):
            raise ModelError(
                f"model {what} {text!r}: write a text of letters, digits, '.', '_' and '-'"
            )
    if version.casefold() == CURRENT:
        raise ModelError(f"model version {version!r} is the pointer's name; choose another version")
    if target is not None and sample is None:
        raise ModelError("a target without its rows measures nothing; pass sample= as well")
    home = Path(directory) / name
    place = home / version
    if place.exists():
        raise ModelError(f"{place} exists, and a version is never changed; choose another version")
    format_name, module = formats.of(model)
    rows = None if sample is None else as_batch(sample)
    told = module.signature(model)
    if inputs is None and told.is_contract:
        inputs = told.inputs
    taken, given = settle((told.inputs, told.outputs), inputs, outputs, rows, name)
    spec = formats.Spec(taken, Schema([*given, *reasons(contributions)]))
    with _drafted(place) as draft:
        artifact = module.write(model, draft)
        predictor = module.read(draft / artifact, spec)
        manifest = Manifest(
            name=name,
            version=version,
            description=description,
            created=dt.datetime.now(dt.UTC).isoformat(timespec="microseconds"),
            format=format_name,
            artifact=artifact,
            sha256=checksum(draft / artifact),
            inputs=spec.inputs,
            outputs=spec.outputs,
            libraries={lib: importlib.metadata.version(lib) for lib in module.LIBRARIES},
        )
        manifest = learn(LoadedModel(manifest, predictor), manifest, rows, target)
        manifest = replace(manifest, metrics={**manifest.metrics, **(metrics or {})})
        (draft / FILE_NAME).write_text(manifest.to_toml(), encoding="utf-8")
    if not (home / CURRENT).exists():
        set_current(home, version)
    return place


@contextmanager
def _drafted(place: Path) -> Iterator[Path]:
    """Give a folder that becomes `place` when all went well, and leaves nothing behind if not."""
    home = place.parent
    made = [folder for folder in (home, *home.parents) if not folder.exists()]
    try:
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".saving-", dir=home) as scratch:
            draft = Path(scratch) / place.name
            draft.mkdir()
            yield draft
            draft.rename(place)
    except BaseException as error:
        for folder in made:
            with suppress(OSError):  # another save may be at work in it
                folder.rmdir()
        if isinstance(error, OSError):
            raise ModelError(f"{place}: cannot be saved: {error}; choose another place") from error
        raise


def load(
    uri: str,
    *,
    root: str | os.PathLike[str] = ".",
    trust: bool = False,
    name: str | None = None,
    threads: int = 1,
) -> LoadedModel:
    """Load a model, checked.

    Args:
        uri: ``models/NAME`` (the current version), ``models/NAME@VERSION``, a model directory, a
            directory with an ``MLmodel``, ``models:/NAME@ALIAS`` or ``models:/NAME/VERSION`` of
            an MLflow registry, or ``module:Class``.
        root: The folder that a relative path starts from.
        trust: Whether code that the artifact carries (a pickle, a module) may run.
        name: The name of a model that carries none (MLflow directories, classes).
        threads: Threads the library may use for one call.

    Raises:
        ModelNotFound: Nothing is there.
        InvalidModel: The manifest or the artifact cannot be read.
        ChecksumMismatch: The artifact was changed after it was saved.
        IncompatibleModel: The installed library is too far from the one that saved it.
        UntrustedModel: It would run code, and `trust` is false.
        MissingExtra: Its library is not installed.
    """
    if uri.startswith("models:/"):
        from trivet.formats import mlflow  # noqa: PLC0415 - the registry's client, only when asked

        directory, registered, version = mlflow.resolve(uri)
        return _load_mlflow(directory, uri, name or registered, version, trust, threads)
    found_at = locate(uri, root)
    if found_at is None:
        return _load_class(uri, name, threads)
    directory = found_at
    if not (directory / FILE_NAME).exists():
        return _load_mlflow(directory, uri, name or directory.name, "0", trust, threads)
    manifest = Manifest.read(directory)
    module = formats.by_name(manifest.format)
    artifact = directory / manifest.artifact
    if not artifact.exists():
        raise ModelNotFound(
            f"{artifact} is missing, though {FILE_NAME} names it; save the model again"
        )
    found = checksum(artifact)
    if found != manifest.sha256:
        raise ChecksumMismatch(
            f"{artifact}: its SHA-256 is {found[:12]}…, {FILE_NAME} says {manifest.sha256[:12]}…; "
            "it was changed after it was saved: restore it or save the model again"
        )
    _check_libraries(manifest, directory)
    _check_trust(module, artifact, uri, trust)
    spec = formats.Spec(manifest.inputs, manifest.outputs, threads)
    return LoadedModel(manifest, module.read(artifact, spec))


def locate(uri: str, root: str | os.PathLike[str] = ".") -> Path | None:
    """Return the directory of a path uri, or None if the uri names a class.

    Raises:
        ModelNotFound: No such directory, model or version.
    """
    path, at, version = uri.partition("@")
    base = Path(root) / path
    if not at and not base.exists() and re.fullmatch(r"[\w.]+:\w+", uri):
        return None
    if (base / FILE_NAME).exists() or (base / "MLmodel").exists():
        return base
    if not base.is_dir():
        raise ModelNotFound(f"no model at {base}; train one, or correct the uri {uri!r}")
    if not at:
        pointer = base / CURRENT
        if not pointer.exists():
            have = _saved(base)
            raise ModelNotFound(
                f"{base} has no current version; name one, such as {path}@{have[-1]}"
                if have
                else f"{base} holds no model; save one into it with trivet.save"
            )
        version = pointer.read_text(encoding="utf-8").strip()
    _check_version(base, version)
    return base / version


def versions(home: Path) -> list[str]:
    """Return the versions under ``models/NAME``, the oldest first."""
    saved = [(Manifest.read(home / version).created, version) for version in _saved(home)]
    return [version for _, version in sorted(saved)]


def set_current(home: Path, version: str) -> None:
    """Make a version the current one, for every reader at once (an atomic rename).

    Raises:
        ModelNotFound: There is no such version.
    """
    _check_version(home, version)
    descriptor, draft = tempfile.mkstemp(prefix=".current-", dir=home)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(version + "\n")
            file.flush()
            os.fsync(file.fileno())
        Path(draft).chmod(0o644)
        Path(draft).replace(home / CURRENT)
    finally:
        Path(draft).unlink(missing_ok=True)


def _saved(home: Path) -> list[str]:
    """Return the names of the folders with a manifest, read or not."""
    return sorted(path.parent.name for path in home.glob(f"[!.]*/{FILE_NAME}"))


def _check_version(home: Path, version: str) -> None:
    have = _saved(home)
    if version not in have:
        raise ModelNotFound(
            f"{home} has no version {version!r}; it has {', '.join(have) or 'none'}"
        )


def _check_libraries(manifest: Manifest, directory: Path) -> None:
    for library, saved in manifest.libraries.items():
        try:
            here = importlib.metadata.version(library)
        except importlib.metadata.PackageNotFoundError:
            continue  # its import says which extra is missing
        parts = 2 if library in _MINOR_BREAKS else 1
        if saved.split(".")[:parts] != here.split(".")[:parts]:
            wanted = ".".join(saved.split(".")[:parts])
            raise IncompatibleModel(
                f"{directory}: saved with {library} {saved}, here is {here}; "
                f"pip install '{library}=={wanted}.*' or save the model again"
            )


def _check_trust(module: formats.Format, artifact: Path, uri: str, trust: bool) -> None:
    if not trust and module.runs_code(artifact):
        raise UntrustedModel(
            f"loading {uri} would run code that {artifact} carries (a pickle or a module); "
            "if you know where it comes from, "
            "set trust = true in its [models] section of trivet.toml"
        )


def _load_mlflow(
    directory: Path, uri: str, name: str, version: str, trust: bool, threads: int
) -> LoadedModel:
    module = formats.by_name("mlflow")
    _check_trust(module, directory, uri, trust)
    manifest = of_mlflow(directory, name, version)
    spec = formats.Spec(manifest.inputs, manifest.outputs, threads)
    return LoadedModel(manifest, module.read(directory, spec))


def _load_class(uri: str, name: str | None, threads: int) -> LoadedModel:
    from trivet.formats import python  # noqa: PLC0415 - only when a class is named

    instance, manifest = of_class(uri, name)
    spec = formats.Spec(manifest.inputs, manifest.outputs, threads)
    return LoadedModel(manifest, python.predictor(instance, spec))


def describe(uri: str, *, root: str | os.PathLike[str] = ".") -> Manifest:
    """Return what is known of a model without loading it; only a class is imported.

    Raises:
        ModelNotFound: Nothing is there.
        InvalidModel: Its manifest or its signature cannot be read.
        MissingExtra: MLflow is needed and not installed.
    """
    if uri.startswith("models:/"):
        from trivet.formats import mlflow  # noqa: PLC0415 - the registry's client, only when asked

        return of_mlflow(*mlflow.resolve(uri))
    directory = locate(uri, root)
    if directory is None:
        return of_class(uri, None)[1]
    if (directory / FILE_NAME).exists():
        return Manifest.read(directory)
    return of_mlflow(directory, directory.name, "0")


def require(uri: str, root: Path) -> Manifest | None:
    """Say that a uri leads somewhere without loading what is there; return its manifest if any.

    Raises:
        ModelNotFound: It leads nowhere.
        InvalidModel: What is there has a manifest that cannot be read.
    """
    directory = None if uri.startswith("models:/") else locate(uri, root)
    if directory is not None and (directory / FILE_NAME).exists():
        return Manifest.read(directory)
    return None


__all__ = [
    "InvalidModel",
    "LoadedModel",
    "describe",
    "load",
    "locate",
    "require",
    "save",
    "set_current",
    "versions",
]
