"""Alerts told once and resolved once, by real servers; killed in between at most twice."""

from __future__ import annotations

import datetime as dt
import email
import email.policy
import json
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from support.campaigns import MailServer, Receiver
from support.deployments import Project, day, trips
from support.truths import NOW, Truths
from trivet.alerts import ledger
from trivet.alerts.channels import Channel, channels
from trivet.alerts.look import look, tell
from trivet.alerts.rules import Alert
from trivet.alerts.settings import AlertSettings
from trivet.alerts.watch import Watch, watching
from trivet.errors import AlertNotSent
from trivet.results.asking import asking

WRONG = Alert("rides", "drift", "x has moved", "", 0.4, 0.25)
MINUTE = dt.timedelta(minutes=1)


@pytest.fixture
def truths(results_url: str, tmp_path: Path) -> Iterator[Truths]:
    with Truths.open(results_url, tmp_path) as truths:
        yield truths


class Told:
    """A channel that keeps what it was told, and fails when asked to."""

    def __init__(self) -> None:
        self.states: list[str] = []
        self.fails = False

    def __call__(self, notice: ledger.Notice) -> None:
        if self.fails:
            raise AlertNotSent("no")
        self.states.append(f"{notice.alert.kind} {notice.state}")


def test_raised_once_and_resolved_once(truths: Truths) -> None:
    told, now = Told(), NOW
    for wrong in ([WRONG], [WRONG], [], [], [WRONG]):
        now += 5 * MINUTE
        tell(truths.db, wrong, [told], now)
    assert told.states == ["drift raised", "drift resolved", "drift raised"]
    past = asking(truths.db)("past_alerts", limit=9)
    assert [row["resolved_at"] is None for row in past] == [True, False]
    assert past[0]["value"] == 0.4


def test_what_is_known_of_it_is_kept_up_to_date(truths: Truths) -> None:
    ledger.record(truths.db, [WRONG], NOW)
    ledger.record(truths.db, [Alert("rides", "drift", "it moves on", "", 0.9)], NOW)
    (row,) = asking(truths.db)("open_alerts")
    assert (row["message"], row["value"], row["threshold"]) == ("it moves on", 0.9, None)


def test_what_was_over_before_it_was_told_is_not_told(truths: Truths) -> None:
    told = Told()
    tell(truths.db, [WRONG], [], NOW)
    tell(truths.db, [], [told], NOW + MINUTE)
    assert told.states == []


def test_a_failure_is_tried_again_later_and_later(truths: Truths) -> None:
    told, now = Told(), NOW
    told.fails = True
    assert tell(truths.db, [WRONG], [told], now) == (0, 1)
    assert tell(truths.db, [WRONG], [told], now + MINUTE / 2) == (0, 0)
    assert tell(truths.db, [WRONG], [told], now + 2 * MINUTE) == (0, 1)
    assert tell(truths.db, [WRONG], [told], now + 3 * MINUTE) == (0, 0)
    (row,) = asking(truths.db)("past_alerts", limit=1)
    assert row["error"] == "no"
    told.fails = False
    assert tell(truths.db, [WRONG], [told], now + 9 * MINUTE) == (1, 0)
    assert told.states == ["drift raised"]


def test_two_processes_do_not_tell_of_the_same(truths: Truths) -> None:
    ledger.record(truths.db, [WRONG], NOW)
    (mine,) = ledger.claim(truths.db, NOW)
    assert ledger.claim(truths.db, NOW) == []
    late = NOW + dt.timedelta(seconds=ledger.CLAIM_SECONDS + 1)
    (again,) = ledger.claim(truths.db, late)  # the first one was killed, it seems
    assert again.id == mine.id


def ways(**settings: Any) -> list[Channel]:
    return channels(AlertSettings(**settings), "shop")


def notice(resolved: bool = False) -> ledger.Notice:
    return ledger.Notice(7, WRONG, NOW, NOW + MINUTE if resolved else None, 0)


def test_a_webhook_is_posted_to_with_a_key_of_its_own() -> None:
    with Receiver([503, 200]) as receiver:
        (post,) = ways(webhook=receiver.url)
        post(notice())
        post(notice(resolved=True))
    assert receiver.keys == ["shop-alert-7-raised"] * 2 + ["shop-alert-7-resolved"]
    _, body = receiver.requests[0]
    assert body == {
        "project": "shop",
        "alert": 7,
        "state": "raised",
        "deployment": "rides",
        "kind": "drift",
        "subject": "",
        "message": "x has moved",
        "value": 0.4,
        "threshold": 0.25,
        "raised_at": "2026-02-01T12:30:15.250000Z",
        "at": "2026-02-01T12:30:15.250000Z",
        "text": "[shop] rides: drift raised: x has moved",
    }


