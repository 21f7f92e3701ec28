"""Does a product belong to a query? A cross encoder's answers to the pair, and to two that are hard to tell from it.

    s = +1 for the pair of a row, -1 for its query with another product, and for its product with another query
    L = mean over what there is of these three of softplus(-s logit)

Which others are drawn (`losses/partners.py`), and that there is one of each, is ours: 2304.04377 names the task.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from ecommerce_vl.losses.partners import fetch_rows
from ecommerce_vl.models.cross import CrossEncoder
from ecommerce_vl.systems.encoders import together


def match_loss(
    cross: CrossEncoder,
    *,
    query: tuple[jax.Array, jax.Array],
    query_valid_B: jax.Array,
    items: tuple[jax.Array, jax.Array, jax.Array],
    partners: Any,
    mesh: Mesh,
) -> tuple[jax.Array, jax.Array]:
    """The loss and the share of right answers over the global batch, float32 scalars.

    Args:
      query: states (B,K,C), and bool (B,K) of what is shown of them; query_valid_B: bool, rows with a query.
      items: of the products, states (B,T,C), bool (B,T) of what is shown, bool (B,) of rows with a product.
      partners: for each row another product and another query, as `draw_partners` gives them.
    """
    states_BxTxC, shown_BxT, item_valid_B = items
    (product_at_B, has_product_B), (query_at_B, has_query_B) = partners
    other_states, other_shown, other_valid_B = fetch_rows(items, product_at_B, mesh=mesh)
    other_query = fetch_rows(query, query_at_B, mesh=mesh)
    triples = [(*query, states_BxTxC, shown_BxT), (*query, other_states, other_shown)]
    triples.append((*other_query, states_BxTxC, shown_BxT))
    logits_Bx3 = cross(*together(triples)).reshape(-1, 3)
    kept = [item_valid_B, query_valid_B & has_product_B & other_valid_B, item_valid_B & has_query_B]
    kept_Bx3 = jnp.stack(kept, axis=1).astype(jnp.float32)
    signed_Bx3 = logits_Bx3 * jnp.array([1.0, -1.0, -1.0])
    number = jnp.maximum(kept_Bx3.sum(), 1.0)
    return (jax.nn.softplus(-signed_Bx3) * kept_Bx3).sum() / number, ((signed_Bx3 > 0) * kept_Bx3).sum() / number
