"""The campaign: the rules hold from night to night, and what is measured is what is true."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import pytest
from campaign import Nights, campaign, live
from train_churn import FEATURES

import trivet

LAST, DAYS = dt.date(2025, 9, 30), 8


@pytest.fixture(scope="module")
def lived(root: Path) -> Path:
    """Live through some nights, and then once more through one of them."""
    company = live(root, LAST, DAYS)
    nights = Nights(root)
    nights.night(LAST)
    nights.night(LAST - dt.timedelta(days=3))
    company.close()
    return root


def results(root: Path, sql: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(root / "data" / "results.db") as db:
        return db.execute(sql).fetchall()


def check_rules(root: Path, days: int) -> None:
    """Hold limit, cooldown and control over all nights, and every file against its assignment."""
    assert results(root, "SELECT count(*) FROM trivet_action_runs") == [(days,)]
    chosen = results(
        root,
        "SELECT row_key, assignment, date(interval_start) FROM trivet_assignments "
        "WHERE assignment IN ('treated', 'control') ORDER BY interval_start",
    )
    by_day, by_key = defaultdict[str, int](int), defaultdict[str, list[tuple[str, str]]](list)
    for key, group, day in chosen:
        by_day[str(day)] += group == "treated"
        by_key[str(key)].append((str(day), str(group)))
    assert max(by_day.values()) == 60
    for times in by_key.values():
        assert len({group for _, group in times}) == 1  # once held out, always held out
        moments = [dt.date.fromisoformat(day) for day, _ in times]
        for one, next_one in pairwise(moments):
            assert next_one - one >= dt.timedelta(days=30)
    files = [json.loads(path.read_bytes()) for path in (root / "data" / "offers").iterdir()]
    sent = sorted(
        (json.dumps(f["key"], separators=(",", ":")), f["interval_start"][:10]) for f in files
    )
    treated = sorted(
        (key, day) for key, times in by_key.items() for day, g in times if g == "treated"
    )
    assert sent == treated


def test_the_rules_hold_and_no_night_is_acted_on_twice(lived: Path) -> None:
    check_rules(lived, DAYS)


def test_the_model_is_fair_and_its_reasons_are_its_features(lived: Path) -> None:
    model = trivet.load("models/churn", root=lived)
    assert model.manifest.metrics["roc_auc"] > 0.75
    rates = (model.manifest.metrics[name] for name in ("predicted_rate", "true_rate"))
    assert next(rates) == pytest.approx(next(rates), rel=0.25)
    reasons = results(lived, "SELECT DISTINCT reason_1 FROM churn_daily")
    assert {reason for (reason,) in reasons} <= set(FEATURES)


def test_the_features_of_a_day_do_not_know_the_days_after(lived: Path) -> None:
    query = (lived / "sql" / "customers.sql").read_text(encoding="utf-8")
    bound = {"interval_end": (LAST - dt.timedelta(days=20)).isoformat()}
    with sqlite3.connect(lived / "data" / "company.db") as db:
        before = db.execute(query, bound).fetchall()
        for table, day in (("usage", "day"), ("calls", "called_on"), ("offers", "received_on")):
            db.execute(f"DELETE FROM {table} WHERE {day} >= $interval_end", bound)
        db.execute("DELETE FROM customers WHERE joined_on >= $interval_end", bound)
        db.execute("UPDATE customers SET left_on = NULL WHERE left_on >= $interval_end", bound)
        assert db.execute(query, bound).fetchall() == before
        db.rollback()


def test_every_chart_has_rows_or_waits_for_the_truth(lived: Path) -> None:
    waiting = {"calibration", "effect"}
    for path in sorted((lived / "sql" / "charts").glob("*.sql")):
        found = results(lived, path.read_text(encoding="utf-8"))
        assert found or path.stem in waiting, path.stem
    for path in (lived / "sql" / "charts").glob("*.json"):
        json.loads(path.read_bytes())


@pytest.mark.soak
def test_ninety_days(own_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = campaign(own_root, LAST)
    check_rules(own_root, 90)
    assert found.low <= found.true <= found.high
    assert found.low > 0
    assert found.treated > 800
    for path in sorted((own_root / "sql" / "charts").glob("*.sql")):
        assert results(own_root, path.read_text(encoding="utf-8")), path.stem
    with capsys.disabled():
        print(f"\n{found}")
