"""``trivet consume``, ``dead`` and ``asyncapi`` in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import tomli_w
from click.testing import CliRunner

import trivet
from support.toy import Toy, Tripled
from trivet import brokers
from trivet.artifacts import set_current
from trivet.cli import trivet as command
from trivet.databases import connect

Until = Callable[[Callable[[], bool]], None]


class Shop:
    """A project with one stream."""

    def __init__(self, root: Path, port: int) -> None:
        self.root = root
        self.port = port
        self.save(Toy(), "1")
        section = {"model": "toy", "topic": "rides", "key": ["ride"], "metrics_port": port}
        document: dict[str, Any] = {
            "models": {"toy": {"uri": "models/toy", "trust": True}},
            "stream": {"scores": section},
        }
        (root / "trivet.toml").write_text(tomli_w.dumps(document), encoding="utf-8")
        with closing(self.broker()) as broker:
            broker.create("rides", 2)

    def save(self, model: object, version: str) -> None:
        trivet.save(model, self.root / "models", name="toy", version=version)
        set_current(self.root / "models" / "toy", version)

    def broker(self) -> Any:
        return brokers.connect("sqlite:///data/events.db", self.root)

    def publish(self, *rows: dict[str, Any]) -> None:
        with closing(self.broker()) as broker:
            appender = broker.appender()
            for row in rows:
                whole = {
                    "specversion": "1.0",
                    "id": str(row["ride"]),
                    "source": "/s",
                    "type": "t",
                    "data": row,
                }
                appender.append("rides", str(row["ride"]).encode(), json.dumps(whole).encode())
            assert appender.flush(30) == 0
            appender.close()

    def start(self, *arguments: str, process_group: int | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "trivet", "--file", str(self.root), *arguments],
            stderr=subprocess.PIPE,
            text=True,
            process_group=process_group,
        )

    def invoke(self, *arguments: str) -> Any:
        return CliRunner().invoke(command, ["--file", str(self.root), *arguments])

    def scores(self) -> dict[str, float]:
        try:
            with connect("sqlite:///data/results.db", root=self.root) as db:
                rows = db.rows("SELECT ride, score FROM predictions_scores").to_pylist()
        except Exception:  # noqa: BLE001 - not there yet
            return {}
        return {row["ride"]: row["score"] for row in rows}


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return Shop(tmp_path, port)


def row(number: int, **changes: Any) -> dict[str, Any]:
    return {"ride": number, "a": float(number), "n": 0, "city": "nice"} | changes


def test_ctrl_c_is_the_parents_to_hear(shop: Shop, until: Until) -> None:
    """A terminal sends it to every process of the command."""
    shop.publish(row(1))
    with shop.start("consume", "scores", process_group=0) as process:
        until(lambda: len(shop.scores()) == 1)
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 0
    assert "KeyboardInterrupt" not in said
    assert "into the view scores" in said


def test_consume_replaces_what_dies_and_ends_politely(shop: Shop, until: Until) -> None:
    shop.publish(*(row(n) for n in range(1, 21)), row(30, a=913.0), row(31, a=-1.0))
    with shop.start("consume", "scores", "--workers", "2") as process:
        try:
            until(lambda: len(shop.scores()) == 20)
            parent = psutil.Process(process.pid)
            workers = [c.pid for c in parent.children() if "spawn_main" in " ".join(c.cmdline())]
            assert len(workers) == 2
            os.kill(workers[0], signal.SIGKILL)
            shop.publish(*(row(n) for n in range(100, 120)))
            until(lambda: len(shop.scores()) == 40)
            url = f"http://127.0.0.1:{shop.port}/metrics"

            def told(what: str) -> bool:
                text = httpx.get(url, trust_env=False).text
                return any(line.startswith(what) for line in text.splitlines())

            def told_version(version: str) -> bool:
                shop.publish(row(1))  # looked for before the next batch; a duplicate counts once
                text = httpx.get(url, trust_env=False).text
                return f'version="{version}"}} 1' in text

            until(lambda: told('trivet_stream_worker_restarts_total{deployment="scores"} 1'))
            until(lambda: told('trivet_stream_workers{deployment="scores"} 2'))
            assert httpx.get(url.replace("metrics", "x"), trust_env=False).status_code == 404

            shop.save(Tripled(), "2")
            process.send_signal(signal.SIGHUP)
            until(lambda: told_version("2"))
            found = shop.invoke("dead", "list", "scores")
            assert "913 brings bad luck" in found.output
            assert "range" in found.output
            lines = shop.invoke("dead", "list", "scores", "--json").output.splitlines()
            letter = next(json.loads(x) for x in lines if json.loads(x)["id"] == "30")
            place = f"rides/{letter['partition_number']}/{letter['event_offset']}"
            shown = shop.invoke("dead", "show", "scores", place)
            assert '"a": 913.0' in shown.output
            replayed = shop.invoke("dead", "replay", "scores", place)
            assert replayed.output == "scores: 1 events sent again\n"
            until(lambda: shop.scores().get("30") == 3 * 913.0)
        finally:
            process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    with closing(shop.broker()) as broker:
        assert sum(lag.events for lag in broker.lag("rides", "scores")) == 0


def test_what_cannot_start_says_why(shop: Shop) -> None:
    assert shop.invoke("consume", "scoers").exit_code != 0
    wrong = shop.invoke("consume", "scores", "--from", "soon")
    assert "is no place in a topic" in wrong.output
    (shop.root / "models" / "toy" / "current").write_text("9")
    with shop.start("consume", "scores") as process:
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "toy" in err


def test_dead_letters_that_are_none(shop: Shop) -> None:
    assert shop.invoke("dead", "list", "scores").output == "scores: no dead letters\n"
    assert "names no event" in str(shop.invoke("dead", "show", "scores", "here").exception)
    assert "no dead letter rides/0/7" in str(
        shop.invoke("dead", "show", "scores", "rides/0/7").exception
    )
    assert "name events" in shop.invoke("dead", "replay", "scores").output
    assert shop.invoke("dead", "replay", "scores", "--all").output.startswith("scores: 0 events")


def test_asyncapi_is_json(shop: Shop) -> None:
    made = json.loads(shop.invoke("asyncapi").output)
    assert made["channels"].keys() == {"rides", "scores.dead"}
