"""Events scored: into the results, into topics, and those that cannot be."""

from __future__ import annotations

import base64
import datetime as dt
import json
import threading
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from support.streams import NOW, Stream, Tips, event, in_order, wait_until
from trivet import brokers
from trivet.errors import OffsetGone, PredictionError, ResultsError
from trivet.hosts.stream import consumer, pipeline
from trivet.results.layout import open_results
from trivet.results.offsets import offsets, place
from trivet.schema import Field, Schema


def outcome(running: Any, name: str) -> float:
    return float(running.counted("trivet_stream_events_total", outcome=name))


def test_events_are_scored_into_the_results(stream: Stream) -> None:
    stream.publish(*(event(n) for n in range(1000)))
    with stream.running() as running:
        wait_until(lambda: stream.count() == 1000, [running])
    assert running.error is None
    tips = stream.tips()
    assert tips == {str(n): (n % 500) * 0.1 for n in range(1000)}
    assert stream.lag() == 0
    row = stream.rows("SELECT * FROM tips WHERE ride = '7'")[0]
    assert (row["source"], row["id"], row["seq"]) == ("/backend", "ride-7", "7")
    assert (row["model_name"], row["model_version"]) == ("tip", "1")
    told = stream.rows("SELECT kind, model, view_name FROM trivet_deployments")
    assert told == [{"kind": "stream", "model": "tip", "view_name": "tips"}]
    assert outcome(running, "scored") == 1000
    assert running.counted("trivet_stream_latency_seconds_count") == 1000
    assert running.counted("trivet_stream_rebalances_total", what="assigned") == 3


def test_a_stopped_stream_goes_on_where_it_was(stream: Stream) -> None:
    stream.publish(*(event(n) for n in range(100)))
    with stream.running() as running:
        wait_until(lambda: stream.count() == 100, [running])
    stream.publish(*(event(n) for n in range(100, 300)))
    with stream.running(max_batch=17) as running:
        wait_until(lambda: stream.count() == 300, [running])
    assert outcome(running, "scored") == 200
    assert outcome(running, "duplicate") == 0
    rows = [int(row["seq"]) for row in stream.rows("SELECT seq FROM predictions_tips")]
    assert in_order([{"key": seq % 100 % 7, "seq": seq} for seq in rows[:100]], "key", "seq")


def test_an_event_that_comes_twice_counts_once(stream: Stream) -> None:
    stream.publish(event(1), event(2), event(1), event(1, fare=5))
    with stream.running() as running:
        wait_until(lambda: outcome(running, "duplicate") == 2, [running])
        wait_until(lambda: stream.count() == 2, [running])  # each partition in its own time
    assert stream.tips() == {"1": 0.1, "2": 0.2}


def test_what_cannot_be_scored_is_a_dead_letter_and_the_rest_goes_on(stream: Stream) -> None:
    bombs = [b"[" * 100_000, b'{"a":' * 50_000, b"9" * 10_000]
    bad = [
        b"\xff\xfe",
        b"{",
        b'{"specversion":"1.0"}',
        event(1, fare="much"),
        event(2, fare=-1),
        event(3, fare=None),
        event(4, ce_id=""),
        event(5, fare=666),
        event(6, ce_data=[1]),
        event(7, zone="x" * 2**21),
        *bombs,
    ]
    good = [event(n) for n in range(100, 160)]
    stream.publish(*good[:30], *bad, *good[30:])
    with stream.running(types=("ride",)) as running:
        wait_until(lambda: outcome(running, "rejected") == len(bad), [running])
        wait_until(lambda: stream.count() == 60, [running])
    assert running.error is None
    told = stream.rows("SELECT id, field, code, reason FROM trivet_rejects")
    codes = {(r["id"], r["field"], r["code"]) for r in told}
    assert {
        ("ride-1", "fare", "type"),
        ("ride-2", "fare", "range"),
        ("ride-3", "fare", "null"),
        ("ride-5", "", "model_error"),
        ("ride-6", "", "undecodable"),
    } <= codes
    assert sum(r["code"] == "undecodable" for r in told) == 9
    letters = stream.rows("SELECT * FROM trivet_dead_letters")
    assert len(letters) == len(bad)
    kept = {value for row in letters if (value := row["event_value"]) is not None}
    kept = {v.encode() if isinstance(v, str) else bytes(v) for v in kept}
    assert {b"\xff\xfe", b"{", bad[3]} <= kept
    sent = stream.read("tips.dead")
    assert len(sent) == len(bad)
    assert {e["type"] for e in sent} == {"trivet.deadletter"}
    one = next(e for e in sent if e["data"]["id"] == "ride-2")
    assert base64.b64decode(one["data"]["event_value"]) == bad[4]
    assert one["data"]["problems"][0]["code"] == "range"
    assert one["data"]["key"] == {"ride": "2"}
    assert one["id"] == f"{stream.topic()}/{one['data']['partition']}/{one['data']['offset']}"
    long = next(e for e in sent if e["data"]["event_bytes"] > 2**21)
    assert long["data"]["event_value"] is None


