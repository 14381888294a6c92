"""What consumers tell of their partitions, and what alerts make of it."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from typing import Any

import pytest

from support.streams import Stream, Tips, event
from trivet.alerts.look import look
from trivet.alerts.rules import Alert
from trivet.alerts.settings import AlertSettings
from trivet.databases import connect
from trivet.hosts.stream import consumer, pipeline
from trivet.results.layout import open_results
from trivet.results.offsets import Standing, consumed

MINUTE = dt.timedelta(minutes=1)


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "LOOK_SECONDS", 0.2)
    monkeypatch.setattr(pipeline, "BEAT_SECONDS", 0.2)


def standings(stream: Stream) -> list[dict[str, Any]]:
    with open_results(stream.results, root=stream.root) as db:
        return list(db.rows("SELECT * FROM trivet_consumers ORDER BY partition_number").to_pylist())


def wrong(stream: Stream, now: dt.datetime, **settings: Any) -> list[Alert]:
    with connect(stream.results, root=stream.root) as db:
        found = look(db, AlertSettings(**settings), {}, now)
    return [alert for alert in found if alert.kind in ("lag", "stopped")]


def test_a_stream_that_was_stopped_raises_an_alert_and_a_silent_topic_none(
    stream: Stream, until: Callable[..., None]
) -> None:
    stream.publish(*map(event, range(30)))
    with stream.running():
        until(lambda: stream.count() == 30)
        until(lambda: [row["waiting"] for row in standings(stream)] == [0, 0, 0])
        long_silent = {"lag": dt.timedelta(microseconds=1)}
        # Its events are of another day, so that the lag of predictions is left aside.
        found = wrong(stream, dt.datetime.now(dt.UTC), **long_silent)
        assert [alert.kind for alert in found if "has not moved" in alert.message] == []
        assert [alert.kind for alert in found if alert.kind == "stopped"] == []
    now = dt.datetime.now(dt.UTC)
    quiet = {"lag": dt.timedelta()}
    assert wrong(stream, now + 4 * MINUTE, **quiet) == []
    (alert,) = wrong(stream, now + 6 * MINUTE, **quiet)
    assert alert.kind == "stopped"
    assert "nobody has consumed partitions 0, 1, 2 of" in alert.message
    assert "trivet consume tips" in alert.message
    with stream.running():
        until(lambda: wrong(stream, dt.datetime.now(dt.UTC) + 4.9 * MINUTE, **quiet) == [])


def test_a_model_that_hangs_is_a_stream_that_does_not_move(
    stream: Stream, until: Callable[..., None]
) -> None:
    held = threading.Event()
    stream.models = [Tips(hold=lambda: held.wait(60))]
    stream.publish(event(1))
    try:
        with stream.running():
            until(lambda: stream.count() == 1)
            stream.publish(event(2, fare=777.0), key=lambda _: b"one")
            until(lambda: any(row["waiting"] for row in standings(stream)))
            waiting = next(row for row in standings(stream) if row["waiting"])
            number = waiting["partition_number"]
            soon = {"lag": dt.timedelta(milliseconds=1)}
            until(
                lambda: any(
                    f"partition {number} of" in alert.message and "1 event waiting" in alert.message
                    for alert in wrong(stream, dt.datetime.now(dt.UTC), **soon)
                )
            )
            held.set()
            until(lambda: not any(row["waiting"] for row in standings(stream)))
    finally:
        held.set()


def test_what_was_told_later_stays(stream: Stream) -> None:
    now = dt.datetime(2026, 1, 31, 12, tzinfo=dt.UTC)
    with open_results(stream.results, root=stream.root) as db:
        consumed(db, "tips", "rides", [Standing(0, 5, now, now)])
        consumed(db, "tips", "rides", [Standing(0, 9, now, now - MINUTE)])
    (row,) = standings(stream)
    assert row["waiting"] == 5
