"""One chunk of rows turned into what an attempt appends to the results."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from trivet import scoring
from trivet.contract import Model
from trivet.hosts.batch.reading import Chunk
from trivet.monitoring import Profile, Reference
from trivet.results import tables
from trivet.results.ledger import Attempt
from trivet.schema import Schema
from trivet.validation import Decoded, conform, merge, take

References = Mapping[tuple[str, str], Reference]
"""Reference bins by side (``input``, ``output``) and column."""

Profiles = dict[tuple[str, str], Profile]


@dataclass(frozen=True, slots=True)
class Scored:
    """What one chunk gives.

    Attributes:
        predictions: Rows of the predictions table.
        rejects: Rows of ``trivet_rejects``: one for each problem.
        read: Rows of the chunk.
        rejected: Rows with at least one problem.
        profiles: Counts of the inputs and the predictions.
        seconds: Time spent here.
    """

    predictions: pa.RecordBatch
    rejects: pa.RecordBatch
    read: int
    rejected: int
    profiles: Profiles
    seconds: float


@dataclass(frozen=True, slots=True)
class ChunkScorer:
    """Scores chunks of one attempt; may be called by several threads."""

    model: Model
    attempt: Attempt
    key: tuple[str, ...]
    beside: Schema
    references: References

    def __call__(self, chunk: Chunk) -> Scored:
        """Validate and score a chunk's rows."""
        began = time.perf_counter()
        decoded = conform(chunk.batch, self.model.inputs)
        beside = conform(chunk.batch, self.beside)
        found = merge([decoded.problems, self._of_beside(beside.problems), chunk.problems])
        scored = scoring.score(self.model, Decoded(decoded.batch, found))
        kept = take(beside.batch, scored.rows)
        return Scored(
            predictions=tables.stamped(self.attempt, [kept, scored.predictions]),
            rejects=self._rejects(beside.batch, scored.problems),
            read=chunk.batch.num_rows,
            rejected=chunk.batch.num_rows - scored.predictions.num_rows,
            profiles=self._profiles(scored),
            seconds=time.perf_counter() - began,
        )

    def _of_beside(self, found: pa.RecordBatch) -> pa.RecordBatch:
        """Leave out what is told of the model's inputs already."""
        if not found.num_rows:
            return found
        known = pc.is_in(found.column("field"), value_set=pa.array(self.model.inputs.names))
        return found.filter(pc.invert(known))

    def _rejects(self, batch: pa.RecordBatch, found: pa.RecordBatch) -> pa.RecordBatch:
        n = found.num_rows
        keys: list[str] = []
        if n:
            rows = batch.select(list(self.key)).take(found.column("row")).to_pylist()
            keys = [msgspec.json.encode(row).decode() for row in rows]
        columns = [
            pa.repeat(self.attempt.deployment, n),
            pa.repeat(pa.scalar(self.attempt.id, pa.int64()), n),
            pa.array(keys, pa.string()),
            *(found.column(name) for name in ("field", "code", "reason")),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=tables.REJECTS)

    def _profiles(self, scored: scoring.Scored) -> Profiles:
        sides = (("input", scored.inputs), ("output", scored.predictions))
        return {
            (side, name): Profile.of(column, self.references.get((side, name)))
            for side, batch in sides
            for name, column in zip(batch.schema.names, batch.columns, strict=True)
        }


def added(total: Profiles, more: Profiles) -> Profiles:
    """Return the sum of two sets of profiles."""
    return {key: total[key] + profile if key in total else profile for key, profile in more.items()}
