"""``model.toml``: what a model directory says of the model in it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import tomli_w

from trivet.errors import InvalidModel, SchemaError
from trivet.monitoring import Reference
from trivet.schema import Schema

FILE_NAME = "model.toml"
LAYOUT = 1

_KINDS: Mapping[type, frozenset[str]] = {
    str: frozenset({"name", "version", "description", "created", "format", "artifact", "sha256"}),
    list: frozenset({"inputs", "outputs"}),
    dict: frozenset({"libraries", "batch_dependence", "metrics", "example", "reference"}),
}
_KIND_NAMES: Mapping[type, str] = {str: "text", list: "list", dict: "table"}


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchDependence:
    """How much a row's prediction moves with the batch around it, as measured when it was saved.

    Attributes:
        max_ulps: Largest difference in units in the last place; 0 means the same bits.
        rows: Rows measured.
        source: ``sample`` (the rows given, and some made from the schema) or ``synthetic`` (only
            such ones).
        compared: Predictions in other batches that were held against those in the whole one,
            all sizes together; 0 if that was not recorded.
    """

    max_ulps: int
    rows: int
    source: str
    compared: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """Everything known of a saved model without loading it.

    Attributes:
        name: The model's name.
        version: This version.
        format: The module of `trivet.formats` that reads the artifact.
        artifact: Name of the file or folder beside the manifest.
        sha256: Checksum of the artifact (see `checksum`).
        inputs: Columns the model reads.
        outputs: Columns it returns.
        libraries: Distribution to version, of what saved the artifact.
        created: When it was saved, ISO 8601 in UTC.
        description: One line for people.
        batch_dependence: None if it could not be measured.
        metrics: Name to figure, on the sample or as given by the training script.
        example: One input row; columns that are null are left out.
        input_references: The training sample's summary by input column.
        output_references: The summary of the predictions on that sample, by output column.
        digest: SHA-256 over all that decides an answer: the artifact, its format and both schemas.
    """

    name: str
    version: str
    format: str
    artifact: str
    sha256: str
    inputs: Schema
    outputs: Schema
    libraries: Mapping[str, str] = field(default_factory=dict)
    created: str = ""
    description: str = ""
    batch_dependence: BatchDependence | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    example: Mapping[str, Any] = field(default_factory=dict)
    input_references: Mapping[str, Reference] = field(default_factory=dict)
    output_references: Mapping[str, Reference] = field(default_factory=dict)

    digest: str = field(init=False)

    def __post_init__(self) -> None:
        parts = [self.format, self.sha256, self.inputs.to_list(), self.outputs.to_list()]
        text = json.dumps(parts, sort_keys=True, default=str)
        object.__setattr__(self, "digest", hashlib.sha256(text.encode()).hexdigest())

    @property
    def references(self) -> dict[tuple[str, str], Reference]:
        """The reference bins by side (``input`` or ``output``) and column."""
        found = {("input", name): ref for name, ref in self.input_references.items()}
        return found | {("output", name): ref for name, ref in self.output_references.items()}

    def summary(self) -> dict[str, Any]:
        """Return what is told of a model to those who read the results only."""
        measured = self.batch_dependence
        return {
            "name": self.name,
            "version": self.version,
            "digest": self.digest,
            "format": self.format,
            "description": self.description,
            "created": self.created,
            "inputs": self.inputs.to_list(),
            "outputs": self.outputs.to_list(),
            "metrics": dict(self.metrics),
            "batch_dependence": dataclasses.asdict(measured) if measured else None,
            "references": {
                f"{side}.{name}": ref.to_dict() for (side, name), ref in self.references.items()
            },
        }

    def to_toml(self) -> str:
        """Return the text of ``model.toml``."""
        document: dict[str, Any] = {
            "layout": LAYOUT,
            "name": self.name,
            "version": self.version,
            "description": self.description,
            "created": self.created,
            "format": self.format,
            "artifact": self.artifact,
            "sha256": self.sha256,
            "libraries": dict(self.libraries),
        }
        if self.batch_dependence is not None:
            measured = self.batch_dependence
            document["batch_dependence"] = {
                "max_ulps": measured.max_ulps,
                "rows": measured.rows,
                "source": measured.source,
                "compared": measured.compared,
            }
        document |= {
            "metrics": {name: float(figure) for name, figure in self.metrics.items()},
            "example": dict(self.example),
            "inputs": self.inputs.to_list(),
            "outputs": self.outputs.to_list(),
            "reference": {
                "inputs": {name: ref.to_dict() for name, ref in self.input_references.items()},
                "outputs": {name: ref.to_dict() for name, ref in self.output_references.items()},
            },
        }
        return tomli_w.dumps(document)

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Read the manifest of a model directory.

        Raises:
            InvalidModel: It is not TOML, lacks a key, or is of a newer layout.
        """
        path = directory / FILE_NAME
        try:
            parts = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
            raise InvalidModel(f"{path}: cannot be read: {error}; save the model again") from error
        if parts.get("layout") != LAYOUT:
            raise InvalidModel(
                f"{path}: layout {parts.get('layout')!r}, this Trivet reads {LAYOUT}; "
                "save the model again or upgrade Trivet"
            )
        try:
            return cls._from_dict(parts)
        except KeyError as error:
            raise InvalidModel(
                f"{path}: the key {error} is missing; save the model again"
            ) from None
        except (SchemaError, TypeError, ValueError, AttributeError) as error:
            raise InvalidModel(f"{path}: {error}; save the model again") from error

    @classmethod
    def _from_dict(cls, parts: Mapping[str, Any]) -> Self:
        for kind, keys in _KINDS.items():
            for key in keys & parts.keys():
                if not isinstance(parts[key], kind):
                    raise TypeError(f"{key} = {parts[key]!r} is no {_KIND_NAMES[kind]}")
        if Path(parts["artifact"]).name != parts["artifact"]:
            raise ValueError(f"artifact = {parts['artifact']!r} is no name beside the manifest")
        measured = parts.get("batch_dependence")
        reference = parts.get("reference", {})
        return cls(
            name=parts["name"],
            version=parts["version"],
            description=parts.get("description", ""),
            created=parts.get("created", ""),
            format=parts["format"],
            artifact=parts["artifact"],
            sha256=parts["sha256"],
            libraries=parts.get("libraries", {}),
            inputs=Schema.from_list(parts["inputs"]),
            outputs=Schema.from_list(parts["outputs"]),
            batch_dependence=BatchDependence(**measured) if measured else None,
            metrics=parts.get("metrics", {}),
            example=parts.get("example", {}),
            input_references=_references(reference.get("inputs", {})),
            output_references=_references(reference.get("outputs", {})),
        )


def checksum(artifact: Path) -> str:
    """Return the SHA-256 of a file, or of a folder's files by their relative names, in order."""
    if not artifact.is_dir():
        with artifact.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    total = hashlib.sha256()
    files = sorted(p for p in artifact.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    for path in files:
        total.update(f"{path.relative_to(artifact).as_posix()}\0{checksum(path)}\n".encode())
    return total.hexdigest()


def _references(parts: Mapping[str, Any]) -> dict[str, Reference]:
    return {name: Reference.from_dict(ref) for name, ref in parts.items()}
