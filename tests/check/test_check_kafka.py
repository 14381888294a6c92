"""`trivet check` on a real Kafka: the project's broker, its logins and rights, and leftovers."""

from __future__ import annotations

import datetime as dt
import json
import math
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
import tomli_w
from click.testing import CliRunner
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    AdminClient,
    ResourcePatternType,
    ResourceType,
)

import trivet
from support.events import Remembers, fill, take
from support.kafka import GUEST, KafkaServer
from support.toy import Toy
from trivet import brokers
from trivet.brokers.base import Broker
from trivet.brokers.kafka_appender import KafkaAppender
from trivet.brokers.kafka_member import KafkaMember
from trivet.check import try_broker
from trivet.check.own_topics import OLD, PREFIX, new_name
from trivet.cli import trivet as command
from trivet.settings import load_project

STREAMS: dict[str, Any] = {
    "kept": {"model": "toy", "topic": "a", "key": ["order"]},
    "sent": {
        "model": "toy",
        "topic": "a",
        "key": ["order"],
        "format": "json",
        "output": "scores",
        "results": False,
    },
}


def write(root: Path, broker: str, results: str, streams: dict[str, Any] = STREAMS) -> Path:
    trivet.save(Toy(), root / "models", name="toy", version="1")
    document: dict[str, Any] = {
        "broker": {"url": broker},
        "results": {"url": results},
        "models": {"toy": {"uri": "models/toy", "trust": True}},
        "stream": streams,
    }
    (root / "trivet.toml").write_text(tomli_w.dumps(document), encoding="utf-8")
    return root


def check(root: Path, *options: str) -> tuple[int, dict[str, Any]]:
    done = CliRunner().invoke(command, ["-f", str(root), "check", "--json", *options])
    assert "Traceback" not in done.output
    return done.exit_code, json.loads(done.stdout)


@pytest.fixture(autouse=True)
def _few_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs a transaction of Kafka's."""
    monkeypatch.setattr("trivet.check.sample.ROWS", 8)


@pytest.fixture
def broker(kafka: KafkaServer) -> Iterator[Broker]:
    with closing(brokers.connect(kafka.url)) as broker:
        yield broker


def left(broker: Broker) -> list[str]:
    return [topic for topic in broker.topics() if topic.startswith(PREFIX)]


def groups(kafka: KafkaServer) -> list[str]:
    admin = AdminClient({"bootstrap.servers": kafka.address})
    found = admin.list_consumer_groups().result(30).valid
    return [group.group_id for group in found if group.group_id.startswith(PREFIX)]


def ways(told: dict[str, Any], *, hold: bool) -> set[str]:
    streams = [v for v in told["parity"] if v["deployment"].startswith("stream.")]
    return {v["way"].partition(",")[0] for v in streams if v["holds"] is hold}


def test_a_row_gets_one_answer_on_the_projects_own_kafka(
    tmp_path: Path, kafka: KafkaServer, broker: Broker, results_url: str
) -> None:
    code, told = check(write(tmp_path, kafka.secure_url(), results_url))
    assert {f["state"] for f in told["findings"]} == {"ok", "warning"}, told["findings"]
    topics = {f["where"]: (f["state"], f["what"]) for f in told["findings"]}
    lacking = "there is no topic 'a' yet, and the stream does not start without it"
    assert topics["[stream.kept] topic"][0] == "warning"
    assert topics["[stream.kept] topic"][1].startswith(lacking)
    assert topics["[stream.sent] output"][0] == "ok"
    kind = results_url.partition(":")[0]
    assert not [v for v in told["parity"] if not v["holds"]]
    assert ways(told, hold=True) == {
        "embedded to sqlite",
        f"embedded to {kind}",
        "embedded to topic",
        f"kafka to {kind}",
        "kafka to topic",
    }
    assert code == 0
    rows = {v["way"]: v["rows"] for v in told["parity"]}
    assert rows["kafka to topic, alone"] == rows["embedded to sqlite, alone"] > 20
    assert not left(broker)
    assert not groups(kafka)


def nudged(value: bytes | None, field: str) -> bytes | None:
    """Move a number of an event by one unit in the last place."""
    told = json.loads(value or b"null")
    row = told if field in told else told["data"]
    if isinstance(row[field], float) and math.isfinite(row[field]):
        row[field] = math.nextafter(row[field], math.inf)
    return json.dumps(told, ensure_ascii=False).encode("utf-8", "replace")


@pytest.mark.parametrize("where", ["read", "sent"])
def test_a_disagreement_planted_on_kafka_is_found(
    tmp_path: Path,
    kafka: KafkaServer,
    broker: Broker,
    sqlite_url: str,
    monkeypatch: pytest.MonkeyPatch,
    where: str,
) -> None:
    """One unit in the last place of what is read or sent; a dead letter with another code."""
    columns, append = KafkaMember._columns, KafkaAppender.append

    def read(self: KafkaMember, messages: Any) -> Any:
        found = columns(self, messages)
        for each in found:
            each.values[:] = [nudged(v, "a") for v in each.values]  # type: ignore[index]
        return found

    def sent(self: KafkaAppender, topic: str, key: Any, value: Any, *more: Any) -> None:
        if topic.endswith(".output"):
            value = nudged(value, "score")
        if topic.endswith(".dead"):
            value = value.replace(b'"null"', b'"type"')
        append(self, topic, key, value, *more)

    if where == "read":
        monkeypatch.setattr(KafkaMember, "_columns", read)
    else:
        monkeypatch.setattr(KafkaAppender, "append", sent)
    code, told = check(write(tmp_path, kafka.url, sqlite_url))
    assert code == 1
    blamed = {"kafka to topic"} if where == "sent" else {"kafka to topic", "kafka to sqlite"}
    assert ways(told, hold=False) == blamed
    assert ways(told, hold=True) >= {"embedded to sqlite", "embedded to topic"}
    differs = [v["what"] for v in told["parity"] if not v["holds"]]
    assert all("predictions, by" in what for what in differs)
    assert where == "read" or all("; rejects of" in what for what in differs)
    assert not left(broker)


