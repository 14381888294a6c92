"""Selection, held over random candidates: limit, cooldown, control, nobody twice."""

from __future__ import annotations

import datetime as dt
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trivet.actions.selection import Rules, assign, held_out, idempotency_key, key_text

KEYS = st.lists(st.text(max_size=6), max_size=60)
RULES = st.builds(
    Rules,
    action=st.sampled_from(["offer", "call"]),
    limit=st.none() | st.integers(1, 20),
    control=st.floats(0, 0.99),
)
SOME = st.frozensets(st.text(max_size=2), max_size=10)


@given(KEYS, RULES, SOME, SOME)
def test_everybody_is_in_one_group_and_the_rules_hold(
    keys: list[str], rules: Rules, cooling: frozenset[str], suppressed: frozenset[str]
) -> None:
    found = list(assign(keys, rules, cooling=cooling, suppressed=suppressed))
    assert [each.key for each in found] == list(dict.fromkeys(keys))  # each once, in their order
    assert [keys[each.place] for each in found] == [each.key for each in found]
    groups = {each.key: each.group for each in found}
    treated = [each for each in found if each.group == "treated"]
    assert len(treated) <= (rules.limit or len(keys))
    for key, group in groups.items():
        assert (group == "suppressed") == (key in suppressed)
        assert (group == "cooldown") == (key in cooling and key not in suppressed)
        if group == "control":
            assert held_out(rules.action, key, rules.control)
        if group == "treated":
            assert not held_out(rules.action, key, rules.control)
    over = [each.place for each in found if each.group == "over_limit"]
    compared = [each.place for each in found if each.group in ("treated", "control")]
    if over:  # nobody below the limit is held out: the groups are of the same ranks
        assert len(treated) == rules.limit
        assert max(compared) < min(over)


@given(KEYS, RULES)
def test_a_larger_limit_changes_nobody_above_it(keys: list[str], rules: Rules) -> None:
    few = {each.key: each.group for each in assign(keys, rules)}
    all_of_them = Rules(rules.action, None, rules.control)
    many = {each.key: each.group for each in assign(keys, all_of_them)}
    for key, group in few.items():
        assert group in (many[key], "over_limit")


@given(st.text(max_size=10), st.floats(0, 0.99), st.floats(0, 0.99))
def test_who_is_held_out_stays_so_with_a_larger_share(key: str, one: float, other: float) -> None:
    small, large = sorted((one, other))
    assert not held_out("offer", key, 0.0)
    assert held_out("offer", key, large) or not held_out("offer", key, small)


@pytest.mark.parametrize("share", [0.05, 0.1, 0.5])
def test_the_share_held_out_is_the_one_asked_for(share: float) -> None:
    n = 20_000
    held = sum(held_out("offer", f'{{"customer_id":{i}}}', share) for i in range(n))
    assert abs(held / n - share) < 4 * (share * (1 - share) / n) ** 0.5


def test_two_actions_hold_out_different_people() -> None:
    both = sum(
        held_out("offer", str(i), 0.5) and held_out("call", str(i), 0.5) for i in range(4000)
    )
    assert 800 < both < 1200


def test_a_key_is_written_as_the_results_write_keys() -> None:
    row = {"b": "é", "a": 1, "c": dt.date(2020, 1, 1), "u": uuid.UUID(int=0), "x": None}
    assert key_text(["a", "b"], row) == '{"a":1,"b":"é"}'
    assert key_text(["c"], row) == '{"c":"2020-01-01"}'


def test_an_idempotency_key_tells_everything_apart() -> None:
    keys = {
        idempotency_key(project, action, start, key)
        for project in ("a", "b")
        for action in ("a", "b")
        for start in ("2020-01-01", "2020-01-02")
        for key in ("1", "2")
    }
    assert len(keys) == 16
    assert idempotency_key("a", "b", "c", "d") == idempotency_key("a", "b", "c", "d")
    assert idempotency_key("a", "bc", "", "d") != idempotency_key("ab", "c", "", "d")
