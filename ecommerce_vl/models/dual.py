"""The dual encoder: an image tower and a text tower into one space, with nothing fused on top.

Invariant: both methods return unit vectors in float32; the towers never see each other's input, so either can be
served alone.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx

from ecommerce_vl.models.text import TextTransformer
from ecommerce_vl.models.transformer import linear
from ecommerce_vl.models.vision import VisionTransformer


def unit(x_BxD: jax.Array) -> jax.Array:
    """Rows scaled to unit L2 norm, in float32; the floor sits inside the root, so the gradient at zero is finite."""
    x_BxD = x_BxD.astype(jnp.float32)
    return x_BxD / jnp.sqrt(jnp.maximum((x_BxD**2).sum(axis=-1, keepdims=True), 1e-12))


class DualEncoder(nnx.Module):
    """Two towers, a bias-free projection each, and the learned log-scale of the similarities (CLIP, 2103.00020)."""

    def __init__(
        self,
        *,
        image: dict,
        text: dict,
        embed_dim: int,
        temperature_init: float,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.image = VisionTransformer(**image, dtype=dtype, rngs=rngs)
        self.text = TextTransformer(**text, dtype=dtype, rngs=rngs)
        self.image_projection = linear(image["width"], embed_dim, dtype=dtype, rngs=rngs, use_bias=False)
        self.text_projection = linear(text["width"], embed_dim, dtype=dtype, rngs=rngs, use_bias=False)
        self.logit_scale = nnx.Param(jnp.asarray(math.log(1 / temperature_init), jnp.float32))

    def encode_image(self, image_BxHxWx3: jax.Array, keys_B: jax.Array | None = None) -> jax.Array:
        """Unit vectors (B,D) float32 of uint8 pictures."""
        return unit(self.image_projection(self.image(image_BxHxWx3, keys_B)))

    def encode_text(self, text_ids_BxL: jax.Array, text_mask_BxL: jax.Array, keys_B=None) -> jax.Array:
        """Unit vectors (B,D) float32 of token ids."""
        return unit(self.text_projection(self.text(text_ids_BxL, text_mask_BxL, keys_B)))
