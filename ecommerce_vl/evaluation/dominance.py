"""The modality-dominance probe: does a product's vector say what its picture shows, what its title says, or both?

In each query one modality is replaced by that of another product of the same leaf category, and the query asks for its
own product as before. With v' and t' the other picture and the other title, R@1 of same-product retrieval:

    drop_img  = R@1(t, v) - R@1(t, v')            shift_img = 1 - mean cos(u(t, v), u(t, v'))
    drop_txt  = R@1(t, v) - R@1(t', v)            shift_txt the same with t'
    dominance = drop_txt / (drop_txt + drop_img)  of drops clipped at 0; 1 is words alone, 0 picture alone

The invariant: the gallery, the queries and the donors are the same for both replacements, and a donor is never a
listing of the query's product. A model can retrieve well at a dominance near 1: it then ignores the picture.
"""

import numpy as np

from ecommerce_vl.evaluation import bootstrap, retrieval
from ecommerce_vl.evaluation.context import Context
from ecommerce_vl.evaluation.products import EmbeddedProducts
from ecommerce_vl.evaluation.results import Results

SETTING = retrieval.Setting("dominance", "product", "product", "product", "catalog", True, ("hit@1",))
FLOOR = 1e-9  # of the sum of drops; where neither modality matters, dominance is 0


def run(context: Context, results: Results) -> None:
    """Adds `dominance/product/{drop_img,drop_txt,dominance,shift_img,shift_txt,hit@1}`."""
    products = context.test
    if context.encoder is None:
        results.skip(SETTING.key, "only vectors are known; mixing pictures and titles needs the encoder")
        return
    reason = retrieval.missing(products, setting=SETTING)
    if reason:
        results.skip(SETTING.key, reason)
        return
    pool = retrieval.pool(products, setting=SETTING)
    donors = draw_donors(products, pool.queries, seed=context.seed)
    queries, donors = pool.queries[donors >= 0], donors[donors >= 0]
    if not len(queries):
        results.skip(
            SETTING.key,
            "no product with a picture, a title and another listing has a different product of its leaf category, "
            "with both, to take a picture and a title from",
        )
        return
    pool = retrieval.Pool(queries=queries, documents=pool.documents, labels=pool.labels, groups=pool.groups)
    vectors = products.vectors["product"]
    mixed = {
        "img": _embed(context, queries, titles=queries, pictures=donors),
        "txt": _embed(context, queries, titles=donors, pictures=queries),
    }
    hit = _hits(products, pool, vectors[queries])
    columns = {"hit@1": hit}
    for name, rows in mixed.items():
        columns[f"drop_{name}"] = hit - _hits(products, pool, rows)
        columns[f"shift_{name}"] = 1.0 - (rows.astype(np.float64) * vectors[queries]).sum(axis=1)

    def statistic(weights_SxQ: np.ndarray) -> dict[str, np.ndarray]:
        means = {name: weights_SxQ @ column / weights_SxQ.sum(axis=1) for name, column in columns.items()}
        img, txt = (np.maximum(means[f"drop_{name}"], 0.0) for name in ("img", "txt"))
        return means | {"dominance": txt / np.maximum(txt + img, FLOOR)}

    estimates = bootstrap.intervals(statistic, groups=pool.groups[queries], seed=context.seed)
    shared = {"candidates": len(pool.documents) - 1, "coverage": len(queries) / len(products)}
    results.add(SETTING.key, {name: vars(estimate) | shared for name, estimate in estimates.items()})


def draw_donors(products: EmbeddedProducts, queries: np.ndarray, *, seed: int) -> np.ndarray:
    """For each query the row of another product of its leaf category, drawn evenly; -1 where there is none.

    Query and donor both have a picture and a title.
    """
    both = products.present("image") & products.present("text")
    leaf, catalog = products.labels("category"), products.labels("catalog")
    rng = np.random.default_rng(seed)
    donors = np.full(len(queries), -1)
    for place, row in enumerate(queries):
        others = np.flatnonzero(both & (leaf == leaf[row]) & (catalog != catalog[row]))
        if both[row] and len(others):
            donors[place] = rng.choice(others)
    return donors


def _embed(context: Context, queries: np.ndarray, *, titles: np.ndarray, pictures: np.ndarray) -> np.ndarray:
    """The queries with the title and the picture of other rows; what is not mixed, such as an id, stays their own."""
    products = context.test
    records = [
        {"id": products.ids[row], "title": products.titles[title], "images": [products.images[picture]]}
        for row, title, picture in zip(queries, titles, pictures, strict=True)
    ]
    return context.encoder.embed_products(records)


def _hits(products: EmbeddedProducts, pool: retrieval.Pool, vectors: np.ndarray) -> np.ndarray:
    """Float64 (Q,): whether the nearest other listing is of the query's product, if the queries have these vectors."""
    documents = products.vectors["product"]
    asking = documents.copy()
    asking[pool.queries] = vectors
    ranking = retrieval.rank(pool, products=products, setting=SETTING, query_vectors=asking, document_vectors=documents)
    return ranking.relevance[:, 0].astype(np.float64)
