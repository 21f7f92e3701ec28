"""Ranking and classification metrics, one value per query or per resample.

The ranking metrics read `relevance_NxK`, the relevance of the ranked lists of N queries to depth K, and return one
value per query; means and intervals are taken elsewhere. The invariant: ranks are counted from 1, whatever lies
beyond K counts as not relevant, lists shorter than K are padded with False, and the definitions are those of
trec_eval wherever it has one. "hit" and "recall" are two metrics: hit@k asks whether any relevant document is among
the first k, recall@k which share of all relevant ones is.
"""

import numpy as np
from scipy.sparse import csr_matrix

MRR_DEPTH = 1000  # reciprocal rank is 0 beyond this rank


def hit(relevance_NxK: np.ndarray, *, k: int) -> np.ndarray:
    """Float64 (N,): 1 where any of the first k is relevant ("success@k", the Recall@k of CLIP papers)."""
    return relevance_NxK[:, :k].any(axis=1).astype(np.float64)


def recall(relevance_NxK: np.ndarray, *, num_relevant: np.ndarray, k: int) -> np.ndarray:
    """Float64 (N,): share of the relevant documents found among the first k; NaN where there is none to find."""
    return _share(relevance_NxK[:, :k].sum(axis=1), num_relevant)


def precision(relevance_NxK: np.ndarray, *, k: int) -> np.ndarray:
    """Float64 (N,): relevant documents among the first k, divided by k even when fewer than k were returned."""
    return relevance_NxK[:, :k].sum(axis=1) / k


def reciprocal_rank(relevance_NxK: np.ndarray, *, k: int = MRR_DEPTH) -> np.ndarray:
    """Float64 (N,): 1 / rank of the first relevant document, 0 when it is not among the first k."""
    top = relevance_NxK[:, :k]
    found = top.any(axis=1)
    return np.where(found, 1.0 / (top.argmax(axis=1) + 1), 0.0) if top.shape[1] else np.zeros(len(top))


def average_precision(relevance_NxK: np.ndarray, *, num_relevant: np.ndarray, k: int) -> np.ndarray:
    """Float64 (N,): sum of precision@j over the relevant ranks j <= k, divided by |R| (trec form)."""
    return _share(_precision_sum(relevance_NxK[:, :k]), num_relevant)


def map_at_r(relevance_NxK: np.ndarray, *, num_relevant: np.ndarray) -> np.ndarray:
    """Float64 (N,): average precision cut at rank |R|, as in metric learning (Musgrave et al., 2020)."""
    within = np.arange(relevance_NxK.shape[1]) < np.asarray(num_relevant)[:, None]
    return _share(_precision_sum(relevance_NxK & within), num_relevant)


def r_precision(relevance_NxK: np.ndarray, *, num_relevant: np.ndarray) -> np.ndarray:
    """Float64 (N,): precision at rank |R|."""
    within = np.arange(relevance_NxK.shape[1]) < np.asarray(num_relevant)[:, None]
    return _share((relevance_NxK & within).sum(axis=1), num_relevant)


def ndcg(gains_NxK: np.ndarray, *, judged_NxJ: np.ndarray, k: int) -> np.ndarray:
    """Float64 (N,): DCG / IDCG with linear gain and log2(rank + 1) discount.

    Shapes: `gains_NxK` are the gains of the ranked list (0 where not judged); `judged_NxJ` those of all judged
    documents of the query in any order, padded with 0. NaN where no judged document has a gain.
    """
    ideal = -np.sort(-np.asarray(judged_NxJ, np.float64), axis=1)
    return _share(_discounted(np.asarray(gains_NxK, np.float64)[:, :k]), _discounted(ideal[:, :k]))


def tied(relevance_NxK: np.ndarray, *, scores_NxK: np.ndarray, k: int) -> np.ndarray:
    """Float64 (N,): 1 where the score at the cut-off k is shared by a relevant and a non-relevant document.

    Scores are the rounded ones that the ranking used; -inf marks the padding of a short list.
    """
    last = np.minimum(k, np.isfinite(scores_NxK).sum(axis=1)) - 1
    same = scores_NxK == np.take_along_axis(scores_NxK, np.maximum(last, 0)[:, None], axis=1)
    return ((same & relevance_NxK).any(axis=1) & (same & ~relevance_NxK).any(axis=1) & (last >= 0)).astype(np.float64)


