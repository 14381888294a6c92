"""Results of many predictions: half of a batch deployment, half of a service's log."""

from __future__ import annotations

import datetime as dt
import json

import numpy as np
import pyarrow as pa

from trivet.databases import Connection
from trivet.monitoring import Profile, Reference
from trivet.results import ledger, rows, tables
from trivet.results.layout import open_results

DAYS = 100
FIRST = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
DAY, HOUR = dt.timedelta(days=1), dt.timedelta(hours=1)
UTC = pa.timestamp("us", "UTC")
PLANS = pa.array(["basic", "family", "premium", "student"])


class Lineage:
    """A model's name, version and digest."""

    name, version, digest = "churn", "1", "a1" * 32


def fill(url: str, predictions: int) -> None:
    """Write so many predictions into an empty results database."""
    random = np.random.default_rng(1)
    reference = Reference.of(pa.array(random.beta(2, 5, 10_000)))
    with open_results(url) as db:
        db.execute(db.dialect.relaxed)
        _batch(db, predictions // 2 // DAYS, random, reference)
        _service(db, predictions // 2 // DAYS // 24, random, reference)


def _manifest(output: str, reference: Reference) -> dict[str, object]:
    return {
        "name": "churn",
        "version": "1",
        "inputs": [],
        "outputs": [{"name": output, "type": "float64"}],
        "references": {f"output.{output}": reference.to_dict()},
    }


def _batch(db: Connection, each: int, random: np.random.Generator, reference: Reference) -> None:
    name = "churn-daily"
    deployment = ledger.Deployment(
        name=name, kind="batch", model="churn", view="churn_daily", key=("customer_id",),
        keep=("plan", "joined_at"), manifest=_manifest("probability", reference),
        schedule="@daily", timezone="UTC", start=FIRST,
    )  # fmt: skip
    ledger.register(db, deployment, FIRST)
    for day in range(DAYS):
        start = FIRST + day * DAY
        attempt = ledger.claim(
            db, name, (start, start + DAY), Lineage, owner=f"day {day}", cause="schedule",
            now=start + DAY,
        )  # fmt: skip
        assert attempt is not None
        seconds = random.integers(0, 86_400, each)
        micros = (int(start.timestamp()) + seconds) * 1_000_000
        columns = pa.record_batch(
            {
                "customer_id": pa.array(np.arange(each) + day * each),
                "plan": PLANS.take(pa.array(random.integers(0, 4, each))),
                "joined_at": pa.array(micros).cast(UTC),
                "probability": pa.array(random.beta(2, 5, each)),
            }
        )
        tables.prepare(db, name, columns.schema)
        bad = each // 200
        rejects = pa.RecordBatch.from_arrays(
            [
                pa.array([name] * bad),
                pa.array([attempt.id] * bad, pa.int64()),
                pa.array([f'{{"customer_id":{i}}}' for i in range(bad)]),
                pa.array(["a"] * bad),
                pa.array(["null"] * bad),
                pa.array(["is null"] * bad),
            ],
            schema=tables.REJECTS,
        )
        tables.append(db, attempt, tables.stamped(attempt, [columns]), rejects)
        profile = Profile.of(columns.column("probability"), reference)
        tables.append_profiles(db, attempt, {("output", "probability"): profile})
        tally = ledger.Tally(each + bad, each, bad, {"read": 1, "score": 2, "write": 3, "total": 4})
        ledger.publish(db, attempt, tally, start + DAY + HOUR)


def _service(db: Connection, each: int, random: np.random.Generator, reference: Reference) -> None:
    name = "service-duration"
    deployment = ledger.Deployment(
        name=name, kind="service", model="churn", view="service_duration", key=("ride_id",),
        keep=(), manifest=_manifest("minutes", reference),
    )  # fmt: skip
    ledger.register(db, deployment, FIRST)
    rows.prepare(
        db, name, rows.SERVICE, pa.schema([("ride_id", pa.string()), ("minutes", pa.float64())])
    )
    number = rows.lineage(db, name, Lineage, FIRST)
    for day in range(DAYS):
        start = FIRST + day * DAY
        n = 24 * each
        ids = [f"{day}-{i}" for i in range(n)]
        at = np.sort(random.integers(0, 86_400_000_000, n)) + int(start.timestamp()) * 1_000_000
        minutes = random.beta(2, 5, n)
        batch = pa.record_batch(
            {
                "lineage": pa.array(np.full(n, number)),
                "source": pa.array([f'{{"ride_id":"{i}"}}' for i in ids]),
                "id": pa.array(ids),
                "scored_at": pa.array(at).cast(UTC),
                "seconds": pa.array(random.gamma(2, 0.002, n)),
                "inputs": pa.array(['{"pickup_zone":132,"dropoff_zone":48,"hour":17}'] * n),
                "ride_id": pa.array(ids),
                "minutes": pa.array(minutes),
            }
        )
        db.append(tables.table_of(name), batch)
        for hour in range(24):
            _hour(db, name, start + hour * HOUR, number, minutes[hour::24], reference)


def _hour(
    db: Connection,
    name: str,
    hour: dt.datetime,
    number: int,
    minutes: np.ndarray[tuple[int], np.dtype[np.float64]],
    reference: Reference,
) -> None:
    profile = Profile.of(pa.array(minutes), reference)
    columns = {
        "deployment": name,
        "hour": hour,
        "lineage": number,
        "side": "output",
        "column_name": "minutes",
        "row_count": profile.rows,
        "null_count": 0,
        "counts": json.dumps(profile.counts),
        "total": profile.total,
        "low": profile.low,
        "high": profile.high,
    }
    table = pa.Table.from_pylist([columns])
    table = table.set_column(1, "hour", table["hour"].cast(UTC))
    db.append("trivet_hourly_profiles", table.to_batches()[0])
