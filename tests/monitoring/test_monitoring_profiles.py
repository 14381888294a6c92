from __future__ import annotations

import datetime as dt
import math
from collections import Counter
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import mean_absolute_error, mean_squared_error, roc_auc_score

from trivet.monitoring import Profile, Reference, regression_metrics, roc_auc
from trivet.monitoring.profiles import MAX_CATEGORIES, NUMERIC_BINS
from trivet.schema import TYPES

relaxed = settings(deadline=None)

SOME: dict[str, st.SearchStrategy[Any]] = {
    "bool": st.booleans(),
    "int8": st.integers(-128, 127),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "float32": st.floats(-1e6, 1e6, width=32),
    "float64": st.one_of(st.floats(-1e300, 1e300), st.integers(-3, 3).map(float)),
    "string": st.text(max_size=2),
    "timestamp": st.datetimes(timezones=st.just(dt.UTC)),
    "date": st.dates(),
}


@st.composite
def columns(draw: st.DrawFn, count: int = 3) -> list[pa.Array]:
    kind = draw(st.sampled_from(sorted(SOME)))
    one = st.lists(st.one_of(st.none(), SOME[kind]), max_size=40)
    return [pa.array([None, *draw(one)], TYPES[kind]).slice(1) for _ in range(count)]


@relaxed
@given(columns(2))
def test_counts_and_nulls_add_up_to_the_rows(case: list[pa.Array]) -> None:
    sample, later = case
    reference = Reference.of(sample)
    assert sum(reference.counts) + reference.nulls == len(sample)
    profile = Profile.of(later, reference)
    assert len(profile.counts) == len(reference.counts)
    assert sum(profile.counts) + profile.nulls == profile.rows == len(later)
    assert Profile.of(sample, reference).counts == reference.counts


@relaxed
@given(columns(4))
def test_adding_profiles_is_profiling_the_rows_together(case: list[pa.Array]) -> None:
    reference = Reference.of(case[0])
    a, b, c = (Profile.of(column, reference) for column in case[1:])
    whole = Profile.of(pa.concat_arrays(case[1:]), reference)
    for added in ((a + b) + c, a + (b + c), c + a + b):
        assert (added.counts, added.nulls, added.rows) == (whole.counts, whole.nulls, whole.rows)
        assert (added.low, added.high) == (whole.low, whole.high)
        assert (added.total is None) == (whole.total is None)
        if whole.total is not None and added.total is not None:
            parts = [abs(p.total or 0.0) for p in (a, b, c)]
            scale = max(abs(whole.low or 0.0), abs(whole.high or 0.0), *parts)
            assert math.isclose(added.total, whole.total, rel_tol=1e-9, abs_tol=1e-9 * scale)


@relaxed
@given(columns(1))
def test_a_reference_survives_being_written(case: list[pa.Array]) -> None:
    reference = Reference.of(case[0])
    assert Reference.from_dict(reference.to_dict()) == reference


numbers = st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=60)


@relaxed
@given(numbers, numbers)
def test_numeric_bins_are_numpys(sample: list[float], later: list[float]) -> None:
    reference = Reference.of(pa.array(sample))
    assert reference.edges is not None
    edges = np.unique(np.quantile(sample, np.linspace(0, 1, NUMERIC_BINS + 1)[1:-1]))
    distinct = np.unique(sample)
    assert reference.edges == tuple(distinct if len(distinct) <= NUMERIC_BINS else edges)
    for values, counts in (
        (sample, reference.counts),
        (later, Profile.of(pa.array(later), reference).counts),
    ):
        by_numpy, _ = np.histogram(values, [-np.inf, *reference.edges, np.inf])
        assert counts == tuple(by_numpy)


@relaxed
@given(
    st.lists(st.sampled_from("abcd"), max_size=40), st.lists(st.sampled_from("cdef"), max_size=40)
)
def test_categories_are_counted_by_name(sample: list[str], later: list[str]) -> None:
    reference = Reference.of(pa.array(sample, pa.string()))
    assert reference.values is not None
    seen = Counter(sample)
    assert list(reference.values) == sorted(seen, key=lambda name: (-seen[name], name))
    counted = Counter(later)
    profile = Profile.of(pa.array(later, pa.string()), reference)
    named = [counted[name] for name in reference.values]
    assert profile.counts == (*named, len(later) - sum(named))
    assert profile.total is profile.low is profile.high is None


