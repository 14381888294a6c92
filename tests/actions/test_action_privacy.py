"""Nobody's data is in a log line, however much is logged and whatever becomes of a delivery."""

from __future__ import annotations

import datetime as dt
import logging
from pathlib import Path

import pytest

from support.campaigns import Campaign, MailServer, Receiver, interval_of
from support.deployments import day


@pytest.fixture
def campaign(tmp_path: Path) -> Campaign:
    campaign = Campaign(tmp_path, now=day(2) + dt.timedelta(hours=1))
    campaign.day(1)
    return campaign


def logged(campaign: Campaign, caplog: pytest.LogCaptureFixture) -> str:
    """Decide and deliver with everything logged; return what was."""
    with caplog.at_level(logging.DEBUG):
        action = campaign.acting()
        action.preview(interval_of(1), 3)
        action.decide(interval_of(1), cause="manual")
        action.deliver()
    ours = [
        r.getMessage() for r in caplog.records if not r.name.startswith("mail.")
    ]  # the server's
    assert any("offer" in line for line in ours)
    return "\n".join(ours)


def test_by_webhook(campaign: Campaign, caplog: pytest.LogCaptureFixture) -> None:
    with Receiver([200, 422, 503, 302]) as receiver:
        campaign.set(deliver=receiver.url, allow_private=True, retry_delay="1h")
        text = logged(campaign, caplog)
    assert sorted(campaign.states()) == ["failed", "failed", "pending", "sent", "sent"]
    assert not [each for each in ("@example", "N1001", "N1005", "Dear") if each in text]


def test_by_mail(campaign: Campaign, caplog: pytest.LogCaptureFixture) -> None:
    with MailServer() as server:
        server.answers["c1001@example.com"] = "550 5.1.1 <c1001@example.com> unknown"
        server.answers["c1002@example.com"] = "450 4.2.1 <c1002@example.com> is busy"
        server.data = ["554 5.7.1 no thanks, N1005"]
        campaign.set(
            deliver=server.url, sender="Shop <shop@shop.test>", address="email", retry_delay="1h"
        )
        text = logged(campaign, caplog)
    assert sorted(campaign.states()) == ["bounced", "failed", "pending", "sent", "sent"]
    assert not [each for each in ("@example", "N1001", "N1005", "Dear") if each in text]
