"""What training draws from: items with random access, an order over them, and how drawn items become a batch.

A source is chosen by `config.data.source`. Items are what one position of the stream draws: a product here, a pair of
products or a query with a product elsewhere. Invariant: an item is read by its number alone, so every process and every
restart reads the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from ecommerce_vl.data.batches import Batch, ToExample
from ecommerce_vl.data.fraction import in_fraction
from ecommerce_vl.data.item_pairs import ItemPairs
from ecommerce_vl.data.mismatch import COLUMNS, MismatchedOrder, MixedRecords
from ecommerce_vl.data.prepared import PreparedData, digest_of
from ecommerce_vl.data.query_pairs import QueryPairs
from ecommerce_vl.data.sampling import COLUMNS as SAMPLING_COLUMNS
from ecommerce_vl.data.sampling import Order, keys_of, training_order
from ecommerce_vl.data.seed_model.agreement import LEFT_OUT, TOO_STRICT, agreeing
from ecommerce_vl.errors import UserError, one_of

SHARES = ("mismatch", "mismatch_same_category")


class TrainingSource(Protocol):
    """Args:
    items: by what `order` gives for a position of the stream; picklable. `to_batch` gets them, each with its generator.
    description: of the items, for the log.
    digest: of which items there are beyond the products of the data, "" if nothing is; a run goes on with the same.
    """

    items: Sequence[Any]
    description: str
    digest: str

    def order(self, *, batch_size: int, seed: int) -> Order:
        """Position of the stream -> item. Errors: ValueError that begins with the key of the config."""

    def to_batch(self, to_example: ToExample) -> Callable[..., Batch]:
        """What makes a batch of drawn items; picklable."""


class Products:
    """Single products: those with a picture and a title, or all of the train split (`config.data.rows`), or a fraction
    of them (`config.data.fraction`), without those that a seed model says to leave out (`seed_model/agreement.py`).

    A share `config.data.mismatch` of them gets the picture or the text of another product of its batch.

    Errors: UserError if there is none.
    """

    digest = ""

    def __init__(self, data: PreparedData, options: Mapping[str, Any]):
        self._data, self._options = data, options
        num_products = data.summary["splits"]["train"]
        if num_products == 0:
            raise UserError(f"{data.folder} has no product in its train split; prepare it with a larger train fraction")
        pairs_only = options["rows"] == "pairs"
        records = data.records("train", pairs_only=pairs_only)
        if len(records) == 0:
            raise UserError(
                f"none of the {num_products:,} train products of {data.folder} has both a picture and a title, so "
                "there is no pair to learn from; see the image links that prepare counted under repairs, or draw from "
                "all products with --config.data.rows=all, of which a contrastive loss learns nothing without a pair"
            )
        which = "those with a picture and a title" if pairs_only else "all"
        agreed, fraction = agreeing(data, options), options["fraction"]
        if not 0.0 < fraction <= 1.0:
            raise ValueError(f"data.fraction is {fraction}; expected above 0, to 1")
        if fraction < 1.0 or agreed is not None:
            kept = in_fraction(data.components("train"), fraction)
            which += f", a fraction of {fraction:g}" if fraction < 1.0 else ""
            if agreed is not None:
                agreed = agreed[data.in_split("train")]
                which += ", " + LEFT_OUT.format((kept & ~agreed).sum())
                kept &= agreed
            # Components are no part of the shards, whose fingerprint a run compares: another preparation may move them.
            self.digest = digest_of([kept])
            records = data.records("train", pairs_only=pairs_only, among=kept)
            if len(records) == 0:
                raise UserError(
                    f"none of the {num_products:,} train products of {data.folder} is left ({which}); {TOO_STRICT}"
                )
        self._positions = records.positions
        self.items = MixedRecords(records) if options["mismatch"] else records
        self.description = f"{len(self.items):,} of {num_products:,} train products ({which})"

    def order(self, *, batch_size: int, seed: int) -> Order:
        """Errors: ValueError that begins with the key of the config."""
        options, rows = self._options, self._data.rows("train")
        for name in SHARES:
            if not 0.0 <= options[name] <= 1.0:
                raise ValueError(f"data.{name} is {options[name]}; expected 0 to 1")
        names = SAMPLING_COLUMNS
        if options["catalog_pairs"]:
            rows, names = rows | {"seller_key": self._data.seller_keys("train")}, (*names, "seller_key")
        order = training_order(
            keys_of(rows, self._positions, names=names),
            batch_size=batch_size,
            seed=seed,
            **{name: options[name] for name in ("catalog_pairs", "category_power", "same_category_fraction")},
        )
        if not options["mismatch"]:
            return order
        return MismatchedOrder(
            order,
            keys_of(rows | {"has_image": rows["num_images"] > 0}, self._positions, names=COLUMNS),
            batch_size=batch_size,
            seed=seed,
            share=options["mismatch"],
            same_category=options["mismatch_same_category"],
        )

    def to_batch(self, to_example: ToExample) -> ToExample:
        """Products are examples as they are."""
        return to_example


SOURCES = {"products": Products, "item_pairs": ItemPairs, "query_pairs": QueryPairs}


def open_source(data: PreparedData, options: Mapping[str, Any]) -> TrainingSource:
    """The source that `options["source"]` (`config.data.source`) names.

    Errors: UserError for data that holds none of its items; ValueError that begins with the key of the config.
    """
    one_of("data.source", options["source"], SOURCES)
    return SOURCES[options["source"]](data, options)
