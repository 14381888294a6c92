"""What is wrong: judged from facts."""

from __future__ import annotations

import datetime as dt
from typing import Any

import pytest

from support.truths import NOW
from trivet.alerts.rules import Alert, Facts, Moved, grown, judge, main_metric
from trivet.alerts.settings import AlertSettings, Thresholds
from trivet.monitoring.drift import Drift
from trivet.results.offsets import Standing

HOUR = dt.timedelta(hours=1)


def kinds(facts: Facts, **settings: Any) -> list[str]:
    return [alert.kind for alert in judge(facts, AlertSettings(**settings), NOW)]


def one(facts: Facts, **settings: Any) -> Alert:
    (alert,) = judge(facts, AlertSettings(**settings), NOW)
    return alert


def drift(psi: float, noise: float = 0.01, rows: int = 1000) -> Drift:
    return Drift(psi, noise, 0.1, None, (0.0, 0.0), None, rows)


def test_nothing_is_wrong_with_a_deployment_of_which_nothing_is_known() -> None:
    assert kinds(Facts("d")) == []


def test_a_failed_run_tells_its_reason_and_the_way_on() -> None:
    alert = one(Facts("d", failed=["2026-01-01", "2026-01-02"], error="no column x\nmore"))
    assert alert.message == (
        "2026-01-02 failed (2 intervals in all): no column x; "
        "then: trivet score d --interval 2026-01-02"
    )
    assert one(Facts("d", failed=["i"], error="x" * 300)).message.count("x") == 199
    assert kinds(Facts("d", failed=["i"]), failed=False) == []


@pytest.mark.parametrize(("hours", "found"), [(0.5, []), (1, ["late"]), (30, ["late"])])
def test_late_from_the_threshold_on(hours: float, found: list[str]) -> None:
    facts = Facts("d", due=("2026-01-31", NOW - hours * HOUR), latest="2026-01-30")
    assert kinds(facts) == found
    assert kinds(facts, late=dt.timedelta()) == []


def test_late_says_what_there_is() -> None:
    facts = Facts("d", due=("2026-01-31", NOW - 2 * HOUR))
    assert "there are none yet" in one(facts).message
    facts = Facts("d", due=("2026-01-31", NOW - 2 * HOUR), latest="2026-01-30")
    alert = one(facts)
    assert "the newest is 2026-01-30; does trivet schedule run?" in alert.message
    assert (alert.value, alert.threshold) == (7200.0, 3600.0)


def test_missing_intervals_tell_the_command_that_fills_them() -> None:
    assert "trivet score d --interval a" in one(Facts("d", missing=["a"])).message
    many = one(Facts("d", missing=["a", "b", "c"]))
    assert "3 intervals from a to c" in many.message
    assert "trivet backfill d --from a --to c" in many.message


@pytest.mark.parametrize(
    ("rejected", "settings", "found"),
    [
        (50, {}, []),
        (51, {}, ["rejects"]),
        (900, {"rejects": 0.0}, []),
        (900, {"min_rows": 2000}, []),
        (11, {"rejects": 0.01}, ["rejects"]),
    ],
)
def test_a_share_of_rejects(rejected: int, settings: dict[str, Any], found: list[str]) -> None:
    facts = Facts("d", period="2026-01-31", rows=1000, rejected=rejected)
    assert kinds(facts, **settings) == found


def test_no_row_is_no_share() -> None:
    assert kinds(Facts("d", rows=0, rejected=0), min_rows=0) == []


def test_drift_names_the_columns_that_moved_most() -> None:
    moved = [Moved("input", f"c{i}", drift(0.3 + i / 10)) for i in range(5)]
    alert = one(Facts("d", period="p", moved=[Moved("input", "calm", drift(0.2)), *moved]))
    assert "input c4 0.70, input c3 0.60, input c2 0.50 and 2 more" in alert.message
    assert (alert.value, alert.threshold) == (0.7, 0.25)


@pytest.mark.parametrize(
    ("moved", "settings"),
    [
        (drift(0.3, noise=0.4), {}),  # as chance would do
        (drift(0.3, rows=50), {}),
        (drift(0.3), {"drift": 0.0}),
        (drift(0.3), {"drift": 0.5}),
    ],
)
def test_no_drift(moved: Drift, settings: dict[str, Any]) -> None:
    assert kinds(Facts("d", moved=[Moved("output", "y", moved)]), **settings) == []


def measured(**more: Any) -> Facts:
    told: dict[str, Any] = {
        "measured": "2026-01",
        "measured_rows": 500,
        "metrics": {"mae": 1.3, "bias": 0.1},
        "trained": {"mae": 1.0},
    }
    return Facts("d", **told | more)


