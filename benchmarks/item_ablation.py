"""What each objective of ITEm is worth: arms of the loss over seeds, one table (`benchmarks/ablation.py`).

    python -m benchmarks.item_ablation --data=DATA --out=RUNS --config=sample [--seeds=3] [--arms full no_gmlm …]

The arms see the same masks too; only weights of the loss are zero, and with them the work of their heads. Measured:
same-product hit@1 by picture, title and both against both, raw and without the training mean; leaf category by a
linear probe; the dominance probe.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import ecommerce_vl as vl
from benchmarks.ablation import ablate, arguments
from configs import item
from ecommerce_vl.data.prepared import PreparedData
from ecommerce_vl.evaluation import category, centred, dominance, embedding, probes, retrieval
from ecommerce_vl.evaluation.context import Context
from ecommerce_vl.evaluation.products import EmbeddedProducts
from ecommerce_vl.evaluation.results import Results

ARMS = {"full": {}} | {
    "no_" + "_".join(names): {f"weights.{name}": 0.0 for name in names}
    for names in (("gmlm", "gmim"), ("gmlm",), ("gmim",), ("mlm",), ("mim",), ("itm",))
}
METRICS = ("hit@1",)
SAME_PRODUCT = {
    f"{letter}2m": retrieval.Setting("uni_modal", f"{letter}2m", view, "product", "catalog", True, METRICS)
    for letter, view in (("m", "product"), ("i", "image"), ("t", "text"))
}
DOMINANCE = {
    "drop i": "drop_img",
    "drop t": "drop_txt",
    "domin.": "dominance",
    "shift i": "shift_img",
    "shift t": "shift_txt",
}


def measure(workdir: Path, data: Path, split: str) -> dict[str, float]:
    """Column -> value; NaN for what the data does not allow. Without catalogs, item groups stand for products."""
    encoder, prepared = vl.load(workdir), PreparedData(data)
    silent = lambda done, total: None
    splits = {
        name: embedding.embed(encoder, prepared.records(name), progress=silent)
        for name in dict.fromkeys((split, "train", "validation"))
    }
    products = splits[split]
    if retrieval.missing(products, setting=SAME_PRODUCT["m2m"]):
        products = dataclasses.replace(products, catalog_keys=products.group_keys)
    context = Context(test=products, train=splits["train"], validation=splits["validation"], encoder=encoder)
    results = Results(products=products)
    dominance.run(context, results)
    centred.run(context, results)
    value = lambda key: results.metrics.get(key, {}).get("value", float("nan"))
    return {
        **{column: means(products, setting)["hit@1"] for column, setting in SAME_PRODUCT.items()},
        **{f"{column} c": value(f"centred/{column}/hit@1") for column in SAME_PRODUCT},
        **{name: leaf_accuracy(context, view) for name, view in (("leaf", "product"), ("leaf i", "image"))},
        **{column: value(f"dominance/product/{key}") for column, key in DOMINANCE.items()},
    }


def means(products: EmbeddedProducts, setting: retrieval.Setting) -> dict[str, float]:
    """Metric -> its mean over the queries."""
    if retrieval.missing(products, setting=setting):
        return dict.fromkeys(setting.metrics, float("nan"))
    pool = retrieval.pool(products, setting=setting)
    asked, answering = products.vectors[setting.query_view], products.vectors[setting.document_view]
    ranking = retrieval.rank(pool, products=products, setting=setting, query_vectors=asked, document_vectors=answering)
    values = retrieval.per_query(ranking, setting=setting)
    return {metric: float(values[metric].mean()) for metric in setting.metrics}


def leaf_accuracy(context: Context, view: str) -> float:
    """Of a linear probe, over the test products whose leaf category training saw."""
    splits = {"train": context.train, "validation": context.validation}
    pool = category.pool(context.test, **splits, view=view)
    if category.missing(pool):
        return float("nan")
    features = lambda products, rows: products.vectors[view][rows]
    scores, _ = probes.linear_scores(
        features(context.test, pool.test),
        train=features(context.train, pool.train),
        train_y=pool.train_y,
        validation=features(context.validation, pool.validation),
        validation_y=pool.validation_y,
        num_classes=len(pool.classes),
    )
    return float((scores.argmax(axis=1) == pool.test_y).mean())


if __name__ == "__main__":
    ablate(arguments(__doc__, arms=ARMS).parse_args(), get_config=item.get_config, arms=ARMS, measure=measure)
