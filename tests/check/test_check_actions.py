"""``trivet check`` of an action: what would go wrong is told before anybody gets anything."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pytest

from support.campaigns import SELECT, TEMPLATE, Campaign, MailServer
from support.deployments import day
from support.offers import topic
from trivet.check import Finding, inspect
from trivet.check.actions import is_ordered
from trivet.settings import load_project

MAIL = {"deliver": "smtp://127.0.0.1:1", "sender": "Shop <shop@example.com>"}


@pytest.fixture
def campaign(tmp_path: Path, results_url: str) -> Campaign:
    return Campaign(tmp_path, results=results_url, now=day(2) + dt.timedelta(hours=1))


def found(campaign: Campaign, **action: Any) -> dict[str, Finding]:
    """Return what is found of the action, by key; only the worst of each."""
    campaign.set(**action)
    findings, _ = inspect(load_project(campaign.root, {}))
    prefix = "[action.offer] "
    mine = [f for f in findings if f.where.startswith(prefix)]
    order = ("ok", "warning", "error")
    mine.sort(key=lambda f: order.index(f.state))
    return {f.where.removeprefix(prefix): f for f in mine}


def test_an_action_that_fits(campaign: Campaign) -> None:
    campaign.day(1)
    told = {key: (f.state, f.what) for key, f in found(campaign, limit=3).items()}
    outbox = campaign.root / "outbox"
    assert told == {
        "select": ("ok", "columns customer_id, score"),
        "contacts": (
            "ok",
            "columns customer_id, first_name, email; 5 of the first 5 selected have one",
        ),
        "suppress": ("ok", "columns customer_id"),
        "template": ("ok", "names first_name, score; filled in for 5 of those selected"),
        "deliver": ("ok", f"into {outbox}"),
    }
    assert not outbox.exists()
    assert campaign.rows("SELECT * FROM trivet_actions") == []


def test_before_the_first_run(campaign: Campaign) -> None:
    told = found(campaign)
    assert told["select"].state == "warning"
    assert "look again after: trivet score toy-scores" in told["select"].what
    assert "error" not in {f.state for f in told.values()}
    campaign.day(1)
    with campaign.open_results() as db:
        db.execute("DELETE FROM trivet_published")  # scored, and pruned since
    told = found(campaign)
    assert {f.state for f in told.values()} == {"ok"}
    assert told["template"].what == "names first_name, score; nobody to fill it in for"


@pytest.mark.parametrize(
    ("change", "key", "state", "words"),
    [
        ({"select": "SELECT nothing FROM toy_scores"}, "select", "error", "nothing"),
        ({"select": "SELECT score FROM toy_scores"}, "select", "error", "no column customer_id"),
        (
            {"select": "SELECT score AS customer_id FROM toy_scores"},
            "select",
            "error",
            "customer_id of the key is float in one of its rows",
        ),
        (
            {"select": SELECT.partition("ORDER")[0], "limit": 3},
            "select",
            "warning",
            "no ORDER BY: limit takes whoever comes first",
        ),
        ({"contacts": "SELECT first_name FROM customers"}, "contacts", "error", "customer_id"),
        ({"contacts": "SELECT nobody FROM customers"}, "contacts", "error", "nobody"),
        (
            {"contacts": "SELECT 0 AS customer_id, '' AS first_name"},
            "contacts",
            "warning",
            "0 of the first 5 selected have one",
        ),
        (
            {**MAIL, "contacts": "SELECT customer_id, first_name FROM customers"},
            "contacts",
            "error",
            "no column email",
        ),
        ({"suppress": "SELECT 1 AS one"}, "suppress", "error", "no column customer_id"),
        ({"suppress": "SELECT customer_id FROM missing"}, "suppress", "error", "missing"),
        ({"source": "sqlite:///nowhere.db"}, "source", "error", "nowhere.db"),
        (
            {"template": "Subject: {{ nickname }}\n\n{{ last_name }}"},
            "template",
            "error",
            "'nickname' is undefined; there are customer_id",
        ),
        (
            {"template": "Subject: x\n\n{% if nickname is defined %}{{ nickname }}{% endif %}"},
            "template",
            "warning",
            "neither select nor contacts give nickname",
        ),
        ({"template": "no subject\n"}, "template", "error", "its first line is no subject"),
        (
            {"deliver": "https://localhost/offers"},
            "deliver",
            "error",
            "on a private network; write allow_private = true",
        ),
        ({"deliver": "https://[::ffff:10.0.0.1]/"}, "deliver", "error", "on a private network"),
        (
            {"deliver": "http://127.0.0.1:1/", "allow_private": True},
            "deliver",
            "ok",
            "127.0.0.1 is 127.0.0.1",
        ),
        (MAIL, "deliver", "warning", "deliveries would wait"),
        ({**MAIL, "sender": "nobody"}, "deliver", "error", "'nobody' is no address"),
        ({"deliver": "file:trivet.toml"}, "deliver", "warning", "nothing can be written into"),
    ],
)
def test_what_does_not_fit(
    campaign: Campaign, change: dict[str, Any], key: str, state: str, words: str
) -> None:
    campaign.day(1)
    told = found(campaign, **change)
    assert (told[key].state, words in told[key].what) == (state, True), told[key]
    bad = {each for each, f in told.items() if f.state == "error"}
    assert bad <= {key}
    assert not [f for f in told.values() if "c1001@" in f.what or "N1001" in f.what]


def test_what_a_template_names_is_held_against_the_columns_without_rows(
    campaign: Campaign,
) -> None:
    campaign.day(1)
    told = found(campaign, select=SELECT.replace("ORDER", "AND 1 = 0 ORDER"))
    assert told["template"].state == "ok"
    told = found(campaign, template=TEMPLATE + "{{ nickname }}")
    assert told["template"].state == "error"
    assert "neither select nor contacts give nickname; they give customer_id" in (
        told["template"].what
    )


def test_a_mail_server_is_greeted_and_gets_no_mail(campaign: Campaign) -> None:
    campaign.day(1)
    with MailServer() as server:
        told = found(campaign, **{**MAIL, "deliver": server.url})
    assert {f.state for f in told.values()} == {"ok"}
    assert told["deliver"].what.endswith("answers")
    assert server.mails == []


def test_a_topic_that_there_is_not_yet(campaign: Campaign) -> None:
    campaign.day(1)
    told = found(campaign, deliver="topic:offers")
    assert (told["deliver"].state, "no topic 'offers' yet" in told["deliver"].what) == (
        "warning",
        True,
    )
    with topic("sqlite:///data/events.db", campaign.root):
        assert found(campaign)["deliver"].what == "to topic offers"


def test_the_command_tells_it(campaign: Campaign) -> None:
    campaign.day(1)
    campaign.set(select="SELECT nothing FROM toy_scores")
    done = campaign.invoke("check", "--only-look", "--json")
    assert done.exit_code == 1
    (finding,) = (f for f in json.loads(done.stdout)["findings"] if f["state"] == "error")
    assert finding["where"] == "[action.offer] select"


@pytest.mark.parametrize(
    ("query", "ordered"),
    [
        ("SELECT a FROM t ORDER BY a", True),
        ("SELECT a FROM t", False),
        ("SELECT a, row_number() OVER (PARTITION BY b ORDER BY (c)) FROM t", False),
        ("SELECT * FROM (SELECT a FROM t ORDER BY a) AS q order\n by a", True),
        ("SELECT 'order by' AS a -- ORDER BY a\nFROM t /* ORDER BY */", False),
    ],
)
def test_whether_a_query_is_ordered(query: str, ordered: bool) -> None:
    assert is_ordered(query) == ordered