def test_other_types_and_tombstones_are_skipped_and_counted(stream: Stream) -> None:
    stream.publish(event(1), event(2, ce_type="other", ce_data=5), event(3))
    with stream.running(types=("ride", "trip")) as running:
        wait_until(lambda: stream.count() == 2, [running])
        wait_until(lambda: outcome(running, "skipped") == 1, [running])
    assert stream.tips() == {"1": 0.1, "3": pytest.approx(0.3)}
    assert stream.count("trivet_dead_letters") == 0


def test_events_without_a_time_have_the_broker_s(stream: Stream) -> None:
    stream.publish(event(1, ce_time=None), event(2))
    with stream.running() as running:
        wait_until(lambda: stream.count() == 2, [running])
    rows = {r["ride"]: r["event_at"] for r in stream.rows("SELECT ride, event_at FROM tips")}
    assert _moment(rows["2"]) == NOW
    assert _moment(rows["1"]) > NOW - dt.timedelta(days=4000)
    assert _moment(rows["1"]) != NOW


def _moment(value: Any) -> dt.datetime:
    moment = dt.datetime.fromisoformat(value) if isinstance(value, str) else value
    return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)


def test_plain_json_is_read_and_written_as_it_is(stream: Stream) -> None:
    rows = [{"ride": n, "fare": 10 * n, "no": f"r{n}", "at": 1_700_000_000 + n} for n in range(5)]
    rows.append({"ride": 9, "fare": 1, "at": "2026-01-01T00:00:00Z"})
    stream.publish(*(json.dumps(row).encode() for row in rows))
    json_format: dict[str, Any] = {
        "format": "json",
        "id_field": "no",
        "time_field": "at",
        "keep": (),
    }
    with stream.running(**json_format, output="tipped") as running:
        wait_until(lambda: stream.count() == 5, [running])
        wait_until(lambda: outcome(running, "rejected") == 1, [running])
    found = stream.rows("SELECT id, source, ride, tip FROM tips ORDER BY id")
    assert found[3] == {"id": "r3", "source": stream.topic(), "ride": "3", "tip": 3.0}
    sent = sorted(stream.read("tipped"), key=lambda e: e["ride"])
    assert sent[2] == {
        "ride": "2",
        "tip": 2.0,
        "trivet": {
            "id": f"{stream.topic()} r2",
            "causeid": "r2",
            "causesource": stream.topic(),
            "modelname": "tip",
            "modelversion": "1",
            "modeldigest": "1-0.1",
        },
    }


def test_plain_json_without_an_id_is_known_by_its_place(stream: Stream) -> None:
    stream.publish(*(json.dumps({"ride": n, "fare": n}).encode() for n in (1, 1, 2)))
    with stream.running(format="json", keep=()) as running:
        wait_until(lambda: stream.count() == 3, [running])
    ids = {row["id"] for row in stream.rows("SELECT id FROM tips")}
    assert len(ids) == 3
    assert all(i.startswith(f"{stream.topic()}-") for i in ids)


