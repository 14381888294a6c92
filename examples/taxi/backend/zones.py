"""The zones that the page offers: the busiest ones, on a schematic map laid out by hand.

zones.csv has one a line. A tile is one zone. Columns go from the Hudson eastwards, rows from north
to south; Manhattan's grid is set upright, and what lies beyond the East River is moved close. The
numbers are those of the city's taxi zones.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import NamedTuple


class Zone(NamedTuple):
    """A zone on the map.

    Attributes:
        area: The part of the city that it is listed under.
        number: Its number.
        name: What people call it.
        short: The same in a few words that fit on a tile; a bar breaks the line.
        column: Tiles from the left.
        row: Tiles from the top.
        height: Tiles that it is high.
    """

    area: str
    number: int
    name: str
    short: str
    column: float
    row: float
    height: int


def _read(path: Path) -> list[Zone]:
    with path.open(encoding="utf-8", newline="") as file:
        return [
            Zone(area, int(number), name, short, float(column), float(row), int(height))
            for area, number, name, short, column, row, height in list(csv.reader(file))[1:]
        ]


ZONES = {zone.number: zone for zone in _read(Path(__file__).with_name("zones.csv"))}
KNOWN = range(1, 264)
"""Numbers of all zones of the city; the API takes them all."""
