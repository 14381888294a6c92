"""``trivet model`` and ``trivet compare``: versions looked at, put in use, and taken back."""

from __future__ import annotations

import datetime as dt
import re
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click
import msgspec

from trivet.cli import wiring
from trivet.cli.completion import HintingGroup
from trivet.cli.history import table

if TYPE_CHECKING:
    from trivet.manifest import Manifest
    from trivet.promotion import Move, Pointer
    from trivet.schema import Field, Schema
    from trivet.settings import ModelSettings, Project


@click.group(cls=HintingGroup)
def model() -> None:
    """Look at the versions of models, and say which one is in use."""


@model.command("list")
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="JSON lines.")
@click.pass_context
def list_versions(context: click.Context, name: str | None, as_json: bool) -> None:
    """List the versions of all models of the project, or of NAME, the oldest first."""
    project = wiring.project_of(context)
    names = [wiring.pick(project.models, name, "model")] if name else list(project.models)
    found = [row for each in names for row in _versions(project, project.models[each])]
    if as_json:
        for row in found:
            click.echo(msgspec.json.encode(row).decode())
        return
    rows = [
        (
            row["model"],
            row["version"],
            "in use" if row["current"] else "",
            row["created"][:16].replace("T", " "),
            row["format"],
            _figures(row["metrics"]),
            row["description"],
        )
        for row in found
    ]
    table(("model", "version", "", "saved (UTC)", "format", "metrics", "description"), rows)


def _versions(project: Project, settings: ModelSettings) -> Iterator[dict[str, Any]]:
    """Give what is known of each version without loading one."""
    from trivet import artifacts
    from trivet.errors import ModelError, ModelNotFound
    from trivet.manifest import Manifest
    from trivet.promotion import Alias, Store, pointer_of

    try:
        pointer: Pointer | None = pointer_of(settings.name, settings.uri, project.root)
    except ModelNotFound:
        raise
    except ModelError:  # its uri names one version
        pointer = None
    if isinstance(pointer, Store):
        current = pointer.current()
        for version in artifacts.versions(pointer.home):
            manifest = Manifest.read(pointer.home / version)
            yield _row(settings.name, manifest, current=version == current)
    elif isinstance(pointer, Alias):
        current = pointer.current()
        for each in pointer.versions():
            yield {"model": settings.name, **each, "current": each["version"] == current}
    else:
        loaded = wiring.source_of(settings).load(project.root)
        yield _row(settings.name, loaded.manifest, current=True)


def _row(name: str, manifest: Manifest, *, current: bool) -> dict[str, Any]:
    return {
        "model": name,
        "version": manifest.version,
        "current": current,
        "created": manifest.created,
        "format": manifest.format,
        "metrics": dict(manifest.metrics),
        "description": manifest.description,
        "digest": manifest.digest,
    }


@model.command()
@click.argument("uri")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def show(context: click.Context, uri: str, as_json: bool) -> None:
    """Show schema, metrics and provenance of the model at URI, or of that name in the project.

    A model directory is read, not loaded: none of its code runs.
    """
    from pathlib import Path

    from trivet import artifacts

    root = Path()
    name = uri.partition("@")[0]
    if context.obj["file"].exists():
        project = wiring.project_of(context)
        root = project.root
        if name in project.models:
            version = uri.partition("@")[2] or None
            uri = wiring.source_of(project.models[name], version).asked
        elif re.fullmatch(r"[\w-]+", name) and not (root / name).exists():
            wiring.pick(project.models, name, "model")
    if str(root) not in sys.path:
        sys.path.insert(0, str(root))  # module:Class lies beside the project file
    manifest = artifacts.describe(uri, root=root)
    if as_json:
        told = manifest.summary() | {
            "libraries": dict(manifest.libraries),
            "example": dict(manifest.example),
            "sha256": manifest.sha256,
        }
        click.echo(msgspec.json.encode(told).decode())
        return
    click.echo(f"{manifest.name} {manifest.version}  {manifest.description}".rstrip())
    measured = manifest.batch_dependence
    moved = "not measured"
    if measured is not None:
        moved = f"{measured.max_ulps} units in the last place ({measured.rows} rows)"
    libraries = ", ".join(f"{lib} {version}" for lib, version in manifest.libraries.items())
    facts = (
        ("saved", manifest.created),
        ("format", manifest.format),
        ("libraries", libraries),
        ("digest", manifest.digest),
        ("metrics", _figures(manifest.metrics)),
        ("differs by batch", moved),
    )
    for what, fact in facts:
        if fact:
            click.echo(f"  {what:<24}{fact}")
    for side, schema in (("input", manifest.inputs), ("output", manifest.outputs)):
        click.echo()
        _schema(side, schema, manifest.example if side == "input" else {})


