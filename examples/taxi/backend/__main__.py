"""Start the taxi company's backend.

python -m backend --port 8000 --service http://127.0.0.1:8080
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from types import FrameType

import uvicorn

from backend.app import Rules, Taxi, application
from backend.estimates import Estimates, Usual
from backend.live import Live
from backend.news import News
from backend.outbox import Outbox
from backend.sessions import Sessions, keep_secret
from backend.storage import Database

DATA = Path(__file__).parents[1] / "data"

_SWITCH_SECONDS = 0.001
"""How long the threads that write may keep the one that answers from its next step."""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("backend", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--service", default="http://127.0.0.1:8080", help="address of the models")
    parser.add_argument("--broker", default="sqlite:///data/events.db", help="url of the broker")
    parser.add_argument("--partitions", type=int, default=1, help="of a topic that is made")
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the rides and secrets")
    parser.add_argument("--deadline", type=float, default=0.25, help="seconds for an estimate")
    parser.add_argument("--time-lapse", type=float, default=1.0, help="ride minutes in a minute")
    return parser.parse_args()


def main() -> None:
    """Run until stopped."""
    chosen = arguments()
    sys.setswitchinterval(_SWITCH_SECONDS)
    outbox = Outbox(chosen.broker, chosen.partitions)
    database = Database(chosen.data / "rides.db", outbox.wake)
    usual = Usual.read(chosen.data / "usual.json")
    estimates = Estimates(chosen.service, usual, chosen.deadline)
    live = Live()
    taxi = Taxi(
        database,
        estimates,
        live,
        Sessions(keep_secret(chosen.data / "session.secret").encode()),
        keep_secret(chosen.data / "fleet.token"),
        Rules(time_lapse=chosen.time_lapse),
    )
    news = News(chosen.broker, database, live, chosen.partitions)

    @asynccontextmanager
    async def calling() -> AsyncIterator[None]:
        async with estimates:
            yield

    @asynccontextmanager
    async def working() -> AsyncIterator[None]:
        outbox.start(database)
        news.start(asyncio.get_running_loop())
        try:
            yield
        finally:
            await asyncio.to_thread(news.stop)
            await asyncio.to_thread(outbox.stop)

    around: list[Callable[[], AbstractAsyncContextManager[None]]] = [calling, working]
    config = uvicorn.Config(
        application(taxi, around),
        host=chosen.host,
        port=chosen.port,
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=10,
    )
    try:
        _Server(config, live).run()
    finally:
        database.close()


class _Server(uvicorn.Server):
    """Ends the open pages' streams when it is to stop; otherwise it would wait for them."""

    def __init__(self, config: uvicorn.Config, live: Live) -> None:
        super().__init__(config)
        self._live = live

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._live.close()
        if sig == signal.SIGTERM:
            self.should_exit = True
        else:
            super().handle_exit(sig, frame)


if __name__ == "__main__":
    main()
