"""Hourly profiles of predictions that come row by row, added up as the rows are written."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from trivet.databases import Connection
from trivet.monitoring import Profile, Reference
from trivet.results.statements import named


@dataclass(frozen=True, slots=True)
class Counted:
    """What is needed to count rows into the profiles of their hours.

    Attributes:
        inputs: The inputs of the rows, in their order.
        references: Reference bins by side (``input``, ``output``) and column.
    """

    inputs: pa.RecordBatch
    references: Mapping[tuple[str, str], Reference]


def add_profiles(
    db: Connection,
    deployment: str,
    predictions: pa.RecordBatch,
    counted: Counted,
    outputs: pa.Schema,
) -> None:
    """Add rows to the profiles of their hours; within the transaction that writes the rows.

    Args:
        db: The results database.
        deployment: Whose rows.
        predictions: The rows, of one version; with ``scored_at`` and ``lineage``.
        counted: Their inputs, and the bins.
        outputs: The columns of `predictions` that the model gave.
    """
    if not predictions.num_rows:
        return
    lineage = predictions.column("lineage")[0].as_py()
    hours = pc.floor_temporal(predictions.column("scored_at"), unit="hour")
    statement = named("add_hourly_profile", db.dialect.name)
    given = [name for name in outputs.names if name in predictions.schema.names]
    sides = (("input", counted.inputs), ("output", predictions.select(given)))
    for hour in pc.unique(hours).to_pylist():
        rows = pa.array(np.flatnonzero(pc.equal(hours, hour).to_numpy(zero_copy_only=False)))
        for side, batch in sides:
            part = batch if len(rows) == batch.num_rows else batch.take(rows)
            for name, column in zip(part.schema.names, part.columns, strict=True):
                profile = Profile.of(column, counted.references.get((side, name)))
                _add(db, statement, profile, deployment, hour, lineage, side, name)


def _add(
    db: Connection,
    statement: str,
    profile: Profile,
    deployment: str,
    hour: dt.datetime,
    lineage: int,
    side: str,
    name: str,
) -> None:
    db.execute(
        statement,
        deployment=deployment,
        hour=hour,
        lineage=lineage,
        side=side,
        column_name=name,
        row_count=profile.rows,
        null_count=profile.nulls,
        counts=str(list(profile.counts)),
        total=profile.total,
        low=profile.low,
        high=profile.high,
    )
