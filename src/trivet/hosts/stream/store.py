"""The results database as a stream writes it: predictions, dead letters and offsets at once."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from trivet.databases import Connection
from trivet.errors import DatabaseError
from trivet.hosts.stream.scoring import Rejected, Scored, kept_columns
from trivet.hosts.stream.settings import StreamSettings
from trivet.records import plain_text
from trivet.results import dead_letters, rows
from trivet.results.layout import open_results
from trivet.results.ledger import Deployment, register
from trivet.results.offsets import Standing, advance, consumed
from trivet.results.profiles import Counted, References, references_of
from trivet.results.tables import view_of


class Store:
    """Keeps what became of batches; used by one thread.

    Args:
        settings: The deployment.
        url: The results database.
        root: The folder that relative paths start from.
    """

    def __init__(self, settings: StreamSettings, url: str, root: Path) -> None:
        self._settings = settings
        self._url, self._root = url, root
        self._db: Connection | None = None
        self._lineages: dict[str, tuple[int, References]] = {}

    def keep(self, scored: Scored) -> int:
        """Keep predictions, dead letters and offsets in one transaction.

        Returns:
            How many of the predictions were there already.

        Raises:
            MembershipLost: Another worker has moved the offsets; nothing was kept.
            TransientError: The database is away or busy.
        """
        settings, spans = self._settings, scored.batch.spans
        try:
            db = self._opened(scored)
            predictions, model = scored.predictions, scored.ready.model
            lineage, bins = self._lineages[model.digest]
            number = pa.repeat(pa.scalar(lineage, pa.int64()), predictions.num_rows)
            counted = Counted(scored.inputs, model.outputs.names, bins)
            numbered = predictions.add_column(0, "lineage", number)

            def beside() -> None:
                advance(db, settings.name, settings.topic, spans, scored.at)
                self._reject(db, scored)

            return rows.write(db, settings.name, numbered, beside, counted)
        except DatabaseError:
            self.close()
            raise

    def keep_rejects(self, scored: Scored) -> None:
        """Keep dead letters alone; those that are there already are left as they are.

        Raises:
            TransientError: The database is away or busy.
        """
        if not scored.rejected:
            return
        try:
            db = self._opened(scored)
            with db.transaction():
                self._reject(db, scored)
        except DatabaseError:
            self.close()
            raise

    def tell(self, standings: Sequence[Standing]) -> None:
        """Have it known that partitions are consumed, and how they are.

        Raises:
            DatabaseError: The database is away.
        """
        if not standings:
            return
        try:
            if self._db is None:
                self._db = open_results(self._url, root=self._root)
            consumed(self._db, self._settings.name, self._settings.topic, standings)
        except DatabaseError:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; the next call opens another one."""
        if self._db is not None:
            self._db.close()
        self._db = None
        self._lineages = {}

    def _reject(self, db: Connection, scored: Scored) -> None:
        if scored.rejected:
            settings = self._settings
            letters, rejects = written(settings, scored.rejected, scored.at)
            dead_letters.keep(db, letters, rejects)

    def _opened(self, scored: Scored) -> Connection:
        """Return the connection, ready for what this version of the model gives."""
        db, settings = self._db, self._settings
        if db is None:
            db = self._db = open_results(self._url, root=self._root)
        model = scored.ready.model
        if model.digest not in self._lineages:
            view = view_of(settings.name) if settings.results else ""
            register(db, deployment_of(settings, scored.ready.summary, view), scored.at)
            if settings.results:
                columns = kept_columns(settings, model)
                rows.prepare(db, settings.name, rows.STREAM, columns)
            number = rows.lineage(db, settings.name, model, scored.at)
            self._lineages[model.digest] = number, references_of(scored.ready.summary)
        return db


def deployment_of(settings: StreamSettings, summary: Mapping[str, Any], view: str) -> Deployment:
    """Return what is registered of a stream."""
    return Deployment(
        name=settings.name,
        kind="stream",
        model=settings.model,
        view=view,
        key=settings.key,
        keep=settings.keep,
        manifest=summary,
    )


def written(
    settings: StreamSettings, rejected: Sequence[Rejected], at: dt.datetime
) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """Return rejected events as rows of ``trivet_dead_letters`` and of ``trivet_rejects``."""
    letters, problems = [], []
    for each in rejected:
        raw = each.raw
        where = {
            "deployment": settings.name,
            "topic": raw.place.topic,
            "partition_number": raw.place.partition,
            "event_offset": raw.place.offset,
        }
        told = {"id": plain_text(each.id), "rejected_at": at}
        letters.append(
            where
            | told
            | {
                "source": plain_text(each.source),
                "event_key": raw.key,
                "event_value": raw.value if len(raw.value) <= settings.max_event else None,
                "event_bytes": len(raw.value),
                "event_headers": dead_letters.headers_text(raw.headers),
            }
        )
        problems += [
            where
            | told
            | {
                "attempt": 0,
                "row_key": plain_text(each.key),
                "field": plain_text(p.field),
                "code": p.code,
                "reason": plain_text(p.reason),
            }
            for p in each.problems
        ]
    return (
        pa.RecordBatch.from_pylist(letters, dead_letters.DEAD_LETTERS),
        pa.RecordBatch.from_pylist(problems, rows.EVENT_REJECTS),
    )
