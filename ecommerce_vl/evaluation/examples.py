"""Examples for the eye: queries with their nearest products, right ones and wrong ones.

A table says how often a model is right, a picture says in which way it is wrong. The invariant: examples are chosen
by rule and seed, never by hand: the right ones at random, the wrong ones as the mistakes made with the highest score,
at most one per leaf category while there are others, so that neither half shows one shelf only.
"""

from dataclasses import dataclass

import numpy as np

from ecommerce_vl.evaluation import retrieval, search
from ecommerce_vl.evaluation.products import EmbeddedProducts

PER_SIDE = 5  # examples right, and as many wrong
NEIGHBOURS = 6
SHOWN = ("image_text/t2i", "image_text/i2t", "same_product/product", "same_style/product", "category/product")
RIGHT_MEANS = {
    "image_text": "the same product, or another listing of it",
    "same_product": "another listing of the same product",
    "same_style": "another variant of the same style",
    "category": "a product of the same leaf category (no two listings of this split are known to be one product)",
}


@dataclass(frozen=True)
class Neighbour:
    """One answer: the row of the product, its score (cosine), and whether it is right."""

    row: int
    score: float
    right: bool


@dataclass(frozen=True)
class Example:
    """One query with its nearest products; `answer_row` and `answer_rank` are set when the first one is wrong.

    `answer_rank` is 0 when no right answer is among the ranked depth, `answer_row` -1 when any of many would do.
    """

    query: int
    neighbours: tuple[Neighbour, ...]
    right: bool
    answer_row: int
    answer_rank: int


@dataclass(frozen=True)
class Grid:
    """The examples of one setting, and the sentence that says what counts as right."""

    setting: retrieval.Setting
    right_means: str
    examples: tuple[Example, ...]


def grid(
    ranking: search.Ranking,
    *,
    products: EmbeddedProducts,
    pool: retrieval.Pool,
    setting: retrieval.Setting,
    seed: int,
) -> Grid:
    """Up to five right and five wrong queries of a ranking over `pool`."""
    right = ranking.relevance[:, 0]
    at_random = np.random.default_rng(seed).permutation(np.flatnonzero(right))
    wrong = np.flatnonzero(~right)
    by_score = wrong[np.argsort(-ranking.scores[wrong, 0], kind="stable")]
    chosen = [
        place
        for candidates in (at_random, by_score)
        for place in _spread(candidates, [products.category_paths[row] for row in pool.queries[candidates]])
    ]
    examples = tuple(_example(ranking, place=place, products=products, pool=pool, setting=setting) for place in chosen)
    return Grid(setting=setting, right_means=RIGHT_MEANS[setting.task], examples=examples)


def _example(
    ranking: search.Ranking,
    *,
    place: int,
    products: EmbeddedProducts,
    pool: retrieval.Pool,
    setting: retrieval.Setting,
) -> Example:
    query, relevance = int(pool.queries[place]), ranking.relevance[place]
    neighbours = tuple(
        Neighbour(int(row), float(score), bool(right))
        for row, score, right in zip(
            ranking.rows[place, :NEIGHBOURS], ranking.scores[place], relevance[:NEIGHBOURS], strict=False
        )
        if row >= 0
    )
    answers = pool.documents[pool.labels[pool.documents] == pool.labels[query]]
    if setting.exclude_self:
        answers = answers[answers != query]
    elif query in answers:
        answers = np.array([query])
    wanted = not relevance[0]
    return Example(
        query=query,
        neighbours=neighbours,
        right=bool(relevance[0]),
        answer_row=int(answers[0]) if wanted and setting.relation != "category" else -1,
        answer_rank=int(relevance.argmax()) + 1 if wanted and relevance.any() else 0,
    )


def _spread(candidates: np.ndarray, shelves: list[str]) -> list[int]:
    """The first candidates in order, one per shelf as long as new shelves come, then the rest."""
    seen, first, rest = set(), [], []
    for place, shelf in zip(candidates.tolist(), shelves, strict=True):
        (rest if shelf in seen else first).append(place)
        seen.add(shelf)
    return (first + rest)[:PER_SIDE]
