from __future__ import annotations

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import chi2, entropy, wasserstein_distance

from trivet.monitoring import Profile, Reference
from trivet.monitoring.drift import compare, jensen_shannon, psi, psi_by_chance, wasserstein

relaxed = settings(deadline=None, max_examples=60)

counts = st.lists(st.integers(0, 500), min_size=2, max_size=12)
two_counts = (
    st.integers(2, 12)
    .flatmap(lambda n: st.tuples(*[st.lists(st.integers(0, 500), min_size=n, max_size=n)] * 2))
    .filter(lambda pair: all(sum(side) for side in pair))
)


@relaxed
@given(two_counts)
def test_psi_is_both_divergences(pair: tuple[list[int], list[int]]) -> None:
    seen = [(a + 0.5, b + 0.5) for a, b in zip(*pair, strict=True) if a or b]
    p, q = zip(*seen, strict=True)
    assert psi(*pair) == pytest.approx(entropy(p, q) + entropy(q, p), abs=1e-12)
    assert psi(*pair) == pytest.approx(psi(*pair[::-1]))


@relaxed
@given(two_counts)
def test_jensen_shannon_is_scipys(pair: tuple[list[int], list[int]]) -> None:
    expected = jensenshannon(*pair, base=2)
    assert jensen_shannon(*pair) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("free", [1, 3, 9, 50])
def test_the_noise_is_the_quantile_of_chi_squared(free: int) -> None:
    before, after = [100] * (free + 1), [50] * (free + 1)
    scale = 1 / sum(before) + 1 / sum(after)
    assert psi_by_chance(before, after) == pytest.approx(scale * chi2.ppf(0.95, free), rel=0.05)


def test_psi_of_samples_that_have_not_moved_stays_below_the_noise() -> None:
    random = np.random.default_rng(1)
    shares = np.full(10, 0.1)
    above = sum(
        psi(before, after) > psi_by_chance(before, after)
        for before, after in (
            (random.multinomial(5000, shares), random.multinomial(1000, shares))
            for _ in range(1000)
        )
    )
    assert 20 < above < 90


def test_noise_of_one_bin_or_of_nothing_is_none() -> None:
    assert psi_by_chance([5], [7]) == 0.0
    assert psi_by_chance([0, 0], [7, 1]) == 0.0


few = st.lists(st.integers(0, 7), min_size=1, max_size=40)


@relaxed
@given(few, few)
def test_wasserstein_of_few_values_is_exact(before: list[int], after: list[int]) -> None:
    reference = Reference.of(pa.array(before, pa.int64()))
    profile = Profile.of(pa.array(after, pa.int64()), reference)
    assert reference.edges is not None
    low, high = reference.edges[0], reference.edges[-1]
    inside = [max(value for value in reference.edges if value <= max(v, low)) for v in after]
    assert max(inside) <= high
    expected = wasserstein_distance(before, inside)
    if min(after) >= low:  # none lies below what the reference has
        moved = wasserstein(reference.edges, reference.counts, profile.counts)
        assert moved == pytest.approx(expected, abs=1e-9)


@relaxed
@given(two_counts.filter(lambda pair: pair[0][0] > 0 and len(pair[0]) > 2), st.randoms())
def test_wasserstein_of_deciles_is_that_of_rows_spread_evenly(
    pair: tuple[list[int], list[int]], random: object
) -> None:
    before, after = pair
    edges = np.cumsum(np.linspace(0.5, 2, len(before) - 1))
    points, weights = [], []
    for side in (before, after):
        places: list[float] = [edges[0], edges[-1]]
        mass: list[float] = [side[0], side[-1]]
        for low, high, rows in zip(edges[:-1], edges[1:], side[1:-1], strict=True):
            places += list(low + (high - low) * (np.arange(400) + 0.5) / 400)
            mass += [rows / 400] * 400
        points.append(places)
        weights.append(mass)
    expected = wasserstein_distance(*points, *weights)
    assert wasserstein(edges.tolist(), before, after) == pytest.approx(expected, abs=2e-3)


def test_the_whole_comparison_of_numbers() -> None:
    random = np.random.default_rng(2)
    reference = Reference.of(pa.array(random.normal(size=5000)))
    same = compare(reference, Profile.of(pa.array(random.normal(size=5000)), reference))
    moved = compare(
        reference, Profile.of(pa.array([None, *random.normal(1.0, size=999)]), reference)
    )
    assert same is not None
    assert moved is not None
    assert same.psi < 0.02
    assert not moved.psi < 0.25
    assert moved.is_certain
    assert moved.missing == (0.001, 0.0)
    assert moved.new is None
    assert moved.rows == 1000
    assert moved.wasserstein is not None
    assert 0.6 < moved.wasserstein < 1.0


def test_the_whole_comparison_of_categories() -> None:
    reference = Reference.of(pa.array(["a"] * 90 + ["b"] * 10))
    drift = compare(reference, Profile.of(pa.array(["a"] * 50 + ["c"] * 50), reference))
    assert drift is not None
    assert drift.new == (0.5, 0.0)
    assert drift.wasserstein is None
    assert drift.psi > 0.25
    assert 0 < drift.jensen_shannon < 1


def test_what_cannot_be_compared() -> None:
    reference = Reference.of(pa.array([1.0, 2.0]))
    assert compare(reference, Profile((1,), 0, 1)) is None
    assert compare(reference, Profile((0, 0, 0), 4, 4)) is None


def test_nothing_in_common_is_one() -> None:
    assert math.isclose(jensen_shannon([4, 0], [0, 9]), 1.0)
