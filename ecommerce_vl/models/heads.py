"""Heads over the joint encoder's states: words and patches, from their own state or from the global one, and matching.

    own       f(h_i)                the state of the masked position
    global    f([g ; e(pos_i)])     the global state and the position alone: no state of a position enters

The word heads end in the encoder's own table of tokens (tied, as in BERT 1810.04805) and a bias. The global form is
ITEm's (2311.02084); how a position enters it is not public, and the concatenation is our default.

Invariant: heads are called with gathered positions (B,M,…), never with whole sequences.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from ecommerce_vl.models.transformer import linear, whole


class Transform(nnx.Module):
    """dense, GELU, LayerNorm."""

    def __init__(self, num_in: int, width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.dense = linear(num_in, width, dtype=dtype, rngs=rngs)
        self.norm = nnx.LayerNorm(width, dtype=dtype, rngs=rngs)

    def __call__(self, x_BxMxC: jax.Array) -> jax.Array:
        """(B,M,W) in the compute dtype."""
        return self.norm(jax.nn.gelu(self.dense(x_BxMxC)))


class WordHead(nnx.Module):
    """Logits over the vocabulary.

    Args:
      num_in: width of what comes in.
      width: of the token table.
    """

    def __init__(self, num_in: int, *, width: int, vocab_size: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.dtype = dtype
        self.transform = Transform(num_in, width, dtype=dtype, rngs=rngs)
        self.bias = nnx.Param(jnp.zeros(vocab_size))

    def __call__(self, x_BxMxC: jax.Array, token_VxW: jax.Array) -> jax.Array:
        """(B,M,V) float32.

        Args:
          token_VxW: the encoder's table, which this head is tied to.
        """
        token_VxW = whole(token_VxW).astype(self.dtype)
        logits_BxMxV = jnp.einsum("bmw,vw->bmv", self.transform(x_BxMxC), token_VxW, preferred_element_type=jnp.float32)
        return logits_BxMxV + self.bias[...]


class PatchHead(nnx.Module):
    """Pixels of a patch from its state."""

    def __init__(self, num_in: int, *, width: int, num_out: int, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.transform = Transform(num_in, width, dtype=dtype, rngs=rngs)
        self.pixels = linear(width, num_out, dtype=dtype, rngs=rngs)

    def __call__(self, x_BxMxC: jax.Array) -> jax.Array:
        """(B,M,num_out) float32."""
        return self.pixels(self.transform(x_BxMxC)).astype(jnp.float32)


class MatchHead(nnx.Module):
    """Whether picture and title belong to one product, from the global state."""

    def __init__(self, width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.linear = linear(width, 2, dtype=dtype, rngs=rngs)

    def __call__(self, cls_BxW: jax.Array) -> jax.Array:
        """Logits (B,2) float32 of "they belong to different products" and "to one"."""
        return self.linear(cls_BxW).astype(jnp.float32)


def global_input(cls_BxW: jax.Array, position_BxMxW: jax.Array) -> jax.Array:
    """[g ; e(pos)] (B,M,2W): what a global head reads, in the compute dtype of g."""
    B, M, W = position_BxMxW.shape
    g_BxMxW = jnp.broadcast_to(cls_BxW[:, None], (B, M, W))
    return jnp.concatenate([g_BxMxW, position_BxMxW.astype(cls_BxW.dtype)], axis=2)
