"""BERT (1810.04805): post-norm blocks over words; into the text tower, or into blocks and words of the joint encoder.

The one segment that we have is its first, whose vector is added to the positions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ecommerce_vl.errors import UserError
from ecommerce_vl.models.pretrained.family import Family, blocks
from ecommerce_vl.models.pretrained.table import Row, dense, first_rows, norm, under

DEFAULTS = {"hidden_act": "gelu", "layer_norm_eps": 1e-12}
LAYER = "encoder.layer.{}."
BLOCKS = (
    *dense("attn/query", "attention.self.query"),
    *dense("attn/key", "attention.self.key"),
    *dense("attn/value", "attention.self.value"),
    *dense("attn/out", "attention.output.dense"),
    *norm("attn_norm", "attention.output.LayerNorm"),
    *dense("mlp/up", "intermediate.dense"),
    *dense("mlp/down", "output.dense"),
    *norm("mlp_norm", "output.LayerNorm"),
)
TRANSFORMER = (
    *norm("transformer/embed_norm", "embeddings.LayerNorm"),
    *under("transformer/blocks/", BLOCKS, LAYER),
)
TOKEN = Row("token", "embeddings.word_embeddings.weight", fit=first_rows)
POSITION = (
    "embeddings.position_embeddings.weight",
    "embeddings.token_type_embeddings.weight",
)


def _first_segment(x_SxW):
    """Of the segments, a table of two rows, the first; of the positions, which are many, all."""
    return x_SxW[:1] if len(x_SxW) <= 2 else x_SxW


TEXT = (TOKEN, Row("position", POSITION, _first_segment, first_rows), *TRANSFORMER)
POOLER = dense("head/dense", "pooler.dense")
JOINT = (TOKEN, Row("text_position", POSITION, _first_segment, first_rows), *TRANSFORMER)


def read(hf: Mapping[str, Any]) -> Family:
    """Of a config.json of model_type "bert".

    Errors: UserError for relative positions, which we do not have.
    """
    kind = hf.get("position_embedding_type") or "absolute"
    if kind != "absolute" or hf.get("is_decoder"):
        raise UserError(f"this BERT has {kind} positions, is_decoder {hf.get('is_decoder')}; expected absolute, False")
    tower = blocks(DEFAULTS | dict(hf), norm="post", embed_norm=True)
    return Family(
        config={"text": tower, "joint": tower},
        rows={"text": TEXT, "text.pooler": POOLER, "joint": JOINT},
        prefix="bert.",
    )
