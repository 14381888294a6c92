"""The files of a new project, written only where there are none."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from importlib import resources
from pathlib import Path
from string import Template

from trivet import artifacts, formats
from trivet.brokers import connect
from trivet.errors import ModelError, SettingsError
from trivet.init import rows
from trivet.init.reading import read
from trivet.init.sketch import Part, Sketch
from trivet.manifest import FILE_NAME, Manifest
from trivet.results.statements import identifier
from trivet.schema import Schema

_SCRIPTS = ("make_orders.py", "train.py", "delivery_time.py")


def create(
    directory: Path,
    parts: tuple[Part, ...],
    today: dt.date,
    environment: Mapping[str, str],
    model: Path | None = None,
    kind_of: Callable[[str], str] = lambda _: "float64",
) -> Sketch:
    """Write a project into a directory.

    Args:
        directory: Where; files that are there are left alone.
        parts: What the model is deployed as.
        today: The day around which the rows lie.
        environment: Of the scripts that make the data and train the model.
        model: A saved model to deploy; by default a small one is trained.
        kind_of: Asked for the type of an input whose type the model does not tell.

    Raises:
        SettingsError: One of the files is there already, or cannot be written.
        ModelError: The model cannot be read.
    """
    project = _name(directory.absolute().name, "project")
    try:
        sketch = (
            _with_own(directory, project, parts, today, environment)
            if model is None
            else _with_given(directory, project, parts, today, model, kind_of)
        )
        if "stream" in parts:  # the topic that somebody else would have made
            with closing(connect("sqlite:///data/events.db", directory)) as broker:
                broker.create(sketch.topic)
        return sketch
    except OSError as error:
        raise SettingsError(f"{directory}: cannot be written: {error}") from error


def _with_own(
    directory: Path,
    project: str,
    parts: tuple[Part, ...],
    today: dt.date,
    environment: Mapping[str, str],
) -> Sketch:
    sketch = Sketch(
        project=project,
        parts=parts,
        model="delivery-time",
        title="how many minutes a delivery takes",
        trust=True,
        table="orders",
        key="order_id",
        at="ordered_at",
        inputs=("distance_km", "weight_kg", "carrier"),
        truth="minutes",
        row={"distance_km": 4.2, "weight_kg": 1.5, "carrier": "bike"},
        topic="orders",
    )
    scripts = {name: _text(name, sketch, today) for name in _SCRIPTS}
    _write(directory, _files(sketch, today) | scripts, (sketch.model,))
    for script in ("make_orders.py", "train.py"):
        done = subprocess.run(  # noqa: S603 - a script of ours, just written
            [sys.executable, script],
            cwd=directory,
            env=dict(environment),
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            last = (done.stderr.strip() or "it says nothing").splitlines()[-1]
            raise ModelError(f"{directory / script} failed: {last}; run it by hand to see more")
    return sketch


def _with_given(
    directory: Path,
    project: str,
    parts: tuple[Part, ...],
    today: dt.date,
    model: Path,
    kind_of: Callable[[str], str],
) -> Sketch:
    given = None
    if (model / artifacts.CURRENT).exists():  # of all versions, the one in use
        model = artifacts.locate(str(model)) or model
    if (model / FILE_NAME).exists():  # saved by trivet.save
        manifest = Manifest.read(model)
        name, schema = manifest.name, manifest.inputs
    else:
        given = read(model)
        name, schema = _name(model.stem, "model"), given.schema(kind_of)
    if not len(schema):
        raise ModelError(f"{model}: it tells no inputs; save it with trivet.save and a sample")
    sketch = Sketch(
        project=project,
        parts=parts,
        model=_name(name, "model"),
        title=f"what {model.name} predicts",
        trust=False,
        table="rows",
        key="row_id",
        at="at",
        inputs=schema.names,
        truth="",
        row={},
        topic="rows",
    )
    _refuse(directory, [*_files(sketch, today), f"models/{sketch.model}", "data/source.db"])
    home = directory / "models"
    if given is None:
        place = home / sketch.model / manifest.version
        place.parent.mkdir(parents=True)
        shutil.copytree(model, place)
        artifacts.set_current(place.parent, manifest.version)
    else:
        place = artifacts.save(given.model, home, name=sketch.model, version="1", inputs=schema)
    sketch = _completed(sketch, place, _source(directory, sketch.table, schema, today))
    _write(directory, _files(sketch, today), ())
    return sketch


def _source(directory: Path, table: str, schema: Schema, today: dt.date) -> dict[str, object]:
    """Make the rows, and return one of them."""
    (directory / "data").mkdir(parents=True, exist_ok=True)
    made = rows.write("sqlite:///data/source.db", directory, table, schema, today)
    plain = [
        {k: v.isoformat() if isinstance(v, dt.date) else v for k, v in row.items()}
        for row in made.slice(0, 200).to_pylist()
    ]
    lines = "".join(json.dumps(row) + "\n" for row in plain)
    (directory / "data" / "events.jsonl").write_text(lines, encoding="utf-8")
    return plain[0]


def _completed(sketch: Sketch, place: Path, row: dict[str, object]) -> Sketch:
    manifest = Manifest.read(place)
    trust = formats.by_name(manifest.format).runs_code(place / manifest.artifact)
    return dataclasses.replace(sketch, trust=trust, row=row)


def _files(sketch: Sketch, today: dt.date) -> dict[str, str]:
    """Return the text of each file, by its path."""
    found = {
        "trivet.toml": sketch.toml(today),
        "README.md": _fitting(_text("README.md", sketch, today), sketch),
        ".gitignore": "/data/\n/.trivet/\n__pycache__/\n",
    }
    if "batch" in sketch.parts:
        found[f"sql/{sketch.table}.sql"] = _text("query.sql", sketch, today)
        if sketch.truth:
            found[f"sql/{sketch.truth}.sql"] = _text("actuals.sql", sketch, today)
    if "stream" in sketch.parts:
        found[f"send_{sketch.table}.py"] = _text("send.py", sketch, today)
    return found


def _text(name: str, sketch: Sketch, today: dt.date) -> str:
    yesterday, batch = today - dt.timedelta(days=1), "batch" in sketch.parts
    template = resources.files("trivet.init") / "templates" / f"{name}.in"
    values = {
        "project": sketch.project,
        "model": sketch.model,
        "view": re.sub("-", "_", sketch.model),
        "title": sketch.title,
        "table": sketch.table,
        "key": sketch.key,
        "at": sketch.at,
        "columns": ", ".join((sketch.key, *map(_quoted, sketch.inputs))),
        "request": sketch.request(),
        "topic": sketch.topic,
        "truth": sketch.truth,
        "compare": f"trivet compare {sketch.model} 1 2 --interval {yesterday}\n" if batch else "",
    }
    return Template(template.read_text(encoding="utf-8")).safe_substitute(values)


def _fitting(text: str, sketch: Sketch) -> str:
    """Leave out what is said of parts that a project does not have."""
    shown = {*sketch.parts, *(("own",) if sketch.truth else ())}
    return re.sub(
        r"%(\w+)\n(.*?)%end\n",
        lambda match: match[2] if match[1] in shown else "",
        text,
        flags=re.DOTALL,
    )


def _quoted(column: str) -> str:
    return column if re.fullmatch("[a-z][a-z0-9_]*", column) else identifier(column)


def _write(directory: Path, files: Mapping[str, str], models: tuple[str, ...]) -> None:
    _refuse(directory, [*files, *(f"models/{name}" for name in models)])
    for name, text in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:  # never over another one
            file.write(text)


def _refuse(directory: Path, names: list[str]) -> None:
    there = [name for name in names if (directory / name).exists()]
    if there:
        raise SettingsError(
            f"{directory}: {', '.join(there)} {'is' if len(there) == 1 else 'are'} there already; "
            "nothing was written: name another directory"
        )


def _name(text: str, otherwise: str) -> str:
    """Return a name that a section of the project file may have."""
    name = re.sub(r"[^a-z0-9_-]+", "-", text.lower()).strip("-")[:40]
    return name if re.match("[a-z]", name) else otherwise
