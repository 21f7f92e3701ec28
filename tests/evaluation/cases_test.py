"""The cases that a figure shows follow from its numbers."""

import numpy as np

from ecommerce_vl.evaluation import cases, figures


def test_the_worst_classes_come_first_with_what_they_were_taken_for():
    true = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 3])
    predicted = np.array([1, 1, 2, 0, 1, 0, 1, 0, 0, 3])
    found = cases.worst_classes(figures.Confusion(("a", "b", "c", "d"), true, predicted, 10 + np.arange(10)))
    assert [(one.name, one.right, one.n) for one in found] == [("a", 1, 4), ("c", 0, 2), ("b", 2, 3)]
    assert found[0].taken_for == (("b", 2), ("c", 1))
    assert found[0].cases == ((10, "b"), (11, "b"), (12, "c"))


def test_the_surest_mistakes_are_the_farthest_beyond_the_threshold():
    scores = np.array([0.9, 0.8, 0.95, 0.1, 0.3, 0.2])
    right = np.array([False, True, False, True, True, False])
    one = figures.PrecisionRecall(right, scores, threshold=0.5, rows=np.arange(12).reshape(6, 2))
    assert cases.surest_mistakes(one) == {
        "accepted": [((4, 5), 0.95), ((0, 1), 0.9)],
        "refused": [((6, 7), 0.1), ((8, 9), 0.3)],
    }
    assert cases.surest_mistakes(figures.PrecisionRecall(right, scores, threshold=None, rows=one.rows)) == {}
    assert cases.surest_mistakes(figures.PrecisionRecall(right, scores, threshold=0.5, rows=one.rows[:, :0])) == {}


def test_clusters_are_whole_merged_or_split():
    #                group: a  a  b  b  b  c  c  d
    true = np.array([0, 0, 1, 1, 1, 2, 2, 3])
    predicted = np.array([5, 5, 6, 6, 7, 8, 8, 8])
    found = cases.odd_clusters(figures.Clusters(predicted, true, 100 + np.arange(8)))
    assert found["whole"] == [[(100, 0), (101, 0)]]
    assert found["merged"] == [[(105, 0), (106, 0), (107, 1)]]
    assert found["split"] == [[(102, 0), (103, 0), (104, 1)]]
    assert cases.size_histogram(true) == {"1": 1, "2": 2, "3–5": 1, "6–10": 0, "11 and more": 0}


def test_a_large_kind_does_not_push_the_others_out_of_a_cluster():
    true = np.array([0] * 30 + [1, 2])
    (members,) = cases.odd_clusters(figures.Clusters(np.zeros(32, int), true, np.arange(32)))["merged"]
    assert len(members) == cases.MEMBERS and {kind for _, kind in members} == {0, 1, 2}
