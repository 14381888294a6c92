"""The static files: styles and scripts, held compressed, and named with what they contain."""

from __future__ import annotations

import gzip
import hashlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

_KINDS = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_FILES = ("trivet.css", "trivet.js", "icon.svg")


@dataclass(frozen=True, slots=True)
class Asset:
    """One static file.

    Attributes:
        kind: Its media type.
        packed: Its bytes, compressed with gzip.
        size: Their number before that.
        tag: A hash of its content.
    """

    kind: str
    packed: bytes
    size: int
    tag: str

    @property
    def content(self) -> bytes:
        """Its bytes as they are."""
        return gzip.decompress(self.packed)

    @classmethod
    def of(cls, name: str, content: bytes) -> Asset:
        """Compress a file's content."""
        kind = f"{_KINDS[name.rpartition('.')[2]]}; charset=utf-8"
        packed = gzip.compress(content, 9, mtime=0)
        return cls(kind, packed, len(content), hashlib.sha256(content).hexdigest()[:16])


def load(bundle: Path) -> dict[str, Asset]:
    """Read the files of this package, and the bundle as ``vega.js``."""
    folder = resources.files("trivet.dashboard").joinpath("static")
    found = {name: Asset.of(name, folder.joinpath(name).read_bytes()) for name in _FILES}
    return found | {"vega.js": Asset.of("vega.js", bundle.read_bytes())}