def test_results_and_output_events_tell_their_cause(stream: Stream) -> None:
    stream.publish(*(event(n) for n in range(200)))
    with stream.running(output="tipped") as running:
        wait_until(lambda: stream.count() == 200, [running])
    sent = stream.read("tipped")
    assert len(sent) == 200
    one = next(e for e in sent if e["causeid"] == "ride-42")
    assert one["data"] == {"ride": "42", "seq": "42", "tip": 4.2}
    assert one["id"] == "/backend ride-42"
    assert one["source"] == "/trivet/tips"
    assert (one["type"], one["modelname"], one["modelversion"]) == ("trivet.prediction", "tip", "1")


@pytest.mark.parametrize("delivery", ["transaction", "at-least-once"])
def test_into_a_topic_alone(stream: Stream, delivery: str) -> None:
    stream.publish(*(event(n) for n in range(500)), event(501, fare=-3))
    into: dict[str, Any] = {"results": False, "output": "tipped", "delivery": delivery}
    with stream.running(**into) as running:
        wait_until(lambda: outcome(running, "scored") == 500, [running])
        wait_until(lambda: outcome(running, "rejected") == 1, [running])
    wait_until(lambda: stream.lag() == 0)
    stream.publish(event(600))
    with stream.running(**into) as running:
        wait_until(lambda: outcome(running, "scored") == 1, [running])
    ids = [e["causeid"] for e in stream.read("tipped")]
    assert sorted(ids) == sorted([f"ride-{n}" for n in [*range(500), 600]])
    assert [e["data"]["id"] for e in stream.read("tips.dead")] == ["ride-501"]
    assert stream.count("trivet_dead_letters") == 1
    assert not stream.count("predictions_tips")


def test_workers_share_the_partitions_and_none_counts_twice(stream: Stream) -> None:
    stream.publish(*(event(n) for n in range(300)))
    with stream.running(1) as one, stream.running(2) as two:
        wait_until(lambda: bool(one.worker.partitions and two.worker.partitions), [one, two])
        stream.publish(*(event(n) for n in range(300, 2000)))
        wait_until(lambda: stream.count() == 2000, [one, two])
        one.stop()
        stream.publish(*(event(n) for n in range(2000, 2500)))
        wait_until(lambda: stream.count() == 2500, [two])
    assert stream.tips().keys() == {str(n) for n in range(2500)}
    assert outcome(one, "duplicate") == outcome(two, "duplicate") == 0


def test_streams_of_several_models_see_every_event(stream: Stream, tmp_path: Path) -> None:
    other = Stream(
        tmp_path,
        stream.broker,
        stream.results,
        models=[Tips(rate=0.2, version="2")],
        prefix=stream.prefix,
    )
    other.settings = {"name": "more-tips"}
    stream.publish(*(event(n) for n in range(200)))
    with stream.running() as one:
        with other.running() as two:
            wait_until(lambda: stream.count("more_tips") == 200, [one, two])
            wait_until(lambda: stream.count() == 200, [one, two])
        stream.publish(*(event(n) for n in range(200, 400)))
        wait_until(lambda: stream.count() == 400, [one])
        assert stream.count("more_tips") == 200
    with other.running() as two:
        wait_until(lambda: stream.count("more_tips") == 400, [two])
    versions = stream.rows("SELECT DISTINCT model_version FROM more_tips")
    assert versions == [{"model_version": "2"}]


def test_a_new_version_is_used_from_the_next_batch_on(stream: Stream) -> None:
    stream.publish(event(1))
    with stream.running(reload_every=dt.timedelta(milliseconds=1)) as running:
        wait_until(lambda: stream.count() == 1, [running])
        stream.models[0] = Tips(rate=0.5, version="2")
        stream.publish(event(2))
        wait_until(lambda: stream.count() == 2, [running])
    rows = stream.rows("SELECT ride, tip, model_version FROM tips ORDER BY ride")
    assert [(r["tip"], r["model_version"]) for r in rows] == [(0.1, "1"), (1.0, "2")]


