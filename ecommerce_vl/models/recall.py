"""What fine-tuning puts upon pretrained towers: a fully connected layer each, and an embedding of each product's id.

    product = norm(F_p v + e[id])        query = norm(F_q u)

of the pretrained vectors v and u. The team of 2304.04377 combines pretrained vectors with ID embeddings in its recall
model without publishing how; the sum is ours. Both F begin as the identity and e as zeros, so that fine-tuning begins
with the pretrained space, and a product whose row was never trained keeps the vector of its content.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from ecommerce_vl.models.dual import unit


class RecallHead(nnx.Module):
    """Args:
    dim: D of the pretrained vectors and of those that it gives.
    id_rows: R, rows of the table of ids.
    """

    def __init__(self, dim: int, *, id_rows: int, rngs: nnx.Rngs):
        same = lambda: nnx.Linear(dim, dim, use_bias=False, kernel_init=_identity, rngs=rngs)
        self.product, self.query = same(), same()
        self.table = nnx.Param(jnp.zeros((id_rows, dim)))

    def product_vector(self, vector_BxD: jax.Array, id_row_B: jax.Array | None) -> jax.Array:
        """Unit vectors (B,D) float32; `id_row_B` is int32; negative rows, or None, are of content alone."""
        moved_BxD = self.product(vector_BxD)
        if id_row_B is not None:
            known_Bx1 = (id_row_B >= 0)[:, None]
            moved_BxD += jnp.where(known_Bx1, self.table[...][jnp.maximum(id_row_B, 0)], 0.0)
        return unit(moved_BxD)

    def query_vector(self, vector_BxD: jax.Array) -> jax.Array:
        """Unit vectors (B,D) float32."""
        return unit(self.query(vector_BxD))


def _identity(key, shape, dtype, out_sharding=None) -> jax.Array:
    del key, out_sharding
    return jnp.eye(*shape, dtype=dtype)
