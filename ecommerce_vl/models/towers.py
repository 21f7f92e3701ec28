"""A query tower and a product tower into one space, and the heads that train them.

The product tower is the joint encoder over picture and title. The query tower is the same encoder with its picture slot
absent (2304.04377), or a text encoder of its own (2301.12646), which starts as a copy of the words, positions and
blocks of the product tower. Pooling is the mean over what is not padding, or [CLS].

Invariant: a product's vector depends on the product alone, so that it can be indexed.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from ecommerce_vl.errors import one_of
from ecommerce_vl.models.cross import CrossEncoder
from ecommerce_vl.models.dual import unit
from ecommerce_vl.models.joint import POOLS, JointEncoder, States
from ecommerce_vl.models.recall import RecallHead
from ecommerce_vl.models.text import TextTransformer
from ecommerce_vl.models.transformer import linear, mean_of_shown


class QueryStates(NamedTuple):
    """Of queries: `states_BxLxW`, and what pools them into `pooled_BxW`; in the compute dtype."""

    states_BxLxW: jax.Array
    pooled_BxW: jax.Array


class QueryProductTowers(nnx.Module):
    """Both towers, their projections, the temperature, and what is used in training only.

    Args:
      joint: the product tower.
      query: the query tower's own encoder, of the sizes of `joint`, or None to share the product tower.
      embed_dim: D of the vectors.
      pool: "mean" or "cls".
      cross: for the matching losses, or None.
      heads: modules of masked words and patches by name; {} for none.
      recall: what fine-tuning puts upon both vectors, or None.
      logit_scale, logit_bias: log of 1 / temperature at the start; and the bias of the sigmoid loss, if it is that.
    """

    def __init__(
        self,
        *,
        joint: JointEncoder,
        query: TextTransformer | None,
        width: int,
        embed_dim: int,
        pool: str,
        cross: CrossEncoder | None,
        heads: dict[str, nnx.Module],
        logit_scale: float,
        logit_bias: float | None,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
        recall: RecallHead | None = None,
    ):
        one_of("pool", pool, POOLS)
        self.pool = pool
        self.joint, self.query, self.cross, self.heads = joint, query, cross, nnx.Dict(heads)
        self.recall = recall
        if query is not None:
            _copy(query, joint)
        project = lambda: linear(width, embed_dim, dtype=dtype, rngs=rngs, use_bias=False)
        self.projection = project()
        self.query_projection = None if query is None else project()
        self.logit_scale = nnx.Param(jnp.asarray(logit_scale, jnp.float32))
        self.logit_bias = None if logit_bias is None else nnx.Param(jnp.asarray(logit_bias, jnp.float32))

    def read_queries(self, text_ids_BxL: jax.Array, text_mask_BxL: jax.Array, keys_B=None) -> QueryStates:
        """The states of queries; a query of padding alone pools to zeros.

        Args:
          text_ids_BxL, text_mask_BxL: int32, bool; L up to the `max_length` of the encoder.
          keys_B: one random key a row turns stochastic depth on.
        """
        if self.query is not None:
            states_BxLxW = self.query.states(text_ids_BxL, text_mask_BxL, keys_B)
            cls_BxW = states_BxLxW[:, 0]  # the tokenizer's own first symbol
        else:
            there_B = text_mask_BxL.any(axis=1)
            absent_B = jnp.zeros(text_ids_BxL.shape[0], bool)
            states = self.joint(
                None, text_ids_BxL, text_mask_BxL, has_image_B=absent_B, has_text_B=there_B, keys_B=keys_B
            )
            states_BxLxW, cls_BxW = states.text_BxLxW, states.cls_BxW
        pooled_BxW = cls_BxW if self.pool == "cls" else mean_of_shown(states_BxLxW, text_mask_BxL)
        return QueryStates(states_BxLxW, pooled_BxW)

    def query_vector(self, states: QueryStates) -> jax.Array:
        """Unit vectors (B,D) float32; zeros for an empty query under "mean"."""
        vector_BxD = unit((self.projection if self.query is None else self.query_projection)(states.pooled_BxW))
        return vector_BxD if self.recall is None else self.recall.query_vector(vector_BxD)

    def product_vector(self, states: States, id_row_B: jax.Array | None = None) -> jax.Array:
        """Unit vectors (B,D) float32; zeros under "mean" for a product without picture and text, where it has no id.

        Args:
          id_row_B: int32 rows of the table of ids; None for content alone, and without `recall`.
        """
        vector_BxD = unit(self.projection(states.pooled(self.pool)))
        return vector_BxD if self.recall is None else self.recall.product_vector(vector_BxD, id_row_B)


def _copy(query: TextTransformer, joint: JointEncoder) -> None:
    """The parameters of a text encoder from those of a joint encoder of its sizes."""
    query.token[...], query.position[...] = joint.token[...], joint.text_position[...]
    nnx.update(query.transformer, nnx.state(joint.transformer))
