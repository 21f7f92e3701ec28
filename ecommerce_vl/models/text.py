"""The text encoder: a transformer over sub-word ids.

Invariant: padding is invisible, unless the architecture is one that reads it (`padding="shown"`); the result does not
depend on what lies under `text_mask == False`.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from ecommerce_vl.errors import one_of
from ecommerce_vl.models.pooling import Pooler
from ecommerce_vl.models.transformer import OURS, Form, Transformer, attention_output, embedding, mean_of_shown

POOLS = ("cls", "mean", "last", "pooler")
PADDINGS = ("hidden", "shown")


class TextTransformer(nnx.Module):
    """Token and position embeddings, transformer, pooling.

    Args:
      vocab_size: rows of the embedding table; every id must be below it.
      max_length: tokens a text, [CLS] and [SEP] included.
      pool: "cls" takes the first state, "mean" the mean over the visible positions, "last" the last visible state
        (CLIP's [EOS]), "pooler" a tanh layer over the first one (BERT).
      padding: "hidden", or "shown": SigLIP (2303.15343) was trained to read it.
      form: of the blocks.
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
        form: Form = OURS,
        padding: str = "hidden",
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        one_of("text.pool", pool, POOLS)
        one_of("text.padding", padding, PADDINGS)
        self.pool, self.padding = pool, padding
        self.token = embedding(vocab_size, width, rngs=rngs)
        self.position = embedding(max_length, width, rngs=rngs)
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
        self.head = Pooler(width, dtype=dtype, rngs=rngs) if pool == "pooler" else None

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
        if self.pool == "pooler":
            return self.head(x_BxLxW[:, 0])
        visible_BxL = self._visible(text_mask_BxL)
        if self.pool == "last":
            last_B = visible_BxL.shape[1] - 1 - jnp.argmax(visible_BxL[:, ::-1], axis=1)
            return jnp.take_along_axis(x_BxLxW, last_B[:, None, None], axis=1)[:, 0]
        return mean_of_shown(x_BxLxW, visible_BxL)

    def states(self, text_ids_BxL: jax.Array, text_mask_BxL: jax.Array, keys_B=None) -> jax.Array:
        """Returns the state (B,L,W) of every token; those of hidden padding mean nothing. Arguments as of the call."""
        x_BxLxW = self.token[...][text_ids_BxL] + self.position[...][: text_ids_BxL.shape[1]]
        return self.transformer(x_BxLxW, self._visible(text_mask_BxL), keys_B)

    def _visible(self, text_mask_BxL: jax.Array) -> jax.Array:
        return jnp.asarray(text_mask_BxL).at[:, 0].set(True) | (self.padding == "shown")
