"""Mismatched products: rows whose picture or text is that of another product of the global batch (ITEm, 2311.02084).

    stream ── base order ──> rows of a step ── keys ──> (row of the picture, row of the text) ── records ──> one record

Invariant: which rows are mismatched, and with what, is a function of (seed, step) and of the keys of the step's rows
alone; so every process finds the same without asking the others, and reads the partner's record itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ecommerce_vl.data.sampling import Order
from ecommerce_vl.data.shards import KEYS

COLUMNS = ("product_key", "catalog_key", "category_key", "has_image", "has_text")
TRIES = 16  # draws of a partner; a category that is nearly all one product may find none
STREAM = 1  # tells these draws from those of augmentation, which have (seed, position) alone
REMEMBERED = 4  # steps, since several threads read ahead


class Mixed(NamedTuple):
    """What one position of the stream reads: rows of the records.

    Args:
      row: whose keys the result has.
      image_row, text_row: whose picture and whose text; one of them is `row`.
      is_hard: the other one is of the same leaf category.
    """

    row: int
    image_row: int
    text_row: int
    is_hard: bool


class MismatchedOrder(Sequence):
    """Position of the stream -> `Mixed`.

    Args:
      order: position -> row, without mismatches.
      keys: `COLUMNS` (N,) of the rows.
      batch_size: partners lie within [t batch_size, (t+1) batch_size); a larger batch of a schedule holds several such.
      seed: of the draws.
      share: probability that a row with a picture and a text is mismatched; in the picture or the text alike.
      same_category: share of them whose partner is of the same leaf category; where there is none, any other product.
    """

    def __init__(
        self,
        order: Order,
        keys: Mapping[str, np.ndarray],
        *,
        batch_size: int,
        seed: int,
        share: float,
        same_category: float,
    ):
        self._order, self._batch_size, self._seed = order, batch_size, seed
        self._keys = {name: np.asarray(keys[name]) for name in COLUMNS}
        self._share, self._same_category = share, same_category
        self._steps: dict[int, list[Mixed]] = {}

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, position: int) -> Mixed:
        step, place = divmod(position, self._batch_size)
        mixed = self._steps.get(step)
        if mixed is None:
            mixed = self._mix(step)
            # Replaced as a whole: of two threads that come at once, one merely works in vain.
            self._steps = dict(list(self._steps.items())[1 - REMEMBERED :]) | {step: mixed}
        return mixed[place]

    def _mix(self, step: int) -> list[Mixed]:
        begin = step * self._batch_size
        row_B = np.array([self._order[at] for at in range(begin, begin + self._batch_size)])
        keys = {name: column[row_B] for name, column in self._keys.items()}
        rng = np.random.default_rng((self._seed, begin, STREAM))
        partner_B, image_B, hard_B = draw_partners(keys, rng=rng, share=self._share, same_category=self._same_category)
        other_B = row_B[partner_B]
        image_row_B = np.where(image_B, other_B, row_B)
        text_row_B = np.where(image_B, row_B, other_B)
        columns = (row_B.tolist(), image_row_B.tolist(), text_row_B.tolist(), hard_B.tolist())
        return [Mixed(*values) for values in zip(*columns, strict=True)]


class MixedRecords(Sequence):
    """Records by `Mixed`: the row's keys, the picture of one record and the text of another; picklable.

    Beside the fields of a record it has `matched` and `hard_mismatch` (bool).
    """

    def __init__(self, records: Sequence[Mapping[str, Any]]):
        self._records = records

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, mixed: Mixed) -> dict[str, Any]:
        record = self._records[mixed.row]
        matched = mixed.image_row == mixed.text_row
        flags = {"matched": matched, "hard_mismatch": mixed.is_hard}
        if matched:
            return record | flags
        other = self._records[mixed.image_row if mixed.text_row == mixed.row else mixed.text_row]
        shown, read = (other, record) if mixed.text_row == mixed.row else (record, other)
        return read | {"images": shown["images"]} | {name: record[name] for name in KEYS} | flags


def draw_partners(
    keys: Mapping[str, np.ndarray], *, rng: np.random.Generator, share: float, same_category: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which rows of a batch get whose picture or text.

    A partner has another product key and another catalog key, and the part that it gives; unknown categories (negative)
    are no category. Each row draws `TRIES` times and takes the first that will do: first in its category, where it is
    to be of the same, then anywhere; a row that finds none stays matched.

    Args:
      keys: `COLUMNS` (B,) of the batch.

    Returns: partner int (B,), the row itself where it is matched; bool (B,), the picture is replaced rather than the
      text; bool (B,), mismatched with a partner of the same category.
    """
    B = len(keys["product_key"])
    own_B = np.arange(B)
    mismatched_B = (rng.random(B) < share) & keys["has_image"] & keys["has_text"]
    image_B, hard_B = rng.random(B) < 0.5, rng.random(B) < same_category
    category_B = keys["category_key"]
    by_category = np.argsort(category_B, kind="stable")
    first_B = np.searchsorted(category_B[by_category], category_B, side="left")
    size_B = np.searchsorted(category_B[by_category], category_B, side="right") - first_B
    near_BxT = by_category[first_B[:, None] + (rng.random((B, TRIES)) * size_B[:, None]).astype(int)]
    far_BxT = rng.integers(0, B, (B, TRIES))
    in_category_B = mismatched_B & hard_B & (category_B >= 0)

    def first_fitting(tries_BxT, wanted_B):
        fits_BxT = np.where(image_B[:, None], keys["has_image"][tries_BxT], keys["has_text"][tries_BxT])
        for name in ("product_key", "catalog_key"):
            fits_BxT &= keys[name][tries_BxT] != keys[name][:, None]
        found_B = fits_BxT.any(axis=1) & wanted_B
        return np.where(found_B, tries_BxT[own_B, fits_BxT.argmax(axis=1)], own_B)

    near_B = first_fitting(near_BxT, in_category_B)
    far_B = first_fitting(far_BxT, mismatched_B)
    partner_B = np.where(near_B != own_B, near_B, far_B)
    same_leaf_B = (category_B >= 0) & (category_B == category_B[partner_B])
    return partner_B, image_B & (partner_B != own_B), same_leaf_B & (partner_B != own_B)