def test_an_account_without_rights_is_told_which_to_grant(
    tmp_path: Path, kafka: KafkaServer, broker: Broker, sqlite_url: str
) -> None:
    root = write(tmp_path, kafka.secure_url(GUEST), sqlite_url, {"sent": STREAMS["sent"]})
    code, told = check(root)
    [error] = [f for f in told["findings"] if f["state"] == "error"]
    assert error["where"] == "[broker] url"
    assert "TOPIC_AUTHORIZATION_FAILED" in error["what"]
    assert "begin with 'trivet-check-'" in error["what"]
    assert "--embedded-broker" in error["what"]
    assert (code, told["holds"]) == (1, False)
    assert ways(told, hold=True) == {"embedded to sqlite", "embedded to topic"}

    code, told = check(root, "--embedded-broker")
    [warning] = [f for f in told["findings"] if "--embedded-broker" in f["what"]]
    assert (code, warning["state"]) == (0, "warning")
    assert ways(told, hold=True) == {"embedded to sqlite", "embedded to topic"}

    with granted(kafka, ResourceType.TOPIC, ResourceType.GROUP):
        code, told = check(root)
        assert code == 1
        for what in (v["what"] for v in told["parity"] if not v["holds"]):
            assert "TRANSACTIONAL_ID_AUTHORIZATION_FAILED" in what
            assert "transactional ids that begin with 'trivet-check-'" in what
        assert ways(told, hold=False) == {"kafka to topic"}

    with granted(kafka, ResourceType.TOPIC, ResourceType.GROUP, ResourceType.TRANSACTIONAL_ID):
        code, told = check(root)
        assert not [v["what"] for v in told["parity"] if not v["holds"]]
        assert (code, told["holds"]) == (0, True)
    assert not left(broker)
    assert not groups(kafka)  # a worker that was refused has left its own


@contextmanager
def granted(kafka: KafkaServer, *kinds: ResourceType) -> Iterator[None]:
    """Grant the rights that the documentation names."""
    admin = AdminClient({"bootstrap.servers": kafka.address})
    what = (f"User:{GUEST}", "*", AclOperation.ALL, AclPermissionType.ALLOW)
    made = [AclBinding(kind, PREFIX, ResourcePatternType.PREFIXED, *what) for kind in kinds]
    for done in admin.create_acls(made).values():
        done.result(30)
    try:
        yield
    finally:
        whose: Any = (f"User:{GUEST}", None, AclOperation.ANY, AclPermissionType.ANY)
        anything: Any = (ResourceType.ANY, None, ResourcePatternType.ANY)
        any_of = AclBindingFilter(*anything, *whose)
        for gone in admin.delete_acls([any_of]).values():
            gone.result(30)


def test_what_a_killed_check_left_is_swept(
    tmp_path: Path, kafka: KafkaServer, broker: Broker, sqlite_url: str
) -> None:
    now = dt.datetime.now(dt.UTC)
    old, young = new_name(now - OLD - dt.timedelta(seconds=2)), new_name(now)
    foreign = [f"{PREFIX}list", f"{PREFIX}20269901t000000-00000000", f"{old}.backup"]
    for topic in (old, f"{old}.output", f"{old}.dead", young, *foreign):
        broker.create(topic)
    fill(broker, old, [b"v"])
    member = broker.member(old, old, Remembers())
    take(member, 1)
    member.commit({0: 1})
    member.close()
    project = load_project(write(tmp_path, kafka.url, sqlite_url), {})
    try:
        told = [(f.state, f.what.partition(":")[0]) for f in try_broker(project, now)]
        assert told[1:] == [("ok", "deleted what a check left that was killed")]
        assert set(left(broker)) == {young, *foreign}
        assert old not in groups(kafka)
        assert len(list(try_broker(project, now))) == 1
    finally:
        for topic in (young, *foreign):
            broker.delete(topic)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_check_that_is_stopped_cleans_up_if_it_can(
    tmp_path: Path,
    kafka: KafkaServer,
    broker: Broker,
    sqlite_url: str,
    until: Callable[[Callable[[], bool]], None],
    how: signal.Signals,
) -> None:
    root = write(tmp_path, kafka.url, sqlite_url, {"sent": STREAMS["sent"]})
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "trivet", "--file", str(root), "check"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )

    def is_at_work() -> bool:
        """Stop it where it has a topic with an output beside it."""
        assert process.poll() is None, "it ended too soon"
        if not any(topic.endswith(".dead") for topic in left(broker)):
            return False
        process.send_signal(signal.SIGSTOP)
        if any(topic.endswith(".dead") for topic in left(broker)):
            return True
        process.send_signal(signal.SIGCONT)
        return False

    until(is_at_work)
    process.send_signal(how)
    process.send_signal(signal.SIGCONT)
    _, told = process.communicate(timeout=60)
    assert "Traceback" not in told
    if how is signal.SIGKILL:
        assert left(broker)
        project = load_project(root, {})
        later = dt.datetime.now(dt.UTC) + OLD + dt.timedelta(minutes=1)
        until(lambda: all(f.state == "ok" for f in try_broker(project, later)))
    else:
        assert process.returncode == 128 + how
    assert not left(broker)
