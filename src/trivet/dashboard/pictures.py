"""Charts drawn without a browser, by vl-convert-python in a short-lived process of its own.

Drawing takes a process to some 190 MB, which is not to stay with whoever asks for a picture.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from trivet.dashboard.charts import Chart
from trivet.dashboard.theme import COLOURS, coloured, config
from trivet.errors import MissingExtra, TrivetError

WIDTH = 760

_DRAW = """
import base64, json, sys
import vl_convert
wanted = json.load(sys.stdin)
draw = {"svg": vl_convert.vegalite_to_svg, "png": vl_convert.vegalite_to_png}[wanted["kind"]]
more = {"scale": 2} if wanted["kind"] == "png" else {}
made = [draw(spec, config=wanted["config"], **more) for spec in wanted["specs"]]
json.dump([m if isinstance(m, str) else base64.b64encode(m).decode() for m in made], sys.stdout)
"""


def svgs(charts: Sequence[Chart]) -> list[str]:
    """Draw charts as SVG."""
    return _drawn("svg", [_sized(chart.spec, WIDTH) for chart in charts])


def png(charts: Sequence[Chart], title: str, lines: Sequence[str]) -> bytes:
    """Draw charts below each other into one PNG, under a title."""
    parts, datasets = [], {}
    for number, chart in enumerate(charts):
        spec = _renamed(_sized(chart.spec, WIDTH), f"rows-{number}")
        for name, rows in spec.pop("datasets", {}).items():
            datasets[f"rows-{number}" if name == "rows" else name] = rows
        for key in ("$schema", "autosize", "config"):
            spec.pop(key, None)
        parts.append({**spec, "title": chart.title})
    whole = {
        "title": {
            "text": title,
            "subtitle": list(lines),
            "fontSize": 18,
            "subtitleFontSize": 12,
            "subtitleColor": COLOURS["muted"],
            "offset": 18,
        },
        "vconcat": parts,
        "spacing": 30,
        "padding": 24,
        "datasets": datasets,
        "resolve": {"scale": {"color": "independent"}},
    }
    return base64.b64decode(_drawn("png", [whole])[0])


def _sized(spec: Mapping[str, Any], width: int) -> dict[str, Any]:
    found: dict[str, Any] = coloured(spec)
    return {**found, "width": width}


def _renamed(part: Any, name: str) -> Any:
    if isinstance(part, Mapping):
        return {
            k: {"name": name}
            if k == "data" and v == {"name": "rows"}
            else v
            if k == "datasets"
            else _renamed(v, name)
            for k, v in part.items()
        }
    return [_renamed(item, name) for item in part] if isinstance(part, list) else part


def _drawn(kind: str, specs: Sequence[Mapping[str, Any]]) -> list[str]:
    if importlib.util.find_spec("vl_convert") is None:
        raise MissingExtra("a report", "dashboard")
    wanted = json.dumps({"kind": kind, "specs": specs, "config": config()})
    done = subprocess.run(  # noqa: S603 - our own interpreter
        [sys.executable, "-c", _DRAW], input=wanted, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise TrivetError(f"vl-convert-python drew nothing: {done.stderr.strip()[-500:]}")
    found: list[str] = json.loads(done.stdout)
    return found
