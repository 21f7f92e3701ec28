"""Thumbnails beside the vectors, so that whoever searches them can show products without the prepared data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

FOLDER = "thumbnails"
PIXELS = 128  # longer side at most
SCHEMA = pa.schema(
    [("product_id", pa.string())]
    + [(name, pa.string()) for name in ("title", "brand", "category", "locale", "adult")]
    + [("thumbnail", pa.binary())]
)


def thumbnail_table(records: Sequence[Mapping[str, Any]], *, pictures: Sequence[bytes | None]) -> pa.Table:
    """What a search page shows of each record; `pictures` are its thumbnails, None where there is none."""
    return pa.table(
        {
            "product_id": [record["id"] for record in records],
            "title": [record["title"] for record in records],
            "brand": [record["brand"] for record in records],
            "category": [record["product_type"] for record in records],
            "locale": [record["locale"] for record in records],
            "adult": [record["adult"] for record in records],
            "thumbnail": list(pictures),
        },
        schema=SCHEMA,
    )
