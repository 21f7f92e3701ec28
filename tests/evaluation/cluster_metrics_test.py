"""Partitions: golden values, scikit-learn's pair counts, and the definitions written out over sets."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.cluster import pair_confusion_matrix

from ecommerce_vl.evaluation import cluster_metrics

TRUTH = np.array([0, 0, 0, 1, 1, 2])
PREDICTED = np.array([0, 0, 1, 1, 1, 2])


def measure(truth, predicted, weights=None):
    weights = np.ones(len(truth)) if weights is None else weights
    found = cluster_metrics.partition(weights[None].astype(float), truth=truth, predicted=predicted)
    return {name: value[0] for name, value in found.items()}


def test_golden_six_items():
    found = measure(TRUTH, PREDICTED) | cluster_metrics.agreement(TRUTH, predicted=PREDICTED)
    expected = {
        "pair_p": 0.5, "pair_r": 0.5, "pair_f1": 0.5, "ari": 0.318182, "ami": 0.411828, "nmi": 0.685331,
        "bcubed_p": 0.777778, "bcubed_r": 0.777778, "bcubed_f1": 0.777778, "row_f1": 0.755556, "purity": 0.833333,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == pytest.approx(expected, abs=5e-7)
    assert cluster_metrics.mistakes(TRUTH, predicted=PREDICTED) == {"over_merged": 0.5, "split": 0.5}
    assert cluster_metrics.size_histogram(PREDICTED) == {1: 1, 2: 1, 3: 1}


def test_golden_singletons_score_nmi_without_finding_anything():
    alone = np.arange(6)
    found = measure(TRUTH, alone) | cluster_metrics.agreement(TRUTH, predicted=alone)
    assert found["nmi"] == pytest.approx(0.721616, abs=5e-7)
    assert found["ami"] == pytest.approx(0.0, abs=1e-12) and found["ari"] == 0.0
    assert found["pair_p"] == found["pair_r"] == found["pair_f1"] == 0.0
    assert cluster_metrics.mistakes(TRUTH, predicted=alone) == {"over_merged": 0.0, "split": 1.0}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 4), st.integers(-2, 4)), min_size=1, max_size=30))
def test_partitions_equal_their_definitions(pairs):
    truth, predicted = np.array(pairs).T
    found = measure(truth, predicted)
    (_, placed), (missed, together) = pair_confusion_matrix(truth, predicted)
    assert found["pair_p"] == pytest.approx(together / (together + placed) if together + placed else 0.0, abs=1e-9)
    assert found["pair_r"] == pytest.approx(together / (together + missed) if together + missed else 0.0, abs=1e-9)
    sets = [
        (set(np.flatnonzero(predicted == p)), set(np.flatnonzero(truth == t)))
        for t, p in zip(truth, predicted, strict=True)
    ]
    precision = np.mean([len(c & t) / len(c) for c, t in sets])
    recall = np.mean([len(c & t) / len(t) for c, t in sets])
    assert found["bcubed_p"] == pytest.approx(precision, abs=1e-9)
    assert found["bcubed_r"] == pytest.approx(recall, abs=1e-9)
    assert found["bcubed_f1"] == pytest.approx(2 * precision * recall / (precision + recall), abs=1e-9)
    assert found["row_f1"] == pytest.approx(np.mean([2 * len(c & t) / (len(c) + len(t)) for c, t in sets]), abs=1e-9)
    merged = [len(set(truth[list(c)])) > 1 for c in {frozenset(c) for c, _ in sets if len(c) > 1}]
    torn = [len(set(predicted[list(t)])) > 1 for t in {frozenset(t) for _, t in sets if len(t) > 1}]
    assert cluster_metrics.mistakes(truth, predicted=predicted) == pytest.approx(
        {"over_merged": np.mean(merged) if merged else 0.0, "split": np.mean(torn) if torn else 0.0}, abs=1e-9
    )
    assert sum(size * count for size, count in cluster_metrics.size_histogram(predicted).items()) == len(truth)


def test_a_weight_leaves_the_sets_as_they_are():
    """Twice the first group, none of the second: means over those items, of the partition of all six."""
    weights = np.array([2, 2, 2, 0, 0, 1])
    found = measure(TRUTH, PREDICTED, weights)
    assert found["bcubed_p"] == pytest.approx((2 * (1 + 1 + 1 / 3) + 1) / 7, abs=1e-12)
    assert found["pair_r"] == pytest.approx(2 * (1 + 1 + 0) / (2 * 6), abs=1e-12)
