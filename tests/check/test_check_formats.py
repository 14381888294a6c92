"""Every format and random schemas: a row gets one answer in every host."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pytest
import tomli_w
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import trivet
from formats.format_cases import CASES, Case, save_mlflow
from support.service_models import EchoAny
from trivet import parity
from trivet.check import batch, inspect, prove, service, stream
from trivet.check.outcome import difference, expected
from trivet.check.proof import Verdict
from trivet.check.sample import sample, without
from trivet.current import Ready, Source
from trivet.databases import connect
from trivet.hosts.batch.settings import BatchSettings
from trivet.hosts.service.settings import ServiceSettings
from trivet.hosts.stream.settings import StreamSettings
from trivet.schema import TYPES, Field, Schema
from trivet.settings import load_project
from trivet.validation import conform

STREAMED = {
    "lightgbm-regressor",
    "xgboost-linear",
    "sklearn-dicts",
    "onnx-classifier",
    "python-class",
    "mlflow",
}
"""One model of each format: a stream takes as long as all the other ways together."""


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
        "stream": {
            f"{name}-live": {"model": name, "topic": "rows", "key": ["order"]}
            for name in STREAMED.intersection(models)
        },
        "service": {"models": list(models)},
    }
    (root / "trivet.toml").write_text(tomli_w.dumps(document), encoding="utf-8")
    project = load_project(root, {})
    findings, loaded = inspect(project)
    assert {finding.state for finding in findings} <= {"ok", "warning"}, findings
    return list(prove(project, loaded))


def mlflow_case(folder: Path) -> Case:
    """Return a model that MLflow saved, and loads as its pyfunc."""
    base = CASES["sklearn_linear"]()
    skops = {"serialization_format": "skops", "skops_trusted_types": ["numpy.dtype"]}
    doubles = Schema(Field(name=f.name, type="float64", nullable=True) for f in base.inputs)
    return Case(save_mlflow(base.model, folder, **skops), doubles, base.outputs)


@pytest.mark.filterwarnings("ignore:overflow encountered")  # huge values are sent on purpose
def test_every_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trivet.check.sample.ROWS", 16)
    models = {}
    for case_name, make in (CASES | {"mlflow": lambda: mlflow_case(tmp_path / "mlflow")}).items():
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
    assert len(verdicts) == 17 * len(models) + 2 * len(STREAMED)
    assert not [(v.model, v.way, v.error, v.difference) for v in verdicts if not v.holds]


def test_what_was_measured_covers_the_kernels_of_every_batch_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime multiplies one row by a kernel of its own: one row in a hundred shows it."""
    case = CASES["onnx_columns"]()
    trivet.save(
        case.model, tmp_path, name="m", version="1", inputs=case.inputs, outputs=case.outputs
    )
    model = trivet.load(str(tmp_path / "m"))
    measured = model.manifest.batch_dependence
    assert measured is not None
    for count in (8, 16, 64):
        monkeypatch.setattr("trivet.check.sample.ROWS", count)
        made = sample(model.manifest)
        bad = expected(model, made).problems
        _, kept = without(made, set(bad))
        rows = pa.RecordBatch.from_arrays(kept.columns, schema=model.inputs.arrow)
        whole = model.predict(rows)
        for size in range(1, rows.num_rows):
            starts = range(0, rows.num_rows, size)
            parts = [model.predict(rows.slice(start, size)) for start in starts]
            assert parity.difference(whole, pa.Table.from_batches(parts)) <= measured.max_ulps


_FIRST, _LAST = dt.datetime(1, 1, 2, tzinfo=dt.UTC), dt.datetime(9999, 12, 30, tzinfo=dt.UTC)
_NAMES = st.text("abcdefghijklmnopqrstuvwxyz_", min_size=1, max_size=8).filter(
    lambda name: name not in {batch.ROW, "attempt"}
)

ZONES = ("UTC", "+05:30", "-03:30", "+14:00")
"""Of fixed offsets: those of long ago have seconds, which RFC 3339 has no word for."""


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    names = draw(st.lists(_NAMES, min_size=1, max_size=6, unique=True))
    return Schema(
        Field(
            name=f"in_{n}", type=draw(st.sampled_from(sorted(TYPES))), nullable=draw(st.booleans())
        )
        for n in names
    )


