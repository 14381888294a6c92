"""Events scored: into the results, into topics, and those that cannot be."""

from __future__ import annotations

from support.streams import Stream, event, wait_until


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
    assert running.counted("trivet_stream_events_total", outcome="scored") == 1000
