"""A few numbers of a small sample, for curves during training: numpy alone, a fraction of a second.

The invariant: the definitions are those of the whole evaluation (cosine in steps of 1e-6, equal scores in the order of
the products, another listing of the same product is right), the pool is the sample itself. Only the neighbours of a
product's category differ: here they are the other products of the sample, without those of its own catalog or item
group. It uses no device: inside a training of several processes each of them must be free to call it.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from ecommerce_vl.evaluation import metrics

CUTOFFS = (1, 10)
NEIGHBOURS = 20
TEMPERATURE = 0.07
_SCORES_PER_UNIT = 1_000_000


def measure(
    vectors: Mapping[str, np.ndarray], keys: Mapping[str, np.ndarray], answers: Sequence[Sequence[int]] = ()
) -> dict[str, float]:
    """ "task/setting/metric" -> value.

    Shapes: vectors[view] (N, D) unit rows, NaN where a product lacks the view, but "query" (Q, D), of words whose right
    products are the rows answers[q]; keys "catalog", "group", "category": int (N,), negative where unknown. A task
    whose views or labels are missing is left out.
    """
    found = {}
    if answers:
        relevance = np.zeros((len(answers), len(vectors["product"])), bool)
        for row, right in zip(relevance, answers, strict=True):
            row[list(right)] = True
        hits = _hits_of(_cosines(vectors["query"], vectors["product"]), relevance)
        found |= {f"query/product/hit@{k}": value for k, value in hits.items()}
    for name, query, document in (("i2t", "image", "text"), ("t2i", "text", "image")):
        if query in vectors and document in vectors:
            hits = _hits(vectors[query], vectors[document], _labels(keys["catalog"]))
            found |= {f"image_text/{name}/hit@{k}": value for k, value in hits.items()}  # none without a pair
    view = next((view for view in ("product", "image", "text") if view in vectors), None)
    if view:
        related = [_labels(keys[name]) for name in ("catalog", "group")]
        accuracy = _neighbours_top1(vectors[view], keys["category"], related)
        if accuracy is not None:
            found[f"category/{view}/knn/top1"] = accuracy
    return found


def _labels(keys: np.ndarray) -> np.ndarray:
    """Equal exactly where related: every unknown has a label of its own."""
    return np.where(keys >= 0, keys, -1 - np.arange(len(keys)))


def _cosines(queries_NxD: np.ndarray, documents_MxD: np.ndarray) -> np.ndarray:
    return np.rint(queries_NxD.astype(np.float64) @ documents_MxD.T.astype(np.float64) * _SCORES_PER_UNIT)


def _hits(queries_NxD: np.ndarray, documents_NxD: np.ndarray, labels: np.ndarray) -> dict[int, float]:
    asks, answers = (np.isfinite(rows).all(axis=1) for rows in (queries_NxD, documents_NxD))
    asks &= np.isin(labels, labels[answers])
    if not asks.any():
        return {}
    relevance = labels[asks][:, None] == labels[answers]
    return _hits_of(_cosines(queries_NxD[asks], documents_NxD[answers]), relevance)


def _hits_of(scores_QxN: np.ndarray, relevance_QxN: np.ndarray) -> dict[int, float]:
    order = np.argsort(-scores_QxN, axis=1, kind="stable")[:, : max(CUTOFFS)]
    ranked = np.take_along_axis(relevance_QxN, order, axis=1)
    return {k: float(metrics.hit(ranked, k=k).mean()) for k in CUTOFFS}


def _neighbours_top1(vectors_NxD: np.ndarray, category: np.ndarray, related: list[np.ndarray]) -> float | None:
    """The share of products whose category wins the weighted vote of their 20 nearest (Wu et al., 2018)."""
    known = np.isfinite(vectors_NxD).all(axis=1) & (category >= 0)
    classes, y = np.unique(category[known], return_inverse=True)
    if len(classes) < 2:
        return None
    scores = _cosines(vectors_NxD[known], vectors_NxD[known])
    for labels in related:
        scores[labels[known][:, None] == labels[known][None, :]] = -np.inf
    order = np.argsort(-scores, axis=1, kind="stable")[:, :NEIGHBOURS]
    weights = np.exp(np.take_along_axis(scores, order, axis=1) / _SCORES_PER_UNIT / TEMPERATURE)
    votes = np.zeros((len(y), len(classes)))
    np.add.at(votes, (np.arange(len(y))[:, None], y[order]), weights)
    return float((votes.argmax(axis=1) == y).mean())
