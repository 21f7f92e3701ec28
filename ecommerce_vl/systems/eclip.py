"""e-CLIP (NAVER, 2207.00208): a dual encoder trained by one contrastive loss whose labels know the catalog.

Sizes, text length, augmentation and optimizer of the paper are not public; those here are our defaults.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from ecommerce_vl.errors import one_of
from ecommerce_vl.losses.candidates import Candidates, Rule
from ecommerce_vl.losses.contrastive import candidate_loss, check_sweep
from ecommerce_vl.models.dual import DualEncoder
from ecommerce_vl.systems.encoders import VIEWS, embed_dual, row_keys
from ecommerce_vl.systems.two_towers import TwoTowers

OBJECTIVES = ("softmax", "sigmoid")
LABEL_MODES = ("one_hot", "catalog", "mask")
# What the rows and columns of the loss are here.
NAMES = {"row_top1": "i2t_top1", "column_top1": "t2i_top1", "row_rank": "image_rank", "column_rank": "text_rank"}


class EClip(TwoTowers):
    """The system protocol of `ecommerce_vl/systems/__init__.py`, for e-CLIP.

    Errors: ValueError that begins with the key of the config.
    """

    views = VIEWS
    fusion = "norm(image + text)"
    shown = (
        ("i→t", "i2t_top1", "6.1%"),
        ("t→i", "t2i_top1", "6.1%"),
        ("shared", "shared_rows", "5.1%"),
        ("scale", "logit_scale", "5.1f"),
        ("rank i", "image_rank", ".0f"),
        ("rank t", "text_rank", ".0f"),
    )

    def __init__(self, config, *, vocab_size: int, special_ids: Mapping[str, int]):
        super().__init__(config, vocab_size=vocab_size)
        one_of("label_mode", config["label_mode"], LABEL_MODES)
        loss = config["loss"]
        one_of("loss.objective", loss["objective"], OBJECTIVES)
        labels = {"label_mode": config["label_mode"], "alpha": config["catalog_alpha"]}
        self.rule = Rule(kind=loss["objective"], span=loss["span"], **labels)
        self.sweep = {name: loss[name] for name in ("impl", "chunk_rows")}
        check_sweep(**self.sweep)

    def encode(self, model: DualEncoder, batch, rng: jax.Array) -> dict[str, jax.Array]:
        """Unit vectors (B,D) float32 of the pictures and of the texts."""
        keys_B = row_keys(rng, batch["product_key"])
        return {
            "image": model.encode_image(batch["image"], keys_B),
            "text": model.encode_text(batch["text_ids"], batch["text_mask"], keys_B),
        }

    def contrast(self, model: DualEncoder, encoded, batch, extra, mesh):
        """The loss of the global batch with its catalog labels; rows without a picture or a title do not count."""
        valid_B = batch["valid"] & batch["has_image"] & batch["has_text"]
        texts = Candidates(encoded["text"], batch["catalog_key"], valid_B)
        scale, bias = model.logit_scale[...], None if model.logit_bias is None else model.logit_bias[...]
        how = {"rule": self.rule, "mesh": mesh, **self.sweep}
        loss, found = candidate_loss(encoded["image"], texts, scale, bias=bias, **how)
        metrics = {NAMES.get(name, name): value for name, value in found.items()}
        return loss, metrics | {"logit_scale": jnp.exp(scale)}, extra

    def embed(self, model: DualEncoder, batch, views: tuple[str, ...]) -> dict[str, jax.Array]:
        """Unit vectors (B,D) float32 of each view. "product" is norm(image + text), or the one that there is."""
        return embed_dual(model, batch, views)
