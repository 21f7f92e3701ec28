"""ViT (2010.11929): pre-norm blocks over patches; into the image tower."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ecommerce_vl.models.pretrained.family import Family, blocks
from ecommerce_vl.models.pretrained.positions import bicubic, resampled
from ecommerce_vl.models.pretrained.table import Row, dense, norm, one_row, patches, under

DEFAULTS = {"hidden_act": "gelu", "layer_norm_eps": 1e-12, "patch_size": 16}
BLOCKS = (
    *norm("attn_norm", "layernorm_before"),
    *dense("attn/query", "attention.attention.query"),
    *dense("attn/key", "attention.attention.key"),
    *dense("attn/value", "attention.attention.value"),
    *dense("attn/out", "attention.output.dense"),
    *norm("mlp_norm", "layernorm_after"),
    *dense("mlp/up", "intermediate.dense"),
    *dense("mlp/down", "output.dense"),
)
IMAGE = (
    Row("stem/projection/kernel", "embeddings.patch_embeddings.projection.weight", patches),
    Row("stem/projection/bias", "embeddings.patch_embeddings.projection.bias"),
    Row("cls", "embeddings.cls_token", one_row),
    Row("position", "embeddings.position_embeddings", lambda x: x[0], resampled(bicubic, num_special=1)),
    *under("transformer/blocks/", BLOCKS, "encoder.layer.{}."),
    *norm("transformer/norm", "layernorm"),
)
POOLER = dense("head/dense", "pooler.dense")
NO_BIAS = ("attn/query/bias", "attn/key/bias", "attn/value/bias")


def read(hf: Mapping[str, Any]) -> Family:
    """Of a config.json of model_type "vit"."""
    hf = DEFAULTS | dict(hf)
    biases = {f"transformer/blocks/{name}" for name in NO_BIAS} if not hf.get("qkv_bias", True) else set()
    rows = tuple(row._replace(theirs=()) if row.ours in biases else row for row in IMAGE)
    image = blocks(hf) | {"patch_size": hf["patch_size"], "stem": "patch"}
    return Family(config={"image": image}, rows={"image": rows, "image.pooler": POOLER}, prefix="vit.")
