"""Heads against ridge regressions of scikit-learn; what may and may not influence a choice."""

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from sklearn.linear_model import Ridge

from ecommerce_vl.evaluation import probes

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize(("rows", "dimension"), [(60, 12), (20, 50)])
@pytest.mark.parametrize("sparse", [False, True])
def test_heads_are_ridge_regressions_whichever_side_is_solved(rows, dimension, sparse):
    train = RANDOM.normal(size=(rows, dimension)) * (RANDOM.random((rows, dimension)) < 0.5)
    test = RANDOM.normal(size=(7, dimension))
    targets = RANDOM.random((rows, 3)) < 0.3
    wrap = csr_matrix if sparse else np.float32
    (scores,), strength = probes.head_scores(
        wrap(train), targets_NxV=targets, validation=wrap(test[:0]), quality=None, rows=(wrap(test),), seed=0
    )
    assert strength == 0.01
    scaled_train, scaled_test = (train, test) if sparse else probes.scaled(train, test)
    reference = Ridge(alpha=0.01 * rows, fit_intercept=False).fit(scaled_train, targets - targets.mean(axis=0))
    np.testing.assert_allclose(scores, reference.predict(scaled_test) + targets.mean(axis=0), atol=2e-5)


def test_heads_take_the_strength_that_validation_prefers_and_the_strongest_of_equals():
    train, targets = RANDOM.normal(size=(40, 30)), RANDOM.random((40, 1)) < 0.5
    fit = {"targets_NxV": targets, "validation": train, "rows": (train,), "seed": 0}
    error = lambda scores: -float(((scores - targets) ** 2).mean())
    assert probes.head_scores(train, quality=error, **fit)[1] == probes.RIDGE_GRID[-1]
    assert probes.head_scores(train, quality=lambda scores: -error(scores), **fit)[1] == probes.RIDGE_GRID[0]
    assert probes.head_scores(train, quality=lambda scores: 0.0, **fit)[1] == probes.RIDGE_GRID[0]


def test_heads_of_many_rows_and_features_learn_from_a_seeded_draw(monkeypatch):
    train, targets = RANDOM.normal(size=(40, 30)), RANDOM.random((40, 2)) < 0.5
    fit = {"targets_NxV": targets, "validation": train[:0], "quality": None, "rows": (train,)}
    whole = probes.head_scores(train, seed=1, **fit)[0][0]
    monkeypatch.setattr(probes, "_MAX_SOLVED", 20)
    drawn = [probes.head_scores(train, seed=seed, **fit)[0][0] for seed in (1, 1, 2)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert not np.allclose(drawn[0], whole) and not np.allclose(drawn[0], drawn[2])


WORDS = {"cup": [1.0, 0.0], "ball": [0.0, 1.0], "a photo of cup": [0.0, 1.0], "a photo of ball": [1.0, 0.0]}


def embed(texts):
    return np.array([WORDS.get(text, [np.nan, np.nan]) for text in texts], np.float32)


def test_zero_shot_takes_the_prompt_that_validation_prefers():
    prompts = {"{}": ["cup", "ball"], "a photo of {}": ["a photo of cup", "a photo of ball"]}
    rows = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]], np.float32)
    for truth, expected in (([0, 1, 1], "{}"), ([1, 0, 0], "a photo of {}")):
        quality = lambda scores, truth=truth: float((scores.argmax(axis=1) == truth).mean())
        (scores,), prompt = probes.zero_shot(embed, prompts, validation=rows, quality=quality, rows=(rows,))
        assert prompt == expected
        np.testing.assert_array_equal(scores.argmax(axis=1), truth)
    (scores,), prompt = probes.zero_shot(embed, prompts, validation=rows[:0], quality=None, rows=(rows,))
    assert prompt == probes.ENSEMBLE
    np.testing.assert_allclose(scores, rows @ np.full((2, 2), np.sqrt(0.5)), atol=1e-6)


def test_words_without_a_vector_score_nothing_and_sparse_rows_score_alike():
    rows = np.array([[0.6, 0.8]], np.float32)
    for table in (rows, csr_matrix(rows)):
        (scores,), _ = probes.zero_shot(
            embed, {"{}": ["cup", "lamp"]}, validation=rows[:0], quality=None, rows=(table,)
        )
        np.testing.assert_allclose(scores, [[0.6, 0.0]], atol=1e-6)
