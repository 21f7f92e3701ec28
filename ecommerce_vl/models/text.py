"""The text encoder: a bidirectional transformer over sub-word ids.

Invariant: padding is invisible; the result does not depend on what lies under `text_mask == False`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from ecommerce_vl.models.transformer import POOLS, Transformer, embedding, mean_of_shown, one_of


class TextTransformer(nnx.Module):
    """Token and position embeddings, transformer, pooling.

    Args:
      vocab_size: rows of the embedding table; every id must be below it.
      max_length: tokens a text, [CLS] and [SEP] included.
      pool: "cls" takes the first state, "mean" the mean over the visible positions.
    """

    def __init__(
        self,
        *,
        vocab_size: int,
        max_length: int,
        width: int,
        depth: int,
        heads: int,
        mlp_ratio: float,
        pool: str,
        drop_path: float,
        remat: str,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        one_of("text.pool", pool, POOLS)
        self.pool = pool
        self.token = embedding(vocab_size, width, rngs=rngs)
        self.position = embedding(max_length, width, rngs=rngs)
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

    def __call__(self, text_ids_BxL: jax.Array, text_mask_BxL: jax.Array, keys_B=None) -> jax.Array:
        """Returns the pooled state (B,W) of each text, in the compute dtype.

        Args:
          text_ids_BxL: int32, L up to `max_length`.
          text_mask_BxL: bool, True at real tokens. A row without any is treated as showing its first position, which
            keeps the softmax finite; the caller masks such rows by `has_text`.
        """
        x_BxLxW = self.states(text_ids_BxL, text_mask_BxL, keys_B)
        if self.pool == "cls":
            return x_BxLxW[:, 0]
        return mean_of_shown(x_BxLxW, _visible(text_mask_BxL))

    def states(self, text_ids_BxL: jax.Array, text_mask_BxL: jax.Array, keys_B=None) -> jax.Array:
        """Returns the state (B,L,W) of every token; those of padding mean nothing. Arguments as of the call."""
        x_BxLxW = self.token[...][text_ids_BxL] + self.position[...][: text_ids_BxL.shape[1]]
        return self.transformer(x_BxLxW, _visible(text_mask_BxL), keys_B)


def _visible(text_mask_BxL: jax.Array) -> jax.Array:
    return jnp.asarray(text_mask_BxL).at[:, 0].set(True)
