"""kill -9 at random moments: nobody is forgotten, and nobody gets a second offer."""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from support.campaigns import Campaign, MailServer, Receiver
from support.deployments import day
from support.offers import Kills, Place, Processes, events, filled, kill_at_random, topic

BROKER = "sqlite:///events.db"


def short_or_soak(kind: str) -> pytest.MarkDecorator:
    """Run a test with few kills on one kind of database, and in the soak with many on each."""
    places = [pytest.param(kind, 120, 5, id=f"{kind}-short")]
    for each in ("sqlite", "postgresql"):
        places.append(pytest.param(each, 10_000, 100, id=f"{each}-soak", marks=pytest.mark.soak))
    return pytest.mark.parametrize(
        ("results_url", "offers", "kills"), places, indirect=["results_url"]
    )


@dataclass(frozen=True)
class Outcome:
    """What arrived: by customer, and by idempotency key."""

    customers: Counter[int]
    keys: Counter[str]
    kills: Kills

    def tell(self, channel: str, url: str) -> None:
        twice = self.keys.total() - len(self.keys)
        kind = url.partition(":")[0]
        print(
            f"\n{channel} on {kind}: {len(self.keys):,} offers, {self.kills.killed} kills of "
            f"{self.kills.started} processes, {twice} arrived again under the same key"
        )


@pytest.fixture(scope="module")
def processes() -> Processes:
    return Processes()


@pytest.fixture
def campaign(tmp_path: Path, results_url: str) -> Campaign:
    return Campaign(tmp_path, results=results_url, now=day(2) + dt.timedelta(hours=1))


def prepared(campaign: Campaign, offers: int, **action: object) -> Place:
    """Fill a project with candidates: one in ten is held out, and fifty are beyond the limit."""
    filled(campaign, offers + offers // 5 + 50)
    campaign.set(limit=offers, control=0.1, cooldown="30d", retry_for="5s", retries=100, **action)
    return Place(campaign.root, campaign.now, BROKER)


def longest(offers: int) -> float:
    """Return the most seconds between two kills."""
    return 0.9 if offers > 1000 else 0.4


def check(campaign: Campaign, outcome: Outcome, offers: int) -> None:
    """Hold what arrived against what was decided."""
    assert campaign.rows("SELECT count(*) AS n FROM trivet_action_runs") == [{"n": 1}]
    assert Counter(campaign.states()) == {"sent": offers}
    groups = campaign.groups()
    treated = {key for key, group in groups.items() if group == "treated"}
    control = {key for key, group in groups.items() if group == "control"}
    assert len(treated) == offers
    assert 0.05 * offers < len(control) < 0.2 * offers
    assert outcome.customers.keys() == treated  # nobody forgotten, nobody held out
    assert len(outcome.keys) == offers


@short_or_soak("postgresql")
def test_by_webhook(campaign: Campaign, processes: Processes, offers: int, kills: int) -> None:
    with Receiver() as receiver:
        place = prepared(campaign, offers, deliver=receiver.url, allow_private=True)
        seen = kill_at_random(processes, place, kills, random.Random(1), longest(offers))
        customers = Counter(body["key"]["customer_id"] for _, body in receiver.requests)
        outcome = Outcome(customers, Counter(receiver.keys), seen)
    outcome.tell("webhook", campaign.results)
    check(campaign, outcome, offers)


@short_or_soak("sqlite")
def test_by_mail(campaign: Campaign, processes: Processes, offers: int, kills: int) -> None:
    with MailServer() as server:
        place = prepared(
            campaign, offers, deliver=server.url, sender="shop@example.com", address="email"
        )
        seen = kill_at_random(processes, place, kills, random.Random(2), longest(offers))
        numbers = [int(name[1:].partition("@")[0]) for name in server.recipients]
        ids = [_id(mail) for mail in server.mails]
        outcome = Outcome(Counter(numbers), Counter(ids), seen)
    outcome.tell("smtp", campaign.results)
    check(campaign, outcome, offers)
    # The window: one message a kill.
    assert outcome.keys.total() - len(outcome.keys) <= seen.killed
    assert max(outcome.keys.values()) <= 1 + seen.killed


@short_or_soak("postgresql")
def test_by_topic(campaign: Campaign, processes: Processes, offers: int, kills: int) -> None:
    with ExitStack() as opened:
        opened.enter_context(topic(BROKER, campaign.root))
        place = prepared(campaign, offers, deliver="topic:offers")
        seen = kill_at_random(processes, place, kills, random.Random(3), longest(offers))
        found = events(BROKER, campaign.root)
    outcome = Outcome(
        Counter(event["key"]["customer_id"] for event in found),
        Counter(event["id"] for event in found),
        seen,
    )
    outcome.tell("topic", campaign.results)
    check(campaign, outcome, offers)


@short_or_soak("sqlite")
def test_by_file(campaign: Campaign, processes: Processes, offers: int, kills: int) -> None:
    place = prepared(campaign, offers)
    seen = kill_at_random(processes, place, kills, random.Random(4), longest(offers))
    found = campaign.files()
    outcome = Outcome(
        Counter(event["key"]["customer_id"] for event in found),
        Counter(event["id"] for event in found),
        seen,
    )
    outcome.tell("file", campaign.results)
    check(campaign, outcome, offers)
    assert outcome.keys.total() == offers  # exactly once, as such


def _id(mail: bytes) -> str:
    (line,) = (line for line in mail.splitlines() if line.lower().startswith(b"message-id:"))
    return line.partition(b"<")[2].partition(b"@")[0].decode()
