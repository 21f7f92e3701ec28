"""Pairs of listings of one split: those known to be one product, and those that are not.

The invariant: pairs depend on the products, their relations and the seed alone, so every method of a table is asked the
same ones. A negative is a pair without a known relation; where the feed does not say what a listing is, it may be
wrong, and `unknown` is the share of such negatives.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ecommerce_vl.evaluation.products import EmbeddedProducts

NEGATIVES = 4  # a positive
MAX_POSITIVES = 5_000
MAX_MEMBERS = 20  # listings of one product that pairs are made of
PRICE_BAND = 1.5  # the dearer of two alike costs at most so many times the cheaper


@dataclass(frozen=True)
class Pairs:
    """Shapes: left and right int (P,), rows of the products; match bool (P,); unknown: share of unsure negatives."""

    left: np.ndarray
    right: np.ndarray
    match: np.ndarray
    unknown: float


def draw(products: EmbeddedProducts, *, view: str, seed: int) -> dict[str, Pairs]:
    """Two sets over the same positives: "random_pairs", and "hard_pairs" of one brand, leaf category and price band.

    Where a listing has too few products of its brand and price, its category alone gives hard negatives; a set
    without a negative, or without a positive, is left out.
    """
    random = np.random.default_rng(seed)
    rows = np.flatnonzero(products.present(view))
    labels = products.labels("catalog")
    positive = _positives(rows, labels, random)
    if not len(positive):
        return {}
    anchors = np.repeat(positive[:, 0], NEGATIVES)
    partners = random.choice(rows, len(anchors))
    easy = np.stack([anchors, partners], axis=1)[labels[anchors] != labels[partners]]
    hard = _hard(products, rows, labels, positive[:, 0], random)
    sets = {"random_pairs": easy, "hard_pairs": hard}
    return {name: _pairs(products, positive, negative) for name, negative in sets.items() if len(negative)}


def _positives(rows: np.ndarray, labels: np.ndarray, random: np.random.Generator) -> np.ndarray:
    order = rows[np.argsort(labels[rows], kind="stable")]
    found = [
        pair
        for members in np.split(order, np.flatnonzero(np.diff(labels[order])) + 1)
        for pair in combinations(random.permutation(members)[:MAX_MEMBERS], 2)
    ]
    drawn = random.permutation(len(found))[:MAX_POSITIVES]
    return np.array(found, np.int64).reshape(-1, 2)[np.sort(drawn)]


def _hard(products, rows, labels, anchors, random) -> np.ndarray:
    shelves: dict[tuple, list[int]] = {}
    for row in rows:
        if products.category_paths[row]:
            shelves.setdefault((products.category_paths[row],), []).append(row)
            shelves.setdefault((products.category_paths[row], products.brands[row]), []).append(row)
    shelves = {key: np.array(members) for key, members in shelves.items()}
    found = set()
    for row in anchors:
        path, brand = products.category_paths[row], products.brands[row]
        same_brand = shelves.get((path, brand), np.empty(0, int)) if brand else np.empty(0, int)
        ratio = np.abs(np.log(products.prices[same_brand] / products.prices[row])) if len(same_brand) else np.empty(0)
        alike = same_brand[~(ratio > np.log(PRICE_BAND))]  # an unknown price excludes nothing
        for tier in (alike, same_brand, shelves.get((path,), np.empty(0, int))):
            tier = tier[labels[tier] != labels[row]]
            if len(tier):
                found |= {(row, other) for other in random.permutation(tier)[:NEGATIVES]}
                break
    return np.array(sorted(found), np.int64).reshape(-1, 2)


def _pairs(products: EmbeddedProducts, positive: np.ndarray, negative: np.ndarray) -> Pairs:
    both = np.concatenate([positive, negative])
    unsure = np.asarray(products.catalog_keys)[negative].min(axis=1) < 0
    return Pairs(both[:, 0], both[:, 1], np.arange(len(both)) < len(positive), float(unsure.mean()))
