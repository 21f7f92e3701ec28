"""The image encoder: a vision transformer over patches, cut by one strided convolution or by a convolutional stem.

Invariant: pixels come in as uint8 and are normalised here, on the device, with the mean and deviation that the
model was built with; the result is one pooled hidden state a picture.
"""

from __future__ import annotations

from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx

from ecommerce_vl.models.pooling import AttentionPool, Pooler
from ecommerce_vl.models.transformer import OURS, Form, Transformer, embedding, linear, one_of

POOLS = ("cls", "mean", "pooler", "attention")


def normalise(image_BxHxWx3: jax.Array, *, mean: tuple[float, ...], std: tuple[float, ...]) -> jax.Array:
    """uint8 pixels scaled to [0, 1], minus `mean`, over `std`, per channel; float32."""
    return (image_BxHxWx3.astype(jnp.float32) / 255 - jnp.asarray(mean)) / jnp.asarray(std)


def patches_of(pixels_BxHxWxC: jax.Array, side: int) -> jax.Array:
    """Non-overlapping squares (B, H/side, W/side, side * side * C), pixels in row order."""
    B, H, W, C = pixels_BxHxWxC.shape
    grid = pixels_BxHxWxC.reshape(B, H // side, side, W // side, side, C).transpose(0, 1, 3, 2, 4, 5)
    return grid.reshape(B, H // side, W // side, side * side * C)


class PatchStem(nnx.Module):
    """One linear projection of each patch (ViT, 2010.11929)."""

    def __init__(self, *, patch_size: int, width: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.patch_size = patch_size
        self.projection = linear(3 * patch_size**2, width, dtype=dtype, rngs=rngs)

    def __call__(self, pixels_BxHxWx3: jax.Array) -> jax.Array:
        """(B,h,w,W) of normalised pixels, a state a patch."""
        return self.projection(patches_of(pixels_BxHxWx3, self.patch_size))


class ConvStage(nnx.Module):
    """Patches of `side` become one pixel each, by a matrix product; a residual 3x3 convolution mixes neighbours."""

    def __init__(self, num_in: int, num_out: int, *, side: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.side = side
        self.down = linear(num_in * side**2, num_out, dtype=dtype, rngs=rngs)
        self.norm = nnx.LayerNorm(num_out, dtype=dtype, rngs=rngs)
        self.mix = nnx.Conv(num_out, num_out, (3, 3), dtype=dtype, rngs=rngs)

    def __call__(self, x_BxHxWxC: jax.Array) -> jax.Array:
        """(B, H / side, W / side, num_out)."""
        x_BxHxWxC = jax.nn.relu(self.norm(self.down(patches_of(x_BxHxWxC, self.side))))
        return x_BxHxWxC + jax.nn.relu(self.mix(x_BxHxWxC))


class ConvStem(nnx.Module):
    """A few convolutional stages in place of one large patch projection (Xiao et al., 2106.14881).

    The first stage divides the resolution by 4, each further one by 2, until it is that of the patches; channels
    double up to the width. Strided convolutions are written as patches and a matrix product: a stem with strided
    ones took XLA on CPU about twice as long (2026-11). The bias of convolutions towards neighbourhoods is what a
    transformer cannot learn from a few thousand pictures. LayerNorm only: a norm coupled across the batch would break
    exact accumulation.
    """

    def __init__(self, *, patch_size: int, width: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        num_stages = patch_size.bit_length() - 2
        if num_stages < 1 or 2 ** (num_stages + 1) != patch_size:
            raise ValueError(f"image.patch_size is {patch_size}; a convolutional stem needs 4, 8, 16 or 32")
        channels = [3] + [max(16, width >> (num_stages - 1 - stage)) for stage in range(num_stages)]
        self.stages = nnx.List(
            ConvStage(num_in, num_out, side=2 if stage else 4, dtype=dtype, rngs=rngs)
            for stage, (num_in, num_out) in enumerate(pairwise(channels))
        )

    def __call__(self, x_BxHxWxC: jax.Array) -> jax.Array:
        """(B,h,w,W) of normalised pixels (C = 3), a state a patch."""
        for stage in self.stages:
            x_BxHxWxC = stage(x_BxHxWxC)
        return x_BxHxWxC


STEMS = {"patch": PatchStem, "conv": ConvStem}


class VisionTransformer(nnx.Module):
    """ViT: stem, [CLS] and position embeddings, transformer, pooling.

    Args:
      image_size: side in pixels; a multiple of `patch_size`.
      pool: "cls" takes the [CLS] state, "mean" the mean of the patches, "pooler" a tanh layer over [CLS] (ViT's own),
        "attention" what a learned query attends to (SigLIP).
      cls_token: False leaves [CLS] out of the sequence.
      form: of the blocks.
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
        form: Form = OURS,
        cls_token: bool = True,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        one_of("image.pool", pool, POOLS)
        if pool in ("cls", "pooler") and not cls_token:
            raise ValueError(f"image.pool is {pool!r}, but image.cls_token is False; expected 'mean' or 'attention'")
        one_of("image.stem", stem, STEMS)
        self.dtype, self.pool, self.mean, self.std = dtype, pool, tuple(mean), tuple(std)
        num_patches = (image_size // patch_size) ** 2
        self.stem = STEMS[stem](patch_size=patch_size, width=width, dtype=dtype, rngs=rngs)
        self.cls = embedding(1, width, rngs=rngs) if cls_token else None
        self.position = embedding(num_patches + cls_token, width, rngs=rngs)
        self.transformer = Transformer(
            width,
            depth=depth,
            heads=heads,
            mlp_ratio=mlp_ratio,
            drop_path=drop_path,
            remat=remat,
            form=form,
            dtype=dtype,
            rngs=rngs,
        )
        heads_of = {
            "pooler": lambda: Pooler(width, dtype=dtype, rngs=rngs),
            "attention": lambda: AttentionPool(
                width, heads=heads, mlp_ratio=mlp_ratio, form=form, dtype=dtype, rngs=rngs
            ),
        }
        self.head = heads_of[pool]() if pool in heads_of else None

    def __call__(self, image_BxHxWx3: jax.Array, keys_B: jax.Array | None = None) -> jax.Array:
        """Returns the pooled state (B,W) of each uint8 picture, in the compute dtype."""
        pixels = normalise(image_BxHxWx3, mean=self.mean, std=self.std)
        patches = self.stem(pixels.astype(self.dtype))
        B, _, _, W = patches.shape
        x_BxNxW = patches.reshape(B, -1, W)
        if self.cls is not None:
            x_BxNxW = jnp.concatenate([jnp.broadcast_to(self.cls[...], (B, 1, W)), x_BxNxW], axis=1)
        x_BxNxW = self.transformer(x_BxNxW + self.position[...], keys_B=keys_B)
        if self.pool == "mean":
            return x_BxNxW[:, int(self.cls is not None) :].mean(axis=1)
        if self.pool == "attention":
            return self.head(x_BxNxW)
        return x_BxNxW[:, 0] if self.head is None else self.head(x_BxNxW[:, 0])
