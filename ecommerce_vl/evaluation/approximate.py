"""How much an approximate index (HNSW) finds of what exact search finds, for the effort it is allowed.

Headline numbers always come from exact search; this says what a serving index would lose of them. The invariant: both
search the same vectors for the same queries, the asking product removed by id from either. The index itself comes from
whoever asks: `exporting/index.py` builds them, and the doors bring the two together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ecommerce_vl.evaluation import bootstrap, search
from ecommerce_vl.evaluation.context import Context
from ecommerce_vl.evaluation.figures import Curve
from ecommerce_vl.evaluation.results import Results

CUTOFFS = (10, 100)
EFFORTS = (16, 64, 256)  # candidates kept while searching
Find = Callable[[np.ndarray, int, int], np.ndarray]  # queries (Q,D), k, effort -> rows int (Q,K), -1 past the end


def run(context: Context, results: Results) -> None:
    """`approximate/effort=N/recall@k` over the product vectors of all splits, where `context.index` builds an index."""
    if context.index is None:
        results.skip("approximate", "no index was asked for (--approximate)")
        return
    splits = context.distinct_splits
    rows = {name: np.flatnonzero(context.split(name).present("product")) for name in splits}
    gallery = np.concatenate([context.split(name).vectors["product"][rows[name]] for name in splits if len(rows[name])])
    ids = [context.split(name).ids[row] for name in splits for row in rows[name]]
    queries, names = gallery[: len(rows["test"])], ids[: len(rows["test"])]
    if not len(queries) or len(ids) <= max(CUTOFFS):
        results.skip("approximate", f"{len(ids)} products have vectors; more than {max(CUTOFFS)} are needed")
        return
    exact, _ = search.top_k(queries, gallery=gallery, gallery_ids=ids, query_ids=names, k=max(CUTOFFS))
    groups, points = context.test.components()[rows["test"]], {f"recall@{k}": [] for k in CUTOFFS}
    find = context.index(gallery)
    for effort in EFFORTS:
        found = without_self(find(queries, max(CUTOFFS) + 1, effort), own=np.arange(len(queries)))
        values = {f"recall@{k}": recall(found[:, :k], exact=exact[:, :k]) for k in CUTOFFS}
        estimates = bootstrap.mean_intervals(values, groups=groups, seed=context.seed)
        facts = {"candidates": len(ids) - 1, "coverage": len(queries) / len(context.test)}
        results.add(f"approximate/effort={effort}", {name: vars(one) | facts for name, one in estimates.items()})
        for name, one in estimates.items():
            points[name].append((float(effort), one.value, one.low, one.high))
    results.figures["approximate"] = Curve(
        x_label="candidates kept while searching",
        y_label="share of the exact answers found",
        series={name: tuple(series) for name, series in points.items()},
        log_x=True,
    )


def recall_by_effort(
    find: Find,
    *,
    efforts: Sequence[int],
    queries: np.ndarray,
    gallery: np.ndarray,
    ids: Sequence[str],
) -> dict[int, dict[str, float]]:
    """{effort: {"recall@10": …, "recall@100": …}} of an index against exact search, means over queries (Q,D).

    Args:
      find: gives rows of `gallery` (M,D).
      ids: M strings, unique; queries that are not finite are left out.

    Errors: ValueError if no query is left.
    """
    queries = queries[np.isfinite(queries).all(axis=1)]
    if not len(queries):
        raise ValueError("no query has a vector; recall of an index needs some")
    cutoffs = [min(k, len(ids)) for k in CUTOFFS]
    exact, _ = search.top_k(queries, gallery=gallery, gallery_ids=ids, k=max(cutoffs))
    found = {}
    for effort in efforts:
        rows = find(queries, max(cutoffs), effort)
        found[effort] = {
            f"recall@{name}": round(float(recall(rows[:, :k], exact=exact[:, :k]).mean()), 6)
            for name, k in zip(CUTOFFS, cutoffs, strict=True)
        }
    return found


def without_self(rows_NxK: np.ndarray, *, own: np.ndarray) -> np.ndarray:
    """Rows (N, K - 1): each list without the query's own row, or without its last answer where that was not found."""
    mine = rows_NxK == own[:, None]
    mine[~mine.any(axis=1), -1] = True
    return rows_NxK[~mine].reshape(len(rows_NxK), -1)


def recall(rows_NxK: np.ndarray, *, exact: np.ndarray) -> np.ndarray:
    """Float64 (N,): share of the exact answers (N, K) that are among the given ones; an equal copy of one is not it."""
    shared = [len(set(a) & set(b) - {-1}) for a, b in zip(rows_NxK.tolist(), exact.tolist(), strict=True)]
    return np.array(shared) / np.maximum(1, (exact >= 0).sum(axis=1))
