"""Actions beside the scheduler: they look at once, look again, wake, and end when told to."""

from __future__ import annotations

import datetime as dt
import logging
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from support.campaigns import Campaign, Receiver, interval_of
from support.deployments import day
from trivet.actions.following import Follower, following
from trivet.errors import RunStopped

Until = Callable[[Callable[[], bool]], None]


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    return Campaign(tmp_path, now=day(2) + dt.timedelta(hours=1))


def follower(campaign: Campaign) -> Follower:
    return Follower(campaign.acting(), campaign.stop)


def test_what_is_published_is_acted_on_at_once_and_when_woken(
    campaign: Campaign, until: Until
) -> None:
    campaign.day(1)
    one = follower(campaign)
    assert one.after == "toy-scores"
    with following([one], campaign.stop):
        until(lambda: len(campaign.files()) == 5)
        campaign.now = day(3) + dt.timedelta(hours=1)
        campaign.day(2)
        one.wake()
        until(lambda: len(campaign.files()) == 10)
        assert not campaign.stop.is_set()
    assert campaign.stop.is_set()


def test_without_actions_nothing_is_started_or_stopped() -> None:
    stop, before = threading.Event(), threading.active_count()
    with following([], stop):
        assert threading.active_count() == before
    assert not stop.is_set()


def test_a_delivery_that_rests_is_taken_up_when_it_is_due(campaign: Campaign, until: Until) -> None:
    blocked = campaign.root / "outbox"
    blocked.write_text("in the way")
    campaign.set(retry_delay="1s")
    campaign.day(1, 1)
    with following([follower(campaign)], campaign.stop):
        until(lambda: campaign.states() == ["pending"] and campaign.reasons() != [""])
        blocked.unlink()
        until(lambda: campaign.states() == ["sent"])


def test_a_failure_is_told_and_the_next_look_succeeds(
    campaign: Campaign, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    campaign.day(1)
    one = follower(campaign)
    with campaign.open_source() as db:
        db.execute("ALTER TABLE unsubscribed RENAME TO away")
    with caplog.at_level(logging.WARNING), following([one], campaign.stop):
        until(lambda: "looking again soon" in caplog.text)
        with campaign.open_source() as db:
            db.execute("ALTER TABLE away RENAME TO unsubscribed")
        one.wake()
        until(lambda: len(campaign.files()) == 5)


def test_results_that_are_away_are_looked_for_again(campaign: Campaign, until: Until) -> None:
    campaign.day(1)
    one = follower(campaign)
    results = Path(campaign.results.removeprefix("sqlite:///"))
    results = results if results.is_absolute() else campaign.root / results
    away = results.with_name("away")
    results.rename(away)
    results.write_text("no database, as long as sixteen bytes at least")
    with following([one], campaign.stop):
        assert not one.look()
        results.unlink()
        away.rename(results)
        one.wake()
        until(lambda: len(campaign.files()) == 5)


def test_a_stop_in_the_middle_ends_it_and_gives_the_rest_back(campaign: Campaign) -> None:
    campaign.day(1)
    one = follower(campaign)
    campaign.acting().decide(interval_of(1), cause="schedule")
    campaign.stop.set()
    with pytest.raises(RunStopped):
        one.look()
    assert set(campaign.states()) == {"pending"}


def test_a_stop_while_it_delivers_ends_the_thread(campaign: Campaign, until: Until) -> None:
    campaign.day(1)
    with Receiver() as receiver:
        campaign.set(rate=0.01, deliver=receiver.url, allow_private=True)
        with following([follower(campaign)], campaign.stop):
            until(lambda: campaign.states().count("sent") == 1)
    assert campaign.states().count("pending") == 4
