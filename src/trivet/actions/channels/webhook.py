"""Deliveries as POST requests, to an address that was looked at first.

A name is resolved here, its addresses are checked, and the request goes to the very address that
was checked: a name that resolves otherwise a moment later (DNS rebinding) changes nothing. Neither
redirects nor the environment's proxies are followed.
"""

from __future__ import annotations

import base64
import datetime as dt
import email.utils
import ipaddress
import socket
import ssl
from collections.abc import Callable, Sequence

from trivet.actions.channels import IDEMPOTENCY_KEY, Message
from trivet.actions.targets import Target
from trivet.errors import ActionError, DeliveryDelayed, DeliveryRefused, MissingExtra

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolve = Callable[[str, int], Sequence[str]]

SECONDS = 20.0
_PASSING = frozenset({408, 409, 423, 425, 429})
"""Refusals that say "not now": a 409 to an idempotency key means that its twin is under way."""

_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_SMALL = 4096
_LONGEST_WAIT = 3600.0


class Webhook:
    """A receiver of POST requests.

    Args:
        target: Where.
        token: Its bearer token, if it wants one.
        allow_private: Whether it may be on a private network.
        resolve: Gives the addresses of a host.

    Raises:
        MissingExtra: The library is not installed.
    """

    most = 1

    def __init__(
        self, target: Target, token: str, *, allow_private: bool, resolve: Resolve | None = None
    ) -> None:
        try:
            import httpx  # noqa: PLC0415 - an extra, loaded where it is used
        except ImportError as error:
            raise MissingExtra("delivery to a webhook", "actions") from error
        self._failures = httpx.HTTPError
        self._target = target
        self._allow_private = allow_private
        self._resolve = resolve or _addresses
        host = f"[{target.host}]" if ":" in target.host else target.host
        usual = target.port == {"http": 80, "https": 443}[target.scheme]
        self._headers = {
            "Host": host if usual else f"{host}:{target.port}",
            "Content-Type": "application/json",
            "User-Agent": "trivet",
        }
        if token:
            self._headers["Authorization"] = f"Bearer {token}"
        elif target.user:
            pair = base64.b64encode(f"{target.user}:{target.password}".encode()).decode()
            self._headers["Authorization"] = f"Basic {pair}"
        self._client = httpx.Client(
            verify=ssl.create_default_context(),
            timeout=SECONDS,
            trust_env=False,
            follow_redirects=False,
        )

    def look(self) -> str:
        return f"{self._target.host} is {self._checked()}"

    def send(self, messages: Sequence[Message]) -> None:
        for message in messages:
            self._post(message)

    def close(self) -> None:
        self._client.close()

    def _post(self, message: Message) -> None:
        target, address = self._target, self._checked()
        host = f"[{address}]" if address.version == 6 else str(address)
        request = self._client.build_request(
            "POST",
            f"{target.scheme}://{host}:{target.port}{target.path or '/'}",
            content=message.payload(),
            headers=self._headers | {IDEMPOTENCY_KEY: message.id},
            extensions={"sni_hostname": target.host},
        )
        try:
            response = self._client.send(request, stream=True)
            try:
                if int(response.headers.get("content-length", _SMALL + 1)) <= _SMALL:
                    response.read()  # so that the connection serves again
            finally:
                response.close()
        except self._failures as error:
            raise DeliveryDelayed(f"{target.host}: {type(error).__name__}") from None
        status = response.status_code
        if 200 <= status < 300:
            return
        # Not a word of the answer's body: it may quote the message.
        if status >= 500 or status in _PASSING:
            raise DeliveryDelayed(f"HTTP {status}", _asked(response.headers.get("retry-after")))
        where = "; redirects are not followed" if 300 <= status < 400 else ""
        raise DeliveryRefused(f"HTTP {status}{where}")

    def _checked(self) -> Address:
        target = self._target
        try:
            found = [ipaddress.ip_address(a) for a in self._resolve(target.host, target.port)]
        except OSError as error:
            raise DeliveryDelayed(f"{target.host}: {error.strerror}") from error
        if not self._allow_private:
            private = [address for address in found if not is_public(address)]
            if private:
                raise ActionError(
                    f"deliver: {target.host} is {private[0]}, on a private network; "
                    "write allow_private = true if that is meant"
                )
        return found[0]


def is_public(address: Address) -> bool:
    """Say whether an address is one of the open internet, whatever form it hides in."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast


def _addresses(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(place[0]).partition("%")[0] for *_, place in found]


def _asked(retry_after: str | None) -> float:
    """Return the seconds that a receiver asks to wait, an hour at most."""
    text = (retry_after or "").strip()
    if text.isdecimal():
        return min(float(text), _LONGEST_WAIT)
    try:
        moment = email.utils.parsedate_to_datetime(text)
        wait = (moment - dt.datetime.now(dt.UTC)).total_seconds()
    except (TypeError, ValueError):
        return 0.0
    return min(max(wait, 0.0), _LONGEST_WAIT)