def test_quality_against_the_training() -> None:
    alert = one(measured())
    assert alert.subject == "mae"
    assert "mae is 1.3, it was 1 in training: the error has grown by 30%" in alert.message
    assert kinds(measured(), quality=0.5) == []
    assert kinds(measured(), quality=0) == []
    assert kinds(measured(measured_rows=99)) == []
    assert kinds(measured(trained={})) == []


def test_a_limit_of_its_own_takes_the_place_of_the_training() -> None:
    assert kinds(measured(limits=[("mae", True, 2.0)])) == []
    (alert,) = judge(measured(limits=[("mae", True, 1.2)]), AlertSettings(), NOW)
    assert "above its limit 1.2" in alert.message
    found = judge(
        measured(metrics={"roc_auc": 0.7}, limits=[("roc_auc", False, 0.8)]), AlertSettings(), NOW
    )
    assert ["below its limit 0.8" in each.message for each in found] == [True]
    assert kinds(measured(limits=[("brier", True, 0.1)], trained={})) == []  # not measured


def test_lag() -> None:
    facts = Facts("d", lag=dt.timedelta(minutes=6))
    assert "360 s after their events (threshold 300 s)" in one(facts).message
    assert kinds(facts, lag=dt.timedelta(minutes=10)) == []
    assert kinds(facts, lag=dt.timedelta()) == []


def standing(partition: int = 0, waiting: int = 0, moved: float = 0, seen: float = 0) -> Standing:
    """Return a partition that moved and was seen so many minutes ago."""
    minute = dt.timedelta(minutes=1)
    return Standing(partition, waiting, NOW - moved * minute, NOW - seen * minute)


def test_a_silent_topic_is_no_alert() -> None:
    assert kinds(Facts("d", topic="rides", consumers=[standing(moved=10_000, seen=1)])) == []


def test_a_stream_that_does_not_move_while_events_wait() -> None:
    consumers = [standing(0, 7, 6, 1), standing(1, 0, 60, 1), standing(2, 1000, 9, 1)]
    alert = one(Facts("d", topic="rides", consumers=consumers, lag=dt.timedelta(hours=1)))
    assert alert.kind == "lag"
    assert "partitions 0, 2 of rides have not moved since 2026-02-01 12:21 UTC" in alert.message
    assert "1,007 events waiting" in alert.message
    assert (alert.value, alert.threshold) == (540.0, 300.0)
    moving = Facts("d", topic="rides", consumers=[standing(0, 1_000_000, 1, 1)])
    assert kinds(moving) == []
    assert kinds(moving, lag=dt.timedelta(seconds=30)) == ["lag"]


def test_a_stream_that_nobody_consumes() -> None:
    alert = one(Facts("d", topic="rides", consumers=[standing(0, 0, 90, 6), standing(1, 5, 90, 7)]))
    assert alert.kind == "stopped"
    assert alert.message == (
        "nobody has consumed partitions 0, 1 of rides since 2026-02-01 12:24 UTC, with 5 events "
        "waiting; run: trivet consume d"
    )
    assert (alert.value, alert.threshold) == (360.0, 300.0)
    many = Facts("d", topic="rides", consumers=[standing(n, 0, 9, 9) for n in range(7)])
    assert "partitions 0, 1, 2, 3, 4 and 2 more of rides since" in one(many).message
    assert kinds(many, stopped=dt.timedelta()) == []
    assert kinds(many, stopped=dt.timedelta(hours=1)) == []


def test_a_deployment_has_thresholds_of_its_own() -> None:
    own = Thresholds(drift=0.05)
    settings = AlertSettings(deployments={"d": own})
    assert settings.of("d") is own
    assert settings.of("other") is settings


def test_how_much_an_error_has_grown() -> None:
    assert grown("mae", 1.5, 1.0) == 0.5
    assert grown("roc_auc", 0.7, 0.9) == pytest.approx(2.0)
    assert grown("mae", 1.0, 0.0) != grown("mae", 1.0, 0.0)  # no number
    assert main_metric({"rmse": 1.0, "mae": 1.0}, {"rmse": 1.0}) == "rmse"
    assert main_metric({"rmse": 1.0}, {}) is None


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rejects": 2}, "rejects: write a share"),
        ({"drift": -1}, "drift: write 0 or more"),
        ({"min_rows": -1}, "min_rows: write 0 or more"),
        ({"webhook": "example.com"}, "webhook: write a url"),
        ({"email": ("a@b.c",)}, "smtp: mails need a server"),
        ({"email": ("a@b.c",), "smtp": "smtp://h"}, "sender: mails need the address"),
        ({"email": ("a",), "smtp": "smtp://h", "sender": "a@b.c"}, "'a' is no address"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        AlertSettings(**settings)


def test_who_is_told() -> None:
    assert not AlertSettings().sends
    assert AlertSettings(webhook="https://example.com/x").sends
