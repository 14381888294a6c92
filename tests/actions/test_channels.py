"""Real receivers: what arrives, what is refused, what is tried again."""

from __future__ import annotations

import datetime as dt
import fcntl
import ipaddress
import socket
import ssl
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import pytest
import trustme

from support.campaigns import Campaign, MailServer, Receiver, interval_of
from support.deployments import day
from trivet.actions.channels import Message
from trivet.actions.channels.file import Folder
from trivet.actions.channels.webhook import Webhook, is_public
from trivet.actions.targets import Target
from trivet.errors import ActionError, DeliveryDelayed, DeliveryRefused

MAIL = {"sender": "Shop <shop@example.com>", "address": "email"}
MESSAGE = Message("k1", "offer", interval_of(1), {"customer_id": 1}, {"score": 1.0})


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    return Campaign(tmp_path, now=day(2) + dt.timedelta(hours=1))


def decided(campaign: Campaign, count: int = 3) -> list[int]:
    ids = campaign.day(1, count)
    campaign.acting().decide(interval_of(1), cause="manual")
    return ids


def test_a_mail_has_all_its_parts(campaign: Campaign) -> None:
    with MailServer() as server:
        campaign.set(deliver=server.url, **MAIL)
        campaign.customers(1, first_name="Zoë", email="zoe@example.com")
        campaign.add([{"trip_id": 1, "a": 1.0, "n": 0, "city": "nice", "note": "", "at": day(1)}])
        campaign.score(1)
        action = campaign.acting()
        action.decide(interval_of(1), cause="manual")
        assert action.deliver().states == {"sent": 1}
    (mail,) = (message_from_bytes(raw, policy=policy.default) for raw in server.mails)
    assert mail["From"] == "Shop <shop@example.com>"
    assert mail["To"] == "zoe@example.com"
    assert mail["Subject"] == "An offer for Zoë"
    assert mail["Auto-Submitted"] == "auto-generated"
    (row,) = campaign.rows("SELECT id FROM trivet_deliveries")
    assert mail["Message-ID"] == f"<{row['id']}@example.com>"
    text, html = mail.iter_parts()
    assert text.get_content_type() == "text/plain"
    assert text.get_content().startswith("Dear Zoë, your score is **2.0**")
    assert html.get_content().startswith("<p>Dear Zoë, your score is <strong>2.0")


def test_refused_addresses_bounce_and_no_reason_quotes_one(
    campaign: Campaign, caplog: pytest.LogCaptureFixture
) -> None:
    with MailServer() as server:
        campaign.set(deliver=server.url, retries=3, **MAIL)
        ids = decided(campaign, 4)
        server.answers = {
            f"c{ids[0]}@example.com": f"550 5.1.1 <c{ids[0]}@example.com> unknown",
            f"c{ids[1]}@example.com": "450 4.2.1 mailbox busy",
        }
        campaign.change(
            f"UPDATE customers SET email = 'x@y.z' || char(10) || 'Bcc: a@b.c' "
            f"WHERE customer_id = {ids[2]}"
        )
        tally = campaign.acting().deliver()
        assert tally.states == {"bounced": 2, "pending": 3, "failed": 1, "sent": 1}
        assert server.recipients == [f"c{ids[3]}@example.com"]
    assert campaign.states() == ["bounced", "failed", "bounced", "sent"]
    assert campaign.reasons() == [
        "SMTP 550 5.1.1",
        "SMTP 450 4.2.1, 4 times",
        "the address is not one",
        "",
    ]
    assert "example.com" not in caplog.text


def test_a_mail_that_is_refused_as_such_fails(campaign: Campaign) -> None:
    with MailServer() as server:
        campaign.set(deliver=server.url, retries=1, **MAIL)
        decided(campaign)
        server.data = ["554 5.7.1 spam", "451 4.3.0 later", "421 4.3.2 going"]
        campaign.acting().deliver()
        assert len(server.mails) == 2
    assert campaign.states() == ["failed", "sent", "sent"]
    assert campaign.reasons()[0] == "SMTP 554 5.7.1"


def test_a_contact_without_an_address_column_is_a_mistake_of_the_settings(
    campaign: Campaign,
) -> None:
    with MailServer() as server:
        campaign.set(deliver=server.url, sender="shop@example.com", address="mail")
        decided(campaign)
        with pytest.raises(ActionError, match="no column 'mail' for the address"):
            campaign.acting().deliver()
    assert campaign.states() == ["pending"] * 3


