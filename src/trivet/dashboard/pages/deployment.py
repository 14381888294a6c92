"""One deployment: what it predicted, by whom, how fast, and the last predictions."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

from trivet.dashboard import breakdown, lookup, periods, predictions, traffic
from trivet.dashboard.ask import Ask, Page, Span
from trivet.dashboard.columns import Columns


def content(ask: Ask) -> Mapping[str, Any]:
    """Return what the template shows."""
    deployment = ask.deployment(ask.path["name"])
    columns = Columns.of(ask, deployment)
    newest = periods.newest(ask, deployment)
    shown: dict[str, Any] = {
        "deployment": deployment,
        "columns": columns,
        "newest": newest,
        "is_batch": deployment["kind"] == "batch",
    }
    if newest is None or not columns.outputs:
        return shown
    is_batch = deployment["kind"] == "batch"
    span = Span.read(ask, newest, "all" if is_batch else "24h")
    output = ask.get("column", columns.main)
    if output not in columns.outputs:
        output = columns.main
    reference = periods.reference_of(columns.manifest, "output", output)
    found = periods.read(ask, deployment, "output", output, span)
    by = ask.get("by") or columns.usual_grouping
    search = ask.get("search")
    flow = (
        traffic.Traffic()
        if is_batch
        else traffic.read(ask, deployment, columns.types, columns.outputs[0], span, newest)
    )
    return shown | {
        "span": span,
        "offered": Span.choices(found[-1].end - found[-1].start if found and is_batch else None),
        "output": output,
        "periods": found,
        "over_time": predictions.over_time(output, found, reference),
        "distribution": predictions.distribution(output, found, reference),
        "volume": predictions.volume(found),
        "by": by,
        "breakdown": breakdown.read(ask, deployment, columns, output, by, span, newest),
        "versions": _versions(ask, deployment, columns.outputs[0]),
        "traffic": flow,
        "offsets": [] if is_batch else ask.source.rows("offsets", deployment=deployment["name"]),
        "search": search,
        "found": lookup.read(ask, deployment, columns, span, newest, search),
    }


def _versions(ask: Ask, deployment: Mapping[str, Any], output: str) -> list[dict[str, Any]]:
    name = deployment["name"]
    if deployment["kind"] == "batch":
        return ask.source.rows("interval_versions", deployment=name)
    found = ask.source.rows("hour_versions", deployment=name, column=output)
    return [
        row | {"last_end": row["last_end"] and row["last_end"] + dt.timedelta(hours=1)}
        for row in found
    ]


PAGE = Page("deployment", "Deployment", "/deployments/{name}", content, menu=False)
