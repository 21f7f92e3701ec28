"""Exact nearest-neighbour search, in blocks, on all devices, with a total order.

The invariant: the answer is a function of the *set* of (id, vector) pairs. Scores are inner products rounded to 1e-6
and ties are broken by ascending id, so permuting the gallery, changing a block size or the number of devices changes
nothing, and catalogs full of identical listings rank the same way on every machine.

Two things make that fast and true. Vectors are rounded to a grid of 2^-26 before they are multiplied, which moves a
score by some 1e-8 and makes every float64 partial sum of a product of unit vectors a multiple of 2^-52 below 2:
exact, in whichever order it is added. And a large gallery is scanned in float32 on the devices for some candidates
more than asked for; their scores are computed again exactly, and where the bound on what the scan left out does not
exclude that a better one is among it, that query is compared with the whole gallery.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.sparse import issparse

from ecommerce_vl.evaluation import metrics

SCORES_PER_UNIT = 1_000_000  # scores are compared in steps of 1e-6
QUERY_BLOCK, GALLERY_BLOCK = 512, 32_768
SCAN_FROM = 50_000_000  # scores; below, compiling the scan takes longer than computing all of them in float64
_GRID = 2.0**-26
_GRID_NORM = 1.4  # up to here |q| |g| < 2; longer vectors have a coarser grid by powers of two
_ABSENT = np.iinfo(np.int64).min  # sorts below every real candidate
_RESCORED_BYTES = 1 << 25  # of candidates gathered at a time


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


def top_k(queries, *, gallery, k: int, **options) -> tuple[np.ndarray, np.ndarray]:
    """Rows int64 (N, K) and scores float64 (N, K) of the k nearest documents, K = min(k, gallery size).

    `ranked_blocks`, which has the other arguments, with its blocks put together.
    """
    blocks = list(ranked_blocks(queries, gallery=gallery, k=k, **options))
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
    query_block: int = QUERY_BLOCK,
    gallery_block: int = GALLERY_BLOCK,
    devices: Sequence[Any] | None = None,
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """The k nearest documents, one block of queries at a time: (slice of the queries, rows (n, K), scores (n, K)).

    Shapes: queries (N, d) and gallery (M, d), both dense float or both SciPy CSR; rows index `gallery`; K = min(k, M).
    devices: that a dense gallery is divided over; None takes all local ones where the search is large enough to be
    worth a compilation, () computes on the host. The answer is the same.
    Invariants: order (score rounded to 1e-6 descending, id ascending). With `query_ids`, the document of the same id
    is removed before ranking (never "rank 1"), and a list that ends early is padded with row -1 and score -inf.
    Memory: query_block x (k + gallery_block) scores, and on the devices one float32 copy of the gallery.
    Errors: ValueError for k < 1, an empty gallery, repeated gallery ids or vectors that are not finite.
    """
    size = gallery.shape[0]
    if k < 1 or size < 1:
        raise ValueError(f"searching {size} documents for the first {k}; both must be at least 1")
    query_norms, norm = _norms(queries, "queries"), _norms(gallery, "gallery").max()
    order = _IdOrder(gallery_ids)
    own = order.rows_of(query_ids) if query_ids is not None else np.full(queries.shape[0], -1)
    grids = _grid_step(query_norms.max(initial=0.0)), _grid_step(norm)
    count = k + 1 + max(32, k // 8)  # one may be the query itself; the others are there to prove that none is missing
    placed = _place(gallery, num_queries=queries.shape[0], count=count, norm=norm, devices=devices)
    for start in range(0, queries.shape[0], query_block):
        span = slice(start, min(start + query_block, queries.shape[0]))
        block = _in_steps(queries[span], grids[0]) * (grids[0] * grids[1])  # so that products are scores
        whole = np.arange(span.stop - span.start)  # queries to be compared with the whole gallery
        keys = np.empty((len(whole), min(k, size)), np.int64)
        if placed is not None:
            norms = query_norms[span]
            rows, bound = placed.candidates(queries[span], count=count, block=gallery_block, norms=norms)
            bound += 0.51 * np.sqrt(gallery.shape[1]) * (grids[0] * norm + grids[1] * norms)  # what the grid moves
            keys = _candidate_keys(block, gallery, rows, grid=grids[1], order=order, own=own[span])[:, :k]
            # The order of keys is that of rounded scores, so the last one kept must lie above every one left out.
            whole = np.flatnonzero(keys[:, -1] // size <= np.rint(bound * SCORES_PER_UNIT))
        if len(whole):
            keys[whole] = _best_keys(
                block[whole],
                gallery,
                k=k,
                grid=grids[1],
                order=order,
                own=own[span][whole],
                length=-(-gallery_block // 4),
            )
        steps, reversed_place = np.divmod(keys, size)
        rows, scores = order.rows[size - 1 - reversed_place], steps / SCORES_PER_UNIT
        rows[keys == _ABSENT], scores[keys == _ABSENT] = -1, -np.inf
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


class _IdOrder:
    """The documents by ascending id: `rows` in that order, and the `place` of each row in it."""

    def __init__(self, ids: Sequence[str]):
        self.rows = np.array(sorted(range(len(ids)), key=ids.__getitem__))
        self.place = np.empty(len(ids), np.int64)
        self.place[self.rows] = np.arange(len(ids))
        self._row_of = dict(zip(ids, range(len(ids)), strict=True))
        if len(self._row_of) != len(ids):
            raise ValueError(f"{len(ids)} documents have {len(self._row_of)} distinct ids; ties need unique ids")

    def rows_of(self, ids: Sequence[str]) -> np.ndarray:
        """Int (N,): the row of each id, -1 for one that is not there."""
        return np.array([self._row_of.get(name, -1) for name in ids], np.int64)

    def keys(self, scores: np.ndarray, *, rows: np.ndarray) -> np.ndarray:
        """Int64 keys that order by (rounded score descending, id ascending) at once; rows broadcast against scores."""
        keys = np.rint(scores * SCORES_PER_UNIT).astype(np.int64)
        keys *= len(self.rows)
        keys += len(self.rows) - 1 - self.place[rows]
        return keys


def _candidate_keys(queries, gallery, rows_NxC: np.ndarray, *, grid: float, order: _IdOrder, own: np.ndarray):
    """Int64 (n, C): the keys of each query's candidates, descending, the query's own document last."""
    keys = np.empty(rows_NxC.shape, np.int64)
    length = max(1, _RESCORED_BYTES // (8 * rows_NxC.shape[1] * gallery.shape[1]))
    for start in range(0, len(keys), length):
        rows = rows_NxC[start : start + length]
        scores = (_in_steps(gallery[rows], grid) @ queries[start : start + length, :, None])[..., 0]
        keys[start : start + length] = order.keys(scores, rows=rows)
    keys[rows_NxC == own[:, None]] = _ABSENT
    return np.sort(keys, axis=1)[:, ::-1]


def _best_keys(queries, gallery, *, k: int, grid: float, order: _IdOrder, own: np.ndarray, length: int) -> np.ndarray:
    """Int64 (n, K): the best keys of each query over the whole gallery, descending."""
    size = gallery.shape[0]
    best = np.empty((queries.shape[0], 0), np.int64)
    for left in range(0, size, length):
        rows = np.arange(left, min(left + length, size))
        scores = queries @ _in_steps(gallery[left : rows[-1] + 1], grid).T
        keys = order.keys(scores.toarray() if issparse(scores) else scores, rows=rows)
        inside = np.flatnonzero((own >= left) & (own <= rows[-1]))
        keys[inside, own[inside] - left] = _ABSENT
        best = np.concatenate([best, keys], axis=1)
        if best.shape[1] > k:
            best = np.partition(best, best.shape[1] - k, axis=1)[:, -k:]
    return np.sort(best, axis=1)[:, ::-1]


def _place(gallery, *, num_queries: int, count: int, norm: float, devices: Sequence[Any] | None):
    """The gallery on its devices, or None where the host is to compare everything."""
    size = gallery.shape[0]
    if issparse(gallery) or (devices is None and (num_queries * size < SCAN_FROM or 4 * count > size)):
        return None
    import jax  # most evaluations are small, and then no device is touched

    from ecommerce_vl.evaluation.scan import Gallery

    devices = jax.local_devices() if devices is None else devices
    return Gallery(gallery, devices=devices, norm=norm) if len(devices) else None


def _norms(vectors, name: str) -> np.ndarray:
    """Float64 (N,): the L2 norm of each row, rounded up by more than its error."""
    if issparse(vectors):
        squares = np.asarray(vectors.multiply(vectors).sum(axis=1), np.float64).ravel()
    else:
        with np.errstate(over="ignore", invalid="ignore"):
            squares = np.einsum("nd,nd->n", vectors, vectors).astype(np.float64)
    if not np.isfinite(squares).all():
        raise ValueError(f"{name} hold rows that are not finite; leave products without the modality out first")
    return 1.0001 * np.sqrt(squares)


def _grid_step(norm: float) -> float:
    return _GRID * 2.0 ** max(0, np.ceil(np.log2(max(norm, _GRID_NORM) / _GRID_NORM)))


def _in_steps(vectors, step: float):
    """Float64 whole numbers: every component in steps of the grid, rounded."""
    if issparse(vectors):
        rounded = vectors.astype(np.float64)
        rounded.data = np.rint(rounded.data / step)
        return rounded
    if vectors.dtype not in (np.float32, np.float64):
        vectors = vectors.astype(np.float32)
    # A power of two scales float32 without error, and rounding it there touches half the memory.
    return np.rint(vectors * np.asarray(1.0 / step, vectors.dtype)).astype(np.float64)
