"""Ports that are in use, found before anything starts."""

from __future__ import annotations

import socket
from collections.abc import Iterable
from contextlib import suppress

import psutil

from trivet.up.plan import Port, Process


def taken(processes: Iterable[Process]) -> list[str]:
    """Return one line for each port of some processes that they will not get."""
    found: list[str] = []
    wanted: dict[int, Port] = {}
    for port in (port for process in processes for port in process.ports):
        other = wanted.setdefault(port.number, port)
        if other is not port:
            found.append(
                f"{port.key}: {other.key} is {port.number} as well; give one of them another port"
            )
        elif reason := _unavailable(port):
            found.append(f"{port.key}: {port.host}:{port.number} {reason}")
    return found


def _unavailable(port: Port) -> str:
    try:
        kind, _, _, _, address = socket.getaddrinfo(
            port.host, port.number, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        return f"is no address of this machine: {error.strerror}"
    with socket.socket(kind, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError as error:
            who = _holder(port.number)
            return f"cannot be bound: {error.strerror}{who}; stop that, or write another port"
    return ""


def _holder(number: int) -> str:
    """Name the process that listens on a port, if this user may know."""
    with suppress(psutil.Error):
        for each in psutil.net_connections("tcp"):
            listening = each.status == psutil.CONN_LISTEN
            if listening and each.laddr and each.laddr.port == number and each.pid:
                return f" by {psutil.Process(each.pid).name()} (process {each.pid})"
    return ""
