"""Same-style retrieval on annotated pairs, as eSSPR (2302.05093) measures it: MRR and the share of queries with an
answer among the first 1, 5, 10 and 20, from any modality to any other.

The paper's gallery is not public. Ours is every product that was judged, recalled ones and triggers alike, without the
query itself (by id). Right are the products that a trigger was judged to share its style with; all others are wrong,
judged or not. Invariants: a direction's queries and gallery are the products that have its modalities; equal scores
are ordered by id; a figure has its gallery's size and its coverage of the queries beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from scipy.sparse import issparse

from ecommerce_vl.evaluation import bootstrap
from ecommerce_vl.evaluation.products import VIEWS, EmbeddedProducts

CUTS = (1, 5, 10, 20)
BLOCK = 256  # queries at a time
DECIMALS = 6  # of cosines that are compared: what lies below is rounding


def measure(
    products: EmbeddedProducts,
    positives: Iterable[tuple[str, str]],
    *,
    vectors: Mapping[str, Any] | None = None,
    reverse: bool = False,
    distinct_images: bool = False,
    seed: int = 0,
) -> dict[str, dict]:
    """ "query-gallery/metric" -> {value, low, high, n, candidates, coverage}; intervals over queries.

    Args:
      products: all that were judged, embedded.
      positives: (trigger id, recalled id) of one style; those of products that are not here count against coverage.
      vectors: view -> (N,D), dense or CSR, to measure in place of the products' own; only these views ask and answer.
      reverse: recalled products ask for their triggers.
      distinct_images: leaves out pairs whose pictures are the same bytes, which a picture finds trivially.
    """
    vectors = products.vectors if vectors is None else vectors
    row_of = {name: row for row, name in enumerate(products.ids)}
    answers: dict[str, set[str]] = {}
    for trigger, recall in positives:
        query, answer = (recall, trigger) if reverse else (trigger, recall)
        answers.setdefault(query, set()).add(answer)
    digest = lambda picture: hashlib.sha256(picture).digest() if picture else None
    pictures = [digest(picture) for picture in products.images] if distinct_images else []
    by_id_N = np.argsort(np.argsort(np.array(products.ids)))
    found = {}
    for query_view in (view for view in VIEWS if view in vectors):
        for gallery_view in (view for view in VIEWS if view in vectors):
            gallery = np.flatnonzero(products.present(gallery_view))
            asks = products.present(query_view)
            queries, right = [], []
            for name, others in answers.items():
                row = row_of.get(name)
                if row is None or not asks[row]:
                    continue
                rows = [row_of[other] for other in others if other in row_of]
                rows = [other for other in rows if not _same(pictures, row, other)] if distinct_images else rows
                rows = np.intersect1d(rows, gallery)
                if len(rows):
                    queries.append(row)
                    right.append(rows)
            if not queries:
                continue
            ranks = _first_ranks(vectors[query_view], vectors[gallery_view], np.array(queries), right, gallery, by_id_N)
            values = {"mrr": 1.0 / ranks} | {f"hit@{k}": (ranks <= k).astype(np.float64) for k in CUTS}
            shared = {"candidates": len(gallery), "coverage": len(queries) / len(answers)}
            for name, one in bootstrap.mean_intervals(values, groups=np.array(queries), seed=seed).items():
                found[f"{query_view}-{gallery_view}/{name}"] = vars(one) | shared
    return found


def _same(pictures: list[bytes | None], one: int, other: int) -> bool:
    return pictures[one] is not None and pictures[one] == pictures[other]


def _first_ranks(z_query_NxD, z_gallery_NxD, queries, right, gallery, by_id_N) -> np.ndarray:
    """The rank from 1 of the best right product of each query; rows are those of the products."""
    z_gallery_GxD = z_gallery_NxD[gallery].astype(np.float64)
    place_N = np.full(len(by_id_N), -1)
    place_N[gallery] = np.arange(len(gallery))
    ranks = np.empty(len(queries))
    for start in range(0, len(queries), BLOCK):
        rows = queries[start : start + BLOCK]
        score_bxG = z_query_NxD[rows].astype(np.float64) @ z_gallery_GxD.T
        score_bxG = np.round(score_bxG.toarray() if issparse(score_bxG) else score_bxG, DECIMALS)
        for at, row in enumerate(rows):
            if place_N[row] >= 0:
                score_bxG[at, place_N[row]] = -np.inf
            own = right[start + at]
            score_R, order_R = score_bxG[at, place_N[own]], by_id_N[own]
            best, order = max(zip(score_R, -order_R, strict=True))
            tied = (score_bxG[at] == best) & (by_id_N[gallery] < -order)
            ranks[start + at] = 1 + (score_bxG[at] > best).sum() + tied.sum()
    return ranks
