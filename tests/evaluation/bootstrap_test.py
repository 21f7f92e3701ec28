"""Intervals against the binomial formula and a plain loop over resamples; clusters are drawn whole."""

import numpy as np
import pytest

from ecommerce_vl.evaluation import bootstrap


def test_interval_of_a_share_is_the_binomial_one():
    values = (np.arange(400) < 100).astype(float)
    found = bootstrap.mean_intervals({"share": values})["share"]
    deviation = 1.96 * np.sqrt(0.25 * 0.75 / 400)
    assert (found.value, found.n) == (0.25, 400)
    assert found.low == pytest.approx(0.25 - deviation, abs=0.006)
    assert found.high == pytest.approx(0.25 + deviation, abs=0.006)


def test_clusters_are_drawn_whole_so_copies_add_no_certainty():
    random = np.random.default_rng(0)
    values = random.random(100)
    single = bootstrap.mean_intervals({"x": values})["x"]
    copied = bootstrap.mean_intervals({"x": np.repeat(values, 9)}, groups=np.repeat(np.arange(100), 9))["x"]
    naive = bootstrap.mean_intervals({"x": np.repeat(values, 9)})["x"]
    assert (copied.low, copied.high) == pytest.approx((single.low, single.high), abs=1e-12)
    assert naive.high - naive.low == pytest.approx((single.high - single.low) / 3, rel=0.15)


def test_unequal_clusters_equal_a_loop_over_resamples():
    groups = np.array([5, 5, 5, 2, 2, 9])
    values = np.array([1.0, 0.0, 0.5, 0.25, 1.0, 0.0])
    found = bootstrap.mean_intervals({"x": values}, groups=groups, resamples=200, seed=3)["x"]
    drawn = np.random.default_rng(3).integers(0, 3, (200, 3))
    members = [np.flatnonzero(groups == name) for name in (2, 5, 9)]
    means = [values[np.concatenate([members[cluster] for cluster in row])].mean() for row in drawn]
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(means, (2.5, 97.5))), abs=1e-12)


def test_the_seed_decides_and_the_block_size_does_not(monkeypatch):
    values = {"x": np.random.default_rng(0).random(37)}
    first = bootstrap.mean_intervals(values, seed=1)
    assert first == bootstrap.mean_intervals(values, seed=1)
    assert first != bootstrap.mean_intervals(values, seed=2)
    monkeypatch.setattr(bootstrap, "_BLOCK_WEIGHTS", 37 * 7)
    again = bootstrap.mean_intervals(values, seed=1)
    assert (again["x"].low, again["x"].high) == pytest.approx((first["x"].low, first["x"].high), abs=1e-12)


def test_resamples_without_a_positive_are_left_out():
    """A share among the drawn positives, of which there is one: undefined in a third of the resamples."""
    positive = np.array([1.0, 0.0, 0.0])
    statistic = lambda weights: {"x": (weights @ positive) / (weights @ positive)}
    with np.errstate(invalid="ignore"):
        found = bootstrap.intervals(statistic, groups=np.arange(3))["x"]
    assert (found.value, found.low, found.high) == (1.0, 1.0, 1.0)


def test_nan_and_no_rows_are_errors():
    with pytest.raises(ValueError, match="'x'.* are undefined on these 2 rows"):
        bootstrap.intervals(lambda weights: {"x": np.full(len(weights), np.nan)}, groups=np.arange(2))
    with pytest.raises(ValueError, match="NaN among"):
        bootstrap.mean_intervals({"x": np.array([1.0, np.nan])})
    with pytest.raises(ValueError, match="no rows"):
        bootstrap.mean_intervals({"x": np.array([])})
