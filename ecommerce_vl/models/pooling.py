"""Learned ways from the states of a sequence to one vector; what needs no parameters is in the encoders.

Invariant: a pooled row depends on the states of that row alone.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from ecommerce_vl.models.transformer import Attention, Form, Mlp, embedding, layer_norm, linear


class Pooler(nnx.Module):
    """tanh of a dense layer over one state (BERT, 1810.04805)."""

    def __init__(self, width: int, *, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.dense = linear(width, width, dtype=dtype, rngs=rngs)

    def __call__(self, x_BxW: jax.Array) -> jax.Array:
        """(B,W) of (B,W), in the compute dtype."""
        return jnp.tanh(self.dense(x_BxW))


class AttentionPool(nnx.Module):
    """A learned query attends to all states; a perceptron on top (multi-head attention pooling, 2106.04560, SigLIP)."""

    def __init__(self, width: int, *, heads: int, mlp_ratio: float, form: Form, dtype: jnp.dtype, rngs: nnx.Rngs):
        self.query = embedding(1, width, rngs=rngs)
        # Not zero at the start as in a block: nothing else leads from the states to the vector.
        self.attn = Attention(width, heads=heads, out=linear, dtype=dtype, rngs=rngs)
        self.norm = layer_norm(width, form=form, dtype=dtype, rngs=rngs)
        self.mlp = Mlp(width, hidden=round(width * mlp_ratio), form=form, dtype=dtype, rngs=rngs)

    def __call__(self, x_BxNxW: jax.Array) -> jax.Array:
        """(B,W) of states (B,N,W), in the compute dtype."""
        query_Bx1xW = jnp.broadcast_to(self.query[...], (x_BxNxW.shape[0], *self.query.shape))
        x_Bx1xW = self.attn(x_BxNxW, None, query_Bx1xW.astype(x_BxNxW.dtype))
        return (x_Bx1xW + self.mlp(self.norm(x_Bx1xW)))[:, 0]
