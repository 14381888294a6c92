"""Who calls: those who have one of the service's keys, under an id of their own if they want."""

from __future__ import annotations

import base64
import hmac
from binascii import Error as NotBase64
from collections.abc import Mapping, Sequence

from trivet.hosts.service.faults import Refused


def admit(found: Mapping[bytes, bytes], keys: Sequence[bytes]) -> None:
    """Let a caller in who has one of the keys; every key is compared, in constant time.

    Args:
        found: The request's headers.
        keys: The service's keys.

    Raises:
        Refused: The caller has none of them.
    """
    given = found.get(b"x-api-key", b"")
    scheme, _, credentials = found.get(b"authorization", b"").partition(b" ")
    if not given and scheme.lower() == b"bearer":
        given = credentials.strip()
    elif not given and scheme.lower() == b"basic":  # a browser on /docs
        try:
            given = base64.b64decode(credentials, validate=True).partition(b":")[2]
        except NotBase64:
            given = b""
    if not sum(hmac.compare_digest(given, known) for known in keys):
        raise Refused(
            "unauthorized", "send one of the service's keys as X-API-Key or as a Bearer token"
        )


def id_of(given: bytes | None) -> str | None:
    """Return the caller's id of a request if it is a plain one."""
    if given is not None and 0 < len(given) <= 128 and given.isascii():
        name = given.decode("ascii")
        if name.isprintable():
            return name
    return None
