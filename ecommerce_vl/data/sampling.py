"""Which product stands at each position of the training stream, as a pure function of (seed, position).

Step t reads the positions [t B, (t+1) B). Invariants: nothing is remembered from one position to the next, so any step
can be asked for at once, by any process; a pair of listings never straddles two batches.

The natural order shows every product once an epoch. The weighted order for e-CLIP (not the paper's, ours) draws a share
of the rows as two listings of one catalog, a share as neighbours of one leaf category, which are hard negatives of each
other, and the leaf category c of the others by n_c^power.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import grain
import numpy as np

from ecommerce_vl.data.fraction import GOLDEN

Order = Sequence[int]  # position -> row; endless, so it has no useful length
COLUMNS = ("catalog_key", "category_key")


def natural_order(num_rows: int, *, seed: int) -> Order:
    """Every row once an epoch, in a new order each time."""
    return grain.MapDataset.range(num_rows).seed(seed).shuffle().repeat(None)


def training_order(
    keys: Mapping[str, np.ndarray],
    *,
    batch_size: int,
    seed: int,
    catalog_pairs: float,
    category_power: float,
    same_category_fraction: float = 0.0,
) -> Order:
    """The natural order where all options are off (0, 1 and 0), else the weighted one.

    Args:
      keys: `catalog_key` and `category_key`, int64 (N,), of the rows to draw from; negative is unknown. With
        `seller_key` (N,), the two listings of a pair are of different sellers where their catalog has several.
      batch_size: of the global batch, into which pairs are fitted.
      seed: of the order.
      catalog_pairs: share of rows that are drawn two and two, different listings of one catalog.
      category_power: a category of n products is drawn by n^power; 0 draws all alike.
      same_category_fraction: share of rows that are drawn as neighbours of one category.

    Errors: ValueError that begins with the key of the config.
    """
    options = {
        "catalog_pairs": catalog_pairs,
        "category_power": category_power,
        "same_category_fraction": same_category_fraction,
    }
    for name, value in options.items():
        if not 0.0 <= value <= 1.0:
            raise ValueError(f"data.{name} is {value}; expected 0 to 1")
    if catalog_pairs + same_category_fraction > 1.0:
        raise ValueError(
            f"data.same_category_fraction is {same_category_fraction} and data.catalog_pairs {catalog_pairs}; expected "
            "a sum of at most 1"
        )
    if options == {"catalog_pairs": 0.0, "category_power": 1.0, "same_category_fraction": 0.0}:
        return natural_order(len(keys["catalog_key"]), seed=seed)
    return WeightedOrder(**keys, batch_size=batch_size, seed=seed, **options)


def keys_of(
    index: Mapping[str, np.ndarray], positions: np.ndarray, *, names: Sequence[str] = COLUMNS
) -> dict[str, np.ndarray]:
    """Columns of the records at these positions of their split, from the split's index columns in any order."""
    row_of_position = np.argsort(index["position"])
    return {name: index[name][row_of_position[positions]] for name in names}


class Deck:
    """Members drawn by the share of their group, as evenly as the shares allow.

    The groups lie on a line one after the other, each as long as its share and divided among its members. One pass over
    a deck of M members takes M evenly spaced points of the line, in an order that is permuted anew for each pass. So a
    group gets its share of a pass to within one draw, and a member comes as often as its fellows to within one. From
    pass to pass the points move by a part of their distance, so that others come of a group drawn less than its size.

    Args:
      group_M: int, the group of each member, from 0.
      share_G: float, of each group; their sum is 1.
      seed: of the permutations.
    """

    def __init__(self, group_M: np.ndarray, share_G: np.ndarray, *, seed: int):
        self._member_M = np.argsort(group_M, kind="stable").astype(np.int32)
        size_G = np.bincount(group_M, minlength=len(share_G))
        self._first_G, self._size_G = (np.cumsum(size_G) - size_G).tolist(), size_G.tolist()
        self._share_G, self._end_G = share_G.tolist(), np.cumsum(share_G).tolist()
        self._last = int(np.flatnonzero(share_G)[-1])  # rounding must not reach a group without a share
        self._points = natural_order(len(group_M), seed=seed)

    def __len__(self) -> int:
        return len(self._member_M)

    def __getitem__(self, position: int) -> int:
        cycle = position // len(self)
        point = (int(self._points[position]) + cycle * GOLDEN % 1) / len(self)
        group = min(bisect.bisect_right(self._end_G, point), self._last)
        size, share = self._size_G[group], self._share_G[group]
        inside = 1 - (self._end_G[group] - point) / share
        return int(self._member_M[self._first_G[group] + min(max(int(inside * size), 0), size - 1)])


