"""SigLIP (2303.15343) and SigLIP 2 (2502.14786): two towers without a projection of pictures.

Pictures have no [CLS]; a learned query attends to the patches. Texts are padded to one length, the padding is read,
and the last state is taken whatever it is of. The bias of its sigmoid loss is read where that loss is trained on: it
moves no softmax, and no order of answers. SigLIP 2 of variable resolution (model_type "siglip2") is loaded for square
pictures of one size;
those of fixed resolution call themselves "siglip".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ecommerce_vl.models.pretrained.clip import BLOCKS
from ecommerce_vl.models.pretrained.family import Family, blocks
from ecommerce_vl.models.pretrained.positions import bicubic, bilinear, resampled
from ecommerce_vl.models.pretrained.table import (
    Row,
    dense,
    first_rows,
    matrix,
    norm,
    one_row,
    patches,
    scalar,
    third,
    under,
)

DEFAULTS = {"hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6, "hidden_size": 768}
HEAD = (
    Row("query", "probe", one_row),
    *(
        row
        for number, name in enumerate(("query", "key", "value"))
        for row in (
            Row(f"attn/{name}/kernel", "attention.in_proj_weight", third(number, matrix)),
            Row(f"attn/{name}/bias", "attention.in_proj_bias", third(number)),
        )
    ),
    *dense("attn/out", "attention.out_proj"),
    *norm("norm", "layernorm"),
    *dense("mlp/up", "mlp.fc1"),
    *dense("mlp/down", "mlp.fc2"),
)
POSITION = Row("position", "embeddings.position_embedding.weight", fit=resampled(bicubic, num_special=0))
PATCH = Row("stem/projection/kernel", "embeddings.patch_embedding.weight", patches)
IMAGE = (
    PATCH,
    POSITION,
    Row("stem/projection/bias", "embeddings.patch_embedding.bias"),
    *under("transformer/blocks/", BLOCKS, "encoder.layers.{}."),
    *norm("transformer/norm", "post_layernorm"),
    *under("head/", HEAD, "head."),
)
IMAGE_2 = (
    PATCH._replace(read=matrix),  # a dense layer over patches in our own order
    POSITION._replace(fit=resampled(bilinear, num_special=0)),
    *IMAGE[2:],
)
TEXT = (
    Row("token", "embeddings.token_embedding.weight", fit=first_rows),
    Row("position", "embeddings.position_embedding.weight"),
    *under("transformer/blocks/", BLOCKS, "encoder.layers.{}."),
    *norm("transformer/norm", "final_layer_norm"),
)
DUAL = (
    *dense("text_projection", "text_model.head"),
    Row("logit_scale", "logit_scale", scalar),
    Row("logit_bias", "logit_bias", scalar),
)


def read(hf: Mapping[str, Any]) -> Family:
    """Of a config.json of model_type "siglip" or "siglip2"."""
    vision = DEFAULTS | {"patch_size": 16} | hf.get("vision_config", {})
    text = DEFAULTS | hf.get("text_config", {})
    image = {"patch_size": vision["patch_size"], "stem": "patch", "pool": "attention", "cls_token": False}
    rows = IMAGE_2 if hf["model_type"] == "siglip2" else IMAGE
    return Family(
        config={
            "image": blocks(vision) | image,
            "text": blocks(text) | {"pool": "last", "padding": "shown"},
            "dual": {
                "embed_dim": text.get("projection_size") or text["hidden_size"],
                "image": {"projection": "none"},
                "text": {"projection": "affine"},
            },
        },
        rows={"image": under("", rows, "vision_model."), "text": under("", TEXT, "text_model."), "dual": DUAL},
    )
