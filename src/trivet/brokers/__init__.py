"""Brokers: events kept in order, for as many readers as like."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from trivet.errors import MissingExtra, UnsupportedBroker

if TYPE_CHECKING:
    from trivet.brokers.base import Broker

_KNOWN = {
    "sqlite": ("trivet.brokers.embedded", "EmbeddedBroker", ""),
    "kafka": ("trivet.brokers.kafka", "KafkaBroker", "kafka"),
}
"""By scheme: the module, its class, and the extra that it needs."""


def connect(url: str, root: Path = Path()) -> Broker:
    """Connect to a broker.

    Args:
        url: ``sqlite:///data/events.db`` or ``kafka://host:9092``, with parameters.
        root: The folder that a relative path starts from.

    Raises:
        UnsupportedBroker: No broker is known for its scheme.
        MissingExtra: The broker's library is not installed.
        BrokerUnavailable: The broker cannot be reached.
    """
    scheme, separator, _ = url.partition("://")
    if not separator or scheme not in _KNOWN:
        raise UnsupportedBroker(
            f"{place(url)!r} is no broker url; write sqlite:///data/events.db for the embedded "
            "broker, or kafka://host:9092"
        )
    module, name, extra = _KNOWN[scheme]
    try:
        kind = getattr(importlib.import_module(module), name)
    except ModuleNotFoundError as error:
        raise MissingExtra(f"a {scheme}:// broker", extra) from error
    broker: Broker = kind(url, root)
    return broker


def place(url: str) -> str:
    """Return a url without its parameters and passwords, fit to be printed."""
    scheme, separator, rest = url.partition("://")
    rest = rest.partition("?")[0]
    return f"{scheme}{separator}{rest.rpartition('@')[2]}"


__all__ = ["connect", "place"]
