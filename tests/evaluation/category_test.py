"""Votes and averages by hand; what may and may not influence the choice of C."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from ecommerce_vl.evaluation import category, probes
from ecommerce_vl.evaluation.context import Context
from ecommerce_vl.evaluation.results import Results


def test_knn_vote_by_hand():
    """Cosines 1.0 to class 1 and .95 twice to class 0: exp(1/.07) loses to 2 exp(.95/.07) by a hair."""
    angle = np.arccos(0.95)
    gallery = np.array([[1, 0], [np.cos(angle), np.sin(angle)], [np.cos(angle), -np.sin(angle)], [-1, 0]])
    votes = probes.knn_votes(
        np.array([[1.0, 0.0]]),
        gallery=gallery,
        gallery_y=np.array([1, 0, 0, 2]),
        gallery_ids=list("abcd"),
        num_classes=4,
    )
    expected = [[2 * np.exp(0.95 / 0.07), np.exp(1 / 0.07), np.exp(-1 / 0.07), 0.0]]
    np.testing.assert_allclose(votes, expected, rtol=1e-4)
    # Only the 20 nearest vote: 30 far members of class 0 do not outvote 20 near ones of class 1.
    many = np.concatenate([np.tile([[1.0, 0.0]], (20, 1)), np.tile([[0.99, np.sqrt(1 - 0.99**2)]], (30, 1))])
    ids = [f"{i:02d}" for i in range(50)]
    labels = np.array([1] * 20 + [0] * 30)
    votes = probes.knn_votes(np.array([[1.0, 0.0]]), gallery=many, gallery_y=labels, gallery_ids=ids, num_classes=2)
    assert votes[0, 0] == 0.0


def test_pool_keeps_seen_classes_and_counts_the_unseen(splits):
    paths = list(splits["test"].category_paths)
    paths[0], paths[1] = "", "Home > lamp"
    pool = category.pool(
        replace(splits["test"], category_paths=paths), train=splits["train"], validation=splits["test"]
    )
    assert pool.unseen == 1
    assert pool.classes == ["Home > ball", "Home > box", "Home > cup"]
    assert pool.test.tolist() == list(range(2, 60))
    assert pool.coverage == pytest.approx(58 / 60)
    assert [pool.classes[y] for y in pool.test_y] == paths[2:]
    pictured = category.pool(splits["test"], train=splits["train"], validation=splits["test"], view="image")
    assert splits["test"].present("image")[pictured.test].all() and len(pictured.test) == 51


def blobs(count, *, seed, noise):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, count)
    rows = np.eye(3)[labels] + noise * random.normal(size=(count, 3))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), labels


def test_linear_probe_learns_and_takes_its_strength_from_validation_only():
    train, train_y = blobs(200, seed=0, noise=0.3)
    test, test_y = blobs(100, seed=1, noise=0.3)
    fit = {"train": train, "train_y": train_y, "num_classes": 3}
    scores, chosen = probes.linear_scores(test, validation=test, validation_y=test_y, **fit)
    assert (scores.argmax(axis=1) == test_y).mean() > 0.9
    assert chosen["C"] in probes.C_GRID
    # One test row or a hundred: the choice is the same, and the labels of test rows are not even an argument.
    again, same = probes.linear_scores(test[:1], validation=test, validation_y=test_y, **fit)
    assert same == chosen
    np.testing.assert_allclose(again, scores[:1], atol=1e-6)
    _, middle = probes.linear_scores(test, validation=test[:0], validation_y=test_y[:0], **fit)
    assert middle == {"C": 10.0, "whitened": False}
    # All strengths get these three easy rows right: a tie keeps the strongest regularisation.
    easy = np.eye(3, dtype=np.float32)
    assert probes.linear_scores(test, validation=easy, validation_y=np.arange(3), **fit)[1] == {
        "C": 1.0,
        "whitened": False,
    }


def test_linear_probe_picks_the_strength_that_validation_prefers():
    """Noisy training labels: strong regularisation generalises, and is chosen; on the training rows the weak one is."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(120, 60)).astype(np.float32)
    noisy = random.integers(0, 2, 120)
    fit = {"train": rows, "train_y": noisy, "num_classes": 2}
    assert probes.linear_scores(rows, validation=rows, validation_y=noisy, **fit)[1] == {"C": 1000.0, "whitened": False}
    opposite = 1 - probes.linear_scores(rows, validation=rows[:0], validation_y=noisy[:0], **fit)[0].argmax(axis=1)
    _, chosen = probes.linear_scores(rows, validation=rows, validation_y=np.where(opposite, 1, 0), **fit)
    assert chosen == {"C": 1.0, "whitened": False}


