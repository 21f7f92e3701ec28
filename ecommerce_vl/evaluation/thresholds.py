"""Yes-or-no decisions by a score: the threshold from validation rows, everything else from test rows.

Used wherever a family decides (matching pairs, adult products, whether to fill in an attribute). The invariant: the
threshold is a function of validation rows alone and stands beside every number that used it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from ecommerce_vl.evaluation import bootstrap, label_metrics


def measure(
    positive: np.ndarray,
    *,
    scores: np.ndarray,
    accepted: np.ndarray,
    precisions: Sequence[float],
    recall: float | None = None,
    probabilities: bool = False,
    groups: np.ndarray,
    seed: int,
    **chosen,
) -> dict[str, dict]:
    """Metric name -> {value, low, high, n, candidates, prevalence, ...chosen}; one of the rows must be positive.

    Shapes: positive bool (N,), scores float (N,), accepted bool (N,), score at or above the threshold; groups int (N,),
    what intervals resample. Names: `f1`, `precision`, `recall` of what is accepted, `pr_auc`, `roc_auc`,
    `recall_at_precision_p` for each of `precisions`, and `fpr_at_recall_r`; `ece` and `brier` too where the scores are
    `probabilities` of being positive.

    Errors: ValueError for a probability outside of [0, 1].
    """
    statistic = partial(
        _statistic,
        positive=positive,
        scores=scores,
        accepted=accepted,
        precisions=precisions,
        recall=recall,
        probabilities=probabilities,
    )
    estimates = bootstrap.intervals(statistic, groups=groups, seed=seed)
    shared = {"candidates": len(positive), "prevalence": float(positive.mean()), **chosen}
    return {name: vars(estimate) | shared for name, estimate in estimates.items()}


def coverage_threshold(right: np.ndarray, *, confidence: np.ndarray, precision: float) -> float:
    """The lowest confidence at and above which at least `precision` of the rows are right; infinity if there is none.

    Shapes: right bool (N,) and confidence float (N,) of validation rows.
    """
    if not len(right):
        return np.inf
    points = label_metrics.curve(np.ones((1, len(right))), positive=right, scores=confidence)
    allowed = np.flatnonzero(points.precision_SxT[0] >= precision)
    return float(points.thresholds[allowed[-1]]) if len(allowed) else np.inf


def _statistic(weights_SxN, *, positive, scores, accepted, precisions, recall, probabilities) -> dict[str, np.ndarray]:
    points = label_metrics.curve(weights_SxN, positive=positive, scores=scores)
    values = label_metrics.at_threshold(weights_SxN, positive=positive, accepted=accepted)
    values = {name: values[name] for name in ("f1", "precision", "recall")}
    values["pr_auc"] = label_metrics.pr_auc(points)
    if not positive.all():
        values["roc_auc"] = label_metrics.roc_auc(points)
    for precision in precisions:
        values[f"recall_at_precision_{precision:g}"] = label_metrics.recall_at_precision(points, precision=precision)
    if recall is not None and not positive.all():
        values[f"fpr_at_recall_{recall:g}"] = label_metrics.fpr_at_recall(points, recall=recall)
    if probabilities:
        values |= label_metrics.calibration(weights_SxN, positive=positive, probabilities=scores)
    return values
