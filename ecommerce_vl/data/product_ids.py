"""Rows of a table of product ids: by hash, so that they need no vocabulary and stay when the catalog grows."""

from __future__ import annotations

from ecommerce_vl.data.logs.words import hash64

NO_ID = -1  # of a product without an id; the model takes any negative row for none


def id_row(product_id: str, *, num_rows: int) -> int:
    """The row of a product id, `NO_ID` for an empty one.

    Of N products with rows of their own, a new one meets the row of another with probability N / num_rows.
    """
    return hash64(product_id) % num_rows if product_id else NO_ID
