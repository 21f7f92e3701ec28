"""How much an approximate index (HNSW) finds of what exact search finds, for the effort it is allowed.

Headline numbers always come from exact search; this says what a serving index would lose of them. The invariant: both
search the same vectors for the same queries, the asking product removed by id from either, and the index is built by
one thread in the order of the products, so the same vectors give the same numbers.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence

import numpy as np

from ecommerce_vl.errors import UserError
from ecommerce_vl.evaluation import bootstrap, search
from ecommerce_vl.evaluation.context import Context
from ecommerce_vl.evaluation.figures import Curve
from ecommerce_vl.evaluation.results import Results

CUTOFFS = (10, 100)
EFFORTS = (16, 64, 256)  # candidates kept while searching
CONNECTIVITY, EFFORT_OF_ADDING = 16, 128


def run(context: Context, results: Results) -> None:
    """`approximate/effort=N/recall@k` over the product vectors of all splits, when it was asked for.

    Errors: UserError where the index library is not installed.
    """
    if not context.approximate:
        return
    if importlib.util.find_spec("usearch") is None:
        raise UserError(
            "an approximate index was asked for and usearch is not installed; pip install ecommerce_vl[ann]"
        )
    splits = ("test", "train", "validation")
    rows = {name: np.flatnonzero(context.split(name).present("product")) for name in splits}
    gallery = np.concatenate([context.split(name).vectors["product"][rows[name]] for name in splits if len(rows[name])])
    ids = [context.split(name).ids[row] for name in splits for row in rows[name]]
    queries, names = gallery[: len(rows["test"])], ids[: len(rows["test"])]
    if not len(queries) or len(ids) <= max(CUTOFFS):
        results.skip("approximate", f"{len(ids)} products have vectors; more than {max(CUTOFFS)} are needed")
        return
    exact, _ = search.top_k(queries, gallery=gallery, gallery_ids=ids, query_ids=names, k=max(CUTOFFS))
    groups, points = context.test.components()[rows["test"]], {f"recall@{k}": [] for k in CUTOFFS}
    for effort, found in answers(queries, gallery=gallery, k=max(CUTOFFS) + 1, efforts=EFFORTS).items():
        found = without_self(found, own=np.arange(len(queries)))
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


def answers(queries: np.ndarray, *, gallery: np.ndarray, k: int, efforts: Sequence[int]) -> dict[int, np.ndarray]:
    """Effort -> rows int64 (N, k) of an HNSW index of unit rows (M, d), best first, -1 past the end of a list.

    Source: Malkov and Yashunin (2018); the index is usearch's.
    """
    from usearch.index import Index

    index = Index(
        ndim=gallery.shape[1],
        metric="ip",
        dtype="f32",
        connectivity=CONNECTIVITY,
        expansion_add=EFFORT_OF_ADDING,
    )
    index.add(np.arange(len(gallery)), np.ascontiguousarray(gallery, np.float32), threads=1)
    found = {}
    for effort in efforts:
        index.expansion_search = effort
        matches = index.search(np.ascontiguousarray(queries, np.float32), k, threads=1)
        keys = np.atleast_2d(matches.keys).astype(np.int64)
        counts = np.atleast_1d(getattr(matches, "counts", np.full(len(keys), keys.shape[1])))
        found[effort] = np.where(np.arange(keys.shape[1]) < counts[:, None], keys, -1)
    return found


def recall_by_effort(
    find: Callable[[np.ndarray, int, int], np.ndarray],
    *,
    efforts: Sequence[int],
    queries: np.ndarray,
    gallery: np.ndarray,
    ids: Sequence[str],
) -> dict[int, dict[str, float]]:
    """{effort: {"recall@10": …, "recall@100": …}} of an index against exact search, means over queries (Q,D).

    Args:
      find: (queries, k, effort) -> rows of `gallery` (M,D), int (Q,K), -1 past the end of a list.
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
