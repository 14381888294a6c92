"""The page, rendered once: the form, the map and the names are the same for everybody."""

from __future__ import annotations

import hashlib
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from backend.zones import ZONES

HERE = Path(__file__).parent
OUTLINES = HERE.parent / "data" / "outlines.json"
TILE = 100
"""Units of the picture that a tile is wide and high, its gap included."""

_GAP = 7
_COLUMNS, _ROWS = 8, 13.5


class Page:
    """The page as bytes.

    Attributes:
        html: The page.
        etag: Changes with it.
        outlines: The zones' real outlines as JSON, if somebody has made them.
    """

    def __init__(self, time_lapse: float) -> None:
        templates = Environment(
            loader=FileSystemLoader(HERE / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        files = sorted((HERE / "static").iterdir())
        digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
        html = templates.get_template("page.html").render(
            zones=ZONES.values(),
            tile=TILE,
            gap=_GAP,
            width=_COLUMNS * TILE,
            height=_ROWS * TILE,
            version=digest[:12],
            facts={
                "names": {zone.number: zone.name for zone in ZONES.values()},
                "timeLapse": time_lapse,
            },
        )
        self.html = html.encode()
        self.etag = f'"{hashlib.sha256(self.html).hexdigest()[:16]}"'
        self.outlines = OUTLINES.read_bytes() if OUTLINES.exists() else None
