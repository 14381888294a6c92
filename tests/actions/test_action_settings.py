"""``[action.NAME]``: what is refused, and what is read from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.campaigns import Campaign
from trivet.actions.settings import ActionSettings
from trivet.actions.targets import Target
from trivet.errors import SettingsError
from trivet.settings import load_project

GOOD: dict[str, Any] = {
    "name": "offer",
    "after": "scores",
    "select": "SELECT 1",
    "key": ("id",),
    "deliver": "topic:offers",
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"select": " "}, "select: it is empty"),
        ({"key": ()}, "key: name at least one"),
        ({"key": ("id", "id")}, "key: id is in it twice"),
        ({"limit": 0}, "limit: write a number from 1"),
        ({"control": 1.0}, "control: write a share"),
        ({"control": -0.1}, "control: write a share"),
        ({"rate": 0}, "rate: write a number"),
        ({"retries": -1}, "retries: write a number from 0 to 10000"),
        ({"deliver": "ftp://x"}, "deliver: write smtp://"),
        ({"deliver": "topic:"}, "deliver: write topic:NAME"),
        ({"deliver": "topic:a b"}, "deliver: write topic:NAME"),
        ({"deliver": "file:"}, "deliver: write file:FOLDER"),
        ({"deliver": "https:///x"}, "deliver: it names no host"),
        ({"deliver": "https://h:x/"}, "deliver: it is no https url"),
        ({"deliver": "http://h/"}, "deliver: write https://"),
        ({"deliver": "smtp://h"}, "sender: a mail needs one"),
        ({"deliver": "smtp://h"}, "contacts: a mail needs an address"),
        ({"deliver": "smtp://h"}, "template: a mail needs a text"),
        ({"token": "t"}, "token: it is for webhooks"),
    ],
)
def test_what_cannot_be_meant_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ActionSettings(**GOOD | change)


def test_a_target_is_taken_apart_and_never_prints_its_password() -> None:
    target = Target.of("smtps://shop:p%40ss@mail.example.com")
    assert (target.channel, target.host, target.port) == ("smtp", "mail.example.com", 465)
    assert (target.user, target.password) == ("shop", "p@ss")
    assert "p@ss" not in repr(target)
    assert Target.of("https://h/a?b=c").path == "/a?b=c"
    assert Target.of("file:out/box").path == "out/box"


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    return Campaign(tmp_path)


def test_queries_and_the_template_are_read_from_their_files(campaign: Campaign) -> None:
    (campaign.root / "offers.sql").write_text("SELECT 2 AS customer_id")
    (campaign.root / "offer.md").write_text("Subject: a\n\nb")
    campaign.set(select="offers.sql", template="offer.md", suppress=None)
    action = load_project(campaign.root, {}).action["offer"]
    assert (action.select, action.template) == ("SELECT 2 AS customer_id", "Subject: a\n\nb")
    assert action.suppress == ""


def test_references_are_held_against_the_project(campaign: Campaign) -> None:
    (campaign.root / "empty.md").write_text(" ")
    campaign.set(
        after="toy-score", select="nowhere.sql", template="empty.md", source="oracle://db/x"
    )
    with pytest.raises(SettingsError) as caught:
        load_project(campaign.root, {})
    found = str(caught.value)
    assert (
        "[action.offer] after: there is no [batch.toy-score] (did you mean 'toy-scores'?)" in found
    )
    assert "[action.offer] select: there is no file" in found
    assert "empty.md is empty; write a text into it" in found
    assert "[action.offer] source: no driver for oracle://" in found


def test_a_secret_comes_from_the_environment(campaign: Campaign) -> None:
    campaign.set(deliver="https://hooks.example.com/x", token="${HOOK_TOKEN}")
    assert load_project(campaign.root, {"HOOK_TOKEN": "s3cret"}).action["offer"].token == "s3cret"
    with pytest.raises(SettingsError, match="HOOK_TOKEN is not set"):
        load_project(campaign.root, {})
