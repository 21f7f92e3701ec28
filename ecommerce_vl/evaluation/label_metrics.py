"""Metrics of yes-or-no decisions by a score: one decision a row, or one for each of many labels.

Every function takes `weights_SxN`, S weightings of the same N rows (all ones: the plain metric; a bootstrap resample:
how often each row was drawn), and returns one value per weighting, so that a value and its interval have one formula.
The invariant: a threshold is only ever a score that occurs, and rows of equal score fall on the same side of it.
"""

from dataclasses import dataclass

import numpy as np

from ecommerce_vl.evaluation.ratios import or_nan, or_zero

CALIBRATION_BINS = 15


@dataclass(frozen=True)
class Curve:
    """What is accepted at each of T thresholds, from the highest score down.

    Shapes: thresholds (T,) descending, the distinct scores; true_SxT and false_SxT, the weight of accepted positives
    and negatives; positives (S,) and negatives (S,), the whole weight of either.
    """

    thresholds: np.ndarray
    true_SxT: np.ndarray
    false_SxT: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray

    @property
    def precision_SxT(self) -> np.ndarray:
        """1 where nothing is accepted yet: no acceptance is wrong."""
        accepted = self.true_SxT + self.false_SxT
        return np.divide(self.true_SxT, accepted, out=np.ones_like(accepted), where=accepted > 0)

    @property
    def recall_SxT(self) -> np.ndarray:
        """NaN where a weighting has no positive."""
        return or_nan(self.true_SxT, self.positives[:, None])


def curve(weights_SxN: np.ndarray, *, positive: np.ndarray, scores: np.ndarray) -> Curve:
    """The precision-recall and ROC curve of N rows; positive bool (N,), scores float (N,).

    Errors: ValueError for a score that is not finite.
    """
    scores, positive = np.asarray(scores, np.float64), np.asarray(positive, bool)
    _check_finite(scores)
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=-np.inf))  # of each run of equal scores
    weights = np.asarray(weights_SxN, np.float64)[:, order]
    true_SxT = np.cumsum(weights * positive[order], axis=1)[:, last]
    false_SxT = np.cumsum(weights * ~positive[order], axis=1)[:, last]
    totals = (part[:, -1] if len(last) else np.zeros(len(weights)) for part in (true_SxT, false_SxT))
    return Curve(scores[order][last], true_SxT, false_SxT, *totals)


def _check_finite(scores: np.ndarray) -> None:
    if not np.isfinite(scores).all():
        raise ValueError(f"{(~np.isfinite(scores)).sum()} of {scores.size} scores are not finite; leave such rows out")


def pr_auc(points: Curve) -> np.ndarray:
    """Float64 (S,): average precision: sum of recall step x precision, no interpolation; NaN without positives."""
    steps = np.diff(points.true_SxT, axis=1, prepend=0.0)
    return or_nan((steps * points.precision_SxT).sum(axis=1), points.positives)


def roc_auc(points: Curve) -> np.ndarray:
    """Float64 (S,): probability that a positive scores above a negative, ties counting one half; NaN without either."""
    before = points.true_SxT - 0.5 * np.diff(points.true_SxT, axis=1, prepend=0.0)
    area = (np.diff(points.false_SxT, axis=1, prepend=0.0) * before).sum(axis=1)
    return or_nan(area, points.positives * points.negatives)


def recall_at_precision(points: Curve, *, precision: float) -> np.ndarray:
    """Float64 (S,): largest recall over thresholds with at least this precision; 0 if none, NaN without positives."""
    accepted = points.true_SxT + points.false_SxT > 0
    allowed = (points.precision_SxT >= precision) & accepted
    return np.where(allowed, points.recall_SxT, np.where(points.positives[:, None] > 0, 0.0, np.nan)).max(axis=1)


def fpr_at_recall(points: Curve, *, recall: float) -> np.ndarray:
    """Float64 (S,): smallest false-positive rate over thresholds with at least this recall; NaN without a class."""
    reached = points.recall_SxT >= recall - 1e-12
    rates = or_nan(points.false_SxT, points.negatives[:, None])
    return np.where(points.positives > 0, np.where(reached, rates, np.inf).min(axis=1), np.nan)


def best_threshold(positive: np.ndarray, *, scores: np.ndarray) -> tuple[float, float]:
    """(threshold, F1) of the score at and above which accepting gives the highest F1; among equals the highest score.

    To be taken from validation rows. Errors: ValueError without a positive row.
    """
    if not np.any(positive):
        raise ValueError(f"none of {len(positive)} rows is positive; a threshold needs positives in validation")
    points = curve(np.ones((1, len(positive))), positive=positive, scores=scores)
    f1 = 2.0 * points.true_SxT[0] / (points.true_SxT[0] + points.false_SxT[0] + points.positives[0])
    return float(points.thresholds[f1.argmax()]), float(f1.max())


