"""The clustering family: which listings of a split belong together, found from vectors alone.

Three ways: connected components of the mutual-neighbour graph above a threshold; average linkage cut at a threshold,
no cluster larger than `MAX_MEMBERS`; spherical k-means with the true number of groups, for comparison with literature
alone. The invariant: a threshold is the one of highest pair F1 on the validation split. Every product counts: one
without a known relation, and one that is alone, is a group of its own (`singletons` is their share).
"""

from __future__ import annotations

from functools import partial

import numpy as np
from scipy.cluster import hierarchy
from scipy.sparse import csr_matrix, issparse
from scipy.sparse.csgraph import connected_components
from sklearn.cluster import kmeans_plusplus
from threadpoolctl import threadpool_limits

from ecommerce_vl.evaluation import bootstrap, cluster_metrics, figures, search
from ecommerce_vl.evaluation.context import MODEL, Context
from ecommerce_vl.evaluation.products import VIEWS
from ecommerce_vl.evaluation.results import Results

NEIGHBOURS = 50
MAX_MEMBERS = 200  # of a cluster of average linkage
MAX_LINKED = 5_000  # products of average linkage, which holds all their cosines: 0.3 GB
TRIED = 50  # thresholds
_RELATIONS = {"same_product": "catalog", "same_style": "group"}
_ROUNDS = 50


def run(context: Context, results: Results) -> None:
    """Both relations, every view and method by the graph; the model by linkage and k-means too."""
    for task, relation in _RELATIONS.items():
        for view in VIEWS:
            key = f"clustering/{task}/{view}"
            rows = {split: np.flatnonzero(context.split(split).present(view)) for split in ("test", "validation")}
            truth = {split: context.split(split).labels(relation)[chosen] for split, chosen in rows.items()}
            lone = [split for split, labels in truth.items() if len(np.unique(labels)) == len(labels)]
            if lone:
                results.skip(key, f"no two {lone[0]} products with a vector of their {view} are known to be related")
                continue
            for method in context.methods(view, without=("colour_histogram",)):
                prefix = f"{key}/{method}".rstrip("/")
                if reason := context.lacks(method, *((split, view, chosen) for split, chosen in rows.items())):
                    results.skip(prefix, reason)
                    continue
                vectors = {
                    split: context.features(method, split, view=view, fitted_on=split)[chosen]
                    for split, chosen in rows.items()
                }
                _measure_method(context, results, prefix, rows=rows, truth=truth, vectors=vectors, method=method)


