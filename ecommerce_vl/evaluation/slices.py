"""Slices: the main numbers again on parts of the queries, to see for whom a model works.

The invariant: a slice is a mean over the same per-query values as the number it is a part of, with an interval from its
own queries; nothing is searched or scored again. Slices are of the product that asks, and may overlap no other slice
of their dimension.
"""

from __future__ import annotations

import numpy as np

from ecommerce_vl.evaluation import bootstrap
from ecommerce_vl.evaluation.products import SEPARATOR, EmbeddedProducts
from ecommerce_vl.evaluation.results import Results
from ecommerce_vl.evaluation.tables import SLICE, describe, without_baseline

MIN_QUERIES = 5  # a slice of fewer has no interval worth reading
MOST_CATEGORIES = 12
# What is sliced of tasks whose main number is no mean over rows: the share of wrong, and of right, decisions.
_PER_ROW = {"adult": "error", "attributes": "accuracy"}
_GROUP_SIZES = ((1, 1, "1"), (2, 2, "2"), (3, 5, "3 to 5"), (6, None, "6 and more"))


def dimensions(products: EmbeddedProducts) -> dict[str, np.ndarray]:
    """Dimension -> the slice of each product, strings (N,); "" where a product is in none.

    category: first level, the 12 most frequent, and so is leaf; language; modality; group size: listings of its product
    or style here.
    """
    paths = [path.split(SEPARATOR) for path in products.category_paths]
    image, text = products.present("image"), products.present("text")
    sizes = np.bincount(products.components())[products.components()] if len(products) else np.zeros(0, int)
    return {
        "category": _frequent([path[0] for path in paths]),
        "leaf": _frequent([path[-1] for path in paths]),
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


def _frequent(names: list[str]) -> np.ndarray:
    """The names, strings (N,), with "" for all but the most frequent ones."""
    found, counts = np.unique([name for name in names if name], return_counts=True)
    kept = {*found[np.argsort(-counts, kind="stable")][:MOST_CATEGORIES]}
    return np.array([name if name in kept else "" for name in names], dtype=object)


def add(results: Results, *, seed: int = 0) -> None:
    """Adds "task/setting/…/metric/slice=dimension:value" for the main metric of every row of the model.

    Only what has per-query values of products is sliced, and a dimension of one value is left out. Leaf categories are
    of adult products alone, where some kinds (lingerie, swimwear, art) are mistaken more than others.
    """
    known = dimensions(results.products)
    components = results.products.components()
    for prefix, values in list(results.per_query.items()):
        task, *parts = prefix.split("/")
        main = next((name for name in (*describe(task)[2], _PER_ROW.get(task)) if name in values), None)
        rows = np.asarray(values.get("rows", ()), int)
        if "ids" in values:  # words ask, and no product
            continue
        if main is None or without_baseline(tuple(parts))[1] or not len(rows) or (rows < 0).any():
            continue
        if main == _PER_ROW.get(task) and f"{prefix}/{main}" not in results.metrics:  # the whole stands above its parts
            whole = _intervals({main: np.asarray(values[main], np.float64)}, groups=components[rows], seed=seed)
            shared = {"candidates": len(rows), "coverage": len(rows) / len(results.products)}
            results.add(prefix, {main: whole[main] | shared})
        for dimension, names in known.items():
            if dimension == "leaf" and task != "adult":
                continue
            present = sorted(set(names[rows]) - {""})
            for name in present if len(present) > 1 else ():
                asked = np.flatnonzero(names[rows] == name)
                column = np.asarray(values[main], np.float64)[asked]
                asked, column = asked[np.isfinite(column)], column[np.isfinite(column)]
                if len(asked) >= MIN_QUERIES:
                    one = _intervals({main: column}, groups=components[rows[asked]], seed=seed)
                    results.metrics[f"{prefix}/{main}{SLICE}{dimension}:{name}"] = one[main]


def _intervals(values: dict[str, np.ndarray], *, groups: np.ndarray, seed: int) -> dict[str, dict]:
    return {name: vars(one) for name, one in bootstrap.mean_intervals(values, groups=groups, seed=seed).items()}
