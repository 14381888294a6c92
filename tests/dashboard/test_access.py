"""Who may look, and what a browser may do with what it gets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.dashboards import Dash
from trivet.dashboard.settings import DashboardSettings

TOKEN = "a-token-of-some-length"


@pytest.fixture
def guarded(filled_sqlite: str, vega: Path) -> Iterator[Dash]:
    with Dash(filled_sqlite, vega, DashboardSettings(token=TOKEN)).serving() as dash:
        yield dash


@contextmanager
def behind(header: str, url: str, vega: Path, **more: Any) -> Iterator[Dash]:
    with Dash(url, vega, DashboardSettings(user_header=header, **more)).serving() as dash:
        yield dash


def test_every_answer_forbids_inline_scripts_and_other_hosts(dash: Dash) -> None:
    for path in ("/", "/nowhere", "/static/trivet.js", "/health", "/runs/999"):
        headers = dash.client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
        assert headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost.evil"])
def test_a_name_that_was_made_to_resolve_here_gets_nothing(dash: Dash, host: str) -> None:
    assert dash.client.get("/", headers={"Host": host}).status_code == 421


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8090", "[::1]:8090", "LOCALHOST"])
def test_this_machine_has_several_names(dash: Dash, host: str) -> None:
    assert dash.client.get("/health", headers={"Host": host}).status_code == 200


def test_without_the_token_there_is_a_form(guarded: Dash) -> None:
    answer = guarded.client.get("/runs?state=failed")
    assert answer.status_code == 303
    form = guarded.client.get(answer.headers["location"])
    assert 'value="/runs?state=failed"' in form.text
    assert guarded.client.get("/live", headers={"Accept": "*/*"}).status_code == 401


def test_the_token_opens_by_form_cookie_and_header(guarded: Dash) -> None:
    wrong = guarded.client.post("/login", data={"token": "wrong", "to": "/runs"})
    assert wrong.status_code == 401
    assert "That is not the token" in wrong.text
    right = guarded.client.post("/login", data={"token": TOKEN, "to": "/runs?state=failed"})
    assert right.status_code == 303
    assert right.headers["location"] == "/runs?state=failed"
    assert TOKEN not in right.headers["set-cookie"]
    assert "HttpOnly" in right.headers["set-cookie"]
    assert guarded.client.get("/runs").status_code == 200  # the client keeps the cookie
    guarded.client.cookies.clear()
    bearer = {"Authorization": f"Bearer {TOKEN}"}
    assert guarded.client.get("/runs", headers=bearer).status_code == 200
    assert guarded.client.get("/runs", headers={"Authorization": "Bearer no"}).status_code == 303


@pytest.mark.parametrize("to", ["//evil.example", "https://evil.example", "/\\evil.example", ""])
def test_the_form_leads_to_no_other_host(guarded: Dash, to: str) -> None:
    answer = guarded.client.post("/login", data={"token": TOKEN, "to": to})
    assert answer.headers["location"] == "/"


def test_a_form_that_is_too_long_is_refused(guarded: Dash) -> None:
    answer = guarded.client.post("/login", data={"token": TOKEN, "to": "/" + "x" * 5000})
    assert answer.status_code == 401


def test_a_proxy_names_the_user(filled_sqlite: str, vega: Path) -> None:
    with behind("X-Forwarded-User", filled_sqlite, vega) as dash:
        assert dash.client.get("/").status_code == 403
        answer = dash.client.get("/", headers={"X-Forwarded-User": "Ada <b>"})
        assert answer.status_code == 200
        assert "Ada &lt;b&gt;" in answer.text


def test_who_comes_past_the_proxy_needs_the_token(filled_sqlite: str, vega: Path) -> None:
    with behind("X-Forwarded-User", filled_sqlite, vega, token=TOKEN) as dash:
        assert dash.client.get("/").status_code == 303
        assert dash.client.get("/", headers={"X-Forwarded-User": "Ada"}).status_code == 200
        bearer = {"Authorization": f"Bearer {TOKEN}"}
        assert dash.client.get("/", headers=bearer).status_code == 200


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"host": "0.0.0.0"}, "host: 0.0.0.0 can be reached"),
        ({"token": "short"}, "token: write 16 characters"),
        ({"port": 70_000}, "port:"),
    ],
)
def test_settings_that_let_anyone_in_are_refused(given: dict[str, str], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        DashboardSettings(**given)  # type: ignore[arg-type]
    assert DashboardSettings(host="0.0.0.0", token=TOKEN).is_private is False
