"""Old decisions go, and neither a cooldown nor a delivery that waits loses what it needs."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest

from support.campaigns import Campaign, interval_of
from support.deployments import day
from trivet.actions import retention
from trivet.actions.retention import prune
from trivet.results.retention import prune as prune_deployment

SAME = "SELECT 7 AS customer_id, score FROM toy_scores WHERE interval_start = $interval_start"
LONG = dt.timedelta(days=30)


@pytest.fixture
def campaign(tmp_path: Path, results_url: str) -> Campaign:
    return Campaign(tmp_path, results=results_url, now=day(2) + dt.timedelta(hours=1))


def act(campaign: Campaign, number: int) -> dict[str, int]:
    """Score a day and act on it an hour after its end; return the groups."""
    campaign.day(number)
    campaign.now = day(number) + dt.timedelta(days=1, hours=1)
    action = campaign.acting()
    groups = action.decide(interval_of(number), cause="schedule")
    action.deliver()
    return dict(groups or {})


def pruned(
    campaign: Campaign, before: int, cooldown: dt.timedelta = dt.timedelta()
) -> dict[str, int]:
    with campaign.open_results() as db:
        prune_deployment(db, "toy-scores", day(before))
        return prune(db, "toy-scores", day(before), campaign.now, {"offer": cooldown})


def left(campaign: Campaign) -> list[tuple[int, int]]:
    """Return how many people and deliveries each interval has left, the oldest first."""
    count = "(SELECT count(*) FROM {} t WHERE t.interval_start = r.interval_start)"
    rows = campaign.rows(
        f"SELECT {count.format('trivet_assignments')} AS p, "
        f"{count.format('trivet_deliveries')} AS d "
        "FROM trivet_action_runs r ORDER BY r.interval_start"
    )
    return [(row["p"], row["d"]) for row in rows]


def test_what_ended_before_goes_and_the_decision_stays(
    campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "SWEEP_ROWS", 2)
    campaign.set(limit=3)
    for number in (1, 2, 3):
        act(campaign, number)
    assert left(campaign) == [(5, 3)] * 3
    assert pruned(campaign, 3) == {"offer": 2}
    assert left(campaign) == [(0, 0), (0, 0), (5, 3)]
    assert pruned(campaign, 3) == {}
    assert [each.pruned for each in campaign.acting().history(5)] == [False, True, True]
    # Scored once more, it is still decided: nobody gets a second offer.
    campaign.score(1)
    assert campaign.acting().decide(interval_of(1), cause="manual") is None
    assert len(campaign.files()) == 9


def test_a_cooldown_keeps_what_it_needs(campaign: Campaign) -> None:
    campaign.set(select=SAME, cooldown="3d", contacts=None, suppress=None, template=None)
    assert act(campaign, 1)["treated"] == 1
    assert act(campaign, 3)["cooldown"] == 1
    assert pruned(campaign, 4) == {}
    assert act(campaign, 4)["treated"] == 1
    # Its three days are over on the clock and by interval; that of the second offer is not.
    assert pruned(campaign, 5) == {"offer": 1}
    assert left(campaign) == [(0, 0), (1, 0), (1, 1)]
    assert act(campaign, 5)["cooldown"] == 1


def test_a_longer_cooldown_of_the_file_counts_before_it_is_registered(campaign: Campaign) -> None:
    act(campaign, 1)
    campaign.now = day(20)
    assert pruned(campaign, 10, cooldown=LONG) == {}
    assert pruned(campaign, 10) == {"offer": 1}


@pytest.mark.parametrize("state", ["proposed", "pending", "sending"])
def test_what_is_not_delivered_keeps_its_interval(campaign: Campaign, state: str) -> None:
    act(campaign, 1)
    with campaign.open_results() as db:
        db.execute(
            "UPDATE trivet_deliveries SET state = $state WHERE place = 1",
            state=state,
        )
    campaign.now = day(20)
    assert pruned(campaign, 10) == {}
    assert left(campaign) == [(5, 5)]


def test_the_command_prunes_and_the_history_says_so(campaign: Campaign) -> None:
    act(campaign, 1)
    done = campaign.invoke("results", "prune", "--keep-for", "1d")
    assert done.exit_code == 0, done.output
    assert "offer: who was chosen on 1 of its intervals deleted" in done.output
    assert "pruned" in campaign.invoke("actions", "offer").output
    (line,) = campaign.invoke("actions", "offer", "--json").output.splitlines()
    assert json.loads(line)["pruned"] is True
