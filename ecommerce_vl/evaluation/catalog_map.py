"""The map: the catalog on a plane, near where its vectors are near, coloured by category.

The invariant: the layout is a function of vectors and seed (principal components, then t-SNE from them), on one thread.
It is for the eye: distances between far groups say nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.decomposition import PCA
from sklearn.manifold import TSNE
from threadpoolctl import threadpool_limits

from ecommerce_vl.evaluation.products import SEPARATOR, EmbeddedProducts

MOST_POINTS = 1500
MOST_COLOURS = 10
MOST_PICTURES = 90
_FEWEST_POINTS = 10
_COMPONENTS = 30


@dataclass(frozen=True)
class Map:
    """rows: int (P,) of the products; points: float64 (P, 2) in [0, 1]; names: first levels with a colour of their
    own, the most frequent first; colours: int (P,), place in `names`, -1 for the rest; pictured: places of `rows`.
    """

    rows: np.ndarray
    points: np.ndarray
    names: tuple[str, ...]
    colours: np.ndarray
    pictured: np.ndarray


def make(products: EmbeddedProducts, *, view: str = "product", seed: int = 0) -> Map | None:
    """The map of at most 1,500 products, drawn by `seed`; None where there are too few for one."""
    rows = np.flatnonzero(products.present(view))
    rows = np.sort(np.random.default_rng(seed).permutation(rows)[:MOST_POINTS])
    if len(rows) < _FEWEST_POINTS:
        return None
    vectors = products.vectors[view][rows].astype(np.float64)
    with threadpool_limits(1):
        near = PCA(min(_COMPONENTS, *vectors.shape), svd_solver="full", random_state=seed).fit_transform(vectors)
        perplexity = min(30.0, (len(rows) - 1) / 3)
        points = TSNE(perplexity=perplexity, init="pca", random_state=seed, n_jobs=1).fit_transform(near)
    points = points.astype(np.float64) - points.min(axis=0)
    points /= points.max(axis=0)
    categories = [products.category_paths[row].split(SEPARATOR) for row in rows]
    # One tree under one root, as in a shop of one department: the second level tells more.
    depth = 1 if len({path[0] for path in categories}) == 1 else 0
    level = np.array([(path[depth:] or path)[0] for path in categories])
    names, counts = np.unique(level[level != ""], return_counts=True)
    names = tuple(names[np.argsort(-counts, kind="stable")][:MOST_COLOURS].tolist())
    place = {name: number for number, name in enumerate(names)}
    shown = np.array([products.images[row] is not None and products.adult[row] != "yes" for row in rows], bool)
    return Map(
        rows=rows,
        points=points,
        names=names,
        colours=np.array([place.get(name, -1) for name in level], int),
        pictured=_spread(points, shown),
    )


def _spread(points: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Places of points that lie apart: the first of each cell of a grid."""
    side = int(np.sqrt(MOST_PICTURES * 1.6))
    cells = np.minimum((points * side).astype(int), side - 1) @ [side, 1]
    candidates = np.flatnonzero(shown)
    _, first = np.unique(cells[candidates], return_index=True)
    return np.sort(candidates[first])[:MOST_PICTURES]