@st.composite
def cases(draw: st.DrawFn, most: int = 20) -> tuple[EchoAny, pa.RecordBatch]:
    """Give a model, and rows: unicode, moments with zones, nulls, 64 bits, any float."""
    schema, count = draw(schemas()), draw(st.integers(1, most))
    columns = [
        pa.array([draw(_value(f)) for _ in range(count)], draw(_sent_type(f))) for f in schema
    ]
    return EchoAny(schema), pa.RecordBatch.from_arrays(columns, names=list(schema.names))


def _sent_type(field: Field) -> st.SearchStrategy[pa.DataType]:
    if field.type == "timestamp":
        return st.sampled_from([pa.timestamp("us", zone) for zone in ZONES])
    return st.just(TYPES[field.type])


few = settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
random_rows = pytest.mark.parametrize(
    "examples", [2, pytest.param(200, id="soak", marks=pytest.mark.soak)]
)


@given(cases())
@few
def test_random_schemas_and_rows_through_batch(
    tmp_path_factory: pytest.TempPathFactory, case: tuple[EchoAny, pa.RecordBatch]
) -> None:
    model, rows = case
    root = tmp_path_factory.mktemp("check")
    place = batch.Place("sqlite", f"sqlite:///{root / 's.db'}", None, f"sqlite:///{root / 'r.db'}")
    deployment = BatchSettings(
        name="echoed", model="echo", source=place.source, query="SELECT 1", key=("id",)
    )
    typed = conform(rows, model.inputs).batch
    found = batch.run(place, Ready(model), deployment, typed, root)
    told = difference(expected(model, rows), found)
    assert not told.breaks(0), told


@random_rows
def test_random_schemas_and_rows_through_every_protocol(
    tmp_path_factory: pytest.TempPathFactory, examples: int
) -> None:
    """Several models in one service: its start is what costs time."""

    @settings(few, max_examples=examples, phases=[Phase.generate])
    @given(st.lists(cases(8), min_size=4, max_size=4))
    def every_protocol(found: list[tuple[EchoAny, pa.RecordBatch]]) -> None:
        root = tmp_path_factory.mktemp("check")
        named = {f"echo-{number}": case for number, case in enumerate(found)}
        for name, (model, _) in named.items():
            trivet.save(model, root / "models", name=name, version="1")
        sources = [Source(name, f"models/{name}", trust=True) for name in named]
        with service.running(ServiceSettings(models=tuple(named)), sources, root) as running:
            lanes = running.lanes()
            assert len(lanes) == 5
            for (name, (_, rows)), source in zip(named.items(), sources, strict=True):
                loaded = source.load(root)
                right = expected(loaded, rows)
                for lane in lanes:
                    for size in {1, rows.num_rows}:
                        sent = service.send(lane, loaded, name, rows, size, set(right.problems))
                        told = difference(right, sent)
                        assert not told.breaks(0), (lane.name, size, told)

    every_protocol()


@random_rows
@pytest.mark.parametrize("form", ["json", "cloudevents"])
def test_random_schemas_and_rows_through_a_stream(
    tmp_path_factory: pytest.TempPathFactory, form: Literal["json", "cloudevents"], examples: int
) -> None:
    @settings(few, max_examples=3 * examples, phases=[Phase.generate])
    @given(cases())
    def a_stream(case: tuple[EchoAny, pa.RecordBatch]) -> None:
        model, rows = case
        root = tmp_path_factory.mktemp("check")
        place = stream.Place("", f"sqlite:///{root / 'e.db'}", f"sqlite:///{root / 'r.db'}")
        deployment = StreamSettings(
            name="echoed", model="echo", topic="a", key=("row",), format=form
        )
        for size in (1, 512):
            found = stream.run(place, Ready(model), deployment, rows, root, size)
            told = difference(expected(model, rows), found)
            assert not told.breaks(0), (size, told)

    a_stream()


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
