"""Exact nearest-neighbour search, in blocks, with a total order.

The invariant: the answer is a function of the *set* of (id, vector) pairs. Scores are inner products rounded to 1e-6
and ties are broken by ascending id, so permuting the gallery or changing a block size changes nothing, and catalogs
full of identical listings rank the same way on every machine. Products are summed in float64 for that reason alone:
float32 sums differ by 1e-7 with the shape of a block, which would move one score in ten over a rounding edge.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import issparse

from ecommerce_vl.evaluation import metrics

SCORES_PER_UNIT = 1_000_000  # scores are compared in steps of 1e-6
_ABSENT = np.iinfo(np.int64).min  # sorts below every real candidate


@dataclass(frozen=True)
class Ranking:
    """What N queries found.

    Shapes: relevance bool (N, K), padded with False; num_relevant int (N,), |R| in the whole gallery without self;
    tied float (N,), 1 where a tie at the cut-off decides; rows int (N, T) and scores float (N, T), the first T
    documents (-1 and -inf past the end of a list). T <= K, so that deep rankings of large catalogs stay small.
    """

    relevance: np.ndarray
    num_relevant: np.ndarray
    tied: np.ndarray
    rows: np.ndarray
    scores: np.ndarray


def top_k(
    queries,
    *,
    gallery,
    gallery_ids: Sequence[str],
    k: int,
    query_ids: Sequence[str] | None = None,
    query_block: int = 256,
    gallery_block: int = 8192,
) -> tuple[np.ndarray, np.ndarray]:
    """Rows int64 (N, K) and scores float64 (N, K) of the k nearest documents, K = min(k, gallery size).

    Shapes: queries (N, d) and gallery (M, d), both dense float or both SciPy CSR; rows index `gallery`.
    Invariants: order (score rounded to 1e-6 descending, id ascending). With `query_ids`, the document of the same id
    is removed before ranking (never "rank 1"), and a list that ends early is padded with row -1 and score -inf.
    Memory: query_block x (k + gallery_block) scores, never N x M.
    Errors: ValueError for k < 1, an empty gallery, repeated gallery ids or vectors that are not finite.
    """
    blocks = list(
        ranked_blocks(
            queries,
            gallery=gallery,
            gallery_ids=gallery_ids,
            k=k,
            query_ids=query_ids,
            query_block=query_block,
            gallery_block=gallery_block,
        )
    )
    width = min(k, gallery.shape[0])
    rows = [rows for _, rows, _ in blocks] or [np.empty((0, width), np.int64)]
    scores = [scores for _, _, scores in blocks] or [np.empty((0, width))]
    return np.concatenate(rows), np.concatenate(scores)


def ranked_blocks(
    queries,
    *,
    gallery,
    gallery_ids: Sequence[str],
    k: int,
    query_ids: Sequence[str] | None = None,
    query_block: int = 256,
    gallery_block: int = 8192,
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """`top_k` one block of queries at a time: (slice of the queries, rows, scores)."""
    size = gallery.shape[0]
    if k < 1 or size < 1:
        raise ValueError(f"searching {size} documents for the first {k}; both must be at least 1")
    for name, vectors in (("queries", queries), ("gallery", gallery)):
        if not np.isfinite(vectors.data if issparse(vectors) else vectors).all():
            raise ValueError(f"{name} hold rows that are not finite; leave products without the modality out first")
    by_id = np.array(sorted(range(size), key=gallery_ids.__getitem__))
    position = {gallery_ids[row]: place for place, row in enumerate(by_id)}
    if len(position) != size:
        raise ValueError(f"{size} documents have {len(position)} distinct ids; ties need unique ids")
    own = None if query_ids is None else np.array([position.get(name, -1) for name in query_ids])
    gallery = gallery[by_id]
    for start in range(0, queries.shape[0], query_block):
        span = slice(start, min(start + query_block, queries.shape[0]))
        best = np.empty((span.stop - span.start, 0), np.int64)
        for left in range(0, size, gallery_block):
            keys = _sort_keys(queries[span], gallery[left : left + gallery_block], left=left, size=size)
            if own is not None:
                inside = np.flatnonzero((own[span] >= left) & (own[span] < left + keys.shape[1]))
                keys[inside, own[span][inside] - left] = _ABSENT
            best = np.concatenate([best, keys], axis=1)
            if best.shape[1] > k:
                best = np.partition(best, best.shape[1] - k, axis=1)[:, -k:]
        best = np.sort(best, axis=1)[:, ::-1]
        steps, reversed_place = np.divmod(best, size)
        rows, scores = by_id[size - 1 - reversed_place], steps / SCORES_PER_UNIT
        rows[best == _ABSENT], scores[best == _ABSENT] = -1, -np.inf
        yield span, rows, scores


def rank(
    queries,
    *,
    gallery,
    query_labels: np.ndarray,
    gallery_labels: np.ndarray,
    query_ids: Sequence[str],
    gallery_ids: Sequence[str],
    exclude_self: bool,
    depth: int = metrics.MRR_DEPTH,
    tie_cutoff: int = 10,
    kept: int = 20,
) -> Ranking:
    """Ranks the gallery for every query; a document is relevant when its label equals the query's.

    Shapes: as in `top_k`; labels int (N,) and (M,). The depth grows beyond max |R| where that is larger, so that
    metrics cut at |R| are exact and a tie at the cut-off shows its wrong side. `kept` documents per query are
    returned by row.
    """
    num_relevant = count_relevant(
        query_labels,
        gallery_labels=gallery_labels,
        query_ids=query_ids,
        gallery_ids=gallery_ids,
        exclude_self=exclude_self,
    )
    depth = max(depth, int(num_relevant.max(initial=0)) + tie_cutoff)
    parts = []
    for span, rows, scores in ranked_blocks(
        queries, gallery=gallery, gallery_ids=gallery_ids, k=depth, query_ids=query_ids if exclude_self else None
    ):
        relevance = (gallery_labels[rows] == query_labels[span][:, None]) & (rows >= 0)
        tied = metrics.tied(relevance, scores_NxK=scores, k=tie_cutoff)
        parts.append((relevance, tied, rows[:, :kept], scores[:, :kept]))
    relevance, tied, rows, scores = (np.concatenate(column) for column in zip(*parts, strict=True))
    return Ranking(relevance=relevance, num_relevant=num_relevant, tied=tied, rows=rows, scores=scores)


def count_relevant(
    query_labels: np.ndarray,
    *,
    gallery_labels: np.ndarray,
    query_ids: Sequence[str],
    gallery_ids: Sequence[str],
    exclude_self: bool,
) -> np.ndarray:
    """Int (N,): how many documents of the gallery carry the query's label, without the query's own document."""
    labels, counts = np.unique(gallery_labels, return_counts=True)
    place = np.minimum(np.searchsorted(labels, query_labels), len(labels) - 1)
    found = np.where(labels[place] == query_labels, counts[place], 0)
    if exclude_self:
        label_of = dict(zip(gallery_ids, gallery_labels, strict=True))
        found = found - np.array([label_of.get(n) == y for n, y in zip(query_ids, query_labels, strict=True)], int)
    return found


def _sort_keys(queries, gallery, *, left: int, size: int) -> np.ndarray:
    """Int64 (n, m): one key per pair that orders by (rounded score descending, place by id ascending) at once."""
    scores = queries.astype(np.float64) @ gallery.astype(np.float64).T
    scores = scores.toarray() if issparse(scores) else scores
    keys = np.rint(scores * SCORES_PER_UNIT).astype(np.int64)
    keys *= size
    keys += size - 1 - left - np.arange(keys.shape[1])
    return keys