def by_name(relevance_NxK: np.ndarray, *, num_relevant: np.ndarray, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Per-query arrays (N,) for metric names such as "hit@10", "recall@10", "precision@5", "mrr", "map@100".

    `mrr` without a cut-off is mrr@1000, `map` is over the whole list. Errors: ValueError for a name not defined here.
    """
    values = {}
    for name in names:
        metric, _, cutoff = name.partition("@")
        k = int(cutoff) if cutoff else None
        if metric == "hit" and k:
            values[name] = hit(relevance_NxK, k=k)
        elif metric == "recall" and k:
            values[name] = recall(relevance_NxK, num_relevant=num_relevant, k=k)
        elif metric == "precision" and k:
            values[name] = precision(relevance_NxK, k=k)
        elif metric == "mrr":
            values[name] = reciprocal_rank(relevance_NxK, k=k or MRR_DEPTH)
        elif metric == "map":
            values[name] = average_precision(relevance_NxK, num_relevant=num_relevant, k=k or relevance_NxK.shape[1])
        elif name == "map_at_r":
            values[name] = map_at_r(relevance_NxK, num_relevant=num_relevant)
        elif name == "rprec":
            values[name] = r_precision(relevance_NxK, num_relevant=num_relevant)
        else:
            expected = "hit@k, recall@k, precision@k, mrr[@k], map[@k], map_at_r, rprec"
            raise ValueError(f"unknown ranking metric {name!r}; expected one of {expected}")
    return values


def classification(
    weights_SxN: np.ndarray, *, truth: np.ndarray, ranked_NxM: np.ndarray, num_classes: int
) -> dict[str, np.ndarray]:
    """Accuracy family for S weightings of the same N rows: one array (S,) per name.

    Shapes: weights_SxN float64, how often each row counts (all ones: the plain metric; a bootstrap resample: its
    counts); truth int (N,); ranked_NxM int, the classes of each row from best to worst, M >= 1.
    Names: `top1`, `top5` (top min(5, M)); `macro_f1`, per-class F1 averaged over the classes that are true or
    predicted somewhere; `balanced_accuracy`, mean recall over the classes that are true somewhere. Both follow
    scikit-learn's defaults, and a class without weight in a resample is left out of its mean.
    """
    predicted = ranked_NxM[:, 0]
    correct = predicted == truth
    total = weights_SxN.sum(axis=1)
    in_top5 = (ranked_NxM[:, :5] == truth[:, None]).any(axis=1)
    true_SxC = _per_class(weights_SxN, truth, num_classes)
    predicted_SxC = _per_class(weights_SxN, predicted, num_classes)
    correct_SxC = _per_class(weights_SxN * correct, truth, num_classes)
    return {
        "top1": weights_SxN @ correct / total,
        "top5": weights_SxN @ in_top5 / total,
        "macro_f1": _mean_over_classes(2.0 * correct_SxC, true_SxC + predicted_SxC),
        "balanced_accuracy": _mean_over_classes(correct_SxC, true_SxC),
    }


def _share(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    whole = np.asarray(whole, np.float64)
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _precision_sum(relevance_NxK: np.ndarray) -> np.ndarray:
    ranks = np.arange(1, relevance_NxK.shape[1] + 1)
    return (relevance_NxK * np.cumsum(relevance_NxK, axis=1) / ranks).sum(axis=1)


def _discounted(gains_NxK: np.ndarray) -> np.ndarray:
    return gains_NxK @ (1.0 / np.log2(np.arange(2, gains_NxK.shape[1] + 2)))


def _per_class(weights_SxN: np.ndarray, classes: np.ndarray, num_classes: int) -> np.ndarray:
    count = len(classes)
    one_hot = csr_matrix((np.ones(count), (classes, np.arange(count))), shape=(num_classes, count))
    return (one_hot @ weights_SxN.T).T


def _mean_over_classes(part_SxC: np.ndarray, whole_SxC: np.ndarray) -> np.ndarray:
    seen = whole_SxC > 0
    return np.divide(part_SxC, whole_SxC, out=np.zeros_like(part_SxC), where=seen).sum(axis=1) / seen.sum(axis=1)
