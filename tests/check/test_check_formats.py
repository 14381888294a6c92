"""Every format and random schemas: a row gets one answer in every host."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import trivet
from formats.format_cases import CASES
from support.service_models import EchoOf
from trivet.check import batch, inspect, prove
from trivet.check.outcome import difference, expected
from trivet.check.proof import Verdict
from trivet.current import Ready
from trivet.databases import connect
from trivet.hosts.batch.settings import BatchSettings
from trivet.schema import TYPES, Field, Schema
from trivet.settings import load_project


def verdicts_of(root: Path, models: dict[str, Any]) -> list[Verdict]:
    with connect("sqlite:///source.db", root=root, write=True) as db:
        db.execute("CREATE TABLE unused (n INTEGER)")
    document = {
        "models": {name: {"uri": f"models/{name}", "trust": True} for name in models},
        "batch": {
            f"{name}-daily": {
                "model": name,
                "source": "sqlite:///source.db",
                "key": ["id"],
                "query": "SELECT 1 AS id, "
                + ", ".join(f'NULL AS "{column}"' for column in inputs.names),
            }
            for name, inputs in models.items()
        },
        "service": {"models": list(models)},
    }
    (root / "trivet.toml").write_text(tomli_w.dumps(document), encoding="utf-8")
    project = load_project(root, {})
    findings, loaded = inspect(project)
    assert {finding.state for finding in findings} <= {"ok", "warning"}, findings
    return list(prove(project, loaded))


@pytest.mark.filterwarnings("ignore:overflow encountered")  # huge values are sent on purpose
def test_every_format(tmp_path: Path) -> None:
    models = {}
    for case_name, make in CASES.items():
        case, name = make(), case_name.replace("_", "-")
        trivet.save(
            case.model,
            tmp_path / "models",
            name=name,
            version="1",
            inputs=case.inputs,
            outputs=case.outputs,
        )
        models[name] = case.inputs
    verdicts = verdicts_of(tmp_path, models)
    assert len(verdicts) == 17 * len(models)
    assert not [(v.model, v.way, v.error, v.difference) for v in verdicts if not v.holds]


_FIRST, _LAST = dt.datetime(1, 1, 2, tzinfo=dt.UTC), dt.datetime(9999, 12, 30, tzinfo=dt.UTC)
_NAMES = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=8).filter(
    lambda name: name not in {batch.ROW, "attempt"}
)

_KINDS = st.sampled_from(sorted(TYPES))


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    names = draw(st.lists(_NAMES, min_size=1, max_size=6, unique=True))
    return Schema(
        Field(
            name=f"in_{n}", type=draw(st.sampled_from(sorted(TYPES))), nullable=draw(st.booleans())
        )
        for n in names
    )


@given(schemas(), st.data())
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_random_schemas_and_rows_through_batch(
    tmp_path_factory: Any, schema: Schema, data: st.DataObject
) -> None:
    """Unicode, moments with zones, nulls, integers of 64 bits, subnormal and huge floats."""
    model = EchoOf(schema)
    count = data.draw(st.integers(1, 20))
    rows = pa.RecordBatch.from_arrays(
        [pa.array([data.draw(_value(f)) for _ in range(count)], TYPES[f.type]) for f in schema],
        schema=pa.schema([pa.field(f.name, TYPES[f.type]) for f in schema]),
    )
    root = tmp_path_factory.mktemp("check")
    place = batch.Place("sqlite", f"sqlite:///{root / 's.db'}", None, f"sqlite:///{root / 'r.db'}")
    deployment = BatchSettings(
        name="echoed", model="echo", source=place.source, query="SELECT 1", key=("id",)
    )
    found = batch.run(place, Ready(model), deployment, rows, root)
    told = difference(expected(model, rows), found)
    assert not told.breaks(0), told


def _value(field: Field) -> st.SearchStrategy[Any]:
    kinds: dict[str, st.SearchStrategy[Any]] = {
        "bool": st.booleans(),
        "float32": st.floats(width=32, allow_nan=True),
        "float64": st.floats(),
        "string": st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12),
        "timestamp": st.datetimes(
            _FIRST.replace(tzinfo=None), _LAST.replace(tzinfo=None), timezones=st.just(dt.UTC)
        ),
        "date": st.dates(),
    }
    for bits in (8, 16, 32, 64):
        kinds[f"int{bits}"] = st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return kinds[field.type] | st.none()
