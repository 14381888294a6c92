"""The zones that the page offers: the busiest ones, on a schematic map laid out by hand.

A tile is one zone. Columns go from the Hudson eastwards, rows from north to south; Manhattan's
grid is set upright, and what lies beyond the East River is moved close. The numbers are those of
the city's taxi zones.
"""

from __future__ import annotations

from typing import NamedTuple


class Zone(NamedTuple):
    """A zone on the map.

    Attributes:
        number: Its number.
        name: What people call it.
        short: The same in one or two words that fit on a tile; a bar breaks the line.
        column: Tiles from the left.
        row: Tiles from the top.
        height: Tiles that it is high.
    """

    number: int
    name: str
    short: str
    column: float
    row: float
    height: int = 1


AREAS: dict[str, tuple[Zone, ...]] = {
    "Uptown": (
        Zone(166, "Morningside Heights", "Morning-|side", 0, 0),
        Zone(41, "Central Harlem", "Central|Harlem", 1.5, 0),
        Zone(74, "East Harlem North", "E Harlem|North", 3, 0),
        Zone(24, "Bloomingdale", "Blooming-|dale", 0, 1),
        Zone(151, "Manhattan Valley", "Manhattan|Valley", 1, 1),
        Zone(75, "East Harlem South", "E Harlem|South", 3, 1),
        Zone(43, "Central Park", "Central|Park", 2, 1, 4),
        Zone(238, "Upper West Side North", "UWS|North", 1, 2),
        Zone(236, "Upper East Side North", "UES|North", 3, 2),
        Zone(263, "Yorkville West", "Yorkville|West", 4, 2),
        Zone(262, "Yorkville East", "Yorkville|East", 5, 2),
        Zone(239, "Upper West Side South", "UWS|South", 1, 3),
        Zone(237, "Upper East Side South", "UES|South", 3, 3),
        Zone(141, "Lenox Hill West", "Lenox|Hill W", 4, 3),
        Zone(140, "Lenox Hill East", "Lenox|Hill E", 5, 3),
    ),
    "Midtown": (
        Zone(143, "Lincoln Square West", "Lincoln|Sq W", 0, 4),
        Zone(142, "Lincoln Square East", "Lincoln|Sq E", 1, 4),
        Zone(163, "Midtown North", "Midtown|North", 3, 4),
        Zone(162, "Midtown East", "Midtown|East", 4, 4),
        Zone(229, "Sutton Place", "Sutton|Place", 5, 4),
        Zone(50, "Clinton West", "Clinton|West", 0, 5),
        Zone(48, "Clinton East", "Clinton|East", 1, 5),
        Zone(230, "Times Square", "Times|Square", 2, 5),
        Zone(161, "Midtown Center", "Midtown|Center", 3, 5),
        Zone(170, "Murray Hill", "Murray|Hill", 4, 5),
        Zone(233, "United Nations", "UN", 5, 5),
        Zone(246, "Hudson Yards", "Hudson|Yards", 0, 6),
        Zone(186, "Penn Station", "Penn|Station", 1, 6),
        Zone(100, "Garment District", "Garment|District", 2, 6),
        Zone(164, "Midtown South", "Midtown|South", 3, 6),
        Zone(137, "Kips Bay", "Kips|Bay", 4, 6),
    ),
    "Downtown": (
        Zone(68, "East Chelsea", "East|Chelsea", 1, 7),
        Zone(90, "Flatiron", "Flatiron", 2, 7),
        Zone(107, "Gramercy", "Gramercy", 3, 7),
        Zone(224, "Stuyvesant Town", "Stuy|Town", 4, 7),
        Zone(158, "Meatpacking District", "Meat-|packing", 0, 8),
        Zone(249, "West Village", "West|Village", 1, 8),
        Zone(113, "Greenwich Village North", "Village|North", 2, 8),
        Zone(234, "Union Square", "Union|Square", 3, 8),
        Zone(79, "East Village", "East|Village", 4, 8),
        Zone(125, "Hudson Square", "Hudson|Square", 0, 9),
        Zone(211, "SoHo", "SoHo", 1, 9),
        Zone(114, "Greenwich Village South", "Village|South", 2, 9),
        Zone(144, "Little Italy and NoLiTa", "Little|Italy", 3, 9),
        Zone(148, "Lower East Side", "Lower|E Side", 4, 9),
        Zone(231, "TriBeCa", "TriBeCa", 1, 10),
        Zone(45, "Chinatown", "China-|town", 2, 10),
        Zone(13, "Battery Park City", "Battery|Park C", 0, 11),
        Zone(261, "World Trade Center", "World|Trade C", 1, 11),
        Zone(87, "Financial District North", "FiDi|North", 2, 11),
        Zone(88, "Financial District South", "FiDi|South", 1.5, 12),
    ),
    "Across the river": (
        Zone(138, "LaGuardia Airport", "LaGuardia|Airport", 7, 1.5),
        Zone(7, "Astoria", "Astoria", 7, 3),
        Zone(145, "Long Island City", "Long|Island C", 7, 5),
        Zone(255, "Williamsburg", "Williams-|burg", 6, 8.5),
        Zone(33, "Brooklyn Heights", "Brooklyn|Heights", 4, 11.5),
        Zone(65, "Downtown Brooklyn", "Downtown|Brooklyn", 5, 11.5),
        Zone(181, "Park Slope", "Park|Slope", 5.5, 12.5),
        Zone(132, "JFK Airport", "JFK|Airport", 7, 11),
    ),
}
ZONES = {zone.number: zone for zones in AREAS.values() for zone in zones}
KNOWN = range(1, 264)
"""Numbers of all zones of the city; the API takes them all."""


def name_of(number: int) -> str:
    """Return what people call a zone."""
    return ZONES[number].name if number in ZONES else f"Zone {number}"
