"""Any modality to any other: nine directions between pictures, titles and both, a mixed pool, and the gap between them.

The invariant: all directions have the same queries, candidates and right answers (other listings of the same product,
never the query itself, among products with picture and title), so their numbers differ by modality alone.
"""

from itertools import product

import numpy as np

from ecommerce_vl.evaluation import bootstrap, metrics, product_retrieval, retrieval, search
from ecommerce_vl.evaluation.context import MODEL, Context
from ecommerce_vl.evaluation.products import VIEWS, EmbeddedProducts
from ecommerce_vl.evaluation.results import Results

_LETTERS = {"image": "i", "text": "t", "product": "m"}
DIRECTIONS = tuple(
    retrieval.Setting("cross_modal", f"{_LETTERS[a]}2{_LETTERS[b]}", a, b, "catalog", True, retrieval.SAME)
    for a, b in product(VIEWS, VIEWS)
)
MIXED_DEPTH = 10
UNIFORMITY_ROWS = 1000  # a pairwise mean; more rows cost their square and move it little


def run(context: Context, results: Results) -> None:
    """`cross_modal/{i,t,m}2{i,t,m}`, `/mixed_…` and `/gap`, where products have pictures and titles."""
    both = np.flatnonzero(context.test.present("image") & context.test.present("text"))
    if len(both) < 2:
        results.skip("cross_modal", f"{len(both)} products of this split have vectors of picture and title; two needed")
        return
    pool = _pool(context.test, both)
    if len(pool.queries):
        for setting in DIRECTIONS:
            product_retrieval.measure(context, results, setting=setting, pool=pool)
        for view in VIEWS:
            _measure_mixed(context, results, view=view, pool=pool)
    else:
        results.skip("cross_modal", "no two products with picture and title are known to be the same product")
    results.add("cross_modal/gap", _gap(context.test, both, seed=context.seed))
    if len(pool.queries):
        results.add("cross_modal/gap", _asymmetry(results, pool=pool, seed=context.seed))


def _pool(products: EmbeddedProducts, both: np.ndarray) -> retrieval.Pool:
    labels = products.labels("catalog")
    related = np.bincount(np.unique(labels[both], return_inverse=True)[1])
    queries = both[related[np.unique(labels[both], return_inverse=True)[1]] > 1]
    return retrieval.Pool(queries=queries, documents=both, labels=labels, groups=products.components())


def _measure_mixed(context: Context, results: Results, *, view: str, pool: retrieval.Pool) -> None:
    """Every document is drawn to be a picture, a title or both, once for all methods and queries."""
    drawn = np.random.default_rng(context.seed).integers(0, len(VIEWS), len(context.test))
    names = [context.test.ids[row] for row in pool.queries]
    ids = [context.test.ids[row] for row in pool.documents]
    for method in context.methods(view):
        if not context.crosses(method):
            continue
        tables = [context.features(method, "test", view=name, fitted_on="test") for name in VIEWS]
        prefix = f"cross_modal/mixed_{view}/{method}".rstrip("/")
        if reason := context.lacks(method, *(("test", name, pool.documents) for name in VIEWS)):
            results.skip(prefix, reason)
            continue
        ranking = search.rank(
            tables[VIEWS.index(view)][pool.queries],
            gallery=np.choose(drawn[pool.documents][:, None], [table[pool.documents] for table in tables]),
            query_labels=pool.labels[pool.queries],
            gallery_labels=pool.labels[pool.documents],
            query_ids=names,
            gallery_ids=ids,
            exclude_self=True,
            depth=MIXED_DEPTH,
        )
        top, returned = ranking.rows[:, :MIXED_DEPTH], (ranking.rows[:, :MIXED_DEPTH] >= 0).sum(axis=1)
        values = {"hit@10": metrics.hit(ranking.relevance, k=MIXED_DEPTH)}
        for number, name in enumerate(VIEWS):
            of_kind = (drawn[pool.documents][top] == number) & (top >= 0)
            values[f"share_{name}@10"] = of_kind.sum(axis=1) / returned
        estimates = bootstrap.mean_intervals(values, groups=pool.groups[pool.queries], seed=context.seed)
        shared = {"candidates": len(ids) - 1, "coverage": len(names) / len(context.test)}
        rates = {f"share_{name}@10": float((drawn[pool.documents] == n).mean()) for n, name in enumerate(VIEWS)}
        base = {name: {"base_rate": rates[name]} if name in rates else {} for name in values}
        results.add(prefix, {name: vars(found) | shared | base[name] for name, found in estimates.items()})
        if method == MODEL:
            results.per_query[prefix] = {**values, "rows": pool.queries}


def _gap(products: EmbeddedProducts, both: np.ndarray, *, seed: int) -> dict[str, dict]:
    """How pictures and titles lie to each other (Wang and Isola, 2020; Liang et al., 2022).

    `alignment`: mean squared distance of a product's picture and title, with its interval. Without one, as resampling
    shifts them: `distance`, norm of the difference of the mean vectors; `uniformity_…`, log of the mean of
    exp(-2 squared distance) over the pairs of 1,000 drawn products.
    """
    image, text = (products.vectors[view][both].astype(np.float64) for view in ("image", "text"))
    apart = {"alignment": ((image - text) ** 2).sum(axis=1)}
    alignment = bootstrap.mean_intervals(apart, groups=products.components()[both], seed=seed)["alignment"]
    drawn = np.sort(np.random.default_rng(seed).permutation(len(both))[:UNIFORMITY_ROWS])
    plain = {
        "distance": float(np.linalg.norm((image - text).mean(axis=0))),
        "uniformity_image": _uniformity(image[drawn]),
        "uniformity_text": _uniformity(text[drawn]),
    }
    shared = {"candidates": len(both), "coverage": len(both) / len(products)}
    found = {name: {"value": value, "low": None, "high": None, "n": len(both)} for name, value in plain.items()}
    return {name: entry | shared for name, entry in (found | {"alignment": vars(alignment)}).items()}


def _uniformity(rows: np.ndarray) -> float:
    near = np.exp(-2.0 * np.maximum(0.0, 2.0 - 2.0 * rows @ rows.T))
    return float(np.log((near.sum() - np.trace(near)) / (len(rows) * (len(rows) - 1))))


def _asymmetry(results: Results, *, pool: retrieval.Pool, seed: int) -> dict[str, dict]:
    """`asymmetry`: |recall@10 of titles asking pictures - of pictures asking titles|, of the same queries."""
    sides = [results.per_query[f"cross_modal/{name}"]["recall@10"] for name in ("t2i", "i2t")]
    statistic = lambda weights: {"asymmetry": np.abs(weights @ (sides[0] - sides[1]) / weights.sum(axis=1))}
    estimates = bootstrap.intervals(statistic, groups=pool.groups[pool.queries], seed=seed)
    shared = {"candidates": len(pool.documents) - 1, "coverage": len(pool.queries) / len(pool.labels)}
    return {name: vars(found) | shared for name, found in estimates.items()}
