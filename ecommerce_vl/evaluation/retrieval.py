"""Retrieval tasks: image to text, text to image, same product, same style.

A task is data: which view asks, which view answers, which relation makes an answer right. The invariant: the model
and every baseline of a setting are measured on the same `Pool` (the same queries, the same candidates, the same right
answers), which only the products and their missing modalities decide. The gallery is everything in the split that has
the modality; queries without a right answer in it leave the mean and show in `coverage`.
"""

from dataclasses import dataclass

import numpy as np

from ecommerce_vl.evaluation import bootstrap, metrics, search
from ecommerce_vl.evaluation.products import EmbeddedProducts

TIE_CUTOFF = 10
_CROSS_MODAL = ("hit@1", "hit@5", "hit@10", "mrr")
_RELATED = {"catalog": "the same product", "group": "variants of one style", "category": "of one leaf category"}
_OF_PRODUCT1M = ("ap_hits@10", "ar@10")  # to compare with its tables and M5Product's
SAME = ("hit@1", "hit@5", "hit@10", "hit@20", "mrr", "recall@10", "recall@100", "map_at_r", "rprec", *_OF_PRODUCT1M)


@dataclass(frozen=True)
class Setting:
    """One row of a table: `query_view` asks, `document_view` answers, `relation` says which answers are right.

    Where a product may be its own answer (its image finds its own text) `exclude_self` is False, and then a product
    always has at least that answer.
    """

    task: str
    name: str
    query_view: str
    document_view: str
    relation: str
    exclude_self: bool
    metrics: tuple[str, ...]

    @property
    def key(self) -> str:
        return f"{self.task}/{self.name}"


SETTINGS = (
    Setting("image_text", "i2t", "image", "text", "catalog", False, _CROSS_MODAL),
    Setting("image_text", "t2i", "text", "image", "catalog", False, _CROSS_MODAL),
    Setting("same_product", "image", "image", "image", "catalog", True, SAME),
    Setting("same_product", "text", "text", "text", "catalog", True, SAME),
    Setting("same_product", "product", "product", "product", "catalog", True, SAME),
    Setting("same_style", "image", "image", "image", "group", True, SAME),
    Setting("same_style", "text", "text", "text", "group", True, SAME),
    Setting("same_style", "product", "product", "product", "group", True, SAME),
)


@dataclass(frozen=True)
class Pool:
    """Who asks and who answers in one setting.

    Shapes: queries int (Q,) and documents int (M,), rows of the products; labels int (N,), equal where related;
    groups int (N,), the correlated components that intervals resample. Every query has a right answer among documents.
    """

    queries: np.ndarray
    documents: np.ndarray
    labels: np.ndarray
    groups: np.ndarray


def missing(products: EmbeddedProducts, *, setting: Setting) -> str:
    """Why `setting` cannot be measured on these products; "" when it can."""
    for view in dict.fromkeys((setting.query_view, setting.document_view)):
        if not products.present(view).any():
            return f"no product has a vector of its {view}"
    candidates = pool(products, setting=setting)
    if len(candidates.documents) < 2:
        return (
            f"only {len(candidates.documents)} product has a vector of its {setting.document_view}; ranking needs two"
        )
    if setting.exclude_self and np.bincount(np.unique(candidates.labels, return_inverse=True)[1]).max() < 2:
        return f"no two products of this split are known to be {_RELATED[setting.relation]}"
    if not len(candidates.queries) and setting.exclude_self:
        return f"no two products with a vector of their {setting.query_view} are {_RELATED[setting.relation]}"
    if not len(candidates.queries):
        return f"no product has both {setting.query_view} and {setting.document_view}"
    return ""


def pool(products: EmbeddedProducts, *, setting: Setting) -> Pool:
    """The queries, candidates and right answers of a setting."""
    labels = products.labels(setting.relation)
    queries = np.flatnonzero(products.present(setting.query_view))
    documents = np.flatnonzero(products.present(setting.document_view))
    if len(documents):
        answers = search.count_relevant(
            labels[queries],
            gallery_labels=labels[documents],
            query_ids=[products.ids[row] for row in queries],
            gallery_ids=[products.ids[row] for row in documents],
            exclude_self=setting.exclude_self,
        )
        queries = queries[answers > 0]
    return Pool(queries=queries, documents=documents, labels=labels, groups=products.components())


def rank(
    pool: Pool,
    *,
    products: EmbeddedProducts,
    setting: Setting,
    query_vectors,
    document_vectors,
) -> search.Ranking:
    """Ranks the pool by one pair of vector tables, each with N rows (dense or CSR), in the order of the products.

    The rows of the ranking are rows of `products`.
    """
    ranking = search.rank(
        query_vectors[pool.queries],
        gallery=document_vectors[pool.documents],
        query_labels=pool.labels[pool.queries],
        gallery_labels=pool.labels[pool.documents],
        query_ids=[products.ids[row] for row in pool.queries],
        gallery_ids=[products.ids[row] for row in pool.documents],
        exclude_self=setting.exclude_self,
        tie_cutoff=TIE_CUTOFF,
    )
    ranking.rows[:] = np.where(ranking.rows >= 0, pool.documents[ranking.rows], -1)
    return ranking


def per_query(ranking: search.Ranking, *, setting: Setting) -> dict[str, np.ndarray]:
    """Metric name -> float64 (Q,), the value of each query of the pool that was ranked.

    `tie_rate@10` is 1 for a query whose cut at 10 falls into a tie of a right and a wrong document.
    """
    values = metrics.by_name(ranking.relevance, num_relevant=ranking.num_relevant, names=setting.metrics)
    return {**values, f"tie_rate@{TIE_CUTOFF}": ranking.tied}


def measure(ranking: search.Ranking, *, pool: Pool, setting: Setting, seed: int = 0) -> dict[str, dict]:
    """Metric name -> {value, low, high, n, candidates, coverage, mean_relevant}; intervals over components.

    `macro_…`, of the first metric where a product is no answer of itself: the mean over groups of related products of
    their means, so that a product with a hundred listings counts as one with two.
    `coverage` is the evaluated share of all products, `mean_relevant` the mean number of right answers of a query.
    """
    values = per_query(ranking, setting=setting)
    components = pool.groups[pool.queries]
    estimates = bootstrap.mean_intervals(values, groups=components, seed=seed)
    if setting.exclude_self:
        _, first, group, sizes = np.unique(
            pool.labels[pool.queries], return_index=True, return_inverse=True, return_counts=True
        )
        main = setting.metrics[0]
        means = {f"macro_{main}": np.bincount(group, weights=values[main]) / sizes}
        estimates |= bootstrap.mean_intervals(means, groups=components[first], seed=seed)
    shared = {
        "candidates": len(pool.documents) - int(setting.exclude_self),
        "coverage": len(pool.queries) / len(pool.labels),
        "mean_relevant": float(ranking.num_relevant.mean()),
    }
    return {name: vars(estimate) | shared for name, estimate in estimates.items()}
