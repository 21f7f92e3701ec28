"""The cross encoder: a few blocks over the states of a query and of a product, which says whether they match.

It reads states that the towers have made, so it is used in training only: what it teaches flows back into the towers,
and retrieval stays two vectors and their product.

    [CLS]  q_1 .. q_K  p_1 .. p_T

Source: 2304.04377 for the place of the cross encoder and of the matching loss; sizes are ours.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from ecommerce_vl.models.transformer import Transformer, embedding, linear


class CrossEncoder(nnx.Module):
    """Args:
    num_in: width of the towers' states.
    width, depth, heads: of its own blocks; states are brought to `width` before they leave their row, so that what
      travels between devices is no wider than need be.
    """

    def __init__(
        self,
        num_in: int,
        *,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float,
        remat: str,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.query = linear(num_in, width, dtype=dtype, rngs=rngs)
        self.product = linear(num_in, width, dtype=dtype, rngs=rngs)
        self.cls = embedding(1, width, rngs=rngs)
        self.transformer = Transformer(
            width, depth=depth, heads=heads, mlp_ratio=mlp_ratio, remat=remat, dtype=dtype, rngs=rngs
        )
        self.match = linear(width, 1, dtype=dtype, rngs=rngs)

    def narrow_query(self, states_BxKxW: jax.Array) -> jax.Array:
        """States of a query as this encoder reads them, (B,K,C)."""
        return self.query(states_BxKxW)

    def narrow_product(self, states_BxTxW: jax.Array) -> jax.Array:
        """States of a product as this encoder reads them, (B,T,C)."""
        return self.product(states_BxTxW)

    def __call__(self, query_BxKxC, query_shown_BxK, product_BxTxC, product_shown_BxT) -> jax.Array:
        """Logits (B,) float32 of "the product is what the query asks for".

        Args:
          query_BxKxC, product_BxTxC: narrowed states; those under a False of `query_shown_BxK`, `product_shown_BxT` are
            invisible.
        """
        B = len(query_BxKxC)
        cls_Bx1xC = jnp.broadcast_to(self.cls[...], (B, 1, self.cls.shape[-1]))
        x_BxSxC = jnp.concatenate([cls_Bx1xC.astype(query_BxKxC.dtype), query_BxKxC, product_BxTxC], axis=1)
        visible_BxS = jnp.concatenate([jnp.ones((B, 1), bool), query_shown_BxK, product_shown_BxT], axis=1)
        return self.match(self.transformer(x_BxSxC, visible_BxS)[:, 0])[:, 0].astype(jnp.float32)
