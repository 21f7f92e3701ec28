"""Percentile bootstrap intervals of any statistic that is a function of row weights.

A resample is a vector of weights: how often each row was drawn. Rows that are correlated (listings of one product)
are drawn together, by cluster. The invariant: the point estimate is the same statistic at weight one, so a value and
its interval cannot come from two formulas; and the draws depend on (seed, number of clusters) alone.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

RESAMPLES = 1000
_LEVELS = (2.5, 97.5)  # percent: a 95 % interval
_BLOCK_WEIGHTS = 4_000_000  # weights held at a time, 32 MB


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % percentile interval, from `n` rows."""

    value: float
    low: float
    high: float
    n: int


def intervals(
    statistic: Callable[[np.ndarray], dict[str, np.ndarray]],
    *,
    groups: np.ndarray,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval]:
    """95 % intervals of `statistic`, which maps weights float64 (S, N) to one array (S,) per name.

    Shapes: groups int (N,), the cluster of each row; `np.arange(N)` resamples single rows.
    Invariants: clusters are drawn with replacement, as many as there are; all rows of a drawn cluster count.
    A statistic that is not a mean (macro F1) may lie outside its percentile interval: resamples lose rare classes.
    A resample in which a statistic is undefined (NaN: no positive was drawn) is left out of its interval.
    Errors: ValueError when there are no rows, or the statistic of all rows is NaN.
    Memory: 4 M weights at a time, whatever N. Source: Efron and Tibshirani (1993), percentile method.
    """
    clusters, cluster_of = np.unique(np.asarray(groups), return_inverse=True)
    if not len(clusters):
        raise ValueError("no rows to resample; a task without an evaluated query must be skipped")
    point = statistic(np.ones((1, len(cluster_of))))
    if undefined := [name for name, value in point.items() if np.isnan(value[0])]:
        raise ValueError(f"{undefined} are undefined on these {len(cluster_of)} rows; skip them with a reason")
    random = np.random.default_rng(seed)
    draws = {name: [] for name in point}
    block = int(np.clip(_BLOCK_WEIGHTS // len(cluster_of), 1, resamples))
    for start in range(0, resamples, block):
        size, count = min(block, resamples - start), len(clusters)
        drawn = random.integers(0, count, (size, count)) + count * np.arange(size)[:, None]
        counts = np.bincount(drawn.ravel(), minlength=size * count).reshape(size, count)
        for name, values in statistic(counts.astype(np.float64)[:, cluster_of]).items():
            draws[name].append(values)
    return {
        name: Interval(
            float(point[name][0]), *map(float, np.nanpercentile(np.concatenate(values), _LEVELS)), len(groups)
        )
        for name, values in draws.items()
    }


def mean_intervals(
    values: dict[str, np.ndarray],
    *,
    groups: np.ndarray | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> dict[str, Interval]:
    """95 % intervals of the means of per-query arrays (N,), all from the same resamples.

    Errors: ValueError when a value is NaN: queries without an answer leave before the mean is taken.
    """
    matrix = np.stack([np.asarray(column, np.float64) for column in values.values()], axis=1)
    if np.isnan(matrix).any():
        raise ValueError("NaN among the per-query values; drop queries without a relevant document first")
    groups = np.arange(len(matrix)) if groups is None else groups
    statistic = partial(_weighted_means, matrix_NxM=matrix, names=tuple(values))
    return intervals(statistic, groups=groups, resamples=resamples, seed=seed)


def _weighted_means(weights_SxN: np.ndarray, *, matrix_NxM: np.ndarray, names: tuple[str, ...]) -> dict:
    means = weights_SxN @ matrix_NxM / weights_SxN.sum(axis=1, keepdims=True)
    return {name: means[:, column] for column, name in enumerate(names)}
