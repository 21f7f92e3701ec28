"""Train, validation and test without leakage: whole connected components go to one side.

Products are joined when they share a catalog id, an item group, or a guarded gtin; a component is assigned by a hash
of its own key and the seed. Invariant: adding unrelated products moves nobody. A feed's own split is honoured row by
row, and the components that it tears apart are counted.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from ecommerce_vl.data.record import SPLITS, Product

MAX_SHARED = 200  # a key on more products than this is a shop-wide default, not an identity


def valid_gtin(text: str) -> bool:
    """Whether a string is a GTIN-8, -12, -13 or -14 with a correct check digit that is not reserved or a filler."""
    if not (text.isascii() and text.isdigit()) or len(text) not in (8, 12, 13, 14) or len(set(text)) == 1:
        return False
    payload, check = text[:-1], int(text[-1])
    weighted = sum(int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(payload)))
    restricted = text.zfill(14)[1:].startswith(("02", "04", "05", "2", "98", "99"))
    return check == -weighted % 10 and not restricted


def identity_keys(product: Product) -> list[tuple[str, str]]:
    """The (kind, value) pairs that tie a listing to others of its product or its item group."""
    keys = [("catalog_id", product.catalog_id), ("item_group_id", product.item_group_id)]
    if valid_gtin(product.gtin):
        keys.append(("gtin", f"{product.gtin.zfill(14)} {product.brand.lower()}"))
    return [(kind, value) for kind, value in keys if value]


def components(keys_of_row: Sequence[Iterable[tuple[str, str]]]) -> list[int]:
    """The connected component of every row, named by its first row; rows are joined by equal keys.

    Keys shared by more than `MAX_SHARED` rows are ignored.
    """
    rows_of_key: dict[tuple[str, str], list[int]] = defaultdict(list)
    for row, keys in enumerate(keys_of_row):
        for key in keys:
            rows_of_key[key].append(row)
    parent = list(range(len(keys_of_row)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for rows in rows_of_key.values():
        if len(rows) <= MAX_SHARED:
            for row in rows[1:]:
                low, high = sorted((root(rows[0]), root(row)))
                parent[high] = low
    return [root(row) for row in range(len(keys_of_row))]


def assign_splits(
    ids: Sequence[str],
    given: Sequence[str],
    component: Sequence[int],
    *,
    fractions: tuple[float, float, float],
    seed: int,
) -> tuple[list[str], dict[str, int]]:
    """The split of every row, and counters.

    Args:
      ids: product ids; a component is keyed by its least id, so that the order of a feed does not matter.
      given: the feed's own split a row, "" where it has none.
      component: as `components` returns it.
      fractions: of train, validation and test; they add up to 1.
      seed: of the assignment.

    Returns:
      Splits, and {"given": rows with their own split, "leaking": rows whose component lies in several splits}.
    """
    least: dict[int, str] = {}
    for row, name in enumerate(ids):
        least[component[row]] = min(least.get(component[row], name), name)
    splits = []
    for row, own in enumerate(given):
        digest = hashlib.sha256(f"{seed}:{least[component[row]]}".encode()).digest()
        u = int.from_bytes(digest[:8], "big") / 2**64
        drawn = SPLITS[0] if u < fractions[0] else SPLITS[1] if u < fractions[0] + fractions[1] else SPLITS[2]
        splits.append(own or drawn)
    sides: dict[int, set[str]] = defaultdict(set)
    for row, split in enumerate(splits):
        sides[component[row]].add(split)
    torn = Counter(len(sides[component[row]]) > 1 for row in range(len(splits)))
    return splits, {"given": sum(bool(own) for own in given), "leaking": torn[True]}
