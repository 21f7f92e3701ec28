"""The image encoder: a vision transformer over patches, cut by one strided convolution or by a convolutional stem.

Invariant: pixels come in as uint8 and are normalised here, on the device, with the mean and deviation that the
model was built with; the result is one pooled hidden state a picture.
"""

from __future__ import annotations

from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx

from ecommerce_vl.models.transformer import Transformer


class PatchStem(nnx.Module):
    """One linear projection of each patch (ViT, 2010.11929)."""

    def __init__(self, *, patch_size: int, width: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.projection = nnx.Conv(
            3, width, (patch_size, patch_size), strides=patch_size, padding="VALID", dtype=dtype, rngs=rngs
        )

    def __call__(self, pixels_BxHxWx3: jax.Array) -> jax.Array:
        return self.projection(pixels_BxHxWx3)


class ConvStage(nnx.Module):
    """A 3x3 convolution of stride 2; where `refine` is set, a residual 3x3 convolution after it."""

    def __init__(self, num_in: int, num_out: int, *, refine: bool, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.down = nnx.Conv(num_in, num_out, (3, 3), strides=2, dtype=dtype, rngs=rngs)
        self.down_norm = nnx.LayerNorm(num_out, dtype=dtype, rngs=rngs)
        self.refine = nnx.Conv(num_out, num_out, (3, 3), dtype=dtype, rngs=rngs) if refine else None

    def __call__(self, x_BxHxWxC: jax.Array) -> jax.Array:
        x_BxHxWxC = jax.nn.relu(self.down_norm(self.down(x_BxHxWxC)))
        return x_BxHxWxC if self.refine is None else x_BxHxWxC + jax.nn.relu(self.refine(x_BxHxWxC))


class ConvStem(nnx.Module):
    """Overlapping convolutions in place of one large patch projection (Xiao et al., 2106.14881).

    Each stage halves the resolution until it is that of the patches; channels double up to the width; all stages but
    the first, where pixels are many, have a second convolution. The bias of convolutions towards neighbourhoods is what
    a transformer cannot learn from a few thousand pictures. LayerNorm only: a norm coupled across the batch would
    break exact accumulation.
    """

    def __init__(self, *, patch_size: int, width: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        num_stages = patch_size.bit_length() - 1
        if num_stages < 1 or 2**num_stages != patch_size:
            raise ValueError(f"image.patch_size is {patch_size}; a convolutional stem needs a power of two")
        channels = [3] + [max(16, width >> (num_stages - 1 - stage)) for stage in range(num_stages)]
        self.stages = nnx.List(
            ConvStage(num_in, num_out, refine=stage > 0, dtype=dtype, rngs=rngs)
            for stage, (num_in, num_out) in enumerate(pairwise(channels))
        )

    def __call__(self, x_BxHxWxC: jax.Array) -> jax.Array:
        for stage in self.stages:
            x_BxHxWxC = stage(x_BxHxWxC)
        return x_BxHxWxC


STEMS = {"patch": PatchStem, "conv": ConvStem}


class VisionTransformer(nnx.Module):
    """ViT: stem, [CLS] and position embeddings, transformer, pooling.

    Args:
      image_size: side in pixels; a multiple of `patch_size`.
      pool: "cls" takes the [CLS] state, "mean" the mean of the patches.
      mean, std: per channel, of pixels scaled to [0, 1].
    """

    def __init__(
        self,
        *,
        image_size: int,
        patch_size: int,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float,
        stem: str,
        pool: str,
        drop_path: float,
        remat: str,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.dtype, self.pool, self.mean, self.std = dtype, pool, tuple(mean), tuple(std)
        num_patches = (image_size // patch_size) ** 2
        self.stem = STEMS[stem](patch_size=patch_size, width=width, dtype=dtype, rngs=rngs)
        init = nnx.initializers.truncated_normal(0.02)
        self.cls = nnx.Param(init(rngs.params(), (width,)))
        self.position = nnx.Param(init(rngs.params(), (num_patches + 1, width)))
        self.transformer = Transformer(
            width,
            depth=depth,
            heads=heads,
            mlp_ratio=mlp_ratio,
            drop_path=drop_path,
            remat=remat,
            dtype=dtype,
            rngs=rngs,
        )

    def __call__(self, image_BxHxWx3: jax.Array, keys_B: jax.Array | None = None) -> jax.Array:
        """Returns the pooled state (B,W) of each uint8 picture, in the compute dtype."""
        pixels = (image_BxHxWx3.astype(jnp.float32) / 255 - jnp.asarray(self.mean)) / jnp.asarray(self.std)
        patches = self.stem(pixels.astype(self.dtype))
        B, _, _, W = patches.shape
        cls_Bx1xW = jnp.broadcast_to(self.cls[...], (B, 1, W))
        x_BxNxW = jnp.concatenate([cls_Bx1xW, patches.reshape(B, -1, W)], axis=1) + self.position[...]
        x_BxNxW = self.transformer(x_BxNxW, keys_B=keys_B)
        return x_BxNxW[:, 0] if self.pool == "cls" else x_BxNxW[:, 1:].mean(axis=1)
