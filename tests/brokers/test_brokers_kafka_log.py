"""What librdkafka logs: each kind of line is told once, and again after a while."""

from __future__ import annotations

import logging
import socket

import pytest

from trivet import brokers
from trivet.brokers.kafka_log import AGAIN_SECONDS, KafkaLog
from trivet.errors import BrokerUnavailable

REFUSED = "[thrd:{0}:9092/bootstrap]: {0}:9092/bootstrap: Connect to ipv4#{0}:9092 failed: refused "


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> logging.Logger:
    caplog.set_level(logging.DEBUG, "test.kafka")
    return logging.getLogger("test.kafka")


def test_the_first_line_of_a_kind_is_told_and_the_others_are_counted(
    log: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    now = 0.0
    kafka = KafkaLog(log, lambda: now)
    for host in ("10.0.0.1", "10.0.0.2"):
        for client in range(1, 30):
            line = REFUSED.format(host) + f"(after {client}ms in state CONNECT, {client} identical)"
            kafka.log(logging.ERROR, "%s [%s] %s", "FAIL", f"rdkafka#consumer-{client}", line)
            kafka.log(logging.ERROR, "%s [%s] %s", "ERROR", f"rdkafka#producer-{client}", "down")
    told = [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]
    assert len(told) == 3
    assert len(caplog.records) == 2 * 2 * 29  # the rest at debug
    assert [line.split()[0] for line in told] == ["FAIL", "ERROR", "FAIL"]
    assert "10.0.0.2:9092 failed: refused" in told[2]
    caplog.clear()
    now = AGAIN_SECONDS
    kafka.log(logging.ERROR, "%s [%s] %s", "ERROR", "rdkafka#consumer-1", "down")
    [again] = caplog.records
    assert again.levelno == logging.ERROR
    assert again.getMessage().endswith("down (57 more like it since the last)")


def test_many_kinds_are_not_remembered_for_ever(
    log: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    kafka = KafkaLog(log, lambda: 0.0)
    for number in [*range(600), 599, 0]:
        kafka.log(logging.WARNING, f"kind {number}%")
    assert [r.levelno for r in caplog.records[-2:]] == [logging.DEBUG, logging.WARNING]


def test_the_cause_is_in_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only that there was no answer in time."""
    monkeypatch.setattr("trivet.brokers.kafka._CALL_SECONDS", 0.1)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        broker = brokers.connect(f"kafka://127.0.0.1:{closed.getsockname()[1]}")
        with pytest.raises(BrokerUnavailable, match="Connection refused"):
            broker.topics()
        broker.close()
