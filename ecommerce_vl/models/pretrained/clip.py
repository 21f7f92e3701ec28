"""CLIP (2103.00020): two towers and their projections.

Its texts are read causally, and the state of the last token is taken, which is always [EOS]. Its patch projection has
no bias: ours begins at zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ecommerce_vl.models.pretrained.family import Family, blocks
from ecommerce_vl.models.pretrained.positions import bicubic, resampled
from ecommerce_vl.models.pretrained.table import Row, dense, first_rows, matrix, norm, one_row, patches, scalar, under

DEFAULTS = {"hidden_act": "quick_gelu", "layer_norm_eps": 1e-5}
IMAGE_DEFAULTS = {"patch_size": 32}
TEXT_DEFAULTS = {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8}
BLOCKS = (
    *norm("attn_norm", "layer_norm1"),
    *dense("attn/query", "self_attn.q_proj"),
    *dense("attn/key", "self_attn.k_proj"),
    *dense("attn/value", "self_attn.v_proj"),
    *dense("attn/out", "self_attn.out_proj"),
    *norm("mlp_norm", "layer_norm2"),
    *dense("mlp/up", "mlp.fc1"),
    *dense("mlp/down", "mlp.fc2"),
)
IMAGE = (
    Row("stem/projection/kernel", "embeddings.patch_embedding.weight", patches),
    Row("stem/projection/bias", ()),
    Row("cls", "embeddings.class_embedding", one_row),
    Row("position", "embeddings.position_embedding.weight", fit=resampled(bicubic, num_special=1)),
    *norm("transformer/embed_norm", "pre_layrnorm"),
    *under("transformer/blocks/", BLOCKS, "encoder.layers.{}."),
    *norm("transformer/norm", "post_layernorm"),
)
TEXT = (
    Row("token", "embeddings.token_embedding.weight", fit=first_rows),
    Row("position", "embeddings.position_embedding.weight", fit=first_rows),
    *under("transformer/blocks/", BLOCKS, "encoder.layers.{}."),
    *norm("transformer/norm", "final_layer_norm"),
)
DUAL = (
    Row("image_projection/kernel", "visual_projection.weight", matrix),
    Row("text_projection/kernel", "text_projection.weight", matrix),
    Row("logit_scale", "logit_scale", scalar),
)


def read(hf: Mapping[str, Any]) -> Family:
    """Of a config.json of model_type "clip"."""
    vision = DEFAULTS | IMAGE_DEFAULTS | hf.get("vision_config", {})
    text = DEFAULTS | TEXT_DEFAULTS | hf.get("text_config", {})
    return Family(
        config={
            "image": blocks(vision, embed_norm=True)
            | {"patch_size": vision["patch_size"], "stem": "patch", "pool": "cls"},
            "text": blocks(text, causal=True) | {"pool": "last"},
            "dual": {"embed_dim": hf.get("projection_dim", 512)},
        },
        rows={"image": under("", IMAGE, "vision_model."), "text": under("", TEXT, "text_model."), "dual": DUAL},
        fold=_without_patch_bias,
    )


def _without_patch_bias(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The bias of the patch projection, which training may have moved, as a part of the positions of all patches."""
    bias, position = arrays["image/stem/projection/bias"], np.array(arrays["image/position"])
    position[1:] += bias  # the first is that of [CLS]
    return {**arrays, "image/stem/projection/bias": np.zeros_like(bias), "image/position": position}
