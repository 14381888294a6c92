from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    accuracy_score,
    brier_score_loss,
    f1_score,
    log_loss,
    precision_score,
    recall_score,
    roc_auc_score,
)

from trivet.monitoring.quality import (
    Errors,
    Scores,
    is_worse,
    roc_auc,
    score_bin,
)

relaxed = settings(deadline=None, max_examples=60)
seeds = st.integers(0, 10_000)


def classified(
    seed: int, n: int = 500, rate: float = 0.0
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    random = np.random.default_rng(seed)
    score = 1 / (1 + np.exp(-random.normal(rate, 2, n)))
    return random.random(n) < score, score


@relaxed
@given(seeds)
def test_measures_of_a_classifier_are_scikit_learns(seed: int) -> None:
    truth, score = classified(seed)
    found = Scores.of(truth, score, 0.4).metrics()
    said = score >= 0.4
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, said))
    assert found["precision"] == pytest.approx(precision_score(truth, said))
    assert found["recall"] == pytest.approx(recall_score(truth, said))
    assert found["f1"] == pytest.approx(f1_score(truth, said))
    assert found["log_loss"] == pytest.approx(log_loss(truth, score))
    assert found["brier"] == pytest.approx(brier_score_loss(truth, score))
    assert found["roc_auc"] == pytest.approx(roc_auc_score(truth, score), abs=2e-3)
    assert roc_auc(truth, score) == pytest.approx(roc_auc_score(truth, score))


@pytest.mark.parametrize("rate", [-8.0, 8.0])
def test_roc_auc_of_rare_events_is_fine_too(rate: float) -> None:
    truth, score = classified(1, 100_000, rate)
    found = Scores.of(truth, score).roc_auc()
    assert found == pytest.approx(roc_auc_score(truth, score), abs=1e-3)


@relaxed
@given(seeds, st.integers(1, 6))
def test_sums_of_parts_are_those_of_the_whole(seed: int, parts: int) -> None:
    truth, score = classified(seed)
    cuts = [slice(i * 500 // parts, (i + 1) * 500 // parts) for i in range(parts)]
    whole = sum((Scores.of(truth[cut], score[cut]) for cut in cuts), Scores())
    expected = Scores.of(truth, score)
    assert whole.metrics() == pytest.approx(expected.metrics())
    assert {k: v.rows for k, v in whole.bins.items()} == {
        k: v.rows for k, v in expected.bins.items()
    }
    errors = sum((Errors.of(truth[cut], score[cut]) for cut in cuts), Errors())
    assert errors.metrics() == pytest.approx(Errors.of(truth, score).metrics())
    assert errors.actual == truth.sum()


@relaxed
@given(seeds)
def test_the_calibration_curve_is_scikit_learns_of_quantiles(seed: int) -> None:
    truth, score = classified(seed, 5000)
    points = Scores.of(truth, score).calibration(10)
    observed, predicted = calibration_curve(truth, score, n_bins=10, strategy="quantile")
    assert len(points) == 10
    assert sum(point.rows for point in points) == 5000
    for point, x, y in zip(points, predicted, observed, strict=True):
        assert point.predicted == pytest.approx(x, abs=0.03)
        assert point.observed == pytest.approx(y, abs=0.08)


def test_the_lift_is_what_the_best_rows_hold() -> None:
    truth, score = classified(3, 20_000)
    lift = Scores.of(truth, score).lift(10)
    ranked = truth[np.argsort(-score)]
    for share, value in lift:
        best = ranked[: round(share * len(ranked))]
        assert value == pytest.approx(best.mean() / truth.mean(), rel=0.02)
    assert lift[-1] == pytest.approx((1.0, 1.0))


def test_what_nothing_tells_is_no_number() -> None:
    assert all(math.isnan(value) for value in Scores().metrics().values())
    assert all(math.isnan(value) for value in Errors().metrics().values())
    assert Scores().calibration() == []
    assert Scores.of([False], [0.2]).lift() == []
    assert math.isnan(roc_auc([True], [0.2]))
    assert math.isnan(roc_auc([], []))


@relaxed
@given(hnp.arrays(np.float64, 20, elements=st.floats(0, 1)))
def test_bins_rise_with_the_score(scores: npt.NDArray[np.float64]) -> None:
    places = score_bin(np.sort(scores))
    assert (np.diff(places) >= 0).all()
    assert (np.abs(places) <= 277).all()


def test_a_certain_mistake_costs_much_and_not_everything() -> None:
    found = Scores.of([True, False], [0.0, 1.0])
    assert found.log_loss == pytest.approx(log_loss([1, 0], [0.0, 1.0], normalize=False))


def test_worse_is_up_down_or_away_from_nothing() -> None:
    assert is_worse("mae", 2.0, 1.0)
    assert not is_worse("mae", 1.0, 1.0)
    assert is_worse("roc_auc", 0.7, 0.8)
    assert is_worse("bias", -3.0, 2.0)
    assert not is_worse("bias", 1.0, 2.0)
    assert not is_worse("mae", float("nan"), 1.0)
