"""Definitions are pinned by hand-computed golden values, then by ir_measures and scikit-learn on random cases."""

import ir_measures
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ir_measures import AP, Judged, P, R, Rprec, Success, nDCG
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score, top_k_accuracy_score

from ecommerce_vl.evaluation import metrics

# The list d1..d6 where R = {d2, d4, d9} and d9 was not returned.
LIST = np.array([[False, True, False, True, False, False]])
THREE = np.array([3])


def test_golden_list_of_six_documents():
    assert metrics.hit(LIST, k=1) == 0 and metrics.hit(LIST, k=5) == 1
    assert metrics.recall(LIST, num_relevant=THREE, k=5) == pytest.approx(2 / 3, abs=1e-9)
    assert metrics.precision(LIST, k=5) == pytest.approx(0.4, abs=1e-9)
    assert metrics.precision(LIST, k=10) == pytest.approx(0.2, abs=1e-9)
    assert metrics.reciprocal_rank(LIST) == 0.5
    assert metrics.average_precision(LIST, num_relevant=THREE, k=6) == pytest.approx(1 / 3, abs=1e-9)
    assert metrics.average_precision(LIST, num_relevant=THREE, k=3) == pytest.approx(1 / 6, abs=1e-9)
    assert metrics.map_at_r(LIST, num_relevant=THREE) == pytest.approx(1 / 6, abs=1e-9)
    assert metrics.r_precision(LIST, num_relevant=THREE) == pytest.approx(1 / 3, abs=1e-9)
    assert metrics.average_precision_of_hits(LIST, num_relevant=THREE, k=10) == 0.5
    assert metrics.judged(LIST, returned=np.array([6]), k=5) == 0.4
    judged = np.array([[1.0, 1.0, 1.0]])
    assert metrics.ndcg(LIST.astype(float), judged_NxJ=judged, k=5) == pytest.approx(0.498189, abs=5e-7)


@pytest.mark.parametrize(
    ("gains", "expected"),
    [((0.01, 1, 0, 0.1), 0.640391), ((0.1, 1, 0, 0.01), 0.688364), ((1, 7, 0, 3), 0.714222)],
)
def test_golden_graded_ndcg(gains, expected):
    """Order complement, exact, irrelevant, substitute; all four judged."""
    gains = np.array([gains], float)
    assert metrics.ndcg(gains, judged_NxJ=gains, k=4)[0] == pytest.approx(expected, abs=5e-7)


def test_golden_cascade_metrics():
    found = metrics.graded_by_name(
        np.array([[3.0, np.nan, 2.0]]), judged_NxJ=np.array([[2.0, 3.0]]), returned=np.array([3]), names=("err", "rbp")
    )
    assert found["err"][0] == pytest.approx(0.890625, abs=1e-12)
    assert found["rbp"][0] == pytest.approx(0.154, abs=1e-12)


def test_golden_hierarchical_f1():
    found = metrics.hier_f1(np.ones((1, 1)), truth=[("A", "B", "C")], predicted=[("A", "B", "D")])
    assert found[0] == pytest.approx(2 / 3, abs=1e-12)


def test_degenerate_lists():
    nothing = np.zeros((1, 3), bool)
    assert np.isnan(metrics.recall(nothing, num_relevant=np.array([0]), k=10))
    assert np.isnan(metrics.average_precision(nothing, num_relevant=np.array([0]), k=10))
    assert np.isnan(metrics.ndcg(nothing.astype(float), judged_NxJ=np.zeros((1, 2)), k=10))
    assert metrics.reciprocal_rank(nothing) == 0.0
    single = np.ones((1, 1), bool)
    values = metrics.by_name(
        single, num_relevant=np.array([1]), names=("hit@10", "recall@10", "mrr", "map", "map_at_r", "rprec")
    )
    assert all(value == 1.0 for value in values.values())
    assert metrics.by_name(single, num_relevant=np.array([1]), names=("precision@10",))["precision@10"] == 0.1
    with pytest.raises(ValueError, match="unknown ranking metric 'hits@3'"):
        metrics.by_name(single, num_relevant=np.array([1]), names=("hits@3",))


