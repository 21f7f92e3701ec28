"""Metrics of a partition of items against the true one; both are labels, equal where items are together.

The invariant: every item counts, singletons included, and no metric stands alone: NMI rises with the number of
clusters (all singletons score well on it), pairs forget singletons, B-cubed and ARI do not.
"""

from collections.abc import Mapping

import numpy as np
from sklearn import metrics as sklearn_metrics
from sklearn.metrics.cluster import contingency_matrix

from ecommerce_vl.evaluation.ratios import or_zero


def partition(weights_SxN: np.ndarray, *, truth: np.ndarray, predicted: np.ndarray) -> dict[str, np.ndarray]:
    """`pair_*`, `bcubed_*` (p, r, f1) and `row_f1`, one value (S,) per weighting of the N items.

    Shapes: truth and predicted int (N,). `pair_*` count unordered pairs placed together (0 where there is no such
    pair); `bcubed_p` and `_r` are means over items of |C & L| / |C| and |C & L| / |L|, `bcubed_f1` their harmonic mean
    (Bagga and Baldwin, 1998); `row_f1` is the mean over items of 2 |C & L| / (|C| + |L|), own id in both sets.
    In a resample items weigh more or less, while the sets they lie in stay those of all N; draw whole true groups.
    """
    both, cluster, label = _sizes(truth, predicted)
    total = weights_SxN.sum(axis=1)
    # Each pair is counted from both of its ends, which leaves the ratios as they are.
    pairs, placed, wanted = (weights_SxN @ (size - 1.0) for size in (both, cluster, label))
    precision, recall = weights_SxN @ (both / cluster) / total, weights_SxN @ (both / label) / total
    return {
        "pair_p": or_zero(pairs, placed),
        "pair_r": or_zero(pairs, wanted),
        "pair_f1": or_zero(2.0 * pairs, placed + wanted),
        "bcubed_p": precision,
        "bcubed_r": recall,
        "bcubed_f1": or_zero(2.0 * precision * recall, precision + recall),
        "row_f1": weights_SxN @ (2.0 * both / (cluster + label)) / total,
    }


def agreement(truth: np.ndarray, *, predicted: np.ndarray) -> dict[str, float]:
    """`ari`, `ami`, `nmi` (arithmetic), `v`, `homogeneity`, `completeness` as scikit-learn has them, and `purity`."""
    homogeneity, completeness, v = sklearn_metrics.homogeneity_completeness_v_measure(truth, predicted)
    table = contingency_matrix(truth, predicted, sparse=True)
    return {
        "ari": float(sklearn_metrics.adjusted_rand_score(truth, predicted)),
        "ami": float(sklearn_metrics.adjusted_mutual_info_score(truth, predicted)),
        "nmi": float(sklearn_metrics.normalized_mutual_info_score(truth, predicted)),
        "v": float(v),
        "homogeneity": float(homogeneity),
        "completeness": float(completeness),
        "purity": float(table.max(axis=0).sum() / len(truth)),
    }


def mistakes(truth: np.ndarray, *, predicted: np.ndarray) -> dict[str, float]:
    """`over_merged`: share of clusters that mix groups; `split`: share of groups that were torn apart.

    Both among those of two or more items, 0 where there is none.
    """
    clusters, groups = (_mixed(part, other) for part, other in ((predicted, truth), (truth, predicted)))
    return {"over_merged": clusters, "split": groups}


def size_histogram(labels: np.ndarray) -> Mapping[int, int]:
    """Size of a cluster -> how many have it, ascending."""
    sizes, counts = np.unique(np.unique(labels, return_counts=True)[1], return_counts=True)
    return dict(zip(sizes.tolist(), counts.tolist(), strict=True))


def _sizes(truth: np.ndarray, predicted: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Per item: how many share its cluster and its group, its cluster, its group; itself included."""
    truth, predicted = (np.unique(part, return_inverse=True)[1] for part in (truth, predicted))
    joint = np.unique(predicted * (truth.max(initial=0) + 1) + truth, return_inverse=True)[1]
    return tuple(np.bincount(part)[part].astype(np.float64) for part in (joint, predicted, truth))


def _mixed(labels: np.ndarray, others: np.ndarray) -> float:
    table = contingency_matrix(labels, others, sparse=True)
    several = np.asarray(table.sum(axis=1)).ravel() >= 2
    mixed = np.diff(table.tocsr().indptr) >= 2
    return float(mixed[several].mean()) if several.any() else 0.0
