"""Slices: the main numbers again on parts of the queries, to see for whom a model works.

The invariant: a slice is a mean over the same per-query values as the number it is a part of, with an interval from its
own queries; nothing is searched or scored again. Slices are of the product that asks, and may overlap no other slice
of their dimension.
"""

from __future__ import annotations

import numpy as np

from ecommerce_vl.data.record import CATEGORY_SEPARATOR
from ecommerce_vl.evaluation import bootstrap
from ecommerce_vl.evaluation.products import EmbeddedProducts
from ecommerce_vl.evaluation.results import Results
from ecommerce_vl.evaluation.tables import SLICE, describe, without_baseline

MIN_QUERIES = 5  # a slice of fewer has no interval worth reading
MOST_CATEGORIES = 12
_GROUP_SIZES = ((1, 1, "1"), (2, 2, "2"), (3, 5, "3 to 5"), (6, None, "6 and more"))


def dimensions(products: EmbeddedProducts) -> dict[str, np.ndarray]:
    """Dimension -> the slice of each product, strings (N,); "" where a product is in none.

    category: first level, the 12 most frequent; language; modality; group size: listings of its product or style here.
    """
    first = np.array([path.split(CATEGORY_SEPARATOR)[0] for path in products.category_paths], dtype=object)
    names, counts = np.unique(first[first != ""].astype(str), return_counts=True)
    frequent = set(names[np.argsort(-counts, kind="stable")][:MOST_CATEGORIES])
    image, text = products.present("image"), products.present("text")
    sizes = np.bincount(products.components())[products.components()] if len(products) else np.zeros(0, int)
    return {
        "category": np.array([name if name in frequent else "" for name in first], dtype=object),
        "language": np.array([locale or "unknown" for locale in products.locales], dtype=object),
        "modality": np.select(
            [image & text, image, text], ["picture and title", "picture only", "title only"], default=""
        ).astype(object),
        "group size": np.select(
            [(sizes >= low) & (sizes <= (high or sizes.max(initial=1))) for low, high, _ in _GROUP_SIZES],
            [name for *_, name in _GROUP_SIZES],
            default="",
        ).astype(object),
    }


def add(results: Results, *, seed: int = 0) -> None:
    """Adds "task/setting/…/metric/slice=dimension:value" for the main metric of every row of the model.

    Only what has per-query values of products is sliced, and a dimension of one value is left out.
    """
    known = dimensions(results.products)
    components = results.products.components()
    for prefix, values in list(results.per_query.items()):
        task, *parts = prefix.split("/")
        main = next((name for name in describe(task)[2] if name in values), None)
        rows = np.asarray(values.get("rows", ()), int)
        if "ids" in values:  # words ask, and no product
            continue
        if main is None or without_baseline(tuple(parts))[1] or not len(rows) or (rows < 0).any():
            continue
        for dimension, names in known.items():
            present = sorted(set(names[rows]) - {""})
            for name in present if len(present) > 1 else ():
                asked = np.flatnonzero(names[rows] == name)
                column = np.asarray(values[main], np.float64)[asked]
                asked, column = asked[np.isfinite(column)], column[np.isfinite(column)]
                if len(asked) >= MIN_QUERIES:
                    one = bootstrap.mean_intervals({main: column}, groups=components[rows[asked]], seed=seed)[main]
                    results.metrics[f"{prefix}/{main}{SLICE}{dimension}:{name}"] = vars(one)
