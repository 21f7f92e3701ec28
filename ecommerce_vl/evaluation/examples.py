"""Examples for the eye: queries with their nearest products, right ones and wrong ones.

A table says how often a model is right, a picture says in which way it is wrong. The invariant: examples are chosen
by rule and seed, never by hand: the right ones at random, the wrong ones as the mistakes made with the highest score,
at most one per leaf category while there are others, so that neither half shows one shelf only.
"""

import numpy as np

from ecommerce_vl.evaluation import retrieval, search
from ecommerce_vl.evaluation.figures import Example, Grid, Neighbour
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
_TITLES = {
    "image_text/t2i": ("Words in, pictures out", "A product's title asks; the nearest pictures answer."),
    "image_text/i2t": (
        "Picture in, titles out",
        "A picture asks; the nearest titles answer (their pictures beside them).",
    ),
    "same_product/product": ("Other listings of the same product", "Picture and title together ask."),
    "same_style/product": ("Variants of the same style", "Picture and title together ask."),
    "category/product": ("The nearest products", "Picture and title together ask."),
}


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
    title, question = _TITLES.get(setting.key, (setting.key, ""))
    return Grid(
        title=title,
        question=question,
        right_means=RIGHT_MEANS[setting.task],
        query_view=setting.query_view,
        document_view=setting.document_view,
        examples=examples,
    )


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
