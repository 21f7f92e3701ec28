"""Vectors of the joint encoder: states are pooled, projected and scaled to unit length.

Invariant: the same weights embed a product, its picture alone and its text alone, so all three lie in one space.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from ecommerce_vl.errors import one_of
from ecommerce_vl.models.dual import unit
from ecommerce_vl.models.joint import POOLS, JointEncoder
from ecommerce_vl.models.transformer import linear


class JointEmbedding(nnx.Module):
    """A joint encoder and one linear map into the space.

    Args:
      encoder: of states of width W.
      embed_dim: D.
      pool: "cls" takes the state of [CLS], "mean" that of the patches and tokens that are there.
    """

    def __init__(
        self, encoder: JointEncoder, *, width: int, embed_dim: int, pool: str, dtype: jnp.dtype, rngs: nnx.Rngs
    ):
        one_of("joint.pool", pool, POOLS)
        self.encoder, self.pool = encoder, pool
        self.projection = linear(width, embed_dim, dtype=dtype, rngs=rngs)

    def __call__(
        self,
        image_BxHxWx3: jax.Array,
        text_ids_BxL: jax.Array,
        text_mask_BxL: jax.Array,
        *,
        has_image_B: jax.Array,
        has_text_B: jax.Array,
        keys_B: jax.Array | None = None,
    ) -> jax.Array:
        """Unit vectors (B,D) float32; arguments as of `JointEncoder`. A row with neither slot has one of no use."""
        states = self.encoder(
            image_BxHxWx3, text_ids_BxL, text_mask_BxL, has_image_B=has_image_B, has_text_B=has_text_B, keys_B=keys_B
        )
        return unit(self.projection(states.pooled(self.pool)))