def test_what_a_webhook_refuses_is_told_without_its_path() -> None:
    with Receiver([404]) as receiver:
        (post,) = ways(webhook=f"{receiver.url}/secret")
        with pytest.raises(AlertNotSent, match=r"webhook to 127.0.0.1: it answered 404") as told:
            post(notice())
    assert "secret" not in str(told.value)
    (post,) = ways(webhook=receiver.url)  # nobody listens there any more
    with pytest.raises(AlertNotSent, match=r"webhook to 127\.0\.0\.1"):
        post(notice())


def test_a_mail_says_what_and_since_when() -> None:
    with MailServer() as server:
        (mail,) = ways(email=("a@example.com", "b@example.com"), smtp=server.url, sender="t@e.org")
        mail(notice())
        mail(notice(resolved=True))
        server.answers["a@example.com"] = server.answers["b@example.com"] = "550 nobody"
        with pytest.raises(AlertNotSent, match="mail by smtp://"):
            mail(notice())
    assert server.recipients[:2] == ["a@example.com", "b@example.com"]
    first, second = (
        email.message_from_bytes(raw, policy=email.policy.default) for raw in server.mails
    )
    assert first["Subject"] == "[shop] rides: drift raised"
    assert first["Message-ID"] == "<shop-alert-7-raised@e.org>"
    assert "x has moved" in first.get_content()
    assert "over at 2026-02-01 12:31 UTC" in second.get_content()


def test_a_busy_mail_server_is_asked_again() -> None:
    with MailServer() as server:
        server.data = ["451 later"]
        (mail,) = ways(email=("a@example.com",), smtp=server.url, sender="t@e.org")
        mail(notice())
    assert len(server.mails) == 1


@pytest.fixture
def project(tmp_path: Path) -> Project:
    project = Project(tmp_path)
    project.add(trips(1))
    return project


def alerting(project: Project, **section: Any) -> None:
    file = project.write()
    with file.open("a", encoding="utf-8") as toml:
        toml.write("\n" + tomli_w.dumps({"alerts": {"late": "0s", "min_rows": 1} | section}))


def test_the_command_ends_with_1_while_anything_is_wrong(project: Project) -> None:
    project.score(1)
    alerting(project, rejects=0.2)
    done = project.invoke("alerts")
    assert (done.exit_code, done.output) == (0, "nothing is wrong\n")
    project.add(trips(2, city="atlantis"))
    assert project.invoke("score", "toy-scores", "--interval", "2020-01-02").exit_code == 1
    done = project.invoke("alerts")
    assert done.exit_code == 1
    assert "failed" in done.output
    (told,) = project.invoke("alerts", "--json").output.splitlines()
    assert json.loads(told)["kind"] == "failed"
    done = project.invoke("alerts", "--send")
    assert done.exit_code == 2
    assert "set webhook or email" in done.output


def test_the_command_sends(project: Project) -> None:
    with Receiver() as receiver:
        alerting(project, webhook=receiver.url)
        project.add(trips(2, city="atlantis"))
        project.invoke("score", "toy-scores", "--interval", "2020-01-02")
        for _ in range(2):
            assert project.invoke("alerts", "--send").exit_code == 1
        project.change("UPDATE trips SET city = 'nice'")
        project.invoke("score", "toy-scores", "--interval", "2020-01-02")
        for _ in range(2):
            assert project.invoke("alerts", "--send").exit_code == 0
    assert [body["state"] for _, body in receiver.requests] == ["raised", "resolved"]


