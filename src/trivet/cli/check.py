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
from trivet.cli.reporting import silent_unless_asked

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from trivet.artifacts import LoadedModel
    from trivet.check import Finding, Verdict
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
    from trivet.check import BROKER, Finding, inspect, prove, try_broker

    def has_error(where: str) -> bool:
        return any(f.where == where and f.state == "error" for f in findings)

    with wiring.unwound_by_signals(), silent_unless_asked(context):
        project = wiring.project_of(context)
        findings, models = inspect(project)
        for where, lacking in beforehand.libraries(project):
            if not has_error(where):
                findings.append(Finding(where, "error", str(lacking)))
        if not only_look and not has_error(BROKER):
            now = dt.datetime.now(dt.UTC)
            findings += try_broker(project, now, embedded_broker=embedded_broker)
        sent = {} if only_look else _rows(project, models, rows, findings)
        if not as_json:
            _show_findings(findings)
        verdicts = []
        if not only_look:
            if has_error("[service]"):
                project = dataclasses.replace(project, service=None)
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
    project: Project,
    models: Mapping[str, LoadedModel],
    count: int | None,
    findings: list[Finding],
) -> dict[str, pa.RecordBatch]:
    """Read rows of the batch sources, by model; one that cannot be read is one more finding."""
    from trivet.check import Finding
    from trivet.check.sample import from_source
    from trivet.errors import TrivetError

    found: dict[str, pa.RecordBatch] = {}
    for settings in project.batch.values():
        model = models.get(settings.model)
        if count is None or model is None or settings.model in found:
            continue
        where, now = f"[batch.{settings.name}]", dt.datetime.now(dt.UTC)
        try:
            rows = from_source(settings, model.inputs, project.root, count, now)
        except TrivetError as error:
            if not any(f.where.startswith(where) and f.state == "error" for f in findings):
                findings.append(Finding(f"{where} query", "error", str(error)))
            continue
        if rows is None:
            click.echo(f"{where} has no rows lately: made-up ones are sent", err=True)
        else:
            found[settings.model] = rows
    return found


def _show_findings(findings: Sequence[Finding]) -> None:
    marks = {"ok": "ok", "warning": "warning", "error": "ERROR"}
    table(("", "where", "what"), [(marks[f.state], f.where, f.what) for f in findings])


def _show(verdicts: Sequence[Verdict]) -> None:
    """Print a line for the sizes of a way that give one answer, and one for each that does not."""
    click.echo()
    allowed = any(v.tolerance for v in verdicts)
    headers = ("", "deployment", "way", "rows", "ulps", *(["allowed"] if allowed else []))
    lines = []
    for group in _grouped(verdicts):
        v = group[0]
        met = [each.difference for each in group if each.difference is not None]
        one_model = v.deployment.startswith(("models.", "batch.", "stream."))
        line = (
            "same" if v.holds else "DIFFERS",
            v.deployment if one_model else f"{v.deployment} {v.model}",
            _way(group),
            str(max((d.rows for d in met), default=0)),
            str(max(d.ulps for d in met)) if met else "",
        )
        lines.append((*line, str(v.tolerance)) if allowed else line)
    table(headers, lines, numbers=(3, 4, 5) if allowed else (3, 4))
    if told := [(v, words) for v in verdicts if (words := _words(v))]:
        click.echo()
        marks = [
            (
                "same" if v.holds else "DIFFERS",
                f"{v.deployment} {v.model}, {v.way}: {words}"
                if v.deployment == "service"
                else f"{v.deployment}, {v.way}: {words}",
            )
            for v, words in told
        ]
        table(("", "what differs"), marks)
    ways, same = len(verdicts), sum(v.holds for v in verdicts)
    click.echo(f"\n{same} of {ways} ways give the same answer")


def _grouped(verdicts: Sequence[Verdict]) -> list[list[Verdict]]:
    """Put the batch sizes of one way together, where they all hold."""
    found: dict[tuple[str, ...], list[Verdict]] = {}
    for verdict in verdicts:
        base = verdict.way.partition(", ")[0]
        key = (verdict.deployment, verdict.model, base, "" if verdict.holds else verdict.way)
        found.setdefault(key, []).append(verdict)
    return list(found.values())


def _way(group: Sequence[Verdict]) -> str:
    """Name a way with its sizes: ``records: alone, 7, 64``."""
    base = group[0].way.partition(", ")[0]
    sizes = [v.way.removeprefix(base).removeprefix(", ") for v in group]
    if len(group) > 1:
        sizes = [size.removesuffix(" together") for size in sizes]
    return f"{base}: {', '.join(sizes)}" if any(sizes) else base


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