def at_threshold(weights_SxN: np.ndarray, *, positive: np.ndarray, accepted: np.ndarray) -> dict[str, np.ndarray]:
    """`precision`, `recall`, `f1` (S,) of accepted rows, bool (N,); 0 where there is nothing to divide by."""
    true = weights_SxN @ (positive & accepted).astype(np.float64)
    chosen, wanted = weights_SxN @ accepted.astype(np.float64), weights_SxN @ positive.astype(np.float64)
    return {
        "precision": or_zero(true, chosen),
        "recall": or_zero(true, wanted),
        "f1": or_zero(2.0 * true, chosen + wanted),
    }


def multilabel(
    weights_SxN: np.ndarray, *, truth_NxV: np.ndarray, accepted_NxV: np.ndarray, scores_NxV: np.ndarray | None = None
) -> dict[str, np.ndarray]:
    """Metrics (S,) of V labels of which a row may have several: `micro_f1`, `macro_f1`, and with scores `map`.

    Shapes: truth and accepted bool (N, V), scores float. Rows are the annotated ones: an unknown is not a negative.
    `macro_f1` and `map` average over the labels that are true somewhere in the weighting.
    """
    true_SxV = weights_SxN @ (truth_NxV & accepted_NxV).astype(np.float64)
    wanted_SxV = weights_SxN @ truth_NxV.astype(np.float64)
    both_SxV = weights_SxN @ accepted_NxV.astype(np.float64) + wanted_SxV
    seen_SxV = wanted_SxV > 0
    values = {
        "micro_f1": or_zero(2.0 * true_SxV.sum(axis=1), both_SxV.sum(axis=1)),
        "macro_f1": or_zero((or_zero(2.0 * true_SxV, both_SxV) * seen_SxV).sum(axis=1), seen_SxV.sum(axis=1)),
    }
    if scores_NxV is not None:
        _check_finite(scores_NxV)
        areas, weights_NxS = np.zeros(len(weights_SxN)), np.ascontiguousarray(weights_SxN.T)
        for label in np.flatnonzero(truth_NxV.any(axis=0)):  # one label at a time: S x N x V would not fit
            areas += _average_precision(weights_NxS, positive=truth_NxV[:, label], scores=scores_NxV[:, label])
        values["map"] = or_zero(areas, seen_SxV.sum(axis=1))
    return values


def _average_precision(weights_NxS: np.ndarray, *, positive: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Float64 (S,): `pr_auc` of the curve of N finite scores with a positive among them; 0 where none is drawn.

    Only the thresholds at which a positive is accepted add to it, and a rare label has few.
    """
    order, thresholds_R = np.argsort(-scores, kind="stable"), np.unique(-scores[positive])

    def between(rows: np.ndarray) -> np.ndarray:  # (R, S): the weight of the rows from one threshold to the next
        ends = np.searchsorted(-scores[rows], thresholds_R, side="right")
        return np.add.reduceat(weights_NxS[rows[: ends[-1]]], [0, *ends[:-1]], axis=0)

    steps_RxS, accepted_RxS = between(order[positive[order]]), between(order).cumsum(axis=0)
    true_RxS = steps_RxS.cumsum(axis=0)
    return or_zero((steps_RxS * or_zero(true_RxS, accepted_RxS)).sum(axis=0), true_RxS[-1])


def calibration(weights_SxN: np.ndarray, *, positive: np.ndarray, probabilities: np.ndarray) -> dict[str, np.ndarray]:
    """`ece` and `brier` (S,) of exported probabilities in [0, 1] of being positive (or of a prediction being right).

    `ece`: mean over 15 bins of equal width, by their weight, of |mean probability - share of positives|; a bin owns its
    upper edge. Source: Naeini et al. (2015), Brier (1950).
    """
    probabilities, positive = np.asarray(probabilities, np.float64), np.asarray(positive, np.float64)
    if not ((probabilities >= 0) & (probabilities <= 1)).all():
        raise ValueError(f"probabilities lie in [0, 1], found {probabilities.min()} to {probabilities.max()}")
    bins = np.clip(np.ceil(probabilities * CALIBRATION_BINS).astype(int) - 1, 0, CALIBRATION_BINS - 1)
    member_NxB = (bins[:, None] == np.arange(CALIBRATION_BINS)).astype(np.float64)
    gap_SxB = weights_SxN @ (member_NxB * (probabilities - positive)[:, None])
    total = weights_SxN.sum(axis=1)
    return {
        "ece": np.abs(gap_SxB).sum(axis=1) / total,
        "brier": weights_SxN @ (probabilities - positive) ** 2 / total,
    }
