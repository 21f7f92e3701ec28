"""What the systems that learn from queries and clicked products share: the products of a batch as candidates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from ecommerce_vl.losses.candidates import Candidates
from ecommerce_vl.systems import encoders

VIEWS = (*encoders.VIEWS, "query")
# What the rows and columns of the loss are here.
NAMES = {"row_top1": "q2p_top1", "column_top1": "p2q_top1", "row_rank": "query_rank", "column_rank": "product_rank"}


def check_query_length(text: Mapping[str, Any]) -> None:
    """Errors: ValueError for a `text.query_length` that the encoder of `config.text` cannot read."""
    found, longest = text["query_length"], text["max_length"]
    # What was trained to read its padding (SigLIP) reads texts of one length alone.
    if not 0 < found <= longest or (text.get("padding") == "shown" and found != longest):
        least = "" if text.get("padding") == "shown" else "1 to "
        raise ValueError(f"text.query_length is {found}; expected {least}{longest}, as text.max_length")


def clicked_products(product_BxD: jax.Array, batch: Mapping[str, Any]) -> Candidates:
    """The products of a batch of query pairs as what its queries are compared with.

    No negatives of a query are another row of its own, and other listings of its product; the products that it is
    known to lead to are `batch["known"]`. A pair without words to ask, or with nothing to show, does not count.
    """
    query, product = batch["query"], batch["product"]
    return Candidates(
        product_BxD,
        product["product_key"],
        batch["valid"] & query["text_mask"].any(axis=1) & (product["has_image"] | product["has_text"]),
        group_CxG=jnp.stack([product["catalog_key"], query["query_key"]], axis=1),
        weight_C=batch["weight"],
        words_CxW=query.get("keywords"),
        category_C=product["category_key"],
    )
