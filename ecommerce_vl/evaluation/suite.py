"""The whole evaluation: every task that the data allows, the model beside its baselines.

The invariant: keys are task/setting/[baseline/][probe/]metric, a baseline has the same pool, candidates and intervals
as the model's row above it, and whatever cannot be measured is named in `skipped` with its reason, so that a number
is never silently absent. The validation split chooses, the test split is only measured.
"""

from collections.abc import Callable, Sequence

import numpy as np
from scipy.sparse import issparse

from ecommerce_vl.evaluation import baselines, category, examples, retrieval
from ecommerce_vl.evaluation.products import VIEWS, EmbeddedProducts
from ecommerce_vl.evaluation.results import Results

BASELINES = ("random", "tfidf", "colour_histogram", "majority")
# Shown, not measured, where the data relates no two listings: a nearest product of the same leaf counts as right.
SAME_LEAF = retrieval.Setting("category", "product", "product", "product", "category", True, ())
_CONTENT = {"text": "tfidf", "image": "colour_histogram"}
_MODEL = ""


def run(
    test: EmbeddedProducts,
    *,
    train: EmbeddedProducts,
    validation: EmbeddedProducts,
    seed: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> Results:
    """Measures all tasks on `test`; `train` gives neighbours and probes, `validation` their choices.

    `progress(done, total, name)` is called before each setting and once at the end. Same inputs and seed, same results.
    Memory: a block of scores at a time, and the relevance of up to 1,000 answers per query.
    """
    progress = progress or _silent
    results = Results(products=test)
    splits = (test, train, validation)
    colours = [baselines.colour_vectors(products.images) for products in splits]
    total = len(retrieval.SETTINGS) + len(VIEWS)
    for done, setting in enumerate(retrieval.SETTINGS):
        progress(done, total, setting.key)
        _measure_retrieval(results, setting=setting, colours=colours[0], seed=seed)
    for done, view in enumerate(VIEWS, start=len(retrieval.SETTINGS)):
        progress(done, total, f"category/{view}")
        _measure_category(results, splits=splits, view=view, colours=colours, seed=seed)
    everyone = category.pool(test, train=train, validation=validation)
    if not category.missing(everyone):
        scores = category.majority_scores(everyone)
        results.add("category/majority", category.measure(scores, pool=everyone, seed=seed))
    if not any(key.startswith("same_") for key in results.grids) and not retrieval.missing(test, setting=SAME_LEAF):
        _show_same_leaf(results, seed=seed)
    progress(total, total, "done")
    return results


def _measure_retrieval(results: Results, *, setting: retrieval.Setting, colours: np.ndarray, seed: int) -> None:
    products = results.products
    reason = retrieval.missing(products, setting=setting)
    if reason:
        results.skipped[setting.key] = reason
        return
    pool = retrieval.pool(products, setting=setting)
    for method, (queries, documents) in _retrieval_tables(
        products, setting=setting, colours=colours, seed=seed
    ).items():
        prefix = f"{setting.key}/{method}".rstrip("/")
        holes = max(_holes(queries, pool.queries), _holes(documents, pool.documents))
        if holes:
            results.skipped[prefix] = _no_picture(holes)
            continue
        ranking = retrieval.rank(
            pool, products=products, setting=setting, query_vectors=queries, document_vectors=documents
        )
        results.add(prefix, retrieval.measure(ranking, pool=pool, setting=setting, seed=seed))
        if method == _MODEL and setting.key in examples.SHOWN:
            results.grids[setting.key] = examples.grid(
                ranking, products=products, pool=pool, setting=setting, seed=seed
            )


def _measure_category(
    results: Results, *, splits: Sequence[EmbeddedProducts], view: str, colours: Sequence[np.ndarray], seed: int
) -> None:
    test, train, validation = splits
    pool = category.pool(test, train=train, validation=validation, view=view)
    reason = category.missing(pool)
    if reason:
        results.skipped[f"category/{view}"] = reason
        return
    rows = (pool.test, pool.train, pool.validation)
    for method, tables in _category_tables(splits, view=view, colours=colours, fitted_rows=pool.train).items():
        prefix = f"category/{view}/{method}".rstrip("/")
        holes = sum(_holes(table, chosen) for table, chosen in zip(tables, rows, strict=True))
        if holes:
            results.skipped[prefix] = _no_picture(holes)
            continue
        features = [table[chosen] for table, chosen in zip(tables, rows, strict=True)]
        scores, strength = category.linear_scores(
            features[0],
            train=features[1],
            train_y=pool.train_y,
            validation=features[2],
            validation_y=pool.validation_y,
            num_classes=len(pool.classes),
        )
        results.add(f"{prefix}/linear", category.measure(scores, pool=pool, seed=seed, C=strength))
        if method == _MODEL:
            votes = category.knn_votes(
                features[0],
                gallery=features[1],
                gallery_y=pool.train_y,
                gallery_ids=[train.ids[row] for row in pool.train],
                num_classes=len(pool.classes),
            )
            results.add(f"{prefix}/knn", category.measure(votes, pool=pool, seed=seed))


def _show_same_leaf(results: Results, *, seed: int) -> None:
    products = results.products
    pool = retrieval.pool(products, setting=SAME_LEAF)
    vectors = products.vectors["product"]
    ranking = retrieval.rank(
        pool, products=products, setting=SAME_LEAF, query_vectors=vectors, document_vectors=vectors
    )
    results.grids[SAME_LEAF.key] = examples.grid(ranking, products=products, pool=pool, setting=SAME_LEAF, seed=seed)


def _retrieval_tables(
    products: EmbeddedProducts, *, setting: retrieval.Setting, colours: np.ndarray, seed: int
) -> dict[str, tuple]:
    """Method -> (query vectors, document vectors), N rows each; the model's is named ""."""
    random = baselines.random_vectors(2 * len(products), seed=seed)
    queries, documents = random[: len(products)], random[len(products) :]
    tables = {
        _MODEL: (products.vectors[setting.query_view], products.vectors[setting.document_view]),
        "random": (queries, queries if setting.query_view == setting.document_view else documents),
    }
    if setting.query_view == setting.document_view == "text":
        words = baselines.tfidf_vectors(products.titles, fitted_on=products.titles)
        tables[_CONTENT["text"]] = (words, words)
    if setting.query_view == setting.document_view == "image":
        tables[_CONTENT["image"]] = (colours, colours)
    return tables


def _category_tables(
    splits: Sequence[EmbeddedProducts], *, view: str, colours: Sequence[np.ndarray], fitted_rows: np.ndarray
) -> dict[str, list]:
    """Method -> feature tables of test, train and validation; the model's is named ""."""
    tables = {_MODEL: [products.vectors.get(view, np.empty((len(products), 0))) for products in splits]}
    if view == "text":
        titles = [splits[1].titles[row] for row in fitted_rows]
        tables[_CONTENT[view]] = [baselines.tfidf_vectors(part.titles, fitted_on=titles) for part in splits]
    if view == "image":
        tables[_CONTENT[view]] = list(colours)
    return tables


def _holes(table, rows: np.ndarray) -> int:
    """How many of `rows` a baseline has no vector for."""
    return 0 if issparse(table) else int((~np.isfinite(table[rows]).all(axis=1)).sum())


def _no_picture(holes: int) -> str:
    return f"pictures missing or unreadable: {holes} of products with an image vector; the pools would differ"


def _silent(done: int, total: int, name: str) -> None:
    """The progress of a caller who wants none."""
