"""The company that does not exist: the same each time, and its offers have the effect they say."""

from __future__ import annotations

import datetime as dt
import sqlite3
from pathlib import Path

import pytest
from simulator import ACCEPTED, AT_FIRST, Company

START = dt.date(2025, 1, 1)


def company(folder: Path, name: str, seed: int = 1) -> Company:
    return Company(folder / f"{name}.db", START, seed)


def rows(made: Company, sql: str) -> list[tuple[object, ...]]:
    with sqlite3.connect(made.database) as db:
        return db.execute(sql).fetchall()


def test_a_history_is_the_same_each_time(tmp_path: Path) -> None:
    one, two, other = (
        company(tmp_path, name, seed) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    for made in (one, two, other):
        made.advance(5)
    for table in ("customers", "usage", "calls"):
        same = [rows(made, f"SELECT * FROM {table} ORDER BY 1, 2") for made in (one, two, other)]
        assert same[0] == same[1] != same[2]
    assert len(rows(one, "SELECT * FROM customers")) == AT_FIRST + 25
    for made in (one, two, other):
        made.close()


def test_who_has_left_is_not_seen_again(tmp_path: Path) -> None:
    made = company(tmp_path, "a")
    made.advance(30)
    left = rows(made, "SELECT count(*) FROM customers WHERE left_on IS NOT NULL")[0][0]
    assert isinstance(left, int)
    assert 100 < left < 400
    after = "SELECT * FROM usage JOIN customers USING (customer_id) WHERE day > left_on"
    assert rows(made, after) == []
    before = "SELECT * FROM usage JOIN customers USING (customer_id) WHERE day < joined_on"
    assert rows(made, before) == []
    made.close()


def test_an_offer_arrives_once_and_does_what_the_simulator_says(tmp_path: Path) -> None:
    with_offers, without = company(tmp_path, "a"), company(tmp_path, "b")
    for made in (with_offers, without):
        made.advance(10)
    here = rows(with_offers, "SELECT customer_id FROM customers WHERE left_on IS NULL")
    offers = [(f"{row[0]:032x}", int(str(row[0]))) for row in here]
    assert with_offers.offer(offers) == len(offers)
    assert with_offers.offer(offers) == 0
    accepted = rows(with_offers, "SELECT avg(accepted) FROM offers")[0][0]
    assert accepted == pytest.approx(ACCEPTED, abs=0.03)
    for made in (with_offers, without):
        made.advance(30)
    gone = "SELECT count(*) FROM customers WHERE left_on BETWEEN '2025-01-11' AND '2025-02-09'"
    saved = int(str(rows(without, gone)[0][0])) - int(str(rows(with_offers, gone)[0][0]))
    until = START + dt.timedelta(days=40)
    effect, measured = with_offers.true_effect(until)
    assert measured == len(offers)
    assert saved / len(offers) == pytest.approx(effect, abs=0.01)
    assert with_offers.true_effect(until - dt.timedelta(days=1)) == (0.0, 0)
    for made in (with_offers, without):
        made.close()
