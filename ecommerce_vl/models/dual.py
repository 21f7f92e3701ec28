"""The dual encoder: an image tower and a text tower into one space, with nothing fused on top.

Invariant: both methods return unit vectors in float32; the towers never see each other's input, so either can be
served alone.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import nnx

from ecommerce_vl.errors import one_of
from ecommerce_vl.models.text import TextTransformer
from ecommerce_vl.models.transformer import linear
from ecommerce_vl.models.vision import VisionTransformer

PROJECTIONS = ("linear", "affine", "none")


def unit(x_BxD: jax.Array) -> jax.Array:
    """Rows scaled to unit L2 norm, in float32; the floor sits inside the root, so the gradient at zero is finite."""
    x_BxD = x_BxD.astype(jnp.float32)
    return x_BxD / jnp.sqrt(jnp.maximum((x_BxD**2).sum(axis=-1, keepdims=True), 1e-12))


class DualEncoder(nnx.Module):
    """Two towers, a projection each, and the learned log-scale of the similarities (CLIP, 2103.00020).

    Args:
      logit_bias: what is added to similarities at the start of a sigmoid loss (SigLIP, 2303.15343); None for none.
      image, text: of the towers; None leaves one out, and `encode_…` of it fails.
      image_projection, text_projection: "linear" has no bias, "affine" has one, "none" leaves the pooled state as it
        is, whose width is then that of the space.
    """

    def __init__(
        self,
        *,
        image: dict | None,
        text: dict | None,
        embed_dim: int,
        temperature_init: float,
        image_projection: str = "linear",
        text_projection: str = "linear",
        logit_bias: float | None = None,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        def projection(name, kind, tower):
            one_of(f"{name}.projection", kind, PROJECTIONS)
            if tower is None or kind == "none":
                if tower is not None and tower["width"] != embed_dim:
                    raise ValueError(
                        f"embed_dim is {embed_dim}; without a projection it is {name}.width, {tower['width']}"
                    )
                return None
            return linear(tower["width"], embed_dim, dtype=dtype, rngs=rngs, use_bias=kind == "affine")

        self.embed_dim = embed_dim
        self.image = VisionTransformer(**image, dtype=dtype, rngs=rngs) if image else None
        self.text = TextTransformer(**text, dtype=dtype, rngs=rngs) if text else None
        self.image_projection = projection("image", image_projection, image)
        self.text_projection = projection("text", text_projection, text)
        self.logit_scale = nnx.Param(jnp.asarray(math.log(1 / temperature_init), jnp.float32))
        self.logit_bias = None if logit_bias is None else nnx.Param(jnp.asarray(logit_bias, jnp.float32))

    def encode_image(self, image_BxHxWx3: jax.Array, keys_B: jax.Array | None = None) -> jax.Array:
        """Unit vectors (B,D) float32 of uint8 pictures."""
        x_BxW = self.image(image_BxHxWx3, keys_B)
        return unit(x_BxW if self.image_projection is None else self.image_projection(x_BxW))

    def encode_text(self, text_ids_BxL: jax.Array, text_mask_BxL: jax.Array, keys_B=None) -> jax.Array:
        """Unit vectors (B,D) float32 of token ids."""
        x_BxW = self.text(text_ids_BxL, text_mask_BxL, keys_B)
        return unit(x_BxW if self.text_projection is None else self.text_projection(x_BxW))
