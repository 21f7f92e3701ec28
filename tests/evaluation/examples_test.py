"""The rule by which examples are chosen."""

import numpy as np

from ecommerce_vl.evaluation import examples, retrieval, search


def grid_of(splits, vectors, key="image_text/i2t"):
    products = splits["test"]
    setting = next(setting for setting in retrieval.SETTINGS if setting.key == key)
    pool = retrieval.pool(products, setting=setting)
    ranking = retrieval.rank(pool, products=products, setting=setting, query_vectors=vectors, document_vectors=vectors)
    return examples.grid(ranking, products=products, pool=pool, setting=setting, seed=0), pool, ranking


def test_half_right_half_wrong_and_the_mistakes_are_the_surest(splits):
    vectors = splits["test"].vectors["product"] + 0.3 * np.random.default_rng(0).normal(size=(60, 16))
    grid, pool, ranking = grid_of(splits, vectors, key="same_product/product")
    right = [one for one in grid.examples if one.right]
    wrong = [one for one in grid.examples if not one.right]
    assert len(right) == len(wrong) == examples.PER_SIDE
    assert isinstance(ranking, search.Ranking)
    surest = max(ranking.scores[~ranking.relevance[:, 0], 0])
    assert wrong[0].neighbours[0].score == surest
    shelves = {splits["test"].category_paths[one.query] for one in wrong[:3]}
    assert len(shelves) == 3, "one per category before a second of any"
    for one in wrong:
        assert splits["test"].catalog_keys[one.answer_row] == splits["test"].catalog_keys[one.query]
        assert one.answer_row != one.query
        place = pool.queries.tolist().index(one.query)
        assert ranking.relevance[place, one.answer_rank - 1]
        assert not ranking.relevance[place, : one.answer_rank - 1].any()


def test_a_perfect_ranking_has_no_wrong_half(splits):
    grid, _, _ = grid_of(splits, np.eye(60)[splits["test"].catalog_keys])
    assert len(grid.examples) == examples.PER_SIDE
    for one in grid.examples:
        assert one.right and one.answer_row == -1
        keys = splits["test"].catalog_keys
        assert keys[one.neighbours[0].row] == keys[one.query]
        assert [near.right for near in one.neighbours].count(True) <= 2
