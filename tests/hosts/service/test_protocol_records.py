"""Records in JSON: what is said of a body that is no row."""

from __future__ import annotations

import pytest

from support.service_client import application, ask
from trivet.hosts.service.app import App
from trivet.testing import LinearModel

PATH = "/predict/linear"


@pytest.fixture(scope="module")
def app() -> App:
    return application([LinearModel()], max_rows=10_000)


@pytest.mark.parametrize("body", ["[]", ' [{"x0": 1}, {"x0": 2}]', "[1, 2]"])
def test_a_list_of_rows_is_told_where_it_goes(app: App, body: str) -> None:
    answer = ask(app, PATH, body)
    assert answer.status == 422
    (error,) = answer.json()["errors"]
    assert (error["row"], error["field"], error["code"]) == (0, "", "undecodable")
    assert error["reason"] == 'the row is a list, not an object; send rows as {"rows": [...]}'


@pytest.mark.parametrize("body", ["[", "[1,", "[{]", '"[]"'])
def test_what_is_no_list_is_not_called_one(app: App, body: str) -> None:
    assert "rows" not in ask(app, PATH, body).json()["detail"]
