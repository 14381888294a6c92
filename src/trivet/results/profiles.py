"""Profiles of inputs and predictions by interval or by hour, each on the bins of its version.

Those of an hour are added up as its rows are written, in the same transaction.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trivet.databases import Connection
from trivet.monitoring import Profile, Reference
from trivet.results.asking import Asking
from trivet.results.statements import named

References = Mapping[tuple[str, str], Reference]
"""Reference bins by side (``input``, ``output``) and column."""


@dataclass(frozen=True, slots=True)
class Period:
    """The profiles of an interval or an hour, of one version.

    Attributes:
        start: The period's start.
        end: Its end.
        version: The model's version.
        profiles: By side and column.
    """

    start: dt.datetime
    end: dt.datetime
    version: str
    profiles: Mapping[tuple[str, str], Profile]


@dataclass(frozen=True, slots=True)
class Counted:
    """What is needed to count rows into the profiles of their hours.

    Attributes:
        inputs: The inputs of the rows, in their order.
        outputs: The columns of the rows that the model gave.
        references: The bins.
    """

    inputs: pa.RecordBatch
    outputs: tuple[str, ...]
    references: References


def add_profiles(
    db: Connection,
    deployment: str,
    predictions: pa.RecordBatch,
    counted: Counted,
) -> None:
    """Add rows to the profiles of their hours; within the transaction that writes the rows.

    Args:
        db: The results database.
        deployment: Whose rows.
        predictions: The rows, of one version; with ``scored_at`` and ``lineage``.
        counted: Their inputs, and the bins.
    """
    if not predictions.num_rows:
        return
    lineage = predictions.column("lineage")[0].as_py()
    hours = pc.floor_temporal(predictions.column("scored_at"), unit="hour")
    sides = (("input", counted.inputs), ("output", predictions.select(list(counted.outputs))))
    told = []
    for hour in pc.unique(hours).to_pylist():
        rows = pa.array(np.flatnonzero(pc.equal(hours, hour).to_numpy(zero_copy_only=False)))
        for side, batch in sides:
            part = batch if len(rows) == batch.num_rows else batch.take(rows)
            for name, column in zip(part.schema.names, part.columns, strict=True):
                profile = Profile.of(column, counted.references.get((side, name)))
                told.append(
                    {
                        "deployment": deployment,
                        "hour": hour,
                        "lineage": lineage,
                        "side": side,
                        "column_name": name,
                        "row_count": profile.rows,
                        "null_count": profile.nulls,
                        "counts": str(list(profile.counts)),
                        "total": profile.total,
                        "low": profile.low,
                        "high": profile.high,
                    }
                )
    db.execute_each(named("add_hourly_profile", db.dialect.name), told)


def references_of(manifest: Mapping[str, Any]) -> dict[tuple[str, str], Reference]:
    """Return the bins in what was registered of a manifest."""
    found = {}
    for name, parts in manifest.get("references", {}).items():
        side, _, column = name.partition(".")
        found[side, column] = Reference.from_dict(parts)
    return found


def references(ask: Asking, deployment: str, version: str) -> dict[tuple[str, str], Reference]:
    """Return the bins that a version of a deployment's model is compared on; none if unknown.

    Moments and days are not among them: they move on by themselves.
    """
    rows = ask("manifest_of_version", deployment=deployment, model_version=version)
    if not rows:
        return {}
    manifest = json.loads(rows[0]["manifest"])
    moving = {
        (side, each["name"])
        for side, fields in (("input", "inputs"), ("output", "outputs"))
        for each in manifest.get(fields, ())
        if each["type"] in ("timestamp", "date")
    }
    return {place: bins for place, bins in references_of(manifest).items() if place not in moving}


def periods(
    ask: Asking, deployment: str, kind: str, since: dt.datetime, until: dt.datetime
) -> list[Period]:
    """Return the profiles of the periods that start in a span, the oldest first.

    Args:
        ask: Asks the results.
        deployment: Whose profiles.
        kind: Of the deployment: that of ``batch`` has intervals, the others hours.
        since: The span's start.
        until: Its end.
    """
    statement = "interval_profiles" if kind == "batch" else "hourly_profiles"
    rows = ask(statement, deployment=deployment, since=since, until=until)
    found: dict[tuple[dt.datetime, dt.datetime, str], dict[tuple[str, str], Profile]] = {}
    for row in rows:
        profile = Profile(
            tuple(json.loads(row["counts"])),
            row["null_count"],
            row["row_count"],
            row["total"],
            row["low"],
            row["high"],
        )
        start = row["period_start"]
        end = row["period_end"] if kind == "batch" else start + dt.timedelta(hours=1)
        profiles = found.setdefault((start, end, row["model_version"]), {})
        profiles[row["side"], row["column_name"]] = profile
    return [Period(*place, profiles) for place, profiles in found.items()]
