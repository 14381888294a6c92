"""The parent of a stream's processes: it replaces them, and ends with them or before them."""

from __future__ import annotations

import datetime as dt
import itertools
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

import trivet
from support.streams import NOW, Stream, event
from support.toy import Toy, Tripled
from trivet import workers
from trivet.artifacts import set_current
from trivet.counts import CountsFolder
from trivet.current import Source
from trivet.errors import MissingExtra, ModelError, OffsetGone, SettingsError, TrivetError
from trivet.hosts.stream import supervisor
from trivet.hosts.stream.supervisor import Supervisor, metrics_served
from trivet.hosts.stream.worker import Plan
from trivet.results.layout import open_results
from trivet.results.offsets import place

Until = Callable[[Callable[[], bool]], None]


class Toys(Stream):
    """A stream with a model on disk, whose processes are a supervisor's."""

    def save(self, model: object, version: str) -> None:
        trivet.save(model, self.root / "models", name="toy", version=version)
        set_current(self.root / "models" / "toy", version)

    def toys(self, *numbers: int) -> None:
        self.publish(*(event(n, a=float(n), n=0, city="nice") for n in numbers))

    def plan(self, counts: Path, **more: Any) -> Plan:
        return Plan(
            settings=self.made(**{"model": "toy", **more}),
            source=Source("toy", "models/toy", trust=True),
            broker=self.broker,
            results=self.results,
            root=self.root,
            counts=counts,
            json=False,
        )

    def scores(self) -> dict[str, float]:
        if not self.count():
            return {}
        found = self.rows("SELECT ride, score FROM predictions_tips")
        return {row["ride"]: row["score"] for row in found}


class Supervised:
    """A supervisor in a thread, for the length of a ``with`` block."""

    def __init__(self, stream: Toys, **more: Any) -> None:
        self._folder = CountsFolder()
        self.plan = stream.plan(self._folder.path, **more)
        self.supervisor = Supervisor(self.plan)
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="supervisor")

    def __enter__(self) -> Supervised:
        self._folder.__enter__()
        self._thread.start()
        return self

    def __exit__(self, *trouble: Any) -> None:
        self.supervisor.stop()
        self._thread.join(60)
        assert not self._thread.is_alive()
        self._folder.__exit__(*trouble)

    @property
    def is_alive(self) -> bool:
        return self._thread.is_alive()

    def counted(self, line: str) -> bool:
        assert self.plan.counts is not None
        with metrics_served(self.plan.settings, self.plan.counts) as port:
            text = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False).text
        return line in text.splitlines()

    def _run(self) -> None:
        try:
            self.supervisor.run()
        except Exception as error:  # noqa: BLE001 - the test looks at it
            self.error = error


@pytest.fixture
def toys(tmp_path: Path) -> Toys:
    made = Toys(
        tmp_path, f"sqlite:///{tmp_path / 'events.db'}", f"sqlite:///{tmp_path / 'results.db'}"
    )
    made.settings = {"metrics_port": 0}
    made.create()
    made.save(Toy(), "1")
    return made


@pytest.fixture
def in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "BACKOFF", (0.001, 0.01))
    monkeypatch.setattr(supervisor, "END_SECONDS", 0.1)


@pytest.mark.usefixtures("in_a_hurry")
def test_processes_that_die_are_replaced_and_a_new_version_is_taken(
    toys: Toys, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    toys.toys(*range(20))
    with Supervised(toys, workers=2, output="scored", reload="signal") as running:
        until(lambda: len(toys.scores()) == 20 and running.supervisor.is_ready)
        for unheard in (
            'trivet_stream_worker_restarts_total{deployment="tips"}',
            'trivet_stream_model_loads_total{deployment="tips",outcome="refused"}',
            'trivet_stream_retries_total{deployment="tips",what="results"}',
        ):
            assert running.counted(f"{unheard} 0.0"), unheard
        killed = [_replaced(running, until) for _ in range(2)]
        restarts = 'trivet_stream_worker_restarts_total{deployment="tips"} 2.0'
        until(lambda: running.counted(restarts))
        toys.toys(*range(20, 40))
        until(lambda: len(toys.scores()) == 40)
        toys.save(Tripled(), "2")
        running.supervisor.reload()
        more = itertools.count(100)

        def is_renewed() -> bool:
            toys.toys(next(more))  # looked for before the next batch
            return bool(toys.rows("SELECT 1 AS x FROM tips WHERE model_version = '2'"))

        until(is_renewed)
    assert running.error is None
    assert running.supervisor.pids == []
    assert "scoring rides with toy 1 into scored and the view tips" in caplog.text
    assert all(f"process {pid} died (signal 9)" in caplog.text for pid in killed)


def _replaced(running: Supervised, until: Until) -> int:
    victim = running.supervisor.pids[0]
    os.kill(victim, signal.SIGKILL)
    until(lambda: victim not in running.supervisor.pids and running.supervisor.is_ready)
    return victim


def test_a_model_that_is_not_there_is_told(toys: Toys, until: Until) -> None:
    (toys.root / "models" / "toy" / "current").write_text("9")
    with Supervised(toys) as running:
        until(lambda: not running.is_alive)
    assert isinstance(running.error, ModelError)
    assert "toy" in str(running.error)


def test_what_a_new_process_would_only_meet_again_ends_all(toys: Toys, until: Until) -> None:
    with open_results(toys.results) as db:
        place(db, "tips", toys.topic(), {0: 50}, NOW)
    with Supervised(toys) as running:
        until(lambda: not running.is_alive)
    assert isinstance(running.error, OffsetGone)


@pytest.mark.usefixtures("in_a_hurry")
def test_a_process_that_does_not_end_is_killed(
    toys: Toys, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    with Supervised(toys, stop_timeout=dt.timedelta(seconds=0.1)) as running:
        until(lambda: running.supervisor.is_ready)
        [pid] = running.supervisor.pids
        os.kill(pid, signal.SIGSTOP)
    assert running.error is None
    assert f"process {pid} does not end; it is killed" in caplog.text


def test_a_second_stop_kills_at_once(
    toys: Toys, until: Until, caplog: pytest.LogCaptureFixture
) -> None:
    with Supervised(toys) as running:
        until(lambda: running.supervisor.is_ready)
        [pid] = running.supervisor.pids
        os.kill(pid, signal.SIGSTOP)
        running.supervisor.stop()
    assert f"process {pid} does not end; it is killed" in caplog.text


def test_the_metrics_need_a_port_of_their_own(toys: Toys, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        settings = toys.made(metrics_port=taken.getsockname()[1])
        with (
            pytest.raises(SettingsError, match="cannot be bound"),
            metrics_served(settings, tmp_path),
        ):
            pass
    with metrics_served(toys.made(metrics_port=None), tmp_path) as port:
        assert port == 0


def test_the_metrics_need_their_library(
    toys: Toys, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MissingExtra, match="service"), metrics_served(toys.made(), tmp_path):
        pass


def test_a_url_that_no_broker_takes_is_told(toys: Toys, until: Until) -> None:
    toys.broker = "kafka://127.0.0.1:1?no.such.setting=1"
    with Supervised(toys) as running:
        until(lambda: not running.is_alive)
    assert isinstance(running.error, TrivetError)
    assert "no.such.setting" in str(running.error)