def test_a_mail_server_that_is_away_delays(campaign: Campaign) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # it does not listen
        port = bound.getsockname()[1]
        campaign.set(deliver=f"smtp://127.0.0.1:{port}", retry_delay="1h", **MAIL)
        decided(campaign, 7)
        tally = campaign.acting().deliver()
    assert tally.down
    assert tally.states == {"pending": 5}
    assert campaign.states() == ["pending"] * 7
    assert campaign.acting().deliver().states == {}  # all of them rest
    wait = campaign.acting().seconds_until_next()
    assert wait is not None
    assert 3500 < wait <= 3600


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"sender": "nobody"}, "is no address"),
        ({"deliver": "smtp://u:p@127.0.0.1:{port}"}, "takes no password"),
    ],
)
def test_mail_settings_that_cannot_work(
    campaign: Campaign, change: dict[str, str], words: str
) -> None:
    with MailServer() as server:
        port = server.url.rpartition(":")[2]
        settings = {"deliver": server.url, **MAIL} | change
        campaign.set(**{name: value.format(port=port) for name, value in settings.items()})
        decided(campaign)
        with pytest.raises(ActionError, match=words):
            campaign.acting().deliver()
    assert campaign.states() == ["pending"] * 3


def test_a_webhook_gets_the_key_with_every_try(campaign: Campaign) -> None:
    with Receiver([503, 500, 200, 422, 200]) as receiver:
        campaign.set(deliver=receiver.url, allow_private=True, token="s3cret", retry_for="10s")
        ids = decided(campaign)
        assert campaign.acting().deliver().states == {"sent": 2, "failed": 1}
    assert len(receiver.requests) == 5
    assert len(set(receiver.keys)) == 3
    assert receiver.keys[0] == receiver.keys[1] == receiver.keys[2]
    headers, body = receiver.requests[0]
    assert headers["Authorization"] == "Bearer s3cret"
    assert body["id"] == headers["Idempotency-Key"]
    assert body["key"] == {"customer_id": ids[0]}
    assert body["contact"]["first_name"] == f"N{ids[0]}"
    assert campaign.states() == ["sent", "failed", "sent"]
    assert campaign.reasons()[1] == "HTTP 422"


def test_a_receiver_that_never_takes_one_is_given_up(campaign: Campaign) -> None:
    with Receiver([500] * 3) as receiver:
        campaign.set(deliver=receiver.url, allow_private=True, retries=2)
        decided(campaign, 1)
        assert campaign.acting().deliver().states == {"pending": 2, "failed": 1}
    assert campaign.reasons() == ["HTTP 500, 3 times"]


def test_redirects_are_refused_and_a_receiver_is_heard_that_asks_to_wait(
    campaign: Campaign,
) -> None:
    headers = {"Location": "http://127.0.0.1/", "Retry-After": "120"}
    with Receiver([302, 429], headers) as receiver:
        campaign.set(deliver=receiver.url, allow_private=True, retry_for="30s")
        decided(campaign, 2)
        assert campaign.acting().deliver().states == {"failed": 1, "pending": 1}
    assert campaign.reasons() == ["HTTP 302; redirects are not followed", "HTTP 429"]
    wait = campaign.acting().seconds_until_next()
    assert wait is not None
    assert 60 < wait <= 120


def test_a_private_network_needs_leave(campaign: Campaign) -> None:
    with Receiver() as receiver:
        port = receiver.url.split(":")[2]
        campaign.set(deliver=f"https://localhost:{port}")
        decided(campaign)
        with pytest.raises(ActionError, match="on a private network; write allow_private = true"):
            campaign.acting().deliver()
        assert receiver.requests == []
    assert campaign.states() == ["pending"] * 3


