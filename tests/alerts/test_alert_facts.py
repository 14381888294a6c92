"""What the results tell, on both databases."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from support.truths import Truths, day
from trivet.alerts.facts import Limits, gather
from trivet.alerts.rules import Facts
from trivet.monitoring import Profile, Reference
from trivet.results import rows as results
from trivet.results.asking import asking
from trivet.results.ledger import Tally

REFERENCE = Reference.of(pa.array([float(i) for i in range(1000)]))


@pytest.fixture
def truths(results_url: str, tmp_path: Path) -> Iterator[Truths]:
    with Truths.open(results_url, tmp_path) as truths:
        truths.now = day(3) + dt.timedelta(hours=2)
        yield truths


def facts(truths: Truths, limits: Limits | None = None) -> Facts:
    (found,) = gather(asking(truths.db), limits or {}, truths.now)
    return found


def score(truths: Truths, number: int, **more: object) -> None:
    columns = {
        "ride": pa.array([1, 2, 3]),
        "zone": pa.array(["a", "a", "b"]),
        "minutes": pa.array([10.0, 20.0, 30.0]),
    }
    truths.score(number, **columns, **more)  # type: ignore[arg-type]


def test_a_deployment_that_is_up_to_date(truths: Truths) -> None:
    truths.register()
    for number in range(3):
        score(truths, number, tally=Tally(read=4, scored=3, rejected=1))
    found = facts(truths)
    assert (found.period, found.latest) == ("2026-01-03", "2026-01-03")
    assert (found.rows, found.rejected) == (4, 1)
    assert (found.due, found.failed, list(found.missing)) == (None, [], [])
    assert found.metrics == {}


def test_what_is_due_missing_and_failed(truths: Truths) -> None:
    truths.register()
    score(truths, 0)
    truths.now = day(5)
    score(truths, 3)
    truths.fail(2, error="no such table")
    found = facts(truths)
    assert found.due == ("2026-01-05", day(5))
    assert list(found.missing) == ["2026-01-02", "2026-01-03"]
    assert (found.failed, found.error) == (["2026-01-03"], "no such table")
    score(truths, 2)
    assert facts(truths).failed == []


def test_nothing_is_due_before_the_start(truths: Truths) -> None:
    truths.register()
    truths.now = day(0) + dt.timedelta(hours=1)
    assert facts(truths) == Facts("rides", failed=[])


def test_a_schedule_that_nobody_understands_tells_nothing(truths: Truths) -> None:
    truths.register(schedule="every blue moon")
    truths.fail(1)
    found = facts(truths)
    assert found.due is None
    assert found.failed == ["2026-01-02T00:00Z"]


def test_drift_of_the_newest_interval_on_the_bins_of_its_version(truths: Truths) -> None:
    truths.register(version="1", input__x=REFERENCE)
    moved = Profile.of(pa.array([900.0 + i / 10 for i in range(1000)]), REFERENCE)
    same = Profile.of(pa.array([float(i) for i in range(1000)]), REFERENCE)
    score(truths, 1, profiles={("input", "x"): same})
    score(truths, 2, profiles={("input", "x"): moved, ("input", "unknown"): moved})
    # The next version is registered before it has scored anything: its bins are others.
    truths.register(version="2", input__x=Reference.of(pa.array([1.0, 2.0])))
    (column,) = facts(truths).moved
    assert (column.side, column.column) == ("input", "x")
    assert column.drift.psi > 1


def test_moments_do_not_drift(truths: Truths) -> None:
    truths.register(
        outputs=[{"name": "minutes", "type": "float64"}, {"name": "at", "type": "timestamp"}],
        output__at=REFERENCE,
    )
    score(truths, 1, profiles={("output", "at"): Profile.of(pa.array([5.0] * 9), REFERENCE)})
    assert facts(truths).moved == []


def test_quality_of_the_newest_measured_interval(truths: Truths) -> None:
    truths.register()
    score(truths, 1)
    score(truths, 2)
    truths.arrive(ride=[1, 2], minutes=[12, 24], at=["2026-01-02", "2026-01-03"])
    by_day = "SELECT * FROM truth WHERE at >= $interval_start AND at < $interval_end"
    truths.pull(truths.settings(by_day))
    found = facts(truths, {"rides": [("mae", True, 3.0)]})
    assert (found.measured, found.measured_rows) == ("2026-01-03", 1)
    assert found.metrics["mae"] == 4.0
    assert found.trained == {"mae": 1.0}
    assert found.limits == [("mae", True, 3.0)]


def test_a_service_is_judged_by_its_last_day(truths: Truths) -> None:
    truths.register(kind="service", keep=(), input__x=REFERENCE)
    assert facts(truths) == Facts("rides")  # nothing was logged yet
    at = day(2) + dt.timedelta(hours=5)
    inputs = pa.record_batch({"x": [999.0] * 50})
    truths.serve(at, ["k"] * 50, inputs, minutes=pa.array([1.0] * 50))
    old = pa.record_batch({"x": [1.0]})
    truths.serve(at - dt.timedelta(days=2), ["k"], old, ids=["o"], minutes=pa.array([1.0]))
    rejects = [
        {"deployment": "rides", "attempt": 0, "row_key": "{}", "field": "x", "code": "null",
         "reason": "r", "id": str(i % 2), "rejected_at": at}
        for i in range(3)
    ]  # fmt: skip
    truths.db.append("trivet_rejects", pa.RecordBatch.from_pylist(rejects, results.REJECTS))
    found = facts(truths)
    assert (found.rows, found.rejected) == (52, 2)
    assert "2026-01-03 06:00" in found.period
    (column,) = found.moved
    assert column.drift.rows == 50
    assert found.lag is None


def test_the_lag_of_a_stream(truths: Truths) -> None:
    truths.register(kind="stream", keep=())
    at = truths.now - dt.timedelta(minutes=10)
    truths.serve(at, "a", pa.record_batch({"x": [1.0]}), minutes=pa.array([1.0]))
    with pytest.MonkeyPatch.context():
        truths.db.execute("ALTER TABLE predictions_rides ADD COLUMN event_at " + (
            "TEXT" if truths.db.dialect.name == "sqlite" else "TIMESTAMPTZ"
        ))  # fmt: skip
    assert facts(truths).lag is None  # it carries no time of its own
    before = at - dt.timedelta(seconds=90)
    truths.db.execute("UPDATE predictions_rides SET event_at = $at", at=before)
    assert facts(truths).lag == dt.timedelta(seconds=90)
    truths.now += dt.timedelta(hours=2)
    assert facts(truths).lag is None  # nothing came lately


def test_a_stream_that_keeps_no_predictions(truths: Truths) -> None:
    truths.register(kind="stream", keep=(), input__x=REFERENCE)
    truths.serve(truths.now, "a", pa.record_batch({"x": [1.0]}), minutes=pa.array([1.0]))
    truths.db.execute("DROP VIEW rides")
    truths.db.execute("DROP TABLE predictions_rides")
    assert facts(truths).lag is None
