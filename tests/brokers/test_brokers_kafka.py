"""What only Kafka has: settings passed through, logins, a broker that goes and comes back."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from confluent_kafka import ConsumerGroupState
from confluent_kafka.admin import AdminClient

from support.events import Remembers, everything, fill, flush, take, values_of
from support.kafka import GUEST, PASSWORD, KafkaServer
from trivet.brokers import connect
from trivet.errors import BrokerError, BrokerUnavailable, MissingExtra, NotAuthorized


def test_settings_of_tls_and_a_login_are_passed_on(kafka: KafkaServer) -> None:
    broker = connect(kafka.secure_url())
    topic = kafka.new_name()
    broker.create(topic)
    fill(broker, topic, [b"v"])
    member = broker.member(topic, "group", Remembers())
    assert values_of(take(member, 1)) == [b"v"]
    member.close()
    broker.close()


def test_a_wrong_password_is_told_and_not_printed(kafka: KafkaServer) -> None:
    broker = connect(kafka.secure_url(password="wrong-secret"))
    with pytest.raises(BrokerError, match="uthentication") as told:
        broker.topics()
    assert not isinstance(told.value, BrokerUnavailable)
    assert "wrong-secret" not in str(told.value)


def test_what_an_account_may_not_do_is_told(kafka: KafkaServer) -> None:
    topic = kafka.new_name()
    owner, guest = connect(kafka.url), connect(kafka.secure_url(GUEST))
    owner.create(topic)
    for act in (
        lambda: guest.create(kafka.new_name()),
        lambda: guest.delete(topic),
        lambda: guest.delete_group("group"),
        lambda: guest.lag(topic, "group"),
        lambda: guest.member(topic, "group", Remembers()),
        lambda: guest.appender(transaction="transaction"),
    ):
        with pytest.raises(NotAuthorized, match="AUTHORIZATION_FAILED"):
            act()
    assert topic in owner.topics()
    owner.close()
    guest.close()


def test_a_broker_that_nobody_vouches_for_is_not_trusted(
    kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trivet.brokers.kafka._CALL_SECONDS", 5.0)
    broker = connect(kafka.secure_url(ssl_ca_location=""))
    with pytest.raises(BrokerError, match="certificate verify failed") as told:
        broker.topics()
    assert PASSWORD not in str(told.value)
    assert quote(PASSWORD) not in str(told.value)
    broker.close()


def test_a_certificate_of_another_host_is_not_trusted(
    kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trivet.brokers.kafka._CALL_SECONDS", 5.0)
    broker = connect(kafka.secure_url().replace("127.0.0.1", "localhost"))
    with pytest.raises(BrokerError, match="certificate"):
        broker.topics()
    broker.close()


def test_a_listener_that_speaks_tls_only_is_told(
    kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trivet.brokers.kafka._CALL_SECONDS", 5.0)
    broker = connect(f"kafka://{kafka.secure_address}")
    with pytest.raises(BrokerUnavailable, match="kafka://127"):
        broker.topics()
    broker.close()


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("kafka://", "write kafka://host:9092"),
        ("kafka://me:secret@host:9092", "sasl.username"),
        ("kafka://host:9092?group.id=x", "leave out group.id"),
        ("kafka://host:9092?no.such.thing=1", "no.such.thing"),
        ("kafka://host:9092?session.timeout.ms=soon", "session.timeout.ms"),
    ],
)
def test_a_url_that_cannot_be_used_is_explained(url: str, told: str) -> None:
    with pytest.raises(BrokerError, match=told) as error:
        connect(url)
    assert "secret" not in str(error.value)


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trivet.brokers.kafka", None)
    with pytest.raises(MissingExtra, match=r"trivet\[kafka\]"):
        connect("kafka://host:9092", Path())


def test_a_header_without_a_possible_name_is_refused(kafka: KafkaServer) -> None:
    broker = connect(kafka.url)
    topic = kafka.new_name()
    broker.create(topic)
    appender = broker.appender()
    with pytest.raises(BrokerError, match="NUL"):
        appender.append(topic, b"k", b"v", (("a\0b", b""),))
    appender.close()


def test_a_broker_that_dies_and_comes_back_costs_nothing(
    own_kafka: KafkaServer, until: Callable[[Callable[[], bool]], None]
) -> None:
    broker = connect(own_kafka.url)
    broker.create("topic", 2)
    fill(broker, "topic", [b"1"])
    member = broker.member("topic", "group", Remembers())
    take(member, 1)
    member.commit({0: 0})
    appender = broker.appender()
    appender.append("topic", b"k", b"2")
    flush(appender)
    own_kafka.stop(immediate=True)
    appender.append("topic", b"k", b"3")
    assert appender.flush(0.1) == 1
    own_kafka.start()
    flush(appender)

    found: list[bytes | None] = []

    def came() -> bool:
        try:
            found.extend(values_of(member.poll(10, 0.1)))
        except BrokerUnavailable:
            return False
        return b"3" in found

    until(came)
    assert found == [b"2", b"3"]
    assert sorted(
        value for events in everything(broker, "topic").values() for _, value, _ in events if value
    ) == [b"1", b"2", b"3"]
    appender.close()
    member.close()
    broker.close()


def test_how_far_groups_are_behind_is_told_again_after_a_restart(
    own_kafka: KafkaServer,
    until: Callable[[Callable[[], bool]], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broker = connect(own_kafka.url)
    broker.create("topic", 4)
    monkeypatch.setattr("trivet.brokers.kafka._CALL_SECONDS", 1.0)  # some give up waiting
    over, answers, refused = threading.Event(), list[int](), list[BrokerError]()

    def look(group: str) -> None:
        while not over.is_set():
            try:
                answers.append(sum(lag.events for lag in broker.lag("topic", group)))
            except BrokerUnavailable:
                continue
            except BrokerError as error:
                refused.append(error)

    def answer_on() -> None:
        enough = len(answers) + 20
        until(lambda: len(answers) >= enough)

    watchers = [threading.Thread(target=look, args=(f"group {n}",)) for n in range(3)]
    for watcher in watchers:
        watcher.start()
    answer_on()
    own_kafka.restart()
    answer_on()
    over.set()
    for watcher in watchers:
        watcher.join()
    assert not refused
    assert set(answers) == {0}
    broker.close()


def test_a_member_closes_whose_name_was_taken_while_it_did_not_look(
    kafka: KafkaServer, until: Callable[[Callable[[], bool]], None]
) -> None:
    """It has a fatal error then, and a rebalance that it has not heard of."""
    broker, topic, group = connect(kafka.url), kafka.new_name(), kafka.new_name("group")
    admin = AdminClient({"bootstrap.servers": kafka.address})
    broker.create(topic)
    fill(broker, topic, [b"1"])

    def has_settled(members: int) -> bool:
        found = admin.describe_consumer_groups([group])[group].result(30)
        return found.state == ConsumerGroupState.STABLE and len(found.members) == members

    taken = broker.member(topic, group, Remembers(), instance="a")
    take(taken, 1)
    other = broker.member(topic, group, Remembers(), instance="b")

    def is_shared_out() -> bool:
        other.poll(1, 0.05)
        return has_settled(2)

    until(is_shared_out)
    again = broker.member(topic, group, Remembers(begin={0: 0}), instance="a")
    take(again, 1)
    with pytest.raises(BrokerError):
        taken.commit({0: 1})
    closing = threading.Thread(target=taken.close, daemon=True)
    closing.start()
    closing.join(60)
    assert not closing.is_alive()
    taken.close()  # which nothing is left to do for
    for member in (other, again):
        member.close()
    broker.close()


def test_nobody_there_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trivet.brokers.kafka._CALL_SECONDS", 0.1)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    broker = connect(f"kafka://127.0.0.1:{port}")
    with pytest.raises(BrokerUnavailable, match="kafka://127"):
        broker.topics()