class Neighbours:
    """Rows of a step that mostly are of one category: a window of the rows, which lie on a line category by category.

    Every pass over the line is cut anew, and its windows come in a new order, so that other rows meet.

    Args:
      category_N: int, of each row; negative counts as one.
      size: rows of a window, at most N.
      seed: of the line and of the order.
    """

    def __init__(self, category_N: np.ndarray, *, size: int, seed: int):
        count = len(category_N)
        self._size, self._seed, self._num_windows = size, seed, -(-count // size)
        shuffled = np.random.default_rng((seed, 0)).permutation(count).astype(np.int32)
        self._line = shuffled[np.argsort(np.maximum(category_N, -1)[shuffled], kind="stable")]
        self._windows = natural_order(self._num_windows, seed=seed)
        self._last = (-1, 0)

    def row(self, step: int, place: int) -> int:
        """The row at a place (from 0, below `size`) of a step."""
        known, first = self._last  # a step is asked for row by row, and a shuffle of few windows is slow
        if known != step:
            cut = np.random.default_rng((self._seed, 1, step // self._num_windows)).integers(len(self._line))
            first = int(self._windows[step]) * self._size + int(cut)
            self._last = (step, first)  # as a whole, since several threads read
        return int(self._line[(first + place) % len(self._line)])


class WeightedOrder:
    """Pairs first, then neighbours, then single rows, in every batch; arguments as for `training_order`.

    Single rows make up for the categories that have no catalogs, and for neighbours, which come by the size of their
    category, so that the histogram of all rows follows n^power as long as no category is worth less than its share of
    pairs and neighbours. Rows without a category count as one.

    A product may come twice in a batch: as a listing of a pair and a single row, or where its category is so small
    that its weight is more than one draw. Its catalog key then makes the two rows positives of each other.
    """

    def __init__(
        self,
        catalog_key: np.ndarray,
        category_key: np.ndarray,
        *,
        batch_size: int,
        seed: int,
        catalog_pairs: float,
        category_power: float,
        same_category_fraction: float = 0.0,
        seller_key: np.ndarray | None = None,
    ):
        self._batch_size = batch_size
        self._num_pairs = int(catalog_pairs * batch_size / 2)
        self._num_alike = min(int(same_category_fraction * batch_size), len(category_key))
        if self._num_alike:
            self._alike = Neighbours(category_key, size=self._num_alike, seed=seed)
        _, category_N = np.unique(np.maximum(category_key, -1), return_inverse=True)
        size_C = np.bincount(category_N).astype(float)
        share_C = size_C**category_power / (size_C**category_power).sum()
        drawn_C = self._num_alike / batch_size * size_C / size_C.sum()
        others_C = share_C  # of singles, where all of them is taken by pairs and neighbours
        if catalog_pairs:
            self._listings = Listings.of(catalog_key, np.zeros_like(catalog_key) if seller_key is None else seller_key)
            _check_pairs(catalog_pairs, self._num_pairs, len(self._listings.first_K), batch_size=batch_size)
            category_K = category_N[self._listings.row_L[self._listings.first_K]]
            paired_C = np.where(np.bincount(category_K, minlength=len(share_C)) > 0, share_C, 0.0)
            paired_C /= paired_C.sum()
            self._catalogs = Deck(category_K, paired_C, seed=seed)
            drawn_C, others_C = drawn_C + 2 * self._num_pairs / batch_size * paired_C, paired_C
        if drawn_C.any():
            left_C = np.maximum(share_C - drawn_C, 0.0)
            # Where every category has catalogs and all rows are pairs, nothing is left for the singles to make up.
            share_C = left_C / left_C.sum() if left_C.sum() > 1e-9 else others_C
        self._singles = Deck(category_N, share_C, seed=seed)

    def __getitem__(self, position: int) -> int:
        step, place = divmod(position, self._batch_size)
        pair, side = divmod(place, 2)
        if pair < self._num_pairs:
            return self._listing(step * self._num_pairs + pair, side)
        place -= 2 * self._num_pairs
        if place < self._num_alike:
            return self._alike.row(step, place)
        num_singles = self._batch_size - 2 * self._num_pairs - self._num_alike
        return self._singles[step * num_singles + place - self._num_alike]

    def _listing(self, pair: int, side: int) -> int:
        """One of the two listings of a pair; pass after pass, a large catalog comes with all its pairs of listings."""
        catalog = self._catalogs[pair]
        return self._listings.row(catalog, pair // len(self._catalogs), side)


class Listings(NamedTuple):
    """The L listings of the K catalogs that have two or more, catalog by catalog and there seller by seller.

    Args:
      row_L: int32, of each listing.
      begin_L, end_L: where the listings of its seller begin and end within its catalog.
      first_K, size_K: the first listing of each catalog, and their number.
    """

    row_L: np.ndarray
    begin_L: np.ndarray
    end_L: np.ndarray
    first_K: np.ndarray
    size_K: np.ndarray

    @classmethod
    def of(cls, catalog_key_N: np.ndarray, seller_key_N: np.ndarray) -> Listings:
        """Those of rows with these keys; a negative catalog is none."""
        known_L = np.flatnonzero(catalog_key_N >= 0)
        _, catalog_L, size = np.unique(catalog_key_N[known_L], return_inverse=True, return_counts=True)
        paired_L = size[catalog_L] > 1
        row_L, catalog_L = known_L[paired_L], catalog_L[paired_L]
        order = np.lexsort((seller_key_N[row_L], catalog_L))  # stable
        row_L, catalog_L = row_L[order], catalog_L[order]
        size_K = size[size > 1]
        first_K = np.cumsum(size_K) - size_K
        seller_L = seller_key_N[row_L]
        starts = np.flatnonzero(np.append(True, (np.diff(catalog_L) != 0) | (np.diff(seller_L) != 0))[: len(row_L)])
        lengths = np.diff(np.append(starts, len(row_L)))
        begin_L = np.repeat(starts, lengths) - np.repeat(first_K, size_K)
        return cls(row_L.astype(np.int32), begin_L, begin_L + np.repeat(lengths, lengths), first_K, size_K)

    def row(self, catalog: int, cycle: int, side: int) -> int:
        """The left (0) or right (1) listing of a catalog the `cycle`-th time that it is drawn."""
        first, size = int(self.first_K[catalog]), int(self.size_K[catalog])
        place = cycle % size
        if side:
            begin, end = int(self.begin_L[first + place]), int(self.end_L[first + place])
            others = size - (end - begin)
            place = end + cycle // size % others if others else place + 1 + cycle // size % (size - 1)
        return int(self.row_L[first + place % size])


def _check_pairs(catalog_pairs: float, num_pairs: int, num_catalogs: int, *, batch_size: int) -> None:
    if num_pairs == 0:
        raise ValueError(
            f"data.catalog_pairs is {catalog_pairs}, less than one pair in a batch of {batch_size}; "
            f"expected at least {2 / batch_size:.3g}, or 0 for none"
        )
    if num_pairs > num_catalogs:
        raise ValueError(
            f"data.catalog_pairs is {catalog_pairs}, {num_pairs:,} pairs in a batch of {batch_size:,}, but only "
            f"{num_catalogs:,} catalogs of the data have two listings; "
            f"expected at most {np.floor(2000 * num_catalogs / batch_size) / 1000:g}"
        )