def test_a_version_that_cannot_be_loaded_is_refused_and_told(
    stream: Stream, caplog: pytest.LogCaptureFixture
) -> None:
    worker = stream.worker(reload="signal")
    broken = False

    def in_use() -> Any:
        if broken:
            raise ValueError("this file is broken")
        return ready

    ready = worker._scorer.ready
    worker._scorer._in_use = in_use
    from support.streams import Running

    with Running(worker) as running:
        stream.publish(event(1))
        wait_until(lambda: stream.count() == 1, [running])
        broken = True
        worker.look()
        stream.publish(event(2))
        wait_until(lambda: stream.count() == 2, [running])
    assert "tip 1 goes on: ValueError: this file is broken" in caplog.text
    assert running.counted("trivet_stream_model_loads_total", outcome="refused") == 1


def test_a_broken_model_is_told_and_nothing_is_committed(stream: Stream) -> None:
    stream.publish(*(event(n, fare=666) for n in range(100)))
    with stream.running() as running:
        wait_until(lambda: not running.is_alive)
    assert isinstance(running.error, PredictionError)
    assert not stream.count("trivet_dead_letters")


def test_a_slow_model_costs_neither_membership_nor_memory(stream: Stream) -> None:
    go = threading.Event()
    stream.models[0] = Tips(hold=lambda: go.wait(60))
    stream.publish(event(1, fare=777), *(event(n) for n in range(2, 3000)), key=lambda _: b"k")
    with stream.running(max_queue=500, max_batch=100, max_wait=dt.timedelta()) as running:
        wait_until(lambda: running.counted("trivet_stream_paused") == 1, [running])
        assert running.worker._consumer is not None
        assert running.worker._consumer._intake.events <= 700
        go.set()
        wait_until(lambda: stream.count() == 2999, [running])
    assert outcome(running, "duplicate") == 0