def test_rare_categories_share_a_bin() -> None:
    column = pa.array([f"c{i}" for i in range(MAX_CATEGORIES + 5)] + ["c7"] * 3)
    reference = Reference.of(column)
    assert reference.values is not None
    assert len(reference.values) == MAX_CATEGORIES
    assert reference.values[0] == "c7"
    assert reference.counts[0] == 4
    assert reference.counts[-1] == 5


def test_a_numeric_profile_has_total_low_and_high() -> None:
    column = pa.array([3, None, -1, 4], pa.int32())
    assert Profile.of(column, Reference((0.0, 3.0), None, (), 0)) == Profile(
        (1, 0, 2), 1, 4, 6.0, -1.0, 4.0
    )
    assert Profile.of(column, None) == Profile((), 1, 4, 6.0, -1.0, 4.0)
    assert Profile.of(pa.array(["a"]), None) == Profile((), 0, 1)


def test_timestamps_count_as_seconds_and_dates_as_days() -> None:
    later = dt.datetime(1970, 1, 1, 0, 0, 1, 500_000, dt.UTC)
    assert Profile.of(pa.array([later], TYPES["timestamp"]), None).total == 1.5
    assert Profile.of(pa.array([dt.date(1970, 1, 3)]), None).total == 2.0


@pytest.mark.parametrize("column", [pa.array([], pa.float64()), pa.array([None], pa.float64())])
def test_a_numeric_column_without_a_number(column: pa.Array) -> None:
    reference = Reference.of(column)
    assert reference == Reference((), None, (0,), column.null_count)
    assert Profile.of(column, None) == Profile((), column.null_count, len(column), 0.0)
    some = Profile.of(pa.array([2.0]), reference)
    both = Profile.of(column, reference) + some
    assert (both.low, both.high, both.total, both.counts) == (2.0, 2.0, 2.0, (1,))


def test_profiles_on_other_bins_are_not_added() -> None:
    with pytest.raises(ValueError, match="different bins"):
        Profile((1,), 0, 1) + Profile((1, 0), 0, 1)


pairs = st.lists(st.tuples(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6)), min_size=1, max_size=50)


@relaxed
@given(pairs)
def test_regression_metrics_are_scikit_learns(pairs: list[tuple[float, float]]) -> None:
    actual, predicted = zip(*pairs, strict=True)
    metrics = regression_metrics(actual, predicted)
    assert metrics["mae"] == pytest.approx(mean_absolute_error(actual, predicted))
    assert metrics["rmse"] == pytest.approx(math.sqrt(mean_squared_error(actual, predicted)))
    assert metrics["bias"] == pytest.approx(np.mean(predicted) - np.mean(actual), abs=1e-6)


def test_the_bias_of_predictions_above_the_truth_is_positive() -> None:
    assert regression_metrics([1, 2], [2.0, 5.0]) == {
        "mae": 2.0,
        "rmse": pytest.approx(math.sqrt(5)),
        "bias": 2.0,
    }


def test_regression_metrics_of_no_row_are_no_number() -> None:
    metrics = regression_metrics([], [])
    assert set(metrics) == {"mae", "rmse", "bias"}
    assert all(math.isnan(value) for value in metrics.values())


ranked = st.lists(
    st.tuples(st.booleans(), st.one_of(st.floats(0, 1), st.sampled_from([0.1, 0.5]))), max_size=60
)


@relaxed
@given(ranked)
def test_roc_auc_is_scikit_learns(rows: list[tuple[bool, float]]) -> None:
    truth = [positive for positive, _ in rows]
    scores = [probability for _, probability in rows]
    area = roc_auc(truth, scores)
    if len(set(truth)) < 2:
        assert math.isnan(area)
    else:
        assert area == pytest.approx(roc_auc_score(truth, scores))


def test_a_rare_label_has_a_bin_of_its_own() -> None:
    reference = Reference.of(pa.array([0] * 990 + [1] * 10))
    assert reference.edges == (0.0, 1.0)
    assert reference.counts == (0, 990, 10)
