"""Whether a process answers."""

from __future__ import annotations

import http.client
import socket
import ssl
from urllib.parse import urlsplit


def answers(url: str, timeout: float) -> bool:
    """Say whether something answers at an http(s) or tcp url, with a status below 400.

    A certificate is not checked: what is asked is a process of this machine that was just
    started, often by another name than its certificate has.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        if parts.scheme == "tcp":
            socket.create_connection((host, parts.port or 0), timeout).close()
            return True
        connection = (
            http.client.HTTPSConnection(
                host,
                parts.port,
                timeout=timeout,
                context=ssl._create_unverified_context(),  # noqa: S323
            )
            if parts.scheme == "https"
            else http.client.HTTPConnection(host, parts.port, timeout=timeout)
        )
        try:
            target = parts.path or "/"
            connection.request("GET", f"{target}?{parts.query}" if parts.query else target)
            return connection.getresponse().status < 400
        finally:
            connection.close()
    except (OSError, http.client.HTTPException):
        return False
