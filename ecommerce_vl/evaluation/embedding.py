"""From records to embedded products: the one place where evaluation meets an encoder."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ecommerce_vl.evaluation.products import VIEWS, EmbeddedProducts

CHUNKS = 4  # encoder batches read at a time: bounds the pictures held as records
# Fields of a record that are attributes of the product: what may be extracted from its picture and title.
ATTRIBUTE_FIELDS = ("color", "material", "pattern", "size", "gender", "age_group", "condition")
_AMOUNT = re.compile(r"\d+(?:\.\d+)?")


class ViewEncoder(Protocol):
    """What is needed of an encoder; `ecommerce_vl.encoder.Encoder` has it."""

    batch_size: int

    def embed_views(self, records: Sequence[Mapping[str, Any]]) -> dict[str, np.ndarray]: ...


def embed(
    encoder: ViewEncoder, records: Sequence[Mapping[str, Any]], *, progress: Callable[[int, int], None]
) -> EmbeddedProducts:
    """Vectors of all views and labels of all records; the text is the title alone, which leaks no label."""
    columns: dict[str, list] = {
        name: []
        for name in (
            *("ids", "titles", "category_paths", "catalog", "group", "locales", "adult", "images"),
            *("brands", "attributes", "prices"),
        )
    }
    vectors: dict[str, list[np.ndarray]] = {view: [] for view in VIEWS}
    size = CHUNKS * encoder.batch_size
    for start in range(0, len(records), size):
        chunk = [records[row] for row in range(start, min(start + size, len(records)))]
        for record in chunk:
            columns["ids"].append(record["id"])
            columns["titles"].append(record["title"])
            columns["category_paths"].append(record["product_type"])
            columns["catalog"].append(record["catalog_key"])
            columns["group"].append(record["group_key"])
            columns["locales"].append(record["locale"])
            columns["adult"].append(record["adult"])
            columns["images"].append(record["images"][0] if record["images"] else None)
            columns["brands"].append(record["brand"])
            columns["attributes"].append(
                {name: record[name] for name in ATTRIBUTE_FIELDS if record[name]} | record["attributes"]
            )
            columns["prices"].append(amount(record["price"]))
        for view, rows in encoder.embed_views(chunk).items():
            vectors[view].append(rows)
        progress(start + len(chunk), len(records))
    return EmbeddedProducts(
        **{name: columns[name] for name in ("ids", "titles", "category_paths", "locales", "adult", "images")},
        brands=columns["brands"],
        attributes=columns["attributes"],
        prices=np.array(columns["prices"], np.float64),
        catalog_keys=np.array(columns["catalog"], np.int64),
        group_keys=np.array(columns["group"], np.int64),
        vectors={view: np.concatenate(rows) for view, rows in vectors.items() if rows},
    )


def amount(price: str) -> float:
    """The amount of "66.36 EUR", the form of Merchant Center; NaN where there is no number."""
    found = _AMOUNT.search(price)
    return float(found[0]) if found else np.nan
