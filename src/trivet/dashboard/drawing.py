"""Vega-Lite specifications in the fewest words.

A specification is JSON: these functions write down its parts, and `Drawing` puts them together. A
library with a class for each of them takes as much memory as all of the pages' own code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
"""Which language a specification is in; nobody asks for the address."""

_TYPES = {"N": "nominal", "O": "ordinal", "Q": "quantitative", "T": "temporal"}
_UNTYPED = ("x2", "y2")

Part = dict[str, Any]


def channel(column: str, **options: Any) -> Part:
    """Return the part of an encoding that reads a column.

    Args:
        column: Its name and its type's letter, such as ``rows:Q``.
        options: What else the channel takes, such as ``title``.
    """
    name, _, kind = column.rpartition(":")
    return {"field": name, "type": _TYPES[kind], **options}


@dataclass(frozen=True, slots=True)
class Drawing:
    """Marks over data, or several of them over each other.

    Attributes:
        data: What is drawn, as Vega-Lite takes it.
        marks: The mark and its options.
        encoding: What each channel shows.
        layers: Drawings over each other, in place of all that.
    """

    data: Mapping[str, Any]
    marks: Mapping[str, Any] = field(default_factory=dict)
    encoding: Mapping[str, Any] = field(default_factory=dict)
    layers: Sequence[Drawing] = ()

    @classmethod
    def over(cls, values: Sequence[Mapping[str, Any]]) -> Drawing:
        """Begin a drawing over a few values of its own."""
        return cls({"values": list(values)})

    def mark(self, kind: str, **options: Any) -> Drawing:
        """Say what stands for a row, such as a ``line``."""
        return replace(self, marks={"type": kind, **options})

    def encode(self, **channels: Any) -> Drawing:
        """Say what channels show: parts made by `channel`, or columns named as it takes them."""
        told = {name: _told(name, part) for name, part in channels.items()}
        return replace(self, encoding={**self.encoding, **told})

    def __add__(self, other: Drawing) -> Drawing:
        layers = [part for each in (self, other) for part in each.layers or [each]]
        return Drawing({}, layers=layers)

    def spec(self) -> Part:
        """Return the specification, without its size."""
        if self.layers:
            return {"layer": [layer.spec() for layer in self.layers]}
        return {"data": self.data, "mark": self.marks, "encoding": self.encoding}


def _told(name: str, part: Any) -> Any:
    if isinstance(part, list | tuple):
        return [_told(name, each) for each in part]
    if not isinstance(part, str):
        return part
    return {"field": part.rpartition(":")[0]} if name in _UNTYPED else channel(part)
