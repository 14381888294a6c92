"""Give the map the real outlines of the zones, from the official zone file.

    python outlines.py taxi_zones.geojson

Download the taxi zones yourself, as GeoJSON in longitude and latitude, from the city's open data
portal; it is not shipped here. This writes data/outlines.json, which the page uses from the
backend's next start. Zones that the page does not offer are left out.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from backend.zones import ZONES

TARGET = Path(__file__).parent / "data" / "outlines.json"
WIDTH = 1000.0
CLOSE = 1.2
NUMBERS = ("LocationID", "locationid", "location_id", "OBJECTID", "objectid")
Point = tuple[float, float]


def rings(geometry: dict[str, Any]) -> Iterator[list[Point]]:
    """Give the outer rings of a polygon or of several."""
    polygons = geometry["coordinates"]
    for polygon in [polygons] if geometry["type"] == "Polygon" else polygons:
        yield [(float(x), float(y)) for x, y, *_ in polygon[0]]


def number_of(feature: dict[str, Any]) -> int | None:
    """Return a zone's number, under any of the names that the portal has given it."""
    told = feature.get("properties") or {}
    for name in NUMBERS:
        if name in told:
            return int(float(told[name]))
    return None


def thinned(points: list[Point]) -> list[Point]:
    """Leave out points that lie close to the one before."""
    kept = points[:1]
    for point in points[1:]:
        if math.dist(point, kept[-1]) >= CLOSE:
            kept.append(point)
    return kept


def outlines(document: dict[str, Any]) -> dict[str, Any]:
    """Return the picture's frame and each zone's path in it.

    Raises:
        SystemExit: The file is not what it should be.
    """
    found: dict[int, list[list[Point]]] = {}
    for feature in document.get("features", ()):
        number = number_of(feature)
        if number in ZONES and feature.get("geometry"):
            found.setdefault(number, []).extend(rings(feature["geometry"]))
    if not found:
        raise SystemExit("no taxi zone in this file: give the taxi zones as GeoJSON")
    points = [point for parts in found.values() for ring in parts for point in ring]
    west, east = min(x for x, _ in points), max(x for x, _ in points)
    south, north = min(y for _, y in points), max(y for _, y in points)
    if not -75 < west <= east < -73:
        raise SystemExit("these are not longitudes of New York: give the zones in WGS 84")
    squeeze = math.cos(math.radians((south + north) / 2))
    scale = WIDTH / ((east - west) * squeeze)

    def placed(point: Point) -> Point:
        return (point[0] - west) * squeeze * scale, (north - point[1]) * scale

    zones = {}
    for number, parts in found.items():
        shapes = [thinned([placed(point) for point in ring]) for ring in parts]
        zones[number] = "".join(
            "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in ring) + "Z"
            for ring in shapes
            if len(ring) > 2
        )
    height = (north - south) * scale
    return {"view": [-10, -10, round(WIDTH) + 20, round(height) + 20], "zones": zones}


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("file", type=Path, help="the taxi zones as GeoJSON")
    made = outlines(json.loads(parser.parse_args().file.read_text(encoding="utf-8")))
    TARGET.write_text(json.dumps(made), encoding="utf-8")
    print(f"{TARGET}: {len(made['zones'])} zones")


if __name__ == "__main__":
    main()
