"""``trivet act``, ``trivet actions`` and the actions of ``trivet schedule``."""

from __future__ import annotations

import datetime as dt
import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from support.campaigns import Campaign, Receiver
from support.deployments import trips

TODAY = dt.datetime.now(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)


@pytest.fixture
def campaign(tmp_path: Path, results_url: str) -> Campaign:
    """Give a project with rows of the last four real days, posted to a real receiver."""
    campaign = Campaign(tmp_path, results=results_url)
    for back in range(1, 5):
        at = TODAY - dt.timedelta(days=back, hours=-1)
        rows = trips(back, 4, at=at)
        campaign.add(rows)
        campaign.customers(*(row["trip_id"] for row in rows))
    campaign.batch |= {"start": (TODAY - dt.timedelta(days=4)).date(), "catchup": "all"}
    campaign.write()
    return campaign


def label(back: int) -> str:
    return f"{TODAY - dt.timedelta(days=back):%Y-%m-%d}"


def test_the_day_is_acted_on_once_from_cron(campaign: Campaign) -> None:
    with Receiver() as receiver:
        campaign.set(deliver=receiver.url, allow_private=True, limit=3)
        assert "is not published yet" in campaign.invoke("act", "offer").output
        assert campaign.invoke("score", "toy-scores").exit_code == 0
        done = campaign.invoke("act", "offer")
        assert done.exit_code == 0, done.output
        assert f"offer {label(1)}: 3 treated, 0 held out, 1 over the limit" in done.output
        assert "offer: 3 sent" in done.output
        campaign.invoke("score", "toy-scores", "--force")
        again = campaign.invoke("act", "offer", "--interval", label(1))
        assert "decided before" in again.output
        assert len(receiver.keys) == 3


def test_the_past_gets_nothing_unless_told_to(campaign: Campaign) -> None:
    with Receiver() as receiver:
        campaign.set(deliver=receiver.url, allow_private=True)
        span = ("--from", label(4), "--to", label(1))
        assert campaign.invoke("backfill", "toy-scores", *span).exit_code == 0
        assert campaign.invoke("schedule", "--once").exit_code == 0
        told = campaign.invoke("act", "offer", "--interval", label(3))
        assert (told.exit_code, "past, nothing is sent" in told.output) == (0, True)
        assert receiver.keys == []
        told = campaign.invoke("act", "offer", "--interval", label(3), "--send-past")
        assert "offer: 4 sent" in told.output
        campaign.invoke("act", "offer", "--interval", label(3), "--send-past")
        assert len(receiver.keys) == len(set(receiver.keys)) == 4


def test_a_dry_run_shows_the_messages_and_sends_none(campaign: Campaign) -> None:
    campaign.invoke("score", "toy-scores")
    shown = campaign.invoke("act", "offer", "--dry-run").output
    assert "offer: would be 4 treated" in shown
    assert "Subject: An offer for N1004\n\nDear N1004, your score is **12.0**." in shown
    assert "<strong>12.0</strong>" in shown
    campaign.set(template=None)
    assert '"first_name":"N1004"' in campaign.invoke("act", "offer", "--dry-run").output
    campaign.set(deliver="smtp://127.0.0.1:1", sender="a@b.c", template="Subject: x\n\ny")
    assert "To: c1004@example.com" in campaign.invoke("act", "offer", "--dry-run").output
    assert campaign.states() == []
    assert campaign.files() == []


def test_a_dry_run_of_what_was_decided_says_so_and_still_shows_the_messages(
    campaign: Campaign,
) -> None:
    campaign.set(cooldown="30d")
    campaign.invoke("score", "toy-scores")
    campaign.invoke("act", "offer")
    shown = campaign.invoke("act", "offer", "--dry-run").output
    assert "offer: decided before, nothing more is chosen; decided now it would be 4" in shown
    assert "Subject: An offer for N1004" in shown
    assert len(campaign.states()) == 4


def test_a_dry_run_before_anything_is_published(campaign: Campaign) -> None:
    assert "is not published yet" in campaign.invoke("act", "offer", "--dry-run").output


def test_history_and_approval(campaign: Campaign) -> None:
    campaign.set(review=True, limit=2)
    assert "begin with: trivet act offer" in campaign.invoke("actions", "offer").output
    campaign.invoke("score", "toy-scores")
    campaign.invoke("act", "offer")
    (line,) = campaign.invoke("actions", "offer", "--json").output.splitlines()
    assert json.loads(line)["deliveries"] == {"proposed": 2}
    approved = campaign.invoke("actions", "offer", "--approve", "--interval", label(1))
    assert "offer: 2 approved; send them with: trivet act offer" in approved.output
    assert "0 approved" in campaign.invoke("actions", "offer", "--approve").output
    campaign.invoke("act", "offer")
    table = campaign.invoke("actions", "offer").output
    assert label(1) in table
    assert "2 sent" in table


def test_nothing_gets_through(campaign: Campaign) -> None:
    campaign.set(deliver="http://127.0.0.1:1/", allow_private=True, retry_delay="1h")
    campaign.customers(1)
    campaign.add(trips(9, 6, at=TODAY - dt.timedelta(hours=2)))
    campaign.customers(*(row["trip_id"] for row in trips(9, 6)))
    campaign.invoke("score", "toy-scores")
    done = campaign.invoke("act", "offer")
    assert done.exit_code == 1
    assert "nothing gets through" in done.output
    assert "5 given up for now" in done.output


def test_an_action_that_there_is_not(campaign: Campaign) -> None:
    done = campaign.invoke("act", "ofer")
    assert (done.exit_code, "did you mean 'offer'?" in done.output) == (2, True)


def test_two_schedulers_send_no_second_offer(campaign: Campaign) -> None:
    with Receiver() as receiver:
        campaign.set(deliver=receiver.url, allow_private=True, expires="30d")
        campaign.write(overlap="queue")
        both = [campaign.start("schedule", "--once") for _ in range(2)]
        for process in both:
            _, err = process.communicate(timeout=100)
            assert process.returncode == 0, err
            assert "@" not in err  # not an address of anybody
        assert campaign.invoke("schedule", "--once").exit_code == 0  # what one left to the other
        assert len(receiver.keys) == len(set(receiver.keys)) == 16
        assert campaign.invoke("schedule", "--once").exit_code == 0
        assert len(receiver.keys) == 16


def test_the_scheduler_acts_on_what_it_publishes(
    campaign: Campaign, until: Callable[[Callable[[], bool]], None]
) -> None:
    with Receiver([503]) as receiver:
        campaign.set(deliver=receiver.url, allow_private=True, retry_delay="1s")
        process = campaign.start("schedule")
        until(lambda: len(set(receiver.keys)) == 4 and len(receiver.keys) == 5)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=100)
    assert process.returncode == 0, err
    assert "Traceback" not in err


def test_a_scheduler_says_what_stands_in_the_way_and_goes_on(campaign: Campaign) -> None:
    campaign.set(select="SELECT nothing FROM toy_scores")
    done = campaign.invoke("schedule", "--once")
    assert done.exit_code == 1
    assert "[action.offer] select" in done.output
    campaign.set(select=None)
    campaign.action.pop("select")
    campaign.write()
    assert campaign.invoke("schedule", "--once").exit_code == 0
    assert campaign.states() == ["sent"] * 4
