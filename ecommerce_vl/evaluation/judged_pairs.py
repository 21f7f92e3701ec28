"""Same-style retrieval on annotated pairs, as eSSPR (2302.05093) measures it: MRR and the share of queries with an
answer among the first 1, 5, 10 and 20, from any modality to any other.

The paper's gallery is not public. Ours is every product that was judged, recalled ones and triggers alike, without the
query itself (by id). Right are the products that a trigger was judged to share its style with; all others are wrong,
judged or not. Invariants: a direction's queries and gallery are the products that have its modalities; order and ties
are those of `search.py`, figures those of `metrics.py`; each has its gallery's size and its coverage of the queries
beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ecommerce_vl.evaluation import bootstrap, metrics, search
from ecommerce_vl.evaluation.products import VIEWS, EmbeddedProducts

METRICS = ("mrr", "hit@1", "hit@5", "hit@10", "hit@20")
TIE_CUTOFF = 10


def measure(
    products: EmbeddedProducts,
    positives: Iterable[tuple[str, str]],
    *,
    vectors: Mapping[str, Any] | None = None,
    reverse: bool = False,
    pictures: Sequence[bytes | None] | None = None,
    seed: int = 0,
) -> dict[str, dict]:
    """ "query-gallery/metric" -> {value, low, high, n, candidates, coverage, mean_relevant}; intervals over queries.

    Args:
      products: all that were judged, embedded.
      positives: (trigger id, recalled id) of one style; those of products that are not here count against coverage.
      vectors: view -> (N,D), dense or CSR, to measure in place of the products' own; only these views ask and answer.
      reverse: recalled products ask for their triggers.
      pictures: what tells each product's picture, such as a hash; pairs of one picture, which finds itself trivially,
        are left out.
    """
    vectors = products.vectors if vectors is None else vectors
    row_of = {name: row for row, name in enumerate(products.ids)}
    answers: dict[str, set[str]] = {}
    for trigger, recall in positives:
        query, answer = (recall, trigger) if reverse else (trigger, recall)
        answers.setdefault(query, set()).add(answer)
    picture_of = dict(zip(products.ids, pictures or [None] * len(products), strict=True))
    differ = lambda one, other: picture_of[one] is None or picture_of[one] != picture_of[other]
    right = {
        row_of[name]: [row_of[other] for other in others if other in row_of and differ(name, other)]
        for name, others in answers.items()
        if name in row_of
    }
    views = [view for view in VIEWS if view in vectors]
    found = {}
    for query_view in views:
        for gallery_view in views:
            gallery = np.flatnonzero(products.present(gallery_view))
            asks, answered = products.present(query_view), set(gallery)
            asked = {row: answered.intersection(rows) for row, rows in right.items() if asks[row]}
            asked = {row: sorted(rows) for row, rows in asked.items() if rows}
            if not asked:
                continue
            queries, num_relevant = np.array(list(asked)), np.array([len(rows) for rows in asked.values()])
            values = _ranked(products, vectors[query_view], vectors[gallery_view], asked, gallery)
            shared = {
                "candidates": len(gallery),
                "coverage": len(queries) / len(answers),
                "mean_relevant": float(num_relevant.mean()),
            }
            for name, one in bootstrap.mean_intervals(values, groups=queries, seed=seed).items():
                found[f"{query_view}-{gallery_view}/{name}"] = vars(one) | shared
    return found


def _ranked(products, z_query_NxD, z_gallery_NxD, asked: Mapping[int, list[int]], gallery) -> dict[str, np.ndarray]:
    """Metric -> (Q,) of the queries, rows of products, whose right answers are rows of the gallery."""
    queries, num_relevant = np.array(list(asked)), np.array([len(rows) for rows in asked.values()])
    pairs = np.array([place * len(products) + row for place, rows in enumerate(asked.values()) for row in rows])
    ids = np.array(products.ids, dtype=object)
    blocks = []
    for span, rows, scores in search.ranked_blocks(
        z_query_NxD[queries],
        gallery=z_gallery_NxD[gallery],
        gallery_ids=list(ids[gallery]),
        query_ids=list(ids[queries]),
        k=metrics.MRR_DEPTH,
    ):
        place = np.arange(span.start, span.stop)[:, None]
        relevance = np.isin(place * len(products) + gallery[rows], pairs) & (rows >= 0)
        tied = metrics.tied(relevance, scores_NxK=scores, k=TIE_CUTOFF)
        values = metrics.by_name(relevance, num_relevant=num_relevant[span], names=METRICS)
        blocks.append(values | {f"tie_rate@{TIE_CUTOFF}": tied})
    return {name: np.concatenate([block[name] for block in blocks]) for name in blocks[0]}
