"""Results of many predictions: half of a batch deployment, half of a service's log."""

from __future__ import annotations

import datetime as dt
import json

import numpy as np
import pyarrow as pa

from trivet.databases import Connection
from trivet.monitoring import Profile, Reference
from trivet.monitoring.quality import Scores
from trivet.results import ledger, rows, tables
from trivet.results.layout import open_results

DAYS = 100
FIRST = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
DAY, HOUR = dt.timedelta(days=1), dt.timedelta(hours=1)
UTC = pa.timestamp("us", "UTC")
PLANS = pa.array(["basic", "family", "premium", "student"])
INPUTS = [f"input_{i}" for i in range(8)]
SAMPLES = 10
Floats = np.ndarray[tuple[int], np.dtype[np.float64]]


class Lineage:
    """A model's name, version and digest."""

    name, version, digest = "churn", "1", "a1" * 32


def fill(url: str, predictions: int) -> None:
    """Write so many predictions into an empty results database."""
    random = np.random.default_rng(1)
    reference = Reference.of(pa.array(random.beta(2, 5, 10_000)))
    samples = [Profile.of(pa.array(random.beta(2, 5, 2_000)), reference) for _ in range(SAMPLES)]
    with open_results(url) as db:
        db.execute(db.dialect.relaxed)
        _batch(db, predictions // 2 // DAYS, random, reference, samples)
        _service(db, predictions // 2 // DAYS // 24, random, reference, samples)


def _manifest(output: str, reference: Reference) -> dict[str, object]:
    names = [f"output.{output}", *(f"input.{name}" for name in INPUTS)]
    return {
        "name": "churn",
        "version": "1",
        "digest": Lineage.digest,
        "inputs": [{"name": name, "type": "float64"} for name in INPUTS],
        "outputs": [{"name": output, "type": "float64"}],
        "references": {name: reference.to_dict() for name in names},
        "metrics": {"roc_auc": 0.75},
    }


def _batch(
    db: Connection,
    each: int,
    random: np.random.Generator,
    reference: Reference,
    samples: list[Profile],
) -> None:
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
        places = {("input", name): samples[(day + i) % SAMPLES] for i, name in enumerate(INPUTS)}
        tables.append_profiles(db, attempt, {("output", "probability"): profile, **places})
        tally = ledger.Tally(each + bad, each, bad, {"read": 1, "score": 2, "write": 3, "total": 4})
        ledger.publish(db, attempt, tally, start + DAY + HOUR)
        _measured(db, name, (start, start + DAY), columns.column("probability"), random)


def _service(
    db: Connection,
    each: int,
    random: np.random.Generator,
    reference: Reference,
    samples: list[Profile],
) -> None:
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
        profiles = []
        for hour in range(24):
            part = Profile.of(pa.array(minutes[hour::24]), reference)
            places = {("output", "minutes"): part}
            places |= {("input", k): samples[(day + i) % SAMPLES] for i, k in enumerate(INPUTS)}
            began = start + hour * HOUR
            profiles += [_profile(name, began, number, place, p) for place, p in places.items()]
        table = pa.Table.from_pylist(profiles)
        table = table.set_column(1, "hour", table["hour"].cast(UTC))
        db.append("trivet_hourly_profiles", table.combine_chunks().to_batches()[0])


def _profile(
    name: str, hour: dt.datetime, number: int, place: tuple[str, str], profile: Profile
) -> dict[str, object]:
    return {
        "deployment": name,
        "hour": hour,
        "lineage": number,
        "side": place[0],
        "column_name": place[1],
        "row_count": profile.rows,
        "null_count": 0,
        "counts": json.dumps(profile.counts),
        "total": profile.total,
        "low": profile.low,
        "high": profile.high,
    }


def _measured(
    db: Connection,
    name: str,
    period: tuple[dt.datetime, dt.datetime],
    scores: pa.Array,
    random: np.random.Generator,
) -> None:
    """Write what true values told of a day: of all rows, and of each plan's."""
    score = scores.to_numpy()
    truth = random.random(len(score)) < score
    rows = []
    for place, plan in enumerate(["", *PLANS.to_pylist()]):
        part = slice(None) if not plan else slice(place - 1, None, len(PLANS))
        measure = Scores.of(truth[part], score[part])
        rows.append(
            {
                "deployment": name,
                "period_start": period[0],
                "period_end": period[1],
                "model_version": "1",
                "segment": "plan" if plan else "",
                "value": plan,
                "kind": "binary",
                "positive": "true",
                "threshold": 0.5,
                "row_count": measure.rows,
                **dict.fromkeys(("error_sum", "absolute_sum", "squared_sum", "actual_sum"), 0.0),
                "right_count": 0,
                "positive_count": measure.positives,
                "true_positives": measure.true_positives,
                "false_positives": measure.false_positives,
                "log_loss_sum": measure.log_loss,
                "brier_sum": measure.brier,
                "scores": json.dumps([[at, *counts] for at, counts in measure.bins.items()]),
            }
        )
    table = pa.Table.from_pylist(rows)
    for at, column in ((1, "period_start"), (2, "period_end")):
        table = table.set_column(at, column, table[column].cast(UTC))
    db.append("trivet_quality", table.to_batches()[0])