def test_linear_probe_whitens_what_a_collapsed_space_hides():
    """The classes differ in a direction a thousandth as wide as another, which says nothing."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 2, 300)
    rows = np.stack([random.normal(size=300), 1e-3 * (labels + 0.1 * random.normal(size=300))], axis=1)
    fit = {"train": rows[:100], "train_y": labels[:100], "validation": rows[100:200], "validation_y": labels[100:200]}
    scores, chosen = probes.linear_scores(rows[200:], num_classes=2, **fit)
    assert chosen["whitened"] and (scores.argmax(axis=1) == labels[200:]).mean() > 0.95


def test_whitened_features_have_no_covariance_and_depend_on_training_alone():
    train, test = np.random.default_rng(0).normal(size=(2, 50, 4)) * [4.0, 2.0, 1.0, 0.5]
    white, turned = probes.whitened(train, test)
    np.testing.assert_allclose(np.cov(white.T, bias=True), np.eye(4) / 4, atol=1e-4)
    np.testing.assert_allclose(probes.whitened(train, test[:1])[1], turned[:1], atol=1e-5)


def test_whitened_features_of_few_rows_leave_out_what_training_does_not_show():
    """Eight rows span seven directions; another row may not stand out in the ones between them."""
    rows = np.random.default_rng(0).normal(size=(108, 40))
    white, others = probes.whitened(rows[:8], rows[8:])
    assert np.linalg.matrix_rank(white) == 7 and np.abs(others).max() < 5 * np.abs(white).max()


def test_linear_probe_of_one_vector_for_every_row_is_the_most_frequent_class():
    """What an encoder gives that has collapsed, or has not begun to learn."""
    labels = np.array([0, 1, 1])
    rows = np.full((3, 4), 0.5, np.float32)
    fit = {"train": rows, "train_y": labels, "validation": rows, "validation_y": labels, "num_classes": 2}
    scores, chosen = probes.linear_scores(rows, **fit)
    assert (scores.argmax(axis=1) == 1).all() and not chosen["whitened"]


def test_linear_probe_on_sparse_rows_and_classes_missing_from_training():
    train, train_y = blobs(150, seed=0, noise=0.1)
    sparse = csr_matrix(train)
    scores, _ = probes.linear_scores(
        sparse, train=sparse, train_y=train_y * 2, validation=sparse, validation_y=train_y * 2, num_classes=6
    )
    assert np.isneginf(scores[:, [1, 3, 5]]).all()
    assert (scores.argmax(axis=1) == train_y * 2).mean() > 0.95


def test_measure_by_hand_and_majority(splits):
    pool = category.pool(splits["test"], train=splits["train"], validation=splits["validation"])
    right = np.eye(3)[pool.test_y]
    perfect = category.measure(right, pool=pool, C=10.0)
    assert perfect["top1"] == {
        "value": 1.0, "low": 1.0, "high": 1.0, "n": 60, "candidates": 3, "coverage": 1.0, "unseen": 0, "C": 10.0
    }  # fmt: skip
    majority = category.measure(category.majority_scores(pool), pool=pool)
    assert majority["top1"]["value"] == pytest.approx(20 / 60)
    assert majority["top5"]["value"] == 1.0
    assert majority["macro_f1"]["value"] == pytest.approx((2 * 20 / (60 + 20)) / 3)
    assert majority["balanced_accuracy"]["value"] == pytest.approx(1 / 3)
    # Intervals are over families of six variants, not over single listings.
    single = category.measure(category.majority_scores(pool), pool=replace(pool, groups=np.arange(60)))
    width = {name: entry["top1"]["high"] - entry["top1"]["low"] for name, entry in (("s", single), ("f", majority))}
    assert width["f"] != width["s"]


def test_missing_names_the_reason(splits):
    none = replace(splits["train"], category_paths=[""] * 120)
    parts = {"train": none, "validation": splits["validation"]}
    assert "training has 0 categories" in category.missing(category.pool(splits["test"], **parts))
    parts = {"train": splits["train"], "validation": splits["validation"]}
    unseen = replace(splits["test"], category_paths=["Garden > hose"] * 60)
    assert "60 have an unseen one" in category.missing(category.pool(unseen, **parts))
    assert category.missing(category.pool(splits["test"], **parts)) == ""


def test_few_shots_draw_so_many_of_each_class_and_all_of_a_rare_one():
    labels = np.array([0] * 10 + [1] * 3)
    for shots, expected in ((1, [1, 1]), (2, [2, 2]), (8, [8, 3])):
        rows = category.few_shot_rows(labels, shots=shots, seed=(0, shots))
        assert np.bincount(labels[rows]).tolist() == expected
    draws = {tuple(category.few_shot_rows(labels, shots=2, seed=(0, draw))) for draw in range(5)}
    assert len(draws) > 1 and tuple(category.few_shot_rows(labels, shots=2, seed=(0, 0))) in draws


def test_prompts_name_the_leaf_its_parent_and_its_path():
    found = category.prompts(["Home > Kitchen > Cups", "Lamps"])
    assert found["{leaf}"] == ["Cups", "Lamps"]
    assert found["{parent} {leaf}"] == ["Kitchen Cups", "Lamps"]
    assert found["{path}"] == ["Home, Kitchen, Cups", "Lamps"]


def test_the_levels_of_a_taxonomy_are_measured_one_by_one(splits):
    pool = category.pool(splits["test"], train=splits["train"], validation=splits["validation"])
    two = replace(pool, classes=["A > ball", "A > box", "B > cup"])
    scores = np.zeros((60, 3))
    scores[:, 1] = 1.0  # always a box: right one row in three, right at the first level two in three
    measured = category.measure(scores, pool=two)
    assert measured["top1"]["value"] == pytest.approx(1 / 3)
    assert measured["top1_depth1"]["value"] == pytest.approx(2 / 3)
    assert measured["hier_f1"]["value"] == pytest.approx((2 + 1 + 0) / 6)
    assert "top1_depth2" not in measured, "the last level is top1 itself"


def test_thorough_adds_few_shots_and_fine_tuning(splits, known):
    def fine_tune(view, *, train, validation, test, num_classes):
        assert [record["id"] for record in train[0]] == [splits["train"].ids[row] for row in pool(view).train]
        assert len(validation[0]) == len(validation[1]) and num_classes == 3
        return np.eye(3)[pool(view).test_y], {"epoch": 2}

    pool = lambda view: category.pool(splits["test"], train=splits["train"], validation=splits["validation"], view=view)
    texts = {name: replace(products, vectors={"text": products.vectors["text"]}) for name, products in splits.items()}
    results = Results(products=texts["test"])
    given = {"encoder": known["encoder"], "records": known["records"], "fine_tune": fine_tune}
    category.run(Context(**texts, **given, thorough=True), results)
    tuned = results.metrics["category/text/fine_tune/top1"]
    assert (tuned["value"], tuned["epoch"]) == (1.0, 2)
    shots = [results.metrics[f"category/text/few_shot_{k}/top1"] for k in category.SHOTS]
    assert shots[-1]["value"] > shots[0]["value"] and len(shots[0]["C"]) == shots[0]["draws"] == 5
    assert "category/text/tfidf/few_shot_4/macro_f1" in results.metrics
