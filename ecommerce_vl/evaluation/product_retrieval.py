"""Products find products: every setting of `retrieval.SETTINGS`, the model beside its baselines on one pool.

The invariant: a baseline that lacks the vector of a product that the model has is left out by name, so that every row
of a table has the same queries and candidates.
"""

import dataclasses

import numpy as np

from ecommerce_vl.evaluation import examples, retrieval
from ecommerce_vl.evaluation.context import MODEL, Context
from ecommerce_vl.evaluation.figures import Curve
from ecommerce_vl.evaluation.results import Results

# Shown, not measured, where the data relates no two listings: a nearest product of the same leaf counts as right.
SAME_LEAF = retrieval.Setting("category", "product", "product", "product", "category", True, ())
GALLERY_SIZES = (1_000, 10_000, 100_000, 1_000_000)


def run(context: Context, results: Results, *, task: str) -> None:
    """`image_text`, `same_product` or `same_style`, as far as the products have both views and relations."""
    for setting in (setting for setting in retrieval.SETTINGS if setting.task == task):
        if reason := retrieval.missing(context.test, setting=setting):
            results.skip(setting.key, reason)
        else:
            pool = retrieval.pool(context.test, setting=setting)
            measure(context, results, setting=setting, pool=pool)
            if setting.exclude_self and setting.document_view == "product":
                _measure_sizes(context, results, setting=setting)
    relations = [setting for setting in retrieval.SETTINGS if setting.exclude_self]
    related = any(not retrieval.missing(context.test, setting=setting) for setting in relations)
    if task == "same_style" and not related and not retrieval.missing(context.test, setting=SAME_LEAF):
        _show(context, results, setting=SAME_LEAF)


def measure(context: Context, results: Results, *, setting: retrieval.Setting, pool: retrieval.Pool) -> None:
    """Notes the numbers of every method on one pool, and of the model the value of each query and some examples."""
    for method in context.methods(setting.query_view):
        if setting.query_view != setting.document_view and not context.crosses(method):
            continue
        prefix = f"{setting.key}/{method}".rstrip("/")
        needed = ("test", setting.query_view, pool.queries), ("test", setting.document_view, pool.documents)
        if reason := context.lacks(method, *needed):
            results.skip(prefix, reason)
            continue
        ranking = _rank(context, method=method, pool=pool, setting=setting)
        results.add(prefix, retrieval.measure(ranking, pool=pool, setting=setting, seed=context.seed))
        if method == MODEL:
            results.per_query[prefix] = {**retrieval.per_query(ranking, setting=setting), "rows": pool.queries}
        if method == MODEL and setting.key in examples.SHOWN:
            _show(context, results, setting=setting, pool=pool, ranking=ranking)


def _measure_sizes(context: Context, results: Results, *, setting: retrieval.Setting) -> None:
    """`…/gallery=N/hit@10`: the same queries among ever more products of all splits, which answer none of them.

    Queries are drawn of the measured products until their answers fill half of the smallest gallery; nothing is
    measured on fewer products. `distractors` is the share of a gallery that is of other splits.
    """
    products, view = context.everything(), setting.document_view
    pool = retrieval.pool(products, setting=setting)
    sizes = [size for size in GALLERY_SIZES if size < len(pool.documents)]
    if not sizes:
        return
    random = np.random.default_rng(context.seed)
    order = random.permutation(pool.queries[pool.queries < len(context.test)])
    labels = pool.labels[pool.documents]
    _, first, members = np.unique(labels, return_index=True, return_counts=True)
    members_of = dict(zip(labels[first].tolist(), members.tolist(), strict=True))
    drawn, seen, answers = [], set(), 0
    for row in order.tolist():
        label = int(pool.labels[row])
        answers += 0 if label in seen else members_of[label]
        if answers > sizes[0] // 2:
            break
        seen.add(label)
        drawn.append(row)
    if not drawn:
        return
    related = np.isin(labels, pool.labels[drawn])
    others = random.permutation(pool.documents[~related])
    points = []
    for size in [*sizes, len(pool.documents)]:
        documents = np.sort(np.concatenate([pool.documents[related], others[: size - int(related.sum())]]))
        part = dataclasses.replace(pool, queries=np.sort(drawn), documents=documents)
        vectors = {"query_vectors": products.vectors[setting.query_view], "document_vectors": products.vectors[view]}
        ranking = retrieval.rank(part, products=products, setting=setting, **vectors)
        found = retrieval.measure(ranking, pool=part, setting=setting, seed=context.seed)["hit@10"]
        others_share = float((documents >= len(context.test)).mean())
        shared = {"coverage": len(drawn) / len(context.test), "distractors": others_share}
        results.add(f"{setting.key}/gallery={size}", {"hit@10": found | shared})
        points.append((float(size), found["value"], found["low"], found["high"]))
    results.figures[f"{setting.key}/gallery"] = Curve(
        x_label="products in the gallery", y_label="hit@10", series={"hit@10": tuple(points)}, log_x=True
    )


def _rank(context: Context, *, method: str, pool: retrieval.Pool, setting: retrieval.Setting):
    return retrieval.rank(
        pool,
        products=context.test,
        setting=setting,
        query_vectors=context.features(method, "test", view=setting.query_view, fitted_on="test"),
        document_vectors=context.features(method, "test", view=setting.document_view, fitted_on="test"),
    )


def _show(context: Context, results: Results, *, setting: retrieval.Setting, pool=None, ranking=None) -> None:
    pool = pool or retrieval.pool(context.test, setting=setting)
    ranking = ranking or _rank(context, method=MODEL, pool=pool, setting=setting)
    results.grids[setting.key] = examples.grid(
        ranking, products=context.test, pool=pool, setting=setting, seed=context.seed
    )