def test_a_name_that_changes_its_mind_is_not_asked_twice() -> None:
    """DNS rebinding: the address that is checked is the address that is asked."""
    with Receiver() as receiver:
        port = int(receiver.url.split(":")[2].partition("/")[0])
        answers = [["127.0.0.1"], ["203.0.113.9", "10.0.0.1"], ["169.254.169.254"]]
        target = Target.of(f"http://offers.example.com:{port}/x?y=1")
        asked: list[str] = []

        def resolve(host: str, _port: int) -> list[str]:
            asked.append(host)
            return answers[len(asked) - 1]

        hook = Webhook(target, "", allow_private=True, resolve=resolve)
        hook.send([MESSAGE])
        assert receiver.requests[0][0]["Host"] == f"offers.example.com:{port}"
        strict = Webhook(target, "", allow_private=False, resolve=resolve)
        for _ in range(2):
            with pytest.raises(ActionError, match="private network"):
                strict.send([MESSAGE])
        assert asked == ["offers.example.com"] * 3
        hook.close()
        strict.close()


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.1.1", False),
        ("::1", False),
        ("fe80::1", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:8.8.8.8", True),
        ("64:ff9b::a00:1", False),
        ("64:ff9b::808:808", True),
        ("2002:a00:1::1", False),
    ],
)
def test_which_addresses_are_of_the_open_internet(address: str, public: bool) -> None:
    assert is_public(ipaddress.ip_address(address)) is public


@pytest.fixture
def tls_receiver() -> Any:
    """Give the port of an HTTPS server for hook.example.com, and its authority."""
    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("hook.example.com").configure_cert(context)
    receiver = Receiver()
    receiver.secure(context)
    with receiver:
        yield receiver, authority


def test_tls_is_held_against_the_name_and_not_the_address(
    tls_receiver: tuple[Receiver, trustme.CA], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    receiver, authority = tls_receiver
    port = int(receiver.url.split(":")[2].partition("/")[0])
    bundle = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(str(bundle))
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))

    def here(_host: str, _port: int) -> list[str]:
        return ["127.0.0.1"]

    for host, arrives in (("hook.example.com", True), ("other.example.com", False)):
        target = Target.of(f"https://user:p%40ss@{host}:{port}")
        hook = Webhook(target, "", allow_private=True, resolve=here)
        if arrives:
            hook.send([MESSAGE])
        else:
            with pytest.raises(DeliveryDelayed, match=r"other\.example\.com: ConnectError"):
                hook.send([MESSAGE])
        hook.close()
    ((headers, _),) = receiver.requests
    assert headers["Authorization"] == "Basic dXNlcjpwQHNz"


def test_a_name_that_does_not_resolve_delays() -> None:
    def nowhere(_host: str, _port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    hook = Webhook(Target.of("https://x.invalid/"), "", allow_private=False, resolve=nowhere)
    with pytest.raises(DeliveryDelayed, match="Name or service not known"):
        hook.send([MESSAGE])
    hook.close()


def test_a_folder_gets_one_whole_file_a_delivery(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "a" / "b")
    for _ in range(2):
        folder.send([MESSAGE])
    folder.close()
    (file,) = (tmp_path / "a" / "b").iterdir()
    assert file.name == "k1.json"
    assert file.read_bytes() == MESSAGE.payload()


def test_what_a_killed_process_had_begun_to_write_is_removed(tmp_path: Path) -> None:
    left, held = tmp_path / ".draft-left", tmp_path / ".draft-held"
    folder = Folder(tmp_path)
    with held.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        left.write_text("half")
        folder.send([MESSAGE])
        folder.close()
        assert {each.name for each in tmp_path.iterdir()} == {"k1.json", held.name}
    folder.close()
    assert [each.name for each in tmp_path.iterdir()] == ["k1.json"]


def test_a_folder_that_is_none_delays(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("")
    with pytest.raises(DeliveryDelayed, match="a: "):
        Folder(tmp_path / "a").send([MESSAGE])


@pytest.mark.parametrize(
    ("asked", "least", "most"),
    [("120", 120, 120), ("99999999", 3600, 3600), ("soon", 0, 0), ("", 0, 0)],
)
def test_how_long_a_receiver_asks_to_wait(asked: str, least: float, most: float) -> None:
    with Receiver([503], {"Retry-After": asked}) as receiver:
        hook = Webhook(Target.of(receiver.url), "", allow_private=True)
        with pytest.raises(DeliveryDelayed) as caught:
            hook.send([MESSAGE])
        hook.close()
    assert least <= caught.value.after <= most


def test_refusals_are_told_apart() -> None:
    assert DeliveryRefused("x", bounced=True).bounced
    assert not DeliveryRefused("x").bounced
