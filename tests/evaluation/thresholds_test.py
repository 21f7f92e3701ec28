"""Decisions by hand and against scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from ecommerce_vl.evaluation import thresholds


def test_the_lowest_confidence_that_keeps_its_precision():
    right = np.array([True, True, False, True, False])
    confidence = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
    assert thresholds.coverage_threshold(right, confidence=confidence, precision=1.0) == 0.8
    assert thresholds.coverage_threshold(right, confidence=confidence, precision=0.75) == 0.6
    assert thresholds.coverage_threshold(~right[:1], confidence=confidence[:1], precision=0.5) == np.inf
    assert thresholds.coverage_threshold(right[:0], confidence=confidence[:0], precision=0.5) == np.inf


def test_measured_values_are_those_of_scikit_learn():
    random = np.random.default_rng(0)
    positive = random.random(80) < 0.3
    scores = np.round(random.normal(size=80) + positive, 1)
    measured = thresholds.measure(
        positive, scores=scores, accepted=scores >= 0.5, precisions=(0.5,), recall=0.9, groups=np.arange(80), seed=0,
        threshold=0.5,
    )  # fmt: skip
    value = {name: entry["value"] for name, entry in measured.items()}
    assert value["f1"] == pytest.approx(sklearn_metrics.f1_score(positive, scores >= 0.5), abs=1e-12)
    assert value["pr_auc"] == pytest.approx(sklearn_metrics.average_precision_score(positive, scores), abs=1e-12)
    assert value["roc_auc"] == pytest.approx(sklearn_metrics.roc_auc_score(positive, scores), abs=1e-12)
    precision, recall, _ = sklearn_metrics.precision_recall_curve(positive, scores)
    assert value["recall_at_precision_0.5"] == pytest.approx(recall[precision >= 0.5].max())
    false, true, _ = sklearn_metrics.roc_curve(positive, scores, drop_intermediate=False)
    assert value["fpr_at_recall_0.9"] == pytest.approx(false[true >= 0.9].min())
    entry = measured["pr_auc"]
    assert entry["low"] < entry["value"] < entry["high"]
    assert (entry["threshold"], entry["n"], entry["prevalence"]) == (0.5, 80, positive.mean())


def test_positives_alone_have_no_roc():
    positive, groups = np.ones(4, bool), np.arange(4)
    measured = thresholds.measure(
        positive, scores=np.arange(4.0), accepted=positive, precisions=(), recall=0.9, groups=groups, seed=0
    )
    assert set(measured) == {"f1", "precision", "recall", "pr_auc"}
