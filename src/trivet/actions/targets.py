"""``deliver`` taken apart: over which channel a delivery goes, and where."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import unquote, urlsplit

Channel = Literal["smtp", "webhook", "topic", "file"]

_CHANNELS: dict[str, Channel] = {
    "smtp": "smtp",
    "smtps": "smtp",
    "http": "webhook",
    "https": "webhook",
    "topic": "topic",
    "file": "file",
}
_PORTS = {"smtp": 587, "smtps": 465, "http": 80, "https": 443}
_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,200}")


@dataclass(frozen=True, slots=True)
class Target:
    """Where deliveries go.

    Attributes:
        channel: The kind of delivery.
        scheme: As the url has it.
        host: Of a server.
        port: Of a server.
        path: A webhook's path and query, a topic's name or a folder.
        user: For a mail server, or the user of a webhook.
        password: The same user's.
    """

    channel: Channel
    scheme: str
    host: str = ""
    port: int = 0
    path: str = ""
    user: str = ""
    password: str = field(default="", repr=False)

    @classmethod
    def of(cls, url: str) -> Target:
        """Take a url apart.

        Raises:
            ValueError: It is none of the kinds that there are; never with the url's password.
        """
        scheme, colon, rest = url.partition(":")
        channel = _CHANNELS.get(scheme)
        if not colon or channel is None:
            raise ValueError("write smtp://…, smtps://…, https://…, topic:NAME or file:FOLDER")
        if channel == "topic":
            if not _TOPIC.fullmatch(rest):
                raise ValueError("write topic:NAME, with letters, digits, '.', '_' and '-'")
            return cls(channel, scheme, path=rest)
        if channel == "file":
            if not rest.strip("/"):
                raise ValueError("write file:FOLDER, the folder that gets a file a delivery")
            return cls(channel, scheme, path=rest)
        try:
            parts = urlsplit(url)
            port = parts.port or _PORTS[scheme]
        except ValueError:
            raise ValueError(f"it is no {scheme} url; write {scheme}://host:port/path") from None
        if not parts.hostname:
            raise ValueError(f"it names no host; write {scheme}://host:port/path")
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        return cls(
            channel,
            scheme,
            host=parts.hostname,
            port=port,
            path=path,
            user=unquote(parts.username or ""),
            password=unquote(parts.password or ""),
        )