def test_killed_between_telling_and_writing_it_down(
    project: Project, until: Callable[[Callable[[], bool]], None]
) -> None:
    """The window in which one message can come twice, and what its receiver knows it by."""
    arrived, go_on = threading.Event(), threading.Event()

    class Slow(Receiver):
        pass

    with Slow() as receiver:
        held = receiver.requests

        class Held(list[Any]):
            def append(self, item: Any) -> None:
                held.append(item)
                arrived.set()
                go_on.wait(60)

        receiver.requests = Held()
        alerting(project, webhook=receiver.url)
        project.add(trips(2, city="atlantis"))
        project.invoke("score", "toy-scores", "--interval", "2020-01-02")
        with project.start("alerts", "--send") as process:
            assert arrived.wait(60)
            process.send_signal(signal.SIGKILL)
        go_on.set()
        receiver.requests = held
        project.invoke("alerts", "--send")  # still claimed by the one that was killed
        with project.open_results() as db:
            assert asking(db)("open_alerts")[0]["sent_at"] is None
            db.execute("UPDATE trivet_alerts SET claimed_until = 1")
        for _ in range(2):
            project.invoke("alerts", "--send")
    assert len(held) == 2
    assert len({headers["Idempotency-Key"] for headers, _ in held}) == 1


def watch(truths: Truths, *told: Channel, **more: Any) -> Watch:
    return Watch(
        root=truths.root,
        results=truths.db.url,
        alerts=AlertSettings(min_rows=1),
        limits={},
        channels=list(told),
        stop=threading.Event(),
        clock=lambda: truths.now,
        **{"actuals": []} | more,
    )


def test_a_round_pulls_measures_and_tells(truths: Truths) -> None:
    import pyarrow as pa

    truths.register(schedule="")
    columns = {"ride": pa.array([1]), "zone": pa.array(["a"]), "minutes": pa.array([9.0])}
    truths.score(0, **columns)
    truths.arrive(ride=[1], minutes=[4.0], at=["2026-01-01"])
    by_day = "SELECT * FROM truth WHERE at >= $interval_start AND at < $interval_end"
    told = Told()
    each = watch(truths, told, actuals=[truths.settings(by_day)])
    assert each.round()
    assert told.states == ["quality raised"]
    truths.score(1, **columns)
    assert each.round()
    assert len(truths.groups()) == 1  # not every round pulls
    each.wake("rides")
    assert each.round()
    assert len(truths.groups()) == 1  # of that day no truth has come
    truths.now += dt.timedelta(hours=2)
    assert each.round()


def test_what_fails_in_a_round_does_not_stop_the_rest(truths: Truths) -> None:
    told = Told()
    each = watch(truths, told, actuals=[truths.settings("SELECT * FROM nowhere")])
    assert not each.round()
    broken = watch(truths, told)
    broken.results = "duckdb:///x.duckdb"
    assert not broken.round()


def test_a_watch_follows_until_it_is_told_to_stop(
    truths: Truths, until: Callable[[Callable[[], bool]], None]
) -> None:
    truths.register(schedule="")
    truths.fail(0)
    told = Told()
    each = watch(truths, told)
    with watching(each):
        until(lambda: told.states == ["failed raised"])
        each.wake("rides")
    assert each.stop.is_set()
    idle = watch(truths)
    with watching(idle):
        pass
    assert not idle.stop.is_set()


def test_the_schedule_pulls_and_tells(project: Project) -> None:
    yesterday = dt.datetime.now(dt.UTC).date() - dt.timedelta(days=1)
    noon = dt.datetime.combine(yesterday, dt.time(12), dt.UTC)
    project.add(trips(2, at=noon))
    project.batch |= {"start": yesterday}
    with Receiver() as receiver:
        alerting(project, webhook=receiver.url, quality=0.1)
        with (project.root / "trivet.toml").open("a", encoding="utf-8") as toml:
            section = {
                "source": project.source,
                "query": "SELECT trip_id, a AS truth FROM trips "
                "WHERE at >= $interval_start AND at < $interval_end",
                "value": "truth",
                "alert": ["mae > 0.5"],
            }
            toml.write("\n" + tomli_w.dumps({"actuals": {project.name: section}}))
        assert project.invoke("schedule", "--once").exit_code in (0, 1)
    assert "quality" in [body["kind"] for _, body in receiver.requests]
    done = project.invoke("actuals")
    assert "0 true values pulled" in done.output
    span = ("--from", f"{yesterday}", "--to", f"{yesterday}")
    done = project.invoke("actuals", project.name, *span)
    assert "5 true values pulled" in done.output
    assert project.invoke("actuals", "nobody").exit_code != 0


def test_look_finds_what_the_command_shows(truths: Truths) -> None:
    truths.register(schedule="")
    truths.fail(0, error="out of order")
    (alert,) = look(truths.db, AlertSettings(), {}, NOW)
    assert "out of order" in alert.message
    assert day(1)
