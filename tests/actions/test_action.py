"""An action over its whole way: decided once, delivered, and what a past interval gets."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from support.campaigns import Campaign, Receiver, interval_of
from support.deployments import day
from trivet.errors import ActionError, QueryError, RunStopped

HOUR = dt.timedelta(hours=1)


@pytest.fixture
def campaign(tmp_path: Path, results_url: str) -> Campaign:
    return Campaign(tmp_path, results=results_url, now=day(2) + HOUR)


@pytest.fixture
def embedded(tmp_path: Path) -> Campaign:
    return Campaign(tmp_path, now=day(2) + HOUR)


def test_the_best_are_treated_within_the_limit_and_get_one_delivery_each(
    campaign: Campaign,
) -> None:
    campaign.set(limit=3)
    ids = campaign.day(1)
    action = campaign.acting()
    groups = action.decide(interval_of(1), cause="manual")
    assert groups == {"treated": 3, "control": 0, "over_limit": 2, "cooldown": 0, "suppressed": 0}
    assert action.deliver().states == {"sent": 3}
    assert campaign.states() == ["sent"] * 3
    assert sorted(file["key"]["customer_id"] for file in campaign.files()) == sorted(ids[:3])
    (file,) = (f for f in campaign.files() if f["key"]["customer_id"] == ids[0])
    assert file["message"]["subject"] == f"An offer for N{ids[0]}"
    assert file["message"]["html"].startswith(f"<p>Dear N{ids[0]}, your score is <strong>")
    assert file["contact"]["email"] == f"c{ids[0]}@example.com"
    assert file["interval_start"] == "2020-01-01T00:00:00Z"


def test_an_interval_is_decided_on_once(campaign: Campaign) -> None:
    campaign.day(1)
    action = campaign.acting()
    assert action.decide(interval_of(1), cause="manual") is not None
    campaign.add([{"trip_id": 7, "a": 900.0, "n": 1, "city": "nice", "at": day(1)}])
    campaign.score(1)
    assert action.decide(interval_of(1), cause="manual") is None
    assert len(campaign.states()) == 5


def test_nobody_is_chosen_twice_within_the_cooldown(campaign: Campaign) -> None:
    campaign.set(cooldown="3d", control=0.5)
    groups = {}
    for number in range(1, 5):
        campaign.now = day(number + 1) + HOUR
        again = [
            {"trip_id": i, "a": 1.0, "n": i, "city": "nice", "note": "x", "at": day(number)}
            for i in range(1, 41)
        ]
        campaign.add(again)
        campaign.score(number)
        campaign.acting().decide(interval_of(number), cause="manual")
        groups[number] = campaign.groups(interval_of(number))
    assert set(groups[1].values()) == {"treated", "control"}
    assert set(groups[2].values()) == set(groups[3].values()) == {"cooldown"}
    assert groups[4] == groups[1]  # the same are held out, time after time


def test_a_cooldown_counts_by_the_clock_too(campaign: Campaign) -> None:
    campaign.set(cooldown="2d")
    for number in (1, 5):  # days apart, and acted on within one hour
        campaign.add(
            [{"trip_id": 1, "a": 1.0, "n": 1, "city": "nice", "note": "x", "at": day(number)}]
        )
        campaign.score(number)
    campaign.now = day(6) + HOUR
    action = campaign.acting()
    action.decide(interval_of(1), cause="manual")
    action.decide(interval_of(5), cause="manual")
    assert campaign.groups(interval_of(5)) == {1: "cooldown"}


def test_who_is_suppressed_gets_nothing_even_after_the_decision(campaign: Campaign) -> None:
    ids = campaign.day(1)
    campaign.change(f"INSERT INTO unsubscribed VALUES ({ids[0]})")
    action = campaign.acting()
    action.decide(interval_of(1), cause="manual")
    assert campaign.groups()[ids[0]] == "suppressed"
    campaign.change(f"INSERT INTO unsubscribed VALUES ({ids[1]})")
    campaign.change(f"DELETE FROM customers WHERE customer_id = {ids[2]}")
    assert action.deliver().states == {"suppressed": 1, "failed": 1, "sent": 2}
    assert campaign.states() == ["suppressed", "failed", "sent", "sent"]
    assert campaign.reasons()[1] == "no contact"


def test_proposals_wait_for_approval(campaign: Campaign) -> None:
    campaign.set(review=True)
    campaign.day(1)
    action = campaign.acting()
    action.decide(interval_of(1), cause="manual")
    assert action.deliver().states == {}
    assert campaign.states() == ["proposed"] * 5
    assert action.approve(interval_of(2)) == 0
    assert action.approve(interval_of(1)) == 5
    assert action.deliver().states == {"sent": 5}
    (decided,) = action.history(5)
    assert decided.approved_at == campaign.now
    assert (decided.treated, decided.deliveries) == (5, {"sent": 5})


def test_only_a_published_interval_is_acted_on(embedded: Campaign) -> None:
    action = embedded.acting()
    with pytest.raises(ActionError, match="trivet score toy-scores --interval 2020-01-01"):
        action.decide(interval_of(1), cause="manual")
    assert action.latest() is None
    assert action.due() == []
    assert action.history(5) == []


def test_what_is_due_is_current_and_of_no_backfill(campaign: Campaign) -> None:
    for number in (1, 2, 3):
        campaign.day(number)
    campaign.now = day(4) + HOUR
    action = campaign.acting()
    assert action.due() == [interval_of(3)]
    assert action.latest() == interval_of(3)
    campaign.set(expires="2d")
    assert campaign.acting().due() == [interval_of(2), interval_of(3)]
    campaign.now = day(5)
    assert campaign.acting().due() == [interval_of(3)]
    job = campaign.job()
    job.run(interval_of(3), cause="backfill")
    assert campaign.acting().due() == []


def test_the_longest_waiting_go_first_and_a_stop_gives_the_rest_back(embedded: Campaign) -> None:
    embedded.set(rate=0.001)
    embedded.day(1)
    action = embedded.acting()
    action.decide(interval_of(1), cause="manual")
    with Receiver() as receiver:
        embedded.set(deliver=receiver.url, allow_private=True)

        class AfterOne(type(embedded.stop)):  # type: ignore[misc]
            """Set once the first request has come."""

            def wait(self, timeout: float | None = None) -> bool:
                if receiver.requests:
                    self.set()
                return bool(super().wait(0))

        with pytest.raises(RunStopped):
            embedded.acting(AfterOne()).deliver()
        assert len(receiver.requests) == 1
        assert embedded.states() == ["sent"] + ["pending"] * 4
        embedded.set(rate=1000)
        embedded.stop.clear()
        assert embedded.acting().deliver().states == {"sent": 4}
        assert len(set(receiver.keys)) == len(receiver.keys) == 5


def test_a_preview_writes_and_sends_nothing(embedded: Campaign) -> None:
    embedded.set(limit=2)
    ids = embedded.day(1)
    embedded.change(f"DELETE FROM customers WHERE customer_id = {ids[1]}")
    preview = embedded.acting().preview(interval_of(1), 3)
    assert preview.groups["treated"] == 2
    (message,) = preview.messages
    assert message.words is not None
    assert message.words.subject == f"An offer for N{ids[0]}"
    assert "first_name" not in repr(message)
    assert embedded.rows("SELECT * FROM trivet_assignments") == []
    assert embedded.files() == []


@pytest.mark.parametrize(
    ("change", "kind", "words"),
    [
        ({"select": "SELECT nothing FROM toy_scores"}, QueryError, r"\[action.offer\] select"),
        ({"select": "SELECT score FROM toy_scores"}, ActionError, "no column customer_id"),
        (
            {"select": "SELECT score AS customer_id FROM toy_scores"},
            ActionError,
            "customer_id is float",
        ),
        ({"suppress": "SELECT email FROM customers"}, ActionError, "no column customer_id"),
        ({"select": "DELETE FROM toy_scores"}, QueryError, "select"),
    ],
)
def test_queries_that_do_not_fit_say_so(
    embedded: Campaign, change: dict[str, str], kind: type[Exception], words: str
) -> None:
    embedded.day(1)
    embedded.set(**change)
    with pytest.raises(kind, match=words):
        embedded.acting().decide(interval_of(1), cause="manual")
    assert embedded.rows("SELECT * FROM trivet_action_runs") == []


def test_the_query_cannot_write(campaign: Campaign) -> None:
    campaign.day(1)
    campaign.set(
        select="WITH gone AS (DELETE FROM trivet_published RETURNING 1) SELECT 1 AS customer_id"
    )
    with pytest.raises(QueryError):
        campaign.acting().decide(interval_of(1), cause="manual")
    assert campaign.rows("SELECT count(*) AS n FROM trivet_published") == [{"n": 1}]


def test_an_error_of_the_contacts_quotes_nobody(
    embedded: Campaign, caplog: pytest.LogCaptureFixture
) -> None:
    embedded.day(1)
    embedded.set(contacts="SELECT customer_id, json_extract(email, '$.x') AS e FROM customers")
    action = embedded.acting()
    action.decide(interval_of(1), cause="manual")
    with pytest.raises(QueryError, match="--dry-run") as caught:
        action.deliver()
    assert "example.com" not in str(caught.value) + caplog.text
    assert embedded.states() == ["pending"] * 5
    with pytest.raises(QueryError, match="malformed JSON"):
        action.preview(interval_of(1), 1)


def test_a_template_that_fails_lets_everything_wait(embedded: Campaign) -> None:
    embedded.day(1)
    action = embedded.acting()
    action.decide(interval_of(1), cause="manual")
    embedded.set(template="Subject: {{ surname }}\n\nDear …")
    with pytest.raises(ActionError, match="'surname' is undefined; there are customer_id, email"):
        embedded.acting().deliver()
    assert embedded.states() == ["pending"] * 5
    embedded.set(template="Subject: hello\n\nDear …")
    assert embedded.acting().deliver().states == {"sent": 5}


def test_an_empty_interval_is_decided_on_too(embedded: Campaign) -> None:
    embedded.day(1)
    embedded.score(2)
    embedded.now = day(3) + HOUR
    action = embedded.acting()
    assert sum((action.decide(interval_of(2), cause="manual") or {"x": 1}).values()) == 0
    assert action.deliver().states == {}
    assert action.due() == []
    assert [each.treated for each in action.history(1)] == [0]
