"""Decisions by a score against scikit-learn, golden values, and resamples as repeated rows."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, brier_score_loss, f1_score, precision_recall_curve, roc_auc_score

from ecommerce_vl.evaluation import label_metrics

POSITIVE = np.array([1, 0, 1, 1, 0], bool)
SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
ONE = np.ones((1, 5))


def test_golden_five_scores():
    points = label_metrics.curve(ONE, positive=POSITIVE, scores=SCORES)
    assert label_metrics.pr_auc(points)[0] == pytest.approx(0.805556, abs=5e-7)
    assert label_metrics.roc_auc(points)[0] == pytest.approx(0.666667, abs=5e-7)
    assert label_metrics.best_threshold(POSITIVE, scores=SCORES) == pytest.approx((0.6, 0.857143), abs=5e-7)
    assert label_metrics.recall_at_precision(points, precision=0.75)[0] == 1.0
    assert label_metrics.recall_at_precision(points, precision=0.95)[0] == pytest.approx(1 / 3, abs=1e-12)
    assert label_metrics.fpr_at_recall(points, recall=1.0)[0] == 0.5
    assert label_metrics.fpr_at_recall(points, recall=0.3)[0] == 0.0


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=40),
    st.floats(0.05, 1.0),
    st.integers(0, 2**31),
)
def test_curves_equal_scikit_learn_on_repeated_rows(rows, level, seed):
    """Few distinct scores, so that ties are common; weights 0 to 2 are rows left out or repeated."""
    positive, scores = np.array([row[0] for row in rows]), np.array([row[1] / 7 for row in rows])
    weights = np.stack([np.ones(len(rows), int), np.random.default_rng(seed).integers(0, 3, len(rows))])
    points = label_metrics.curve(weights, positive=positive, scores=scores)
    for place, repeated in enumerate(np.repeat(np.arange(len(rows)), weight) for weight in weights):
        truth, score = positive[repeated], scores[repeated]
        if not truth.any() or truth.all():
            assert truth.any() or np.isnan(label_metrics.pr_auc(points)[place])
            assert np.isnan(label_metrics.roc_auc(points)[place])
            continue
        assert label_metrics.pr_auc(points)[place] == pytest.approx(average_precision_score(truth, score), abs=1e-9)
        assert label_metrics.roc_auc(points)[place] == pytest.approx(roc_auc_score(truth, score), abs=1e-9)
        precision, recall, _ = precision_recall_curve(truth, score)
        best = max(r for p, r in zip(precision, recall, strict=True) if p >= level)
        assert label_metrics.recall_at_precision(points, precision=level)[place] == pytest.approx(best, abs=1e-9)
        cuts = [score >= cut for cut in np.unique(score)]
        rates = [(cut & ~truth).sum() / (~truth).sum() for cut in cuts if (cut & truth).sum() / truth.sum() >= level]
        assert label_metrics.fpr_at_recall(points, recall=level)[place] == pytest.approx(min(rates), abs=1e-9)
        accepted = scores >= 0.5
        decided = label_metrics.at_threshold(weights[place : place + 1], positive=positive, accepted=accepted)
        assert decided["f1"][0] == pytest.approx(f1_score(truth, score >= 0.5, zero_division=0), abs=1e-9)
    if positive.any():
        threshold, value = label_metrics.best_threshold(positive, scores=scores)
        every = {cut: f1_score(positive, scores >= cut) for cut in np.unique(scores)}
        assert value == pytest.approx(max(every.values()), abs=1e-9)
        assert threshold == max(cut for cut, f1 in every.items() if f1 >= value - 1e-12)


def test_multilabel_equals_scikit_learn_over_the_labels_that_occur():
    random = np.random.default_rng(0)
    truth, scores = random.random((50, 6)) < 0.3, np.round(random.random((50, 6)), 1)
    truth[:, 5] = False  # a value that no annotated row has
    accepted = scores > 0.6
    weights = np.stack([np.ones(50, int), random.integers(0, 3, 50)])
    found = label_metrics.multilabel(weights, truth_NxV=truth, accepted_NxV=accepted, scores_NxV=scores)
    for place, weight in enumerate(weights):
        rows = np.repeat(np.arange(50), weight)
        labels = np.flatnonzero(truth[rows].any(axis=0))
        assert 5 not in labels
        micro = f1_score(truth[rows], accepted[rows], average="micro")
        macro = f1_score(truth[rows][:, labels], accepted[rows][:, labels], average="macro", zero_division=0)
        area = average_precision_score(truth[rows][:, labels], scores[rows][:, labels], average="macro")
        assert found["micro_f1"][place] == pytest.approx(micro, abs=1e-9)
        assert found["macro_f1"][place] == pytest.approx(macro, abs=1e-9)
        assert found["map"][place] == pytest.approx(area, abs=1e-9)
    scores[3, 5] = np.nan
    with pytest.raises(ValueError, match="1 of 300 scores are not finite"):
        label_metrics.multilabel(weights, truth_NxV=truth, accepted_NxV=accepted, scores_NxV=scores)


def test_calibration_equals_a_loop_over_bins():
    random = np.random.default_rng(1)
    probabilities = np.concatenate([random.random(200), [0.0, 1.0, 1 / 15, 2 / 15]])
    positive = random.random(204) < probabilities
    found = label_metrics.calibration(np.ones((1, 204)), positive=positive, probabilities=probabilities)
    edges = np.arange(16) / 15
    expected = 0.0
    for low, high in itertools.pairwise(edges):
        member = (probabilities > low) & (probabilities <= high) | ((low == 0) & (probabilities == 0))
        if member.any():
            expected += member.mean() * abs(probabilities[member].mean() - positive[member].mean())
    assert found["ece"][0] == pytest.approx(expected, abs=1e-9)
    assert found["brier"][0] == pytest.approx(brier_score_loss(positive, probabilities), abs=1e-9)
    perfect = label_metrics.calibration(ONE, positive=POSITIVE, probabilities=POSITIVE.astype(float))
    assert perfect["ece"][0] == perfect["brier"][0] == 0.0


def test_what_cannot_be_measured_is_nan_or_an_error():
    points = label_metrics.curve(ONE, positive=np.zeros(5, bool), scores=SCORES)
    for value in (
        label_metrics.pr_auc(points),
        label_metrics.roc_auc(points),
        label_metrics.recall_at_precision(points, precision=0.5),
        label_metrics.fpr_at_recall(points, recall=0.5),
    ):
        assert np.isnan(value).all()
    with pytest.raises(ValueError, match="none of 5 rows is positive"):
        label_metrics.best_threshold(np.zeros(5, bool), scores=SCORES)
    with pytest.raises(ValueError, match="1 of 5 scores are not finite"):
        label_metrics.curve(ONE, positive=POSITIVE, scores=np.array([1, 2, np.nan, 3, 4]))
    with pytest.raises(ValueError, match=r"lie in \[0, 1\]"):
        label_metrics.calibration(ONE, positive=POSITIVE, probabilities=SCORES * 2)
