"""Metrics of ranked lists and of predicted classes, one value per query or per resample.

The ranking metrics read `relevance_NxK`, the relevance of the ranked lists of N queries to depth K, and return one
value per query; means and intervals are taken elsewhere. The invariant: ranks are counted from 1, whatever lies
beyond K counts as not relevant, lists shorter than K are padded with False, and the definitions are those of
trec_eval wherever it has one. "hit" and "recall" are two metrics: hit@k asks whether any relevant document is among
the first k, recall@k which share of all relevant ones is.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.sparse import csr_matrix

from ecommerce_vl.evaluation.ratios import or_nan, or_zero

MRR_DEPTH = 1000  # reciprocal rank is 0 beyond this rank
RBP_PERSISTENCE = 0.9  # how probably a reader goes on to the next rank


def hit(relevance_NxK: np.ndarray, *, k: int) -> np.ndarray:
    """Float64 (N,): 1 where any of the first k is relevant ("success@k", the Recall@k of CLIP papers)."""
    return relevance_NxK[:, :k].any(axis=1).astype(np.float64)


def recall(relevance_NxK: np.ndarray, *, num_relevant: np.ndarray, k: int) -> np.ndarray:
    """Float64 (N,): share of the relevant documents found among the first k; NaN where there is none to find."""
    return or_nan(relevance_NxK[:, :k].sum(axis=1), num_relevant)


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
    return or_nan(_precision_sum(relevance_NxK[:, :k]), num_relevant)


def map_at_r(relevance_NxK: np.ndarray, *, num_relevant: np.ndarray) -> np.ndarray:
    """Float64 (N,): average precision cut at rank |R|, as in metric learning (Musgrave et al., 2020)."""
    within = np.arange(relevance_NxK.shape[1]) < np.asarray(num_relevant)[:, None]
    return or_nan(_precision_sum(relevance_NxK & within), num_relevant)


def r_precision(relevance_NxK: np.ndarray, *, num_relevant: np.ndarray) -> np.ndarray:
    """Float64 (N,): precision at rank |R|."""
    within = np.arange(relevance_NxK.shape[1]) < np.asarray(num_relevant)[:, None]
    return or_nan((relevance_NxK & within).sum(axis=1), num_relevant)


def average_precision_of_hits(relevance_NxK: np.ndarray, *, num_relevant: np.ndarray, k: int) -> np.ndarray:
    """Float64 (N,): average precision over the first min(k, |R|) ranks, divided by the hits among them (at least 1).

    The form of the Product1M and M5Product evaluation code: one hit at rank 1 and nothing else gives 1. NaN where
    |R| = 0.
    """
    cut = np.minimum(k, np.asarray(num_relevant))
    within = relevance_NxK & (np.arange(relevance_NxK.shape[1]) < cut[:, None])
    return np.where(cut > 0, _precision_sum(within) / np.maximum(within.sum(axis=1), 1), np.nan)


def average_recall(relevance_NxK: np.ndarray, *, num_relevant: np.ndarray, k: int) -> np.ndarray:
    """Float64 (N,): hits among the first k, divided by the most there can be, min(k, |R|); NaN where |R| = 0.

    AR@k (Product1M, Zhan et al., ICCV 2021) of queries that show one product, as all of ours do.
    """
    return or_nan(relevance_NxK[:, :k].sum(axis=1), np.minimum(k, num_relevant))


def ndcg(gains_NxK: np.ndarray, *, judged_NxJ: np.ndarray, k: int) -> np.ndarray:
    """Float64 (N,): DCG / IDCG with linear gain and log2(rank + 1) discount.

    Shapes: `gains_NxK` are the gains of the ranked list (0 where not judged); `judged_NxJ` those of all judged
    documents of the query in any order, padded with 0. NaN where no judged document has a gain.
    """
    ideal = -np.sort(-np.asarray(judged_NxJ, np.float64), axis=1)
    return or_nan(_discounted(np.asarray(gains_NxK, np.float64)[:, :k]), _discounted(ideal[:, :k]))


def expected_reciprocal_rank(grades_NxK: np.ndarray, *, highest: np.ndarray) -> np.ndarray:
    """Float64 (N,): sum over ranks k of 1/k times the probability that a reader stops there (Chapelle et al., 2009).

    Shapes: grades of the ranked list, 0 where not judged; highest (N,), the highest grade judged for each query, which
    scales its stopping probabilities (2^grade - 1) / 2^highest. NaN where the highest is 0.
    """
    highest = np.asarray(highest, np.float64)
    stops = (np.exp2(grades_NxK) - 1.0) / np.exp2(highest)[:, None]
    reaches = np.cumprod(np.concatenate([np.ones((len(stops), 1)), 1.0 - stops[:, :-1]], axis=1), axis=1)
    value = (stops * reaches[:, : stops.shape[1]] / np.arange(1, stops.shape[1] + 1)).sum(axis=1)
    return np.where(highest > 0, value, np.nan)


def rank_biased_precision(
    grades_NxK: np.ndarray, *, highest: np.ndarray, persistence: float = RBP_PERSISTENCE
) -> np.ndarray:
    """Float64 (N,): (1 - p) sum_k (grade / highest) p^(k-1) (Moffat and Zobel, 2008); NaN where the highest is 0."""
    weights = (1.0 - persistence) * persistence ** np.arange(grades_NxK.shape[1])
    return or_nan(np.asarray(grades_NxK, np.float64) @ weights, highest)


def judged(judged_NxK: np.ndarray, *, returned: np.ndarray, k: int) -> np.ndarray:
    """Float64 (N,): share of the first k that carries a judgement, of what was returned (N,) where that is less."""
    return or_nan(judged_NxK[:, :k].sum(axis=1), np.minimum(k, returned))


def relevance(relevance_NxK: np.ndarray, *, returned: np.ndarray, k: int) -> np.ndarray:
    """Float64 (N,): share of the first k that a named judge calls relevant, of what was returned where that is less."""
    return or_nan(relevance_NxK[:, :k].sum(axis=1), np.minimum(k, returned))


def snips(weights_SxN: np.ndarray, *, rewards: np.ndarray, propensities: np.ndarray) -> np.ndarray:
    """Float64 (S,): sum(r / p) / sum(1 / p) over N logged impressions, for S weightings of them.

    Self-normalised inverse propensity score (Swaminathan and Joachims, 2015). Errors: ValueError for a propensity
    outside (0, 1].
    """
    propensities = np.asarray(propensities, np.float64)
    if not ((propensities > 0) & (propensities <= 1)).all():
        raise ValueError(f"propensities lie in (0, 1], found {propensities.min()} to {propensities.max()}")
    return (weights_SxN @ (rewards / propensities)) / (weights_SxN @ (1.0 / propensities))


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
        elif metric == "ap_hits" and k:
            values[name] = average_precision_of_hits(relevance_NxK, num_relevant=num_relevant, k=k)
        elif metric == "ar" and k:
            values[name] = average_recall(relevance_NxK, num_relevant=num_relevant, k=k)
        elif name == "map_at_r":
            values[name] = map_at_r(relevance_NxK, num_relevant=num_relevant)
        elif name == "rprec":
            values[name] = r_precision(relevance_NxK, num_relevant=num_relevant)
        else:
            expected = "hit@k, recall@k, precision@k, mrr[@k], map[@k], ap_hits@k, ar@k, map_at_r, rprec"
            raise ValueError(f"unknown ranking metric {name!r}; expected one of {expected}")
    return values


def graded_by_name(
    grades_NxK: np.ndarray,
    *,
    judged_NxJ: np.ndarray,
    returned: np.ndarray,
    names: tuple[str, ...],
    gain: Callable[[np.ndarray], np.ndarray] = np.asarray,
) -> dict[str, np.ndarray]:
    """Per-query arrays (N,) for "ndcg[@k]", "err", "rbp" and "judged@k" of graded judgements.

    Shapes: `grades_NxK` float, the grade of each ranked document, NaN where it was not judged; `judged_NxJ` all
    grades of a query in any order, padded with 0; returned int (N,), the length of each list. `gain` gives the gains
    of grades, which nDCG sums; by default they are the grades. "err" and "rbp" are of the grades.
    Errors: ValueError for a name not defined here.
    """
    grades = np.nan_to_num(np.asarray(grades_NxK, np.float64), nan=0.0)
    highest = np.max(judged_NxJ, axis=1, initial=0.0)
    values = {}
    for name in names:
        metric, _, cutoff = name.partition("@")
        k = int(cutoff) if cutoff else None
        if metric == "ndcg":
            depth = k or max(grades.shape[1], judged_NxJ.shape[1])
            values[name] = ndcg(gain(grades), judged_NxJ=gain(judged_NxJ), k=depth)
        elif name == "err":
            values[name] = expected_reciprocal_rank(grades, highest=highest)
        elif name == "rbp":
            values[name] = rank_biased_precision(grades, highest=highest)
        elif metric == "judged" and k:
            values[name] = judged(~np.isnan(grades_NxK), returned=returned, k=k)
        else:
            raise ValueError(f"unknown graded metric {name!r}; expected one of ndcg[@k], err, rbp, judged@k")
    return values


def classification(
    weights_SxN: np.ndarray, *, truth: np.ndarray, ranked_NxM: np.ndarray, num_classes: int
) -> dict[str, np.ndarray]:
    """Accuracy family for S weightings of the same N rows: one array (S,) per name.

    Shapes: weights_SxN float64, how often each row counts (all ones: the plain metric; a bootstrap resample: its
    counts); truth int (N,); ranked_NxM int, the classes of each row from best to worst, M >= 1.
    Names: `top1`, `top5` (top min(5, M)); `macro_f1`, per-class F1 averaged over the classes that are true or
    predicted somewhere; `weighted_f1`, the same averaged by support; `balanced_accuracy`, mean recall over the classes
    that are true somewhere. All follow scikit-learn's defaults (with one label a row, its micro F1 is `top1`), and a
    class without weight in a resample is left out of its mean.
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
        "weighted_f1": (true_SxC * or_zero(2.0 * correct_SxC, true_SxC + predicted_SxC)).sum(axis=1) / total,
        "balanced_accuracy": _mean_over_classes(correct_SxC, true_SxC),
    }


def hier_f1(
    weights_SxN: np.ndarray, *, truth: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]]
) -> np.ndarray:
    """Float64 (S,): 2 |shared| / (|true| + |predicted|) over nodes with their ancestors, pooled over rows.

    truth, predicted: the N paths from the top level down, without the common root; a node is its whole path, so two
    leaves of one name under two parents stay apart. Source: Kiritchenko et al. (2006).
    """
    shared = [_common_prefix(*paths) for paths in zip(truth, predicted, strict=True)]
    total = [len(a) + len(b) for a, b in zip(truth, predicted, strict=True)]
    return or_zero(weights_SxN @ (2.0 * np.array(shared)), weights_SxN @ np.array(total, np.float64))


def _common_prefix(first: Sequence[str], second: Sequence[str]) -> int:
    pairs = zip(first, second, strict=False)
    return next((depth for depth, (a, b) in enumerate(pairs) if a != b), min(len(first), len(second)))


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
