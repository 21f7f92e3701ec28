"""Pairs of products to learn from: an index table of (left row, right row, weight) over products that are stored once.

Pairs come of mined clicks (`prepare --clicks`), or of ids that listings share. Invariants: both products are of the
train split; a pair is read by its number alone, one record a side; the order is a pure function of (seed, position).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ecommerce_vl.data.batches import Batch, Record, ToExample
from ecommerce_vl.data.logs.tables import ITEM_PAIRS
from ecommerce_vl.data.prepared import PreparedData, Records, digest_of
from ecommerce_vl.data.sampling import Deck, Neighbours, Order, natural_order
from ecommerce_vl.data.seed_model.agreement import LEFT_OUT, TOO_STRICT, agreeing
from ecommerce_vl.errors import UserError, one_of

KINDS = ("clicks", "catalog", "group")
RELATIONS = ("same_style", "same_product", "variant")
WEIGHTS = ("loss", "order")
MAX_STYLE = 200  # products; pairs of clicks join a catalog into giants, whose ends need not be alike


@dataclasses.dataclass(frozen=True)
class Pairs(Sequence):
    """Random access to P pairs of records; picklable.

    Args:
      records: the products, each side's rows refer to.
      left_P, right_P: int32, rows of `records`.
      weight_P: float32, positive.
      style_P: int32, see `styles`.
    """

    records: Records
    left_P: np.ndarray
    right_P: np.ndarray
    weight_P: np.ndarray
    style_P: np.ndarray

    def __len__(self) -> int:
        return len(self.left_P)

    def __getitem__(self, pair: int) -> dict[str, Any]:
        left, right = self.records[int(self.left_P[pair])], self.records[int(self.right_P[pair])]
        return {
            "left": left,
            "right": right,
            "weight": float(self.weight_P[pair]),
            "style_key": int(self.style_P[pair]),
        }


@dataclasses.dataclass(frozen=True)
class PairsToBatch:
    """Drawn pairs as a batch: each side an example of its own generator, so a side does not depend on the other."""

    to_example: ToExample
    weighted: bool

    def __call__(self, drawn: Iterable[tuple[Mapping[str, Any], np.random.Generator]], *, num_rows: int) -> Batch:
        """Returns {left, right: as `ToExample` gives, weight (b,) float32, style_key (b,) int32, valid (b,) bool: both
        sides are}."""
        sides: dict[str, list[tuple[Record, np.random.Generator]]] = {"left": [], "right": []}
        weight, style_key = np.ones(num_rows, np.float32), np.empty(num_rows, np.int32)
        for row, (pair, rng) in enumerate(drawn):
            for (side, examples), own in zip(sides.items(), rng.spawn(2), strict=True):
                examples.append((pair[side], own))
            weight[row], style_key[row] = pair["weight"] if self.weighted else 1.0, pair["style_key"]
        batch = {side: self.to_example(examples, num_rows=num_rows) for side, examples in sides.items()}
        valid = batch["left"]["valid"] & batch["right"]["valid"]
        return batch | {"weight": weight, "style_key": style_key, "valid": valid}


class ItemPairs:
    """The source "item_pairs"; see `data/sources.py`.

    Errors: UserError for a log that was not mined, or no pair in the train split; ValueError that begins with the key
      of the config.
    """

    def __init__(self, data: PreparedData, options: Mapping[str, Any]):
        one_of("data.pairs", options["pairs"], KINDS)
        one_of("data.pair_weight", options["pair_weight"], WEIGHTS)
        for relation in options["relations"]:
            one_of("data.relations", relation, RELATIONS)
        self._options = options
        rows = data.rows("train")
        if options["pairs"] == "clicks":
            left, right, weight, origin = _mined(data, tuple(options["relations"]))
        else:
            left, right = _sharing(rows[f"{options['pairs']}_key"], max_partners=options["max_partners"])
            weight, origin = np.ones(len(left), np.float32), f"listings of one {options['pairs']}"
        if (agreed := agreeing(data, options)) is not None:
            agreed = agreed[data.in_split("train")]
            kept = agreed[left] & agreed[right]
            if not kept.any() and len(kept):
                raise UserError(f"no pair of {data.folder} is left ({origin}); {TOO_STRICT}")
            left, right, weight = left[kept], right[kept], weight[kept]
            origin += ", " + LEFT_OUT.format((~kept).sum())
        if len(left) == 0:
            raise UserError(
                f"{data.folder} has no pair of train products ({origin}); mine a log with prepare --clicks=FILE, "
                f"or draw from ids that listings share: --config.data.pairs={' or '.join(KINDS[1:])}"
            )
        style = styles(left, right, num_rows=len(rows["position"]))
        self.items = Pairs(Records(data.folder, "train", rows["position"]), left, right, weight, style)
        self._category_P = rows["category_key"][left]
        num_products = len(np.union1d(left, right))
        self.description = f"{len(left):,} pairs of {num_products:,} train products ({origin})"
        self.digest = digest_of([left, right, weight])

    def order(self, *, batch_size: int, seed: int) -> Order:
        """Errors: ValueError that begins with the key of the config."""
        return PairOrder(
            self._category_P,
            self.items.weight_P if self._options["pair_weight"] == "order" else None,
            batch_size=batch_size,
            seed=seed,
            same_category_fraction=self._options["same_category_fraction"],
        )

    def to_batch(self, to_example: ToExample) -> Callable[..., Batch]:
        """Batches of {left, right, weight, style_key, valid}, see `PairsToBatch`."""
        return PairsToBatch(to_example, weighted=self._options["pair_weight"] == "loss")


class PairOrder:
    """Position in the stream -> pair: a share of every batch from one leaf category, then all pairs alike.

    The pairs lie in a line, category by category. Each batch takes a window of it, and the windows of a pass cover it
    once, cut at another place in every pass. So a batch's share is of one category, or of neighbours where a category
    ends or is smaller than the window. The rest of the batch is drawn from all pairs: each once an epoch, or by weight.

    Args:
      category_P: of each pair; negative is unknown, and those are together.
      weight_P: positive, how often to draw each; None for all alike.
      batch_size: of the global batch.
      seed: of the order.
      same_category_fraction: share of the rows of a batch.
    """

    def __init__(
        self,
        category_P: np.ndarray,
        weight_P: np.ndarray | None,
        *,
        batch_size: int,
        seed: int,
        same_category_fraction: float,
    ):
        if not 0.0 <= same_category_fraction <= 1.0:
            raise ValueError(f"data.same_category_fraction is {same_category_fraction}; expected 0 to 1")
        count = len(category_P)
        self._batch_size = batch_size
        self._num_alike = min(int(same_category_fraction * batch_size), count)
        if self._num_alike:
            self._alike = Neighbours(category_P, size=self._num_alike, seed=seed)
        if weight_P is None:
            self._rest: Order = natural_order(count, seed=seed)
        else:
            share_P = weight_P.astype(np.float64) / weight_P.sum(dtype=np.float64)
            self._rest = Deck(np.arange(count), share_P, seed=seed)

    def __getitem__(self, position: int) -> int:
        step, place = divmod(position, self._batch_size)
        if place >= self._num_alike:
            return int(self._rest[step * (self._batch_size - self._num_alike) + place - self._num_alike])
        return self._alike.row(step, place)


def styles(left_P: np.ndarray, right_P: np.ndarray, *, num_rows: int) -> np.ndarray:
    """int32 (P,), equal for pairs that other pairs connect: their products are no negatives of each other (eSSPR).

    A component of more than `MAX_STYLE` products says nothing; its pairs have a negative key each.
    """
    edges = coo_array((np.ones(len(left_P), bool), (left_P, right_P)), shape=(num_rows, num_rows))
    _, component_N = connected_components(edges, directed=False)
    style_P, size = component_N[left_P], np.bincount(component_N)
    return np.where(size[style_P] <= MAX_STYLE, style_P, -1 - np.arange(len(left_P))).astype(np.int32)


def held_out(data: PreparedData, *, split: str) -> list[tuple[str, str]] | None:
    """(trigger id, recall id) of the mined pairs of a split, None where no log was mined."""
    file = data.folder / ITEM_PAIRS
    if not file.exists():
        return None
    table = pq.read_table(file, columns=["trigger_id", "recall_id"], filters=[("split", "==", split)])
    return list(zip(table["trigger_id"].to_pylist(), table["recall_id"].to_pylist(), strict=True))


def _mined(data: PreparedData, relations: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray, str]:
    """Rows (in the order of the train split), weights, and what they are, of the mined pairs of these relations."""
    file = data.folder / ITEM_PAIRS
    if not file.exists():
        raise UserError(
            f"{file} is missing: no click log was mined for this data; run prepare with --clicks=FILE, or draw from "
            f"ids that listings share: --config.data.pairs={' or '.join(KINDS[1:])}"
        )
    columns = ["trigger_id", "recall_id", "trigger_row", "recall_row", "weight"]
    chosen = [("split", "==", "train"), ("relation", "in", relations)]
    table = pq.read_table(file, columns=columns, filters=chosen)
    ids = data.index["id"]
    for side in ("trigger", "recall"):
        row = table[f"{side}_row"]
        known = len(row) == 0 or pc.max(row).as_py() < len(ids)
        if not known or not pc.all(pc.equal(ids.take(row), table[f"{side}_id"]), min_count=0).as_py():
            raise UserError(f"{file} was mined for other products than {data.folder} holds; run prepare --clicks again")
    row_in_train = np.cumsum(data.in_split("train"), dtype=np.int32) - 1
    left, right = (row_in_train[table[f"{side}_row"].to_numpy()] for side in ("trigger", "recall"))
    origin = f"clicked: {', '.join(relations)}; {pq.read_metadata(file).num_rows:,} pairs in all splits"
    return left, right, table["weight"].to_numpy().astype(np.float32), origin


def _sharing(key_N: np.ndarray, *, max_partners: int) -> tuple[np.ndarray, np.ndarray]:
    """Every row that shares its known key as the left one, with up to `max_partners` others as the right one."""
    if max_partners < 1:
        raise ValueError(f"data.max_partners is {max_partners}; expected at least 1")
    known = np.flatnonzero(key_N >= 0).astype(np.int32)
    known = known[np.argsort(key_N[known], kind="stable")]
    _, first, size = np.unique(key_N[known], return_index=True, return_counts=True)
    first, size = np.repeat(first, size), np.repeat(size, size)
    place = np.arange(len(known)) - first
    left, right = [], []
    for shift in range(1, min(max_partners, size.max(initial=1) - 1) + 1):
        some = np.flatnonzero(size > shift)
        left.append(known[some])
        right.append(known[first[some] + (place[some] + shift) % size[some]])
    empty = np.zeros(0, np.int32)
    return np.concatenate([empty, *left]), np.concatenate([empty, *right])