def test_what_a_topic_no_longer_has_is_told_with_what_to_do(
    stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream.publish(*(event(n) for n in range(10)))
    with open_results(stream.results) as db:
        place(db, "tips", stream.topic(), {0: 0, 1: 0, 2: 0}, NOW)
    real = brokers.connect

    def trimmed(url: str, root: Path) -> Any:
        broker = real(url, root)
        whole = broker.bounds

        def bounds(topic: str) -> Any:
            return {p: (min(2, end), end) for p, (_, end) in whole(topic).items()}

        broker.bounds = bounds  # type: ignore[method-assign]
        return broker

    monkeypatch.setattr(brokers, "connect", trimmed)
    with stream.running() as running:
        wait_until(lambda: not running.is_alive)
    assert isinstance(running.error, OffsetGone)
    assert "trivet consume tips --accept-loss" in str(running.error)
    assert stream.count() == 0
    stream.accept_loss = True
    with stream.running() as running:
        wait_until(lambda: stream.count() == 10 - _skipped(stream), [running])


def _skipped(stream: Stream) -> int:
    with _connected(stream) as broker:
        return sum(min(2, end) for _, end in broker.bounds(stream.topic()).values())


def _connected(stream: Stream) -> Any:
    from contextlib import closing

    return closing(brokers.connect(stream.broker, stream.root))


def test_offsets_beyond_the_end_of_a_topic_are_told(stream: Stream) -> None:
    with open_results(stream.results) as db:
        place(db, "tips", stream.topic(), {0: 50}, NOW)
    with stream.running() as running:
        wait_until(lambda: not running.is_alive)
    assert "the topic was made anew" in str(running.error)


@pytest.mark.parametrize("start", ["latest", "moment"])
def test_where_a_new_stream_begins(stream: Stream, start: str) -> None:
    stream.publish(*(event(n) for n in range(50)))
    moment = (dt.datetime.now(dt.UTC) + dt.timedelta(milliseconds=2)).isoformat()
    wait_until(lambda: dt.datetime.now(dt.UTC).isoformat() > moment)
    begin = "latest" if start == "latest" else moment
    with stream.running(start=begin) as running:
        wait_until(lambda: len(running.worker.partitions) == 3, [running])
        stream.publish(*(event(n) for n in range(50, 80)))
        wait_until(lambda: stream.count() == 30, [running])
    assert stream.tips().keys() == {str(n) for n in range(50, 80)}


def test_a_database_that_moved_on_is_followed(stream: Stream) -> None:
    """Another worker's commit in between: the batch is rolled back and read again."""
    go = threading.Event()
    stream.models[0] = Tips(hold=lambda: go.wait(60))
    stream.publish(event(1, fare=777), event(2), event(3), key=lambda _: b"k")
    with stream.running(max_batch=3) as running:
        wait_until(lambda: running.worker.partitions == [0, 1, 2], [running])
        wait_until(lambda: _placed(stream), [running])
        partition = next(p for p, (_, end) in _bounds(stream).items() if end == 3)
        with open_results(stream.results) as db:
            db.execute(
                f"UPDATE trivet_offsets SET next_offset = 1 WHERE partition_number = {partition}"
            )
        go.set()
        wait_until(lambda: stream.count() == 2, [running])
    with open_results(stream.results) as db:
        assert offsets(db, "tips", stream.topic())[partition] == 3
    assert stream.tips().keys() == {"2", "3"}


def _placed(stream: Stream) -> bool:
    return stream.count("trivet_offsets") == 3


def _bounds(stream: Stream) -> Any:
    with _connected(stream) as broker:
        return broker.bounds(stream.topic())


class Clashing(Tips):
    """Has an output with the name of a column that every row has."""

    @property
    def outputs(self) -> Schema:
        return Schema([Field(name="scored_at", type="float64")])

    def predict(self, batch: pa.RecordBatch, /) -> pa.RecordBatch:
        return super().predict(batch).rename_columns(["scored_at"])


def test_a_column_that_clashes_ends_the_stream(stream: Stream) -> None:
    stream.models[0] = Clashing()
    stream.publish(event(1))
    with stream.running() as running:
        wait_until(lambda: not running.is_alive)
    assert isinstance(running.error, ResultsError)


def test_a_stalled_partition_is_told(
    stream: Stream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(consumer, "LOOK_SECONDS", 0.02)
    go = threading.Event()
    stream.models[0] = Tips(hold=lambda: go.wait(60))
    stream.publish(event(1, fare=777))
    with stream.running(stalled_after=dt.timedelta(milliseconds=50)) as running:
        wait_until(lambda: running.counted("trivet_stream_stalled") == 1, [running])
        assert running.counted("trivet_stream_lag_events") == 1
        go.set()
        wait_until(lambda: running.counted("trivet_stream_stalled") == 0, [running])
        wait_until(lambda: running.counted("trivet_stream_lag_events") == 0, [running])
    assert "has 1 events and has not moved" in caplog.text


def test_no_more_time_for_a_sink_that_is_away(
    stream: Stream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from trivet.errors import TransientError
    from trivet.hosts.stream.store import Store

    def away(*_: object) -> int:
        raise TransientError("it is away")

    stream.publish(event(1))
    monkeypatch.setattr(pipeline, "RETRY_SECONDS", (0.01, 0.01))
    with monkeypatch.context() as patched:
        patched.setattr(Store, "keep", away)
        with stream.running(stop_timeout=dt.timedelta(milliseconds=50)) as running:
            wait_until(
                lambda: running.counted("trivet_stream_retries_total", what="results") > 2,
                [running],
            )
        assert running.error is None
    assert "could not be kept before the end" in caplog.text
    with stream.running() as running:
        wait_until(lambda: stream.count() == 1, [running])
