"""The products under evaluation: what is known about each of them, and their vectors.

Everything in this room reads an `EmbeddedProducts` and nothing else, so a number can be measured for any model that
gives vectors, and nothing here knows how they were trained. The invariant: all columns have one entry per product in
the same order, ids are unique, and a vector is either a unit row or a row of NaN (the product lacks that modality).
A missing modality is never a zero vector.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

Attribute = str | float | bool | list[str]
VIEWS = ("image", "text", "product")
SEPARATOR = " > "  # of the levels of a category path
RELATIONS = ("catalog", "group", "category")
_LISTS = ("ids", "titles", "category_paths", "locales", "adult", "images", "brands", "attributes")
_ARRAYS = ("catalog_keys", "group_keys", "prices")


@dataclass(frozen=True)
class EmbeddedProducts:
    """N products with their labels, pictures and vectors.

    Shapes: every list has N entries; `catalog_keys` and `group_keys` are int (N,); `vectors[view]` is float32 (N, d)
    with unit L2 rows, NaN rows where the product lacks the modality. A view may be left out altogether. So may the
    columns with a default: then they are unknown for all products.
    Invariants: a negative key means "unknown", and an unknown key relates a product to nothing but itself.
    Errors: ValueError naming the column for a wrong length, a repeated id, an unknown view or a row that is not unit.
    """

    ids: list[str]
    titles: list[str]
    category_paths: list[str]  # "A > B > C", or "" when unknown
    catalog_keys: np.ndarray  # same product, offered by any seller
    group_keys: np.ndarray  # same style: the variants of one item group
    locales: list[str]
    adult: list[str]  # yes | no | unknown
    images: list[bytes | None]  # encoded main picture
    vectors: dict[str, np.ndarray]
    brands: list[str] = field(default_factory=list)  # "" when unknown
    attributes: list[dict[str, Attribute]] = field(default_factory=list)  # name -> value with its type; absent: unknown
    prices: np.ndarray | None = None  # float (N,), NaN when unknown, in the currency of the feed

    def __post_init__(self):
        blanks = {
            "brands": [""] * len(self.ids),
            "attributes": [{} for _ in self.ids],
            "prices": np.full(len(self.ids), np.nan),
        }
        for name, blank in blanks.items():
            if getattr(self, name) is None or not len(getattr(self, name)):
                object.__setattr__(self, name, blank)
        columns = {name: len(getattr(self, name)) for name in (*_LISTS[1:], *_ARRAYS)}
        columns |= {f"vectors[{view}]": len(rows) for view, rows in self.vectors.items()}
        wrong = {name: size for name, size in columns.items() if size != len(self.ids)}
        if wrong:
            raise ValueError(f"columns of another length than the {len(self.ids)} ids: {wrong}; give one per product")
        if len(set(self.ids)) != len(self.ids):
            repeated = [name for name, count in Counter(self.ids).most_common(3) if count > 1]
            raise ValueError(f"product ids are repeated, for example {repeated}; self-matches are removed by id")
        for view, rows in self.vectors.items():
            if view not in VIEWS:
                raise ValueError(f"unknown view {view!r}; expected one of {VIEWS}")
            norms = np.linalg.norm(rows, axis=1)
            off = np.flatnonzero(np.isfinite(norms) & (np.abs(norms - 1.0) > 1e-3))
            if len(off):
                raise ValueError(
                    f"vectors[{view}] has {len(off)} rows that are not unit vectors (first: {self.ids[off[0]]!r}, "
                    f"norm {norms[off[0]]:.4f}); normalise them, and mark a missing modality with NaN"
                )

    def __len__(self) -> int:
        return len(self.ids)

    def present(self, view: str) -> np.ndarray:
        """Bool (N,): which products have a vector in `view`; all False when the view was not given."""
        if view not in self.vectors:
            return np.zeros(len(self), bool)
        return np.isfinite(self.vectors[view]).all(axis=1)

    def take(self, rows: Sequence[int] | np.ndarray) -> "EmbeddedProducts":
        """The products at `rows` (int or bool index), in that order."""
        rows = np.asarray(rows)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
        return EmbeddedProducts(
            **{name: [getattr(self, name)[row] for row in rows] for name in _LISTS},
            **{name: np.asarray(getattr(self, name))[rows] for name in _ARRAYS},
            vectors={view: vectors[rows] for view, vectors in self.vectors.items()},
        )

    @classmethod
    def joined(cls, parts: Sequence["EmbeddedProducts"]) -> "EmbeddedProducts":
        """The products of several splits of one catalog, in their order, with the views that all of them have."""
        views = [view for view in VIEWS if all(view in part.vectors for part in parts)]
        return cls(
            **{name: [value for part in parts for value in getattr(part, name)] for name in _LISTS},
            **{name: np.concatenate([getattr(part, name) for part in parts]) for name in _ARRAYS},
            vectors={view: np.concatenate([part.vectors[view] for part in parts]) for view in views},
        )

    def labels(self, relation: str) -> np.ndarray:
        """Int64 (N,): equal exactly where two products are related by `relation`; every unknown has its own label."""
        if relation not in RELATIONS:
            raise ValueError(f"unknown relation {relation!r}; expected one of {RELATIONS}")
        if relation == "category":
            known = np.array([bool(path) for path in self.category_paths], bool)
            keys = np.unique(np.array(self.category_paths, dtype=object).astype(str), return_inverse=True)[1]
        else:
            keys = np.asarray(self.catalog_keys if relation == "catalog" else self.group_keys)
            known = keys >= 0
        _, dense = np.unique(keys, return_inverse=True)
        return np.where(known, dense, len(self) + np.arange(len(self))).astype(np.int64)

    def components(self) -> np.ndarray:
        """Int (N,): the connected component of each product under same product and same style together.

        Listings of one component are correlated, so intervals resample components and never single listings.
        """
        count = len(self)
        labels = [self.labels(relation) + 2 * count * index for index, relation in enumerate(("catalog", "group"))]
        _, nodes = np.unique(np.concatenate(labels), return_inverse=True)
        rows = np.concatenate([np.arange(count), np.arange(count)])
        size = count + (nodes.max() + 1 if count else 0)
        graph = coo_matrix((np.ones(len(rows), np.int8), (rows, count + nodes)), shape=(size, size))
        return connected_components(graph, directed=False)[1][:count]
