"""The image encoder: a vision transformer over patches, cut by one projection, a convolutional or a gradient stem.

Invariant: pixels come in as uint8 and are normalised here, on the device, with the mean and deviation that the
model was built with; the result is one pooled hidden state a picture.
"""

from __future__ import annotations

import math
from itertools import pairwise

import jax
import jax.numpy as jnp
from flax import nnx

from ecommerce_vl.errors import one_of
from ecommerce_vl.models.pooling import AttentionPool, Pooler
from ecommerce_vl.models.transformer import OURS, Form, Transformer, attention_output, embedding, linear

POOLS = ("cls", "mean", "pooler", "attention")
CELL = 4  # pixels; the side of the cells of a gradient stem, and what the first stage of a convolutional one reads
DIRECTIONS = tuple(2 * math.pi * step / 8 for step in range(8))
NUM_CELL_FEATURES = 2 * len(DIRECTIONS) + 3 + 3 + 4


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


def sides_of_stages(patch_size: int, *, least: int) -> list[int]:
    """By how much each stage divides the resolution: 4 first, the side of a cell, then 2 down to the patches.

    Errors: ValueError for a patch that is not `least` times a power of two.
    """
    halvings = (patch_size // CELL).bit_length() - 1
    if patch_size < least or CELL << halvings != patch_size:
        raise ValueError(f"image.patch_size is {patch_size}; this image.stem needs {least} or twice, 4 times, … that")
    return [CELL] + [2] * halvings


def conv_stages(num_in: int, *, sides: list[int], width: int, dtype: jnp.dtype, rngs: nnx.Rngs) -> nnx.List:
    """A `ConvStage` for each side; channels double up to the width."""
    channels = [num_in] + [max(16, width >> above) for above in reversed(range(len(sides)))]
    stages = zip(pairwise(channels), sides, strict=True)
    return nnx.List(ConvStage(*ends, side=side, dtype=dtype, rngs=rngs) for ends, side in stages)


class ConvStem(nnx.Module):
    """A few convolutional stages in place of one large patch projection (Xiao et al., 2106.14881).

    Strided convolutions are written as patches and a matrix product: a stem with strided ones took XLA on CPU about
    twice as long (2026-11). The bias of convolutions towards neighbourhoods is what a transformer cannot learn from a
    few thousand pictures. LayerNorm only: a norm coupled across the batch would break exact accumulation.
    """

    def __init__(self, *, patch_size: int, width: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        sides = sides_of_stages(patch_size, least=CELL)
        self.stages = conv_stages(3, sides=sides, width=width, dtype=dtype, rngs=rngs)

    def __call__(self, x_BxHxWxC: jax.Array) -> jax.Array:
        """(B,h,w,W) of normalised pixels (C = 3), a state a patch."""
        for stage in self.stages:
            x_BxHxWxC = stage(x_BxHxWxC)
        return x_BxHxWxC


def mean_of_cells(x_BxHxWxC: jax.Array) -> jax.Array:
    """(B, H/4, W/4, C)."""
    B, H, W, C = x_BxHxWxC.shape
    return x_BxHxWxC.reshape(B, H // CELL, CELL, W // CELL, CELL, C).mean(axis=(2, 4))


def cell_features(pixels_BxHxWx3: jax.Array) -> jax.Array:
    """What a picture shows in cells of 4 x 4 pixels, without training: float32 (B, H/4, W/4, 26) of normalised pixels.

    Shapes: float32 in, sides multiples of 4.

    Eight directions of the gradient of the brightness, each weighted by cos^3 of what lies between, first over the norm
    of the 3 x 3 cells around (histograms of oriented gradients, Dalal and Triggs, CVPR 2005), then as they are; mean
    and deviation of each channel; the opponent colours red-green and yellow-blue, and their opposites, rectified.
    """
    _, H, W, _ = pixels_BxHxWx3.shape
    grey = jnp.pad(pixels_BxHxWx3.mean(axis=-1), ((0, 0), (1, 1), (1, 1)), mode="edge")
    right, down = grey[:, 1:-1, 2:] - grey[:, 1:-1, :-2], grey[:, 2:, 1:-1] - grey[:, :-2, 1:-1]
    square = right**2 + down**2 + 1e-6
    along = [right * math.cos(angle) + down * math.sin(angle) for angle in DIRECTIONS]
    edges = mean_of_cells(jnp.stack([jax.nn.relu(x) ** 3 / square for x in along], axis=-1))
    energy = jnp.pad((edges**2).sum(axis=-1, keepdims=True), ((0, 0), (1, 1), (1, 1), (0, 0)))
    around = sum(energy[:, i : i + H // CELL, j : j + W // CELL] for i in range(3) for j in range(3))
    colours = mean_of_cells(pixels_BxHxWx3)
    deviation = jnp.sqrt(jnp.maximum(mean_of_cells(pixels_BxHxWx3**2) - colours**2, 0) + 1e-4)
    red, green, blue = jnp.moveaxis(pixels_BxHxWx3, -1, 0)
    opponents = jnp.stack([red - green, (red + green) / 2 - blue], axis=-1)
    opposed = mean_of_cells(jax.nn.relu(jnp.concatenate([opponents, -opponents], axis=-1)))
    # Factors that bring all to about the same size.
    return jnp.concatenate([2 * edges / jnp.sqrt(around + 1e-3), 4 * edges, colours, deviation, opposed], axis=-1)


class GradientStem(nnx.Module):
    """Fixed gradients and colours of small cells, then convolutional stages, for a few thousand pictures.

    What a first convolutional layer would have to learn is given, as in hybrid scattering networks (Oyallon et al.,
    1703.08961): it cannot overfit, and has no backward pass.
    """

    def __init__(self, *, patch_size: int, width: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.dtype = dtype
        sides = sides_of_stages(patch_size, least=2 * CELL)[1:]
        self.stages = conv_stages(NUM_CELL_FEATURES, sides=sides, width=width, dtype=dtype, rngs=rngs)

    def __call__(self, pixels_BxHxWx3: jax.Array) -> jax.Array:
        """(B,h,w,W) of normalised pixels, a state a patch."""
        # Sums in float32; the pixels come in the compute dtype.
        x_BxHxWxC = cell_features(pixels_BxHxWx3.astype(jnp.float32)).astype(self.dtype)
        for stage in self.stages:
            x_BxHxWxC = stage(x_BxHxWxC)
        return x_BxHxWxC


STEMS = {"patch": PatchStem, "conv": ConvStem, "gradient": GradientStem}


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
            attention_out=attention_output(pool),
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