def test_tie_rate_counts_only_ties_at_the_cutoff_between_right_and_wrong():
    scores = np.array([[0.9, 0.5, 0.5, 0.1]] * 3)
    relevance = np.array([[0, 1, 0, 0], [0, 1, 1, 0], [1, 0, 0, 0]], bool)
    assert metrics.tied(relevance, scores_NxK=scores, k=2).tolist() == [1.0, 0.0, 0.0]
    assert metrics.tied(relevance, scores_NxK=scores, k=1).tolist() == [0.0, 0.0, 0.0]
    assert metrics.tied(relevance[:1], scores_NxK=np.zeros((1, 4)), k=10).tolist() == [1.0]
    assert metrics.tied(relevance[:1], scores_NxK=np.full((1, 4), -np.inf), k=1).tolist() == [0.0]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=30), st.integers(0, 5), st.integers(1, 35))
def test_ranking_metrics_equal_ir_measures(relevance, not_returned, k):
    num_relevant = sum(relevance) + not_returned
    if not num_relevant:
        return
    count = len(relevance)
    judgements = [ir_measures.Qrel("q", f"d{rank}", int(right)) for rank, right in enumerate(relevance)]
    judgements += [ir_measures.Qrel("q", f"lost{i}", 1) for i in range(not_returned)]
    run = [ir_measures.ScoredDoc("q", f"d{rank}", float(count - rank)) for rank in range(count)]
    oracle = {
        f"hit@{k}": Success @ k,
        f"recall@{k}": R @ k,
        f"precision@{k}": P @ k,
        "mrr": ir_measures.RR @ 1000,
        f"map@{k}": AP @ k,
        "map": AP,
        "rprec": Rprec,
    }
    expected = ir_measures.calc_aggregate([*oracle.values(), nDCG @ k], judgements, run)
    row = np.array([relevance])
    ours = metrics.by_name(row, num_relevant=np.array([num_relevant]), names=tuple(oracle))
    for name, measure in oracle.items():
        assert ours[name][0] == pytest.approx(expected[measure], abs=1e-9), name
    ideal = np.ones((1, num_relevant))
    assert metrics.ndcg(row.astype(float), judged_NxJ=ideal, k=k)[0] == pytest.approx(expected[nDCG @ k], abs=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.sampled_from((None, 0, 1, 10, 100)), min_size=1, max_size=25),
    st.lists(st.sampled_from((0, 1, 100)), max_size=5),
    st.integers(1, 30),
)
def test_graded_metrics_equal_their_oracles(grades, not_returned, k):
    """None is not judged. ir_measures takes integer gains only; ERR and RBP are written out as loops."""
    every = [grade for grade in grades if grade is not None] + not_returned
    if not any(every):
        return
    judgements = [ir_measures.Qrel("q", f"d{i}", grade) for i, grade in enumerate(grades) if grade is not None]
    judgements += [ir_measures.Qrel("q", f"lost{i}", grade) for i, grade in enumerate(not_returned)]
    run = [ir_measures.ScoredDoc("q", f"d{i}", float(len(grades) - i)) for i in range(len(grades))]
    oracle = {f"ndcg@{k}": nDCG @ k, "ndcg": nDCG, f"judged@{k}": Judged @ k}
    expected = ir_measures.calc_aggregate(list(oracle.values()), judgements, run)
    ours = metrics.graded_by_name(
        np.array([[np.nan if grade is None else grade for grade in grades]]),
        judged_NxJ=np.array([[*every, 0, 0]], float),
        returned=np.array([len(grades)]),
        names=(*oracle, "err", "rbp"),
    )
    for name, measure in oracle.items():
        assert ours[name][0] == pytest.approx(expected[measure], abs=1e-9), name
    err, reaches, rbp = 0.0, 1.0, 0.0
    for rank, grade in enumerate((grade or 0 for grade in grades), start=1):
        stops = (2**grade - 1) / 2 ** max(every)
        err, reaches = err + reaches * stops / rank, reaches * (1 - stops)
        rbp += 0.1 * grade / max(every) * 0.9 ** (rank - 1)
    assert ours["err"][0] == pytest.approx(err, abs=1e-9)
    assert ours["rbp"][0] == pytest.approx(rbp, abs=1e-9)