def mutual_neighbours(vectors, *, ids: list[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Edges (i, j, cosine) with i < j, each among the 50 nearest of the other; int, int and float64 (E,)."""
    count = vectors.shape[0]
    near, scores = search.top_k(vectors, gallery=vectors, gallery_ids=ids, query_ids=ids, k=min(NEIGHBOURS, count))
    known = near >= 0
    rows = np.repeat(np.arange(count), known.sum(axis=1))
    # Shifted above zero, so that no cosine vanishes from the sparse table.
    table = csr_matrix((scores[known] + 2.0, (rows, near[known])), shape=(count, count))
    both = table.minimum(table.T).tocoo()
    upper = both.row < both.col
    return both.row[upper], both.col[upper], both.data[upper] - 2.0


def components(edges: tuple, *, count: int, threshold: float) -> np.ndarray:
    """Int (N,): connected components of the edges at or above a threshold."""
    left, right, scores = edges
    kept = scores >= threshold
    graph = csr_matrix((np.ones(kept.sum(), np.int8), (left[kept], right[kept])), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def linkage(vectors) -> np.ndarray:
    """SciPy's merge table of average linkage over cosine distances."""
    similarity = vectors @ vectors.T
    similarity = similarity.toarray() if issparse(similarity) else np.asarray(similarity, np.float64)
    distances = 1.0 - similarity[np.triu_indices(len(similarity), k=1)]
    # Rounded as all scores are, so that equal rows are at 0 and not just beside it.
    return hierarchy.linkage(np.maximum(distances.round(6), 0.0), method="average")


def cut(merges: np.ndarray, *, distance: float) -> np.ndarray:
    """Int (N,): clusters merged within a distance (1 - mean cosine); those above 200 are cut again further down."""
    labels = hierarchy.fcluster(merges, distance, criterion="distance")
    while distance > 1e-6:
        sizes = np.bincount(labels)
        large = np.flatnonzero(sizes[labels] > MAX_MEMBERS)
        if not len(large):
            break
        distance *= 0.9
        labels[large] = labels.max() + hierarchy.fcluster(merges, distance, criterion="distance")[large]
    return np.unique(labels, return_inverse=True)[1]


def spherical_kmeans(vectors: np.ndarray, *, clusters: int, seed: int) -> np.ndarray:
    """Int (N,): k-means on the sphere from one k-means++ start (Dhillon and Modha, 2001)."""
    vectors = np.asarray(vectors, np.float64)
    with threadpool_limits(1):
        centres = kmeans_plusplus(vectors, clusters, random_state=seed)[0]
        labels = np.full(len(vectors), -1)
        for _ in range(_ROUNDS):
            found = (vectors @ centres.T).argmax(axis=1)
            if (found == labels).all():
                break
            labels = found
            sums = np.zeros_like(centres)
            np.add.at(sums, labels, vectors)
            norms = np.linalg.norm(sums, axis=1, keepdims=True)
            centres = np.where(norms > 0, sums / np.maximum(norms, 1e-12), centres)  # an empty one stays where it is
    return labels


def best_cut(clusters_at, *, candidates: np.ndarray, truth: np.ndarray) -> tuple[float, np.ndarray]:
    """(threshold, labels) of highest pair F1 of `clusters_at(threshold)`, the highest threshold in a tie."""
    tried = np.unique(np.quantile(candidates, np.linspace(0.0, 1.0, TRIED), method="nearest"))[::-1]
    weights = np.ones((1, len(truth)))
    score = lambda labels: cluster_metrics.partition(weights, truth=truth, predicted=labels)["pair_f1"][0]
    found = [(threshold, clusters_at(threshold)) for threshold in tried.tolist()]
    return max(found, key=lambda one: score(one[1]))


def _measure_method(context: Context, results: Results, prefix: str, *, rows, truth, vectors, method: str) -> None:
    note = partial(_note, context, results, rows=rows["test"], truth=truth["test"])
    names = {split: [context.split(split).ids[row] for row in chosen] for split, chosen in rows.items()}
    edges = {split: mutual_neighbours(table, ids=names[split]) for split, table in vectors.items()}
    if not len(edges["validation"][2]):
        results.skip(f"{prefix}/mutual_neighbours", "no two validation products are among each other's neighbours")
        return
    clusters_at = lambda threshold, split: components(edges[split], count=len(rows[split]), threshold=threshold)
    threshold, _ = best_cut(
        partial(clusters_at, split="validation"), candidates=edges["validation"][2], truth=truth["validation"]
    )
    note(f"{prefix}/mutual_neighbours", predicted=clusters_at(threshold, "test"), threshold=threshold)
    if method != MODEL:
        return
    if max(map(len, rows.values())) > MAX_LINKED:
        reason = f"average linkage holds the distances of all pairs; at most {MAX_LINKED:,} products"
        results.skip(f"{prefix}/average_linkage", reason)
    else:
        merges = {split: linkage(table) for split, table in vectors.items()}
        nearness, _ = best_cut(
            lambda nearness: cut(merges["validation"], distance=-nearness),
            candidates=-merges["validation"][:, 2],
            truth=truth["validation"],
        )
        predicted = cut(merges["test"], distance=-nearness)
        note(f"{prefix}/average_linkage", predicted=predicted, threshold=1.0 + nearness)
    clusters = len(np.unique(truth["test"]))
    predicted = spherical_kmeans(vectors["test"], clusters=clusters, seed=context.seed)
    note(f"{prefix}/kmeans", predicted=predicted, clusters=clusters)


def _note(context: Context, results: Results, prefix: str, *, rows, truth, predicted, **chosen) -> None:
    statistic = partial(cluster_metrics.partition, truth=truth, predicted=predicted)
    estimates = bootstrap.intervals(statistic, groups=context.test.components()[rows], seed=context.seed)
    sizes = np.unique(truth, return_counts=True)[1]
    shared = {
        "n": len(rows),
        "candidates": len(rows),
        "coverage": len(rows) / len(context.test),
        "singletons": float((sizes == 1).sum() / len(rows)),
        **chosen,
    }
    measured = {name: vars(estimate) | shared for name, estimate in estimates.items()}
    whole = cluster_metrics.agreement(truth, predicted=predicted) | cluster_metrics.mistakes(truth, predicted=predicted)
    # Of the partition as a whole: resampled products have no clusters of their own, so there is no interval.
    measured |= {name: {"value": value, "low": None, "high": None} | shared for name, value in whole.items()}
    histogram = cluster_metrics.size_histogram(predicted)
    measured["pair_f1"]["sizes"] = {str(size): int(count) for size, count in histogram.items()}
    results.add(prefix, measured)
    if prefix.count("/") == 3 and not prefix.endswith("/kmeans"):  # the model's
        results.figures[prefix] = figures.Clusters(predicted=predicted, true=truth, rows=rows)
