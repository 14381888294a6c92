"""MLflow's scoring protocol; MLflow's own client and server are in test_foreign_clients.py."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.service_client import Answered, application, ask
from support.service_models import BoundedModel, EchoModel
from trivet.contract import Model
from trivet.hosts.service.app import App
from trivet.hosts.service.protocols import mlflow
from trivet.testing import LinearModel

PATH = "/invocations"


@pytest.fixture(scope="module")
def app() -> App:
    models: list[Model] = [
        LinearModel(weights=(1.0, 3.0), version="1"),
        LinearModel(weights=(1.0, 2.0), version="2"),
        LinearModel(name="one"),
        EchoModel(name="open", nullable=True),
        BoundedModel(on=[13.0]),
    ]
    return application(models, key=("ride",), max_rows=1000)


def predictions(answer: Answered) -> Any:
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == "application/json"
    told = answer.json()
    assert list(told) == ["predictions"]
    return told["predictions"]


def refused(answer: Answered, *words: str, status: int = 400, code: str = "BAD_REQUEST") -> None:
    assert answer.status == status, answer.body
    told = answer.json()
    assert list(told) == ["error_code", "message"]
    assert told["error_code"] == code
    for word in words:
        assert word in told["message"]


def split(columns: Any, *rows: Any, **more: Any) -> dict[str, Any]:
    return {"dataframe_split": {"columns": columns, "data": list(rows), **more}}


@pytest.mark.parametrize(
    "body",
    [
        split(["x0", "x1"], [1, 10], [2.5, 20]),
        split(["x1", "ride", "x0"], [10, "a", 1], [20, "b", 2.5], index=[7, 8]),
        split(["x1", "ride", "x0"], [10, "a", 1], [20, 5, 2.5]),
        {"dataframe_split": {"data": [[1, 10], [2.5, 20]]}},
        {"dataframe_records": [{"x0": 1, "x1": 10}, {"x1": 20, "x0": 2.5, "more": {}}]},
        {"instances": [{"x0": 1, "x1": 10}, {"x0": 2.5, "x1": 20}]},
        {"instances": [{"x0": [1], "x1": [10]}, {"x0": [2.5], "x1": [20]}]},
        {"instances": [[1, 10], [2.5, 20]]},
        {"inputs": [[1, 10], [2.5, 20]]},
        {"inputs": [{"x0": 1, "x1": 10}, {"x0": 2.5, "x1": 20}]},
        {"inputs": {"x0": [1, 2.5], "x1": [10, 20]}, "params": {"a": 1}},
        {"inputs": {"x0": [[1], [2.5]], "x1": [[10], [20]]}},
    ],
)
def test_every_form(app: App, body: Any) -> None:
    assert predictions(ask(app, PATH, body)) == [21.0, 42.5]


def test_one_row(app: App) -> None:
    assert predictions(ask(app, PATH, {"inputs": {"x0": 1, "x1": 10}})) == [21.0]
    for one in ([1, 2], [[1], [2]]):
        assert predictions(ask(app, PATH + "?model=one", {"instances": one})) == [1.0, 2.0]
    assert predictions(ask(app, PATH + "?model=one", {"inputs": 3})) == [3.0]


def test_which_model(app: App) -> None:
    body = split(["x0", "x1"], [1, 10])
    assert predictions(ask(app, PATH, body)) == [21.0]
    assert predictions(ask(app, PATH + "?version=1", body)) == [31.0]
    assert predictions(ask(app, PATH + "?model=linear&version=1", body)) == [31.0]
    assert predictions(ask(app, PATH + "?other=1", body)) == [21.0]
    missing = {"status": 404, "code": "RESOURCE_DOES_NOT_EXIST"}
    refused(ask(app, PATH + "?model=nobody", body), "'nobody'", **missing)  # type: ignore[arg-type]
    refused(ask(app, PATH + "?version=9", body), "'9'", **missing)  # type: ignore[arg-type]
    refused(ask(app, PATH + "?" + "a=1&" * 200, body), "query")


def test_several_outputs_are_records(app: App) -> None:
    body = split(["x0", "n", "x1", "zone"], [1, 2, None, "a"], [1, 2, 3, "b"])
    assert predictions(ask(app, PATH + "?model=bounded", body)) == [
        {"mean": 3.5, "label": "a"},
        {"mean": 6.0, "label": "b"},
    ]


def test_nan_is_null_where_null_may_be(app: App) -> None:
    bodies: list[Any] = [
        split(["x0", "n", "x1", "zone"], [1, 2, float("nan"), "a"], [1, 2, 3, "b"]),
        {
            "dataframe_records": [
                {"x0": 1, "n": 2, "x1": float("nan"), "zone": "a"},
                {"x0": 1, "n": 2, "x1": 3, "zone": "b"},
            ]
        },
    ]
    for body in bodies:
        found = predictions(ask(app, PATH + "?model=bounded", body))
        assert [row["mean"] for row in found] == [3.5, 6.0]
    refused(ask(app, PATH, split(["x0", "x1"], [1, float("nan")])), "row 0: x1: not_finite")
    answer = ask(app, PATH, {"dataframe_records": [float("nan"), {"x0": float("nan"), "x1": 1}]})
    refused(answer, "row 0: undecodable", "row 1: x0: not_finite")


def test_columns_that_may_be_null_may_be_left_out(app: App) -> None:
    found = predictions(ask(app, PATH + "?model=open", split(["in_int8"], [1], [None])))
    assert [row["out_int8"] for row in found] == [1, None]
    assert found[0]["out_date"] is None
    csv = ask(app, PATH + "?model=open", "in_int8\n1\n", content_type="text/csv")
    assert predictions(csv)[0]["out_int8"] == 1


def test_columns_beyond_counting(app: App) -> None:
    names = [f"n{i}" for i in range(10_001)]
    row = dict.fromkeys(names, 1)
    words = "more than 10000 columns"
    refused(ask(app, "/invocations", split(names, [1] * 10_001)), "dataframe_split", words)
    refused(ask(app, "/invocations", {"dataframe_records": [{}, row]}), words)
    refused(ask(app, "/invocations", {"instances": [row]}), "instances", words)
    refused(ask(app, "/invocations", {"inputs": row}), "inputs", words)


def test_nan_is_read_up_to_a_size() -> None:
    app = application([LinearModel()])
    for size, status in ((2**22, 200), (2**22 + 1, 400)):
        body = b'{"instances":[{"x0":1.0,"pad":NaN}]}'
        answer = ask(app, "/invocations", body.ljust(size), content_type="application/json")
        assert answer.status == status
    assert "4194304 bytes" in answer.json()["message"]
    whole = b'{"instances":[{"x0":1.0}]}'.ljust(2**22 + 1)
    assert ask(app, "/invocations", whole).status == 200
    deep = b'{"instances":' + b"[" * 90_000 + b" " * 2**22
    refused(ask(app, "/invocations", deep), "nested too deeply")


def test_times_and_texts(app: App) -> None:
    body = split(
        ["in_timestamp", "in_date", "in_string"], ["2026-01-01T00:00:00", "2026-01-01", "é"]
    )
    (row,) = predictions(ask(app, PATH + "?model=open", body))
    assert row["out_timestamp"] == "2026-01-01T00:00:00Z"
    assert (row["out_date"], row["out_string"]) == ("2026-01-01", "é")


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("", ["JSON"]),
        ("[", ["JSON"]),
        ("[" * 4000, ["the JSON is nested too deeply"]),
        ('{"inputs": 1' + "0" * 6000 + "}", ["a number in the JSON has too many digits"]),
        ("[1, 2]", ["object"]),
        ("{}", ["exactly one", "none"]),
        ({"instances": [], "inputs": []}, ["exactly one", "instances, inputs"]),
        ({"dataframe_split": [1]}, ["dataframe_split"]),
        ({"dataframe_split": {"columns": ["x0", "x1"]}}, ["data"]),
        ({"dataframe_split": {"data": 1}}, ["data"]),
        (split([1, 2], [1, 2]), ["columns"]),
        (split("x0", [1]), ["columns"]),
        (split(["x0", "x1", "x0"], [1, 2, 3]), ["'x0'", "twice"]),
        (split(["x0", "x1"], [1]), ["row 0", "2 values"]),
        (split(["x0", "x1"], [1, 2], 5), ["row 1"]),
        (split(["x0"], [1]), ["x1", "x0"]),
        (split(["x0", "x1"]), ["no rows"]),
        ({"dataframe_records": {"x0": 1}}, ["list"]),
        ({"dataframe_records": []}, ["no rows"]),
        ({"dataframe_records": [5]}, ["row 0: undecodable"]),
        (
            {"dataframe_records": [{"x0": 1}, {"x0": "a", "x1": 1}]},
            ["row 0: x1: missing", "row 1: x0: type"],
        ),
        ({"instances": [1, 2]}, ["2 values", "x0, x1"]),
        ({"instances": [{"x0": 1, "x1": 2}, 5]}, ["row 1: undecodable"]),
        ({"instances": [[1, 2], {"x0": 1, "x1": 2}]}, ["row 1"]),
        ({"inputs": []}, ["no rows"]),
        ({"inputs": {}}, ["no rows"]),
        ({"inputs": {"x0": [1, 2], "x1": [1]}}, ["x0: 2", "x1: 1"]),
        ({"inputs": {"x0": [1, 2], "x1": 1}}, ["'x1'"]),
        ({"inputs": {"x0": [1, "a"], "x1": [None, 2**70]}}, ["row 0: x1: null", "row 1: x0: type"]),
        ({"inputs": "abc"}, ["2 values"]),
        (split(["x0", "x1"], *[[1, 2]] * 1001), []),
        ({"dataframe_records": [{}] * 1001}, []),
        ({"dataframe_records": [{}] * 10_000}, []),
    ],
)
def test_what_does_not_fit_is_named(app: App, body: Any, words: list[str]) -> None:
    answer = ask(app, PATH, body, content_type="application/json; charset=utf-8")
    refused(answer, *words, status=413 if not words else 400)


def test_texts_with_half_a_character(app: App) -> None:
    refused(ask(app, PATH, '{"inputs": {"x0": ["\\ud800"], "x1": [NaN]}}'), "JSON")
    refused(ask(app, PATH, b'{"inputs": {"x0": ["\xff"], "x1": [1]}}'), "JSON")


def test_csv(app: App) -> None:
    body = "x1,ride,x0\n10,a,1\n20,b,2.5\n"
    for kind in ("text/csv", "text/csv; charset=utf-8", "TEXT/CSV;charset=UTF-8"):
        assert predictions(ask(app, PATH, body, content_type=kind)) == [21.0, 42.5]
    body = 'x0,n,x1,zone\n1,2,,"001"\n1,2,3,"a\nb"\n'
    found = predictions(ask(app, PATH + "?model=bounded", body, content_type="text/csv"))
    assert found == [{"mean": 3.5, "label": "001"}, {"mean": 6.0, "label": "a\nb"}]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", ["CSV"]),
        (b"x0,x1\n", ["no rows"]),
        (b"x0,x1\n1\n", ["CSV"]),
        (b"x0,x1\na,2\n", ['row 0: x0: type: "a" is text, not float64']),
        (b"x0,x1\n1,2\n1,2\n 3 ,b\nc,\n", ["row 2: x1: type", "row 3: x0: type"]),
        (b"x0,x1\n1,2\n1,b\n,2\n", ["row 1: x1: type", "row 2: x0: null"]),
        (b"x0,x1\ntrue,2026-01-01\n", ["row 0: x0: type", "row 0: x1: type", "2026-01-01"]),
        (b"x0,x1\n10:00,inf\n", ["row 0: x0: type", "row 0: x1: not_finite"]),
        (b"x0,x1\n" + b"a,2\n" * 1000, ["row 99: x0: type", "and more"]),
        (b"x0,x1\n1,\n2,3\n", ["row 0: x1: null"]),
        (b"x0\n1\n", ["x1"]),
        (b"x0,x0,x1\n1,2,3\n", ["x0"]),
        (b"\xff,\xfe\n1,2\n", []),
        (b"," * 20_000, ["10000"]),
        (b"x0,x1\n\xff,1\n", []),
    ],
)
def test_csv_that_does_not_fit(app: App, body: bytes, words: list[str]) -> None:
    refused(ask(app, PATH, body, content_type="text/csv"), *words)


def test_a_cell_of_csv_is_no_other_cells_fault(app: App) -> None:
    path = PATH + "?model=bounded"
    body = "x0,n,x1,zone\n1,9007199254740993,,a\n 2 ,1,3,b\n5000,1.5,1,c\nabc,0x,-9,d\n"
    message = ask(app, path, body, content_type="text/csv").json()["message"]
    told = [problem.split(": ")[:3] for problem in message.split("; ")]
    assert told == [
        ["row 0", "n", "type"],
        ["row 2", "n", "type"],
        ["row 2", "x0", "range"],
        ["row 3", "x0", "type"],
        ["row 3", "n", "type"],
    ]


def test_truths_and_times_of_csv(app: App) -> None:
    path = PATH + "?model=open"
    body = "in_bool,in_timestamp,in_int64\n1,2026-01-01T00:00:00Z,1\n0,2026-01-01 01:00:00,2.0\n"
    found = predictions(ask(app, path, body, content_type="text/csv"))
    assert [row["out_bool"] for row in found] == [True, False]
    assert [row["out_timestamp"][:13] for row in found] == ["2026-01-01T00", "2026-01-01T01"]
    body = "in_bool,in_timestamp,in_date\ntrue,2026-01-01,2026-01-01\n2,soon,2026-13-01\n"
    answer = ask(app, path, body, content_type="text/csv")
    refused(answer, "row 1: in_bool: type", "row 1: in_timestamp: type", "row 1: in_date: type")


SAME: list[tuple[str, Any, Any]] = [
    ("timestamp", "2024-01-01T00:00:00.1234569", "2024-01-01T00:00:00.123456Z"),
    ("timestamp", "1950-01-01T00:00:00.9999999Z", "1950-01-01T00:00:00.999999Z"),
    ("timestamp", "2024-01-01T00:00", "type"),
    ("timestamp", "2024-01-01", "type"),
    ("date", "0000-01-01", "type"),
    ("string", "NA", "NA"),
    ("string", "nan", "nan"),
    ("string", "NULL", "NULL"),
    ("string", "007", "007"),
    ("float32", 1e39, "type"),
    ("float32", -1e39, "type"),
    ("float64", "NA", "type"),
    ("int64", 9007199254740993, 9007199254740993),
    ("int64", -9223372036854775808, -9223372036854775808),
    ("int64", 9223372036854775808, "type"),
    ("int64", "NA", "type"),
]


@pytest.mark.parametrize("beside", [False, True])
@pytest.mark.parametrize(("kind", "value", "found"), SAME)
def test_a_value_is_read_the_same_in_every_protocol(
    app: App, kind: str, value: Any, found: Any, beside: bool
) -> None:
    name, path = f"in_{kind}", PATH + "?model=open"
    # In a column of CSV another cell makes integers floats, and floats texts.
    other: Any = {"int64": 1.0, "float32": 0.5, "float64": 0.5}.get(kind, "") if beside else None
    values = [value] if other is None else [value, other]
    rows: list[Any] = [{name: v or None} for v in values]
    tensor = {"name": name, "shape": [len(values)], "data": [v or None for v in values]}
    tensor["datatype"] = {"int64": "INT64", "float32": "FP32", "float64": "FP64"}.get(kind, "BYTES")
    csv = f"{name},id\n" + "".join(f"{v},1\n" for v in values)
    records = ask(app, "/predict/open", {"rows": rows}).json()
    answers = [
        ask(app, path, csv, content_type="text/csv"),
        ask(app, path, {"dataframe_records": rows}),
        ask(app, path, {"inputs": {name: [v or None for v in values]}}),
        ask(app, "/v2/models/open/infer", {"inputs": [tensor]}),
    ]
    if found == "type":
        assert [e["code"] for e in records["errors"]] == ["type"]
        assert [answer.status for answer in answers] == [400] * 4
        assert all(f"row 0: {name}: type: " in answer.body.decode() for answer in answers)
        return
    assert records["predictions"][0][f"out_{kind}"] == found
    assert [predictions(answer)[0][f"out_{kind}"] for answer in answers[:3]] == [found] * 3
    told = {output["name"]: output["data"] for output in answers[3].json()["outputs"]}
    assert told[f"out_{kind}"][0] == found


def test_nan_is_null_in_a_column_that_may_have_it(app: App) -> None:
    path = PATH + "?model=open"
    body = "in_float64,in_int64\nNaN,1\n2.5,nan\n,9007199254740993\n"
    found = predictions(ask(app, path, body, content_type="text/csv"))
    assert [row["out_float64"] for row in found] == [None, 2.5, None]
    assert [row["out_int64"] for row in found] == [1, None, 9007199254740993]
    answer = ask(app, PATH, "x0,x1\nNaN,1\n", content_type="text/csv")
    refused(answer, "row 0: x0: not_finite")


def test_bad_rows_beyond_counting(app: App) -> None:
    body: Any = {"dataframe_records": [{"x0": "a", "x1": 1}] * 1000}
    refused(ask(app, PATH, body), "row 99: x0: type", "and more")
    body = "x0,n,x1,zone\n" + "a,b,c,d\n" * 900
    answer = ask(app, PATH + "?model=bounded", body, content_type="text/csv")
    refused(answer, "row 49: n: type", "and more")


def test_csv_is_not_looked_at_beyond_counting() -> None:
    app = application([LinearModel()], max_rows=3000)
    answer = ask(app, PATH, "x0\n" + "a\n" * 3000, content_type="text/csv")
    refused(answer, "row 99: x0: type", "and more")


def test_csv_of_too_many_rows(app: App) -> None:
    for count in (1001, 10_000):
        refused(ask(app, PATH, "x0,x1\n" + "1,2\n" * count, content_type="text/csv"), status=413)


def test_content_types(app: App) -> None:
    body = json.dumps(split(["x0", "x1"], [1, 10]))
    assert predictions(ask(app, PATH, body)) == [21.0]
    for kind in ("application/x-parquet", "text/plain", "application/json; charset=latin-1"):
        refused(ask(app, PATH, body, content_type=kind), status=415)


def test_without_rows(app: App) -> None:
    assert ask(app, "/ping").body == b"\n"
    assert ask(app, "/ping", method="HEAD").status == 200
    assert ask(app, "/health").status == 200
    version = ask(app, "/version")
    assert version.status == 200
    assert b"." in version.body
    refused(ask(app, PATH), "POST", status=405)
    refused(ask(app, "/ping", b"", method="POST"), "GET", status=405)
    assert mlflow.route("GET", "/other") is None


def test_a_service_that_stops() -> None:
    app = application([LinearModel()])
    app.ready = False
    refused(ask(app, "/ping"), status=503, code="TEMPORARILY_UNAVAILABLE")


def test_a_model_that_raises(app: App) -> None:
    body = split(["x0", "n", "x1", "zone"], [13, 2, 3, "a"])
    answer = ask(app, PATH + "?model=bounded", body)
    refused(answer, "row 0: model_error", status=500, code="INTERNAL_ERROR")


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=8,
)
NAMES = st.sampled_from(["x0", "x1", "zone", "n", "in_date", "ride", "columns", "data"])
ROW = st.dictionaries(NAMES, VALUES, max_size=4) | st.lists(VALUES, max_size=3) | VALUES
FRAME = st.fixed_dictionaries(
    {},
    optional={"columns": st.lists(NAMES, max_size=3) | VALUES, "data": st.lists(ROW, max_size=3)},
)
CONTENT = st.lists(ROW, max_size=3) | FRAME | st.dictionaries(NAMES, st.lists(VALUES, max_size=2))
MODELS = st.sampled_from(["linear", "one", "open", "bounded"])
FUZZ = settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))


def survives(answer: Answered) -> None:
    assert answer.status in (200, 400, 413, 415), answer.body
    answer.json()


@FUZZ
@given(
    body=st.binary(max_size=200),
    model=MODELS,
    kind=st.sampled_from(["application/json", "text/csv", "a/b"])
    | st.text("a/;= \xff", max_size=9),
)
def test_any_bytes(app: App, body: bytes, model: str, kind: str) -> None:
    survives(ask(app, f"{PATH}?model={model}", body, content_type=kind))


@FUZZ
@given(
    body=st.dictionaries(st.sampled_from(mlflow.FORMATS), CONTENT, min_size=1, max_size=2),
    model=MODELS,
)
def test_anything_of_about_the_right_shape(app: App, body: Any, model: str) -> None:
    survives(ask(app, f"{PATH}?model={model}", body))


@FUZZ
@given(
    header=st.lists(NAMES, min_size=1, max_size=4),
    rows=st.lists(st.lists(st.text(max_size=5), max_size=4), max_size=4),
    model=MODELS,
)
def test_any_csv(app: App, header: list[str], rows: list[list[str]], model: str) -> None:
    body = "\n".join(",".join(row) for row in [header, *rows]).encode("utf-8", "surrogatepass")
    survives(ask(app, f"{PATH}?model={model}", body, content_type="text/csv"))