def test_average_precision_of_hits_equals_its_formula():
    random = np.random.default_rng(3)
    lists = random.random((60, 12)) < 0.3
    num_relevant = lists.sum(axis=1) + random.integers(0, 3, 60)
    for k in (1, 5, 30):
        found = metrics.by_name(lists, num_relevant=num_relevant, names=(f"ap_hits@{k}",))[f"ap_hits@{k}"]
        for row, count, value in zip(lists, num_relevant, found, strict=True):
            cut = min(k, count, 12)
            total = sum(row[j] * row[: j + 1].mean() for j in range(cut)) / max(1, row[:cut].sum())
            assert value == pytest.approx(total if count else np.nan, abs=1e-12, nan_ok=True)


def test_average_recall_is_the_formula_of_product1m_for_a_query_that_shows_one_product():
    random = np.random.default_rng(4)
    lists = random.random((60, 12)) < 0.4
    num_relevant = lists.sum(axis=1) + random.integers(0, 9, 60)
    for k in (1, 5, 30):
        found = metrics.by_name(lists, num_relevant=num_relevant, names=(f"ar@{k}",))[f"ar@{k}"]
        for row, count, value in zip(lists, num_relevant.tolist(), found, strict=True):
            expected = min(1 * (k // 1), count)  # c = n = 1 of e = min(c floor(k / n), count)
            share = min(sum(row[:k]), expected) / expected if expected else np.nan
            assert value == pytest.approx(share, abs=1e-12, nan_ok=True)


def test_relevance_is_of_what_was_returned_and_precision_is_not():
    row = np.array([[True, False, True, False]])
    assert metrics.relevance(row, returned=np.array([3]), k=10)[0] == pytest.approx(2 / 3, abs=1e-12)
    assert metrics.precision(row, k=10)[0] == 0.2


def test_snips_equals_the_mean_reward_under_uniform_logging_and_reweighs_otherwise():
    rewards, propensities = np.array([1.0, 0.0, 1.0, 0.0]), np.array([0.5, 0.25, 1.0, 0.5])
    weights = np.array([[1.0, 1, 1, 1], [2, 0, 0, 1]])
    expected = [(2 + 1) / (2 + 4 + 1 + 2), 4 / (4 + 2)]
    np.testing.assert_allclose(metrics.snips(weights, rewards=rewards, propensities=propensities), expected, atol=1e-12)
    assert metrics.snips(weights[:1], rewards=rewards, propensities=np.full(4, 0.1))[0] == pytest.approx(0.5)
    with pytest.raises(ValueError, match=r"lie in \(0, 1\]"):
        metrics.snips(weights, rewards=rewards, propensities=np.zeros(4))


def test_hierarchical_f1_equals_sets_of_ancestors():
    random = np.random.default_rng(5)
    paths = [("A",), ("A", "B"), ("A", "B", "C"), ("A", "D"), ("E", "B"), ()]
    truth, predicted = ([paths[i] for i in random.integers(0, 6, 40)] for _ in range(2))
    weights = np.stack([np.ones(40, int), random.integers(0, 3, 40)])
    for weight, value in zip(weights, metrics.hier_f1(weights, truth=truth, predicted=predicted), strict=True):
        nodes = lambda path: {path[: depth + 1] for depth in range(len(path))}
        pairs = [(nodes(truth[i]), nodes(predicted[i])) for i in np.repeat(np.arange(40), weight)]
        shared, total = sum(2 * len(a & b) for a, b in pairs), sum(len(a) + len(b) for a, b in pairs)
        assert value == pytest.approx(shared / total, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.booleans(), min_size=1, max_size=20), st.integers(0, 20))
def test_a_wrong_document_never_raises_map_and_hits_grow_with_k(relevance, place):
    num_relevant = np.array([sum(relevance) + 1])
    row = np.array([relevance])
    worse = np.insert(row, min(place, len(relevance)), False, axis=1)
    before = metrics.average_precision(row, num_relevant=num_relevant, k=50)
    assert metrics.average_precision(worse, num_relevant=num_relevant, k=50) <= before + 1e-12
    below = np.concatenate([row, [[False]]], axis=1)
    for metric in (metrics.map_at_r, metrics.r_precision):
        np.testing.assert_allclose(
            metric(below, num_relevant=num_relevant), metric(row, num_relevant=num_relevant), atol=1e-12
        )
    for k in range(1, 22):
        assert metrics.hit(row, k=k + 1) >= metrics.hit(row, k=k)
        assert metrics.recall(row, num_relevant=num_relevant, k=k + 1) >= metrics.recall(
            row, num_relevant=num_relevant, k=k
        )


def test_map_at_r_equals_its_formula():
    random = np.random.default_rng(0)
    relevance = random.random((50, 12)) < 0.3
    num_relevant = relevance.sum(axis=1) + random.integers(0, 3, 50)
    for row, count, value in zip(
        relevance, num_relevant, metrics.map_at_r(relevance, num_relevant=num_relevant), strict=True
    ):
        expected = sum(row[j] * row[: j + 1].mean() for j in range(min(count, 12))) / count if count else np.nan
        assert value == pytest.approx(expected, abs=1e-12, nan_ok=True)


def test_classification_equals_scikit_learn_with_weights_one():
    random = np.random.default_rng(0)
    scores = random.normal(size=(200, 9))
    truth = random.integers(0, 7, 200)  # classes 7 and 8 are predicted and never true
    ranked = np.argsort(-scores, axis=1)
    ours = metrics.classification(np.ones((1, 200)), truth=truth, ranked_NxM=ranked, num_classes=12)
    assert ours["top1"][0] == pytest.approx(accuracy_score(truth, ranked[:, 0]), abs=1e-9)
    assert ours["top5"][0] == pytest.approx(top_k_accuracy_score(truth, scores, k=5, labels=range(9)), abs=1e-9)
    assert ours["macro_f1"][0] == pytest.approx(f1_score(truth, ranked[:, 0], average="macro"), abs=1e-9)
    assert ours["weighted_f1"][0] == pytest.approx(f1_score(truth, ranked[:, 0], average="weighted"), abs=1e-9)
    assert ours["top1"][0] == pytest.approx(f1_score(truth, ranked[:, 0], average="micro"), abs=1e-9)
    seen = ranked[:, 0] < 7  # scikit-learn warns about predictions outside the true classes
    assert metrics.classification(
        np.ones((1, int(seen.sum()))), truth=truth[seen], ranked_NxM=ranked[seen], num_classes=9
    )["balanced_accuracy"][0] == pytest.approx(balanced_accuracy_score(truth[seen], ranked[seen, 0]), abs=1e-9)


def test_classification_weights_count_rows():
    random = np.random.default_rng(1)
    truth, ranked = random.integers(0, 4, 30), np.argsort(-random.normal(size=(30, 4)), axis=1)
    weights = random.integers(0, 3, 30)
    repeated = np.repeat(np.arange(30), weights)
    weighted = metrics.classification(weights[None].astype(float), truth=truth, ranked_NxM=ranked, num_classes=4)
    plain = metrics.classification(
        np.ones((1, len(repeated))), truth=truth[repeated], ranked_NxM=ranked[repeated], num_classes=4
    )
    for name in plain:
        assert weighted[name][0] == pytest.approx(plain[name][0], abs=1e-12), name
