"""Same-product retrieval after the training mean is taken off: what a narrow cone of vectors hides.

Vectors that were trained without a contrastive term may all lie in one direction, so that cosines are near 1 and small
differences decide. The invariant: each view loses its own mean over the train split, queries and documents alike, and
is scaled to unit length again; the queries, candidates and right answers are those of the raw vectors.
"""

import numpy as np

from ecommerce_vl.evaluation import retrieval
from ecommerce_vl.evaluation.context import Context
from ecommerce_vl.evaluation.products import EmbeddedProducts
from ecommerce_vl.evaluation.results import Results

METRICS = ("hit@1", "hit@5", "hit@10", "mrr")
# Pictures, titles and both ask; both answer.
SETTINGS = tuple(
    retrieval.Setting("centred", f"{letter}2m", view, "product", "catalog", True, METRICS)
    for letter, view in (("i", "image"), ("t", "text"), ("m", "product"))
)


def run(context: Context, results: Results) -> None:
    """Adds `centred/{i2m,t2m,m2m}/…`, each with `cone`: the norm of the training mean of the view that asks."""
    for setting in SETTINGS:
        reason = retrieval.missing(context.test, setting=setting)
        for view in (setting.query_view, setting.document_view):
            if not context.train.present(view).any():
                reason = reason or f"no product of the train split has a vector of its {view}, so there is no mean"
        if reason:
            results.skip(setting.key, reason)
            continue
        pool = retrieval.pool(context.test, setting=setting)
        ranking = retrieval.rank(
            pool,
            products=context.test,
            setting=setting,
            query_vectors=centre(context.test, train=context.train, view=setting.query_view),
            document_vectors=centre(context.test, train=context.train, view=setting.document_view),
        )
        measured = retrieval.measure(ranking, pool=pool, setting=setting, seed=context.seed)
        cone = float(np.linalg.norm(train_mean(context.train, view=setting.query_view)))
        results.add(setting.key, {name: entry | {"cone": cone} for name, entry in measured.items()})


def train_mean(train: EmbeddedProducts, *, view: str) -> np.ndarray:
    """The mean vector (d,) float64 of the products that have the view; its norm is 1 if all are equal."""
    return train.vectors[view][train.present(view)].astype(np.float64).mean(axis=0)


def centre(products: EmbeddedProducts, *, train: EmbeddedProducts, view: str) -> np.ndarray:
    """Unit vectors (N,d) float32 without the training mean; NaN where a product lacks the view."""
    rows = products.vectors[view] - train_mean(train, view=view)
    return (rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12)).astype(np.float32)
