"""``trivet check``."""

from __future__ import annotations

import dataclasses
import datetime as dt
from typing import TYPE_CHECKING, Any

import click
import msgspec

from trivet.cli import beforehand, wiring
from trivet.cli.exits import FAILED
from trivet.cli.history import table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from trivet.artifacts import LoadedModel
    from trivet.check import Verdict
    from trivet.settings import Project


@click.command()
@click.option(
    "--rows",
    type=click.IntRange(1, 10_000),
    metavar="N",
    help="Send N rows of each batch source too, not only made-up ones.",
)
@click.option("--only-look", is_flag=True, help="Do not send rows: only look the project through.")
@click.option(
    "--embedded-broker",
    is_flag=True,
    help="Prove streams on an embedded broker only, not on the project's Kafka too.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.pass_context
def check(
    context: click.Context,
    rows: int | None,
    only_look: bool,
    embedded_broker: bool,
    as_json: bool,
) -> None:
    """Look the project through, and prove that a row gets one answer in all hosts.

    Every reference, database, broker, query and model is looked at. Then the same rows go through
    every host and protocol that a model is deployed on, alone and in batches; predictions are
    compared bit for bit, rejects by code and field, lineage by digest.
    """
    from trivet.check import BROKER, inspect, prove, try_broker
    from trivet.errors import MissingExtra

    def has_error(where: str) -> bool:
        return any(f.where == where and f.state == "error" for f in findings)

    with wiring.unwound_by_signals():
        project = wiring.project_of(context)
        findings, models = inspect(project)
        if not only_look and not has_error(BROKER):
            now = dt.datetime.now(dt.UTC)
            findings += try_broker(project, now, embedded_broker=embedded_broker)
        if not as_json:
            marks = {"ok": "ok", "warning": "warning", "error": "ERROR"}
            table(("", "where", "what"), [(marks[f.state], f.where, f.what) for f in findings])
        verdicts = []
        if not only_look:
            if project.service is not None and not beforehand.installed("service"):
                raise MissingExtra("sending rows through the service", "service")
            sent = _rows(project, models, rows)
            embedded_broker = embedded_broker or has_error(BROKER)
            verdicts = list(prove(project, models, sent, embedded_broker=embedded_broker))
    failed = any(f.state == "error" for f in findings) or not all(v.holds for v in verdicts)
    if as_json:
        told = {
            "holds": not failed,
            "findings": [dataclasses.asdict(f) for f in findings],
            "parity": [_told(v) for v in verdicts],
        }
        click.echo(msgspec.json.encode(told).decode())
    elif verdicts:
        _show(verdicts)
    if failed:
        raise click.exceptions.Exit(FAILED)


def _rows(
    project: Project, models: Mapping[str, LoadedModel], count: int | None
) -> dict[str, pa.RecordBatch]:
    """Read rows of the batch sources, by model."""
    from trivet.check.sample import from_source

    found: dict[str, pa.RecordBatch] = {}
    for settings in project.batch.values():
        model = models.get(settings.model)
        if count is None or model is None or settings.model in found:
            continue
        now = dt.datetime.now(dt.UTC)
        rows = from_source(settings, model.inputs, project.root, count, now)
        if rows is None:
            click.echo(
                f"[batch.{settings.name}] has no rows lately: made-up ones are sent", err=True
            )
        else:
            found[settings.model] = rows
    return found


def _show(verdicts: Sequence[Verdict]) -> None:
    click.echo()
    headers = ("", "deployment", "model", "way", "rows", "ulps", "allowed", "what differs")
    lines = [
        (
            "same" if v.holds else "DIFFERS",
            v.deployment,
            v.model,
            v.way,
            str(v.difference.rows if v.difference else 0),
            str(v.difference.ulps if v.difference else ""),
            str(v.tolerance),
            _words(v),
        )
        for v in verdicts
    ]
    table(headers, lines, numbers=(4, 5, 6))
    ways, same = len(verdicts), sum(v.holds for v in verdicts)
    click.echo(f"\n{same} of {ways} ways give the same answer")


def _words(verdict: Verdict) -> str:
    """Say what differs, with the first row in which it was seen."""
    if verdict.error:
        return verdict.error
    found = verdict.difference
    assert found is not None  # else there is an error
    parts = []
    if found.ulps:
        shown = "" if found.worst is None else f": {_row(verdict, found.worst)}"
        within = "" if found.ulps > verdict.tolerance else " (as measured when it was saved)"
        parts.append(f"predictions, by {found.ulps} units in the last place{within}{shown}")
    if found.rejects:
        parts.append(f"rejects of {len(found.rejects)} rows: {_row(verdict, found.rejects[0])}")
    if found.digests:
        parts.append(f"digest {', '.join(found.digests)}")
    return "; ".join(parts)


def _row(verdict: Verdict, place: int) -> str:
    assert verdict.rows is not None
    return str(verdict.rows.slice(place, 1).to_pylist()[0])[:300]


def _told(verdict: Verdict) -> dict[str, Any]:
    found = verdict.difference
    return {
        "holds": verdict.holds,
        "deployment": verdict.deployment,
        "model": verdict.model,
        "way": verdict.way,
        "tolerance_ulps": verdict.tolerance,
        "rows": found.rows if found else 0,
        "ulps": found.ulps if found else None,
        "what": _words(verdict),
    }
