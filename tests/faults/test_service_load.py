"""The service under steady load while its processes are killed, it is stopped, its results go."""

from __future__ import annotations

import datetime as dt
import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from faults.places import short_or_soak
from support.postgres import PostgresServer
from support.service_server import Service, wait_until
from trivet.current import Source
from trivet.databases import connect

SEED = 20200704
CLIENTS = 8
QUICK = Source("quick", "support.service_toys:Doubling")


class Load:
    """Clients that send one row after the other, each over a connection that it keeps.

    Attributes:
        statuses: Answers by status.
        lost: Requests whose connection broke.
        wrong: Answers that are not those of their rows.
        left: Clients that were told to close their connection, and went.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(CLIENTS)]
        self.statuses: Counter[int] = Counter()
        self.lost = 0
        self.left = 0
        self.wrong: list[str] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        for thread in self._threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in self._threads:
                thread.join()

    @property
    def sent(self) -> int:
        return self.statuses.total() + self.lost

    def more(self, count: int) -> None:
        """Wait until so many more requests have ended."""
        goal = self.sent + count
        wait_until(lambda: self.sent >= goal)

    def _run(self, number: int) -> None:
        draw = random.Random(SEED + number)
        with self._service.client() as client:
            while not self._stop.is_set():
                x = draw.randrange(900)
                try:
                    answer = client.post("/predict/quick", json={"x": x})
                except httpx.TransportError:
                    with self._lock:
                        self.lost += 1
                    continue
                with self._lock:
                    self.statuses[answer.status_code] += 1
                    if answer.json().get("prediction") != {"y": 2.0 * x}:
                        self.wrong.append(f"{x}: {answer.text}")
                if answer.headers.get("connection") == "close":
                    with self._lock:
                        self.left += 1
                    return


AT_ONCE = 5
"""So many kills a service has to bear: with more, it waits longer and longer to replace one."""


@short_or_soak(1, 10)
def test_a_killed_process_loses_only_what_it_held(tmp_path: Path, count: int) -> None:
    draw = random.Random(SEED)
    for number in range(count):
        root = tmp_path / str(number)
        root.mkdir()
        with Service(root, [QUICK], workers=2) as service:
            load = Load(service)
            with load.running():
                for _ in range(AT_ONCE if count > 1 else 3):
                    load.more(50)
                    before = load.lost
                    killed = draw.choice(service.supervisor.pids)
                    os.kill(killed, signal.SIGKILL)
                    service.until(
                        lambda s=service.supervisor, k=killed: s.is_ready and k not in s.pids  # type: ignore[misc]
                    )
                    # A client has one request under way, so each can lose one, or find once that
                    # its idle connection is gone.
                    assert load.lost - before <= CLIENTS
                load.more(50)
        print(f"\nseed {SEED}: service {number}, {dict(load.statuses)}, {load.lost} lost")
        assert set(load.statuses) == {200}
        assert not load.wrong


def test_a_stop_signal_loses_nothing(tmp_path: Path) -> None:
    with Service(tmp_path, [QUICK], workers=2, stop_delay=dt.timedelta(seconds=5)) as service:
        load = Load(service)
        with load.running():
            load.more(200)
            service.supervisor.stop()
            wait_until(lambda: load.left == CLIENTS)
    assert (set(load.statuses), load.lost, load.wrong) == ({200}, 0, [])


@short_or_soak(1, 60)
def test_results_that_are_away_cost_no_request_and_no_row(
    own_postgres: Callable[[], PostgresServer], tmp_path: Path, count: int
) -> None:
    server = own_postgres()
    url = server.new_database()
    more = {"log": "results", "log_queue": 1_000_000}
    with Service(tmp_path, [QUICK], results=url, **more) as service:
        load = Load(service)
        with load.running():
            service.until(lambda: service.counted("trivet_log_rows_total", outcome="written") > 0)
            server.stop(immediate=True)
            threading.Event().wait(count)  # how long it is away is what is tested
            load.more(50)
            server.start()
            load.more(50)
        sent = load.sent
        service.until(
            lambda: (
                service.counted("trivet_log_rows_total", outcome="written")
                + service.counted("trivet_log_rows_total", outcome="repeated")
                >= sent
            )
        )
        assert service.counted("trivet_log_rows_total", outcome="dropped") == 0
    print(f"\n{count} s without results: {dict(load.statuses)}, {load.lost} lost")
    assert (set(load.statuses), load.lost, load.wrong) == ({200}, 0, [])
    with connect(url) as db:
        assert db.rows("SELECT count(*) AS n FROM service_quick")["n"].to_pylist() == [sent]
