"""Manifests of models that carry none of ours: MLflow directories, and classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from trivet import formats
from trivet.errors import InvalidModel
from trivet.manifest import Manifest, checksum


def of_mlflow(directory: Path, name: str, version: str) -> Manifest:
    """Return what an MLflow directory says of itself.

    Raises:
        InvalidModel: It has no signature, or one that cannot be read.
        MissingExtra: MLflow is not installed.
    """
    signature = formats.by_name("mlflow").signature(directory)
    if not signature.inputs or not signature.outputs:
        what = "outputs" if signature.inputs else "inputs"
        raise InvalidModel(
            f"{directory}: its signature has no {what}; log the model again with signature="
            "mlflow.models.infer_signature(rows, predictions)"
        )
    return Manifest(
        name=name,
        version=version,
        format="mlflow",
        artifact=str(directory),
        sha256=checksum(directory),
        inputs=signature.inputs,
        outputs=signature.outputs,
    )


def of_class(uri: str, name: str | None) -> tuple[Any, Manifest]:
    """Return an instance of ``module:Class``, and what is known of it.

    Raises:
        ModelNotFound: There is no such module or class.
        InvalidModel: It is no model.
    """
    from trivet.formats import python  # noqa: PLC0415 - only when a class is named

    instance = python.from_reference(uri)
    source = python.source_file(instance)
    return instance, Manifest(
        name=name or uri.partition(":")[2],
        version=str(getattr(instance, "version", "0")),
        format="python",
        artifact=str(source),
        sha256=checksum(source),
        inputs=instance.inputs,
        outputs=instance.outputs,
    )