def _schema(side: str, schema: Schema, example: Mapping[str, Any]) -> None:
    rows = [
        (
            field.name,
            field.type,
            "null allowed" if field.nullable else "",
            _limits(field),
            str(example[field.name]) if field.name in example else "",
        )
        for field in schema
    ]
    table((side, "type", "", "allowed", "example" if example else ""), rows)


def _limits(field: Field) -> str:
    if field.values is not None:
        return ", ".join(map(str, field.values))
    if field.min is None and field.max is None:
        return ""
    low = "" if field.min is None else f"{field.min} "
    high = "" if field.max is None else f" {field.max}"
    return f"{low}to{high}" if low else f"up to{high}"


@model.command()
@click.argument("name")
@click.argument("version")
@click.pass_context
def promote(context: click.Context, name: str, version: str) -> None:
    """Put VERSION of the model NAME in use, for every host at once.

    It is loaded first: a version that does not load is not put in use. The service and the streams
    follow by themselves, a batch deployment with its next run.
    """
    from trivet.promotion import pointer_of
    from trivet.promotion import promote as put_in_use

    project = wiring.project_of(context)
    settings = project.models[wiring.pick(project.models, name, "model")]
    pointer = pointer_of(name, settings.uri, project.root)
    if pointer.current() == version:  # as a pipeline that is run again finds it
        click.echo(f"{name}: version {version} is in use already")
        return
    changes = _tried(project, settings, pointer.current(), version)
    _tell(name, put_in_use(pointer, version, dt.datetime.now(dt.UTC)), changes)


@model.command()
@click.argument("name")
@click.pass_context
def rollback(context: click.Context, name: str) -> None:
    """Put the version of the model NAME in use that was so before the present one.

    A second rollback goes one further back.
    """
    from trivet.promotion import pointer_of
    from trivet.promotion import rollback as take_back

    project = wiring.project_of(context)
    settings = project.models[wiring.pick(project.models, name, "model")]
    pointer = pointer_of(name, settings.uri, project.root)
    _tell(name, take_back(pointer, dt.datetime.now(dt.UTC)), [])


def _tried(project: Project, settings: ModelSettings, before: str, version: str) -> list[str]:
    """Load a version, and return how its schema differs from that of the one in use."""
    from trivet.errors import ModelError
    from trivet.promotion import schema_changes

    loaded = wiring.versioned(settings, version).load(project.root)
    if not before:
        return []
    try:
        old = wiring.versioned(settings, before).load(project.root)
    except ModelError:  # one that cannot be loaded any more is replaced all the same
        return []
    return [
        *schema_changes(old.inputs, loaded.inputs, "input"),
        *schema_changes(old.outputs, loaded.outputs, "output"),
    ]


def _tell(name: str, move: Move, changes: list[str]) -> None:
    before = f" (before: {move.before})" if move.before else ""
    click.echo(f"{name}: version {move.after} is in use{before}")
    for change in changes:
        click.echo(f"  {change}")


def _figures(metrics: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {figure:.4g}" for name, figure in metrics.items())
