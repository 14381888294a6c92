"""The dashboard's process: one worker, until told to stop."""

from __future__ import annotations

import socket
from collections.abc import Callable
from types import FrameType

import uvicorn

from trivet.dashboard.app import Surroundings, create_app
from trivet.dashboard.live import Watch

_GRACE_SECONDS = 3


class _Server(uvicorn.Server):
    """Ends the streams of open pages first: they would last for ever."""

    def __init__(self, config: uvicorn.Config, streams: Watch) -> None:
        super().__init__(config)
        self._streams = streams

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._streams.stop()
        super().handle_exit(sig, frame)


def bind(host: str, port: int) -> socket.socket:
    """Listen on an address.

    Raises:
        OSError: It is taken, or none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
        listening.listen(128)
    except OSError:
        listening.close()
        raise
    return listening


def run(around: Surroundings, listening: socket.socket, ready: Callable[[], None]) -> None:
    """Serve the pages until SIGTERM or SIGINT."""
    app = create_app(around)
    config = uvicorn.Config(
        app,
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
        http="httptools",
    )
    server = _Server(config, app.state.watch)
    ready()
    server.run(sockets=[listening])
