"""Train, validation and test without leakage: whole connected components go to one side.

Products are joined when they share a catalog id, an item group, or a guarded gtin; a component is assigned by a hash
of its own key and the seed. Invariant: adding unrelated products moves nobody. A feed's own split is honoured row by
row, rows without one follow the rest of their component, and the components that the feed tears apart are counted.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from ecommerce_vl.data.record import SPLITS, Product

Key = tuple[str, str]  # (kind, value)
MAX_SHARED = 200  # a key on more products than this is a shop-wide default, not an identity


def valid_gtin(text: str) -> bool:
    """Whether a string is a GTIN-8, -12, -13 or -14 with a correct check digit that is not reserved or a filler."""
    if not (text.isascii() and text.isdigit()) or len(text) not in (8, 12, 13, 14) or len(set(text)) == 1:
        return False
    payload, check = text[:-1], int(text[-1])
    weighted = sum(int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(payload)))
    restricted = text.zfill(14)[1:].startswith(("02", "04", "05", "2", "98", "99"))
    return check == -weighted % 10 and not restricted


def identity_keys(product: Product) -> list[Key]:
    """The (kind, value) pairs that tie a listing to others of its product or its item group."""
    keys = [("catalog_id", product.catalog_id), ("item_group_id", product.item_group_id)]
    if valid_gtin(product.gtin):
        keys.append(("gtin", f"{product.gtin.zfill(14)} {product.brand.lower()}"))
    return [(kind, value) for kind, value in keys if value]


def product_identity(product: Product) -> Key | None:
    """The key by which listings are the same product: the catalog id, or where there is none the gtin with its brand.

    Without a brand a gtin keeps listings in one split, where a mistake costs nothing, but makes no positives.
    """
    keys = dict(identity_keys(product))
    kind = "catalog_id" if product.catalog_id or not product.brand else "gtin"
    return (kind, keys[kind]) if kind in keys else None


def void_keys(keys_of_row: Sequence[Iterable[Key]]) -> dict[Key, int]:
    """The keys on more than `MAX_SHARED` rows, with their rows; they are no identity, for splits or for labels."""
    counts = Counter(key for keys in keys_of_row for key in keys)
    return {key: count for key, count in counts.items() if count > MAX_SHARED}


def components(keys_of_row: Sequence[Iterable[Key]], *, void: Mapping[Key, int]) -> list[int]:
    """The connected component of every row, named by its first row; rows are joined by equal keys that are not void."""
    rows_of_key: dict[Key, list[int]] = defaultdict(list)
    for row, keys in enumerate(keys_of_row):
        for key in keys:
            if key not in void:
                rows_of_key[key].append(row)
    parent = list(range(len(keys_of_row)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    for rows in rows_of_key.values():
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
      given: the feed's own split a row, "" where it has none; then the row follows the splits given in its component
        if they agree, and is drawn otherwise.
      component: as `components` returns it.
      fractions: of train, validation and test; they add up to 1.
      seed: of the assignment.

    Returns:
      Splits, and {"given": rows with their own split, "leaking": rows whose component lies in several splits}.
    """
    least: dict[int, str] = {}
    given_in: dict[int, set[str]] = defaultdict(set)
    for row, name in enumerate(ids):
        least[component[row]] = min(least.get(component[row], name), name)
        given_in[component[row]] |= {given[row]} - {""}
    splits = []
    for row, own in enumerate(given):
        digest = hashlib.sha256(f"{seed}:{least[component[row]]}".encode()).digest()
        u = int.from_bytes(digest[:8], "big") / 2**64
        drawn = SPLITS[0] if u < fractions[0] else SPLITS[1] if u < fractions[0] + fractions[1] else SPLITS[2]
        agreed = min(given_in[component[row]]) if len(given_in[component[row]]) == 1 else ""
        splits.append(own or agreed or drawn)
    sides: dict[int, set[str]] = defaultdict(set)
    for row, split in enumerate(splits):
        sides[component[row]].add(split)
    torn = Counter(len(sides[component[row]]) > 1 for row in range(len(splits)))
    return splits, {"given": sum(bool(own) for own in given), "leaking": torn[True]}
