"""Who is asking: a cookie that only this application can make, and the fleet's token."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from pathlib import Path

COOKIE = "session"
FLEET = "fleet"
"""The user that the fleet's rides belong to."""


class Sessions:
    """Makes and reads session cookies.

    A cookie is a random name and a keyed hash of it, so nothing has to be stored to know it again,
    and nobody gets around the rate limit by making some up.

    Args:
        secret: The key; who has it can be anybody.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def new(self) -> str:
        """Return a cookie for a new user."""
        name = secrets.token_hex(16)
        return f"{name}.{self._sign(name)}"

    def user(self, cookie: str | None) -> str | None:
        """Return whose cookie it is, or None if it is not one of ours."""
        name, _, signature = (cookie or "").partition(".")
        right = cookie is not None and cookie.isascii()
        return name if right and hmac.compare_digest(signature, self._sign(name)) else None

    def _sign(self, name: str) -> str:
        return hmac.new(self._secret, name.encode(), hashlib.sha256).hexdigest()


def keep_secret(path: Path) -> str:
    """Return the secret in a file that only its owner reads; made at the first start."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        draft.touch(mode=0o600)
        draft.write_text(secrets.token_hex(32), encoding="ascii")
        try:
            path.hardlink_to(draft)  # fails if another process was faster: then its secret counts
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text(encoding="ascii").strip()
