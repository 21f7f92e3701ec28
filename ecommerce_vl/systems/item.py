"""ITEm (eBay, 2311.02084): one encoder of picture and title, five objectives, no labels and no regions of interest.

    itm    do picture and title belong together                          from g
    mlm    masked words           from the state of their position       gmlm  from g and their position alone
    mim    masked patches         from the state of their position       gmim  from g and their position alone

g is the state of [CLS], and the product's embedding. The global objectives force what both modalities say into g. The
paper publishes the objectives, not their form: losses, ratios, heads, negatives and sizes here are our defaults.

Invariants: all rows are masked alike, mismatched or not, so a mask tells nothing of the match; the objectives of words
and patches count on matched rows alone; embedding masks nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from ecommerce_vl.errors import none_below_zero, one_of
from ecommerce_vl.losses.adaptive import adaptive_weights
from ecommerce_vl.losses.tokens import (
    PATCH_LOSSES,
    RowSum,
    cross_entropy,
    global_mean,
    patch_distance,
    patch_targets,
    row_sum,
)
from ecommerce_vl.models.dual import unit
from ecommerce_vl.models.heads import MatchHead, PatchHead, WordHead, global_input
from ecommerce_vl.models.joint import JointEncoder, States
from ecommerce_vl.models.transformer import embedding
from ecommerce_vl.systems.encoders import VIEWS, compute_dtype, embed_views, joint_encoder, read, row_keys
from ecommerce_vl.systems.masking import Chosen, Vocabulary, choose, replace_words, split_keys

OBJECTIVES = ("itm", "mlm", "mim", "gmlm", "gmim")
MASK_MODES = ("joint", "conditional")
GLOBAL_POSITIONS = ("shared", "separate", "none")
USES = ("words", "replacements", "patches", "modality", "paths")  # of a row's key; append, never reorder


class ItemModel(nnx.Module):
    """The joint encoder and its five heads.

    Args:
      num_pixels: values of a patch.
      positions: of the global heads: those of the encoder ("shared"), tables of their own ("separate"), or zeros
        ("none"), by which a head cannot tell one masked position from another.
    """

    def __init__(
        self,
        encoder: JointEncoder,
        *,
        num_pixels: int,
        positions: str,
        dtype: jnp.dtype,
        rngs: nnx.Rngs,
    ):
        self.encoder = encoder
        vocab_size, width = encoder.token.shape
        shared = {"width": width, "dtype": dtype, "rngs": rngs}
        self.itm = MatchHead(**shared)
        self.mlm = WordHead(width, vocab_size=vocab_size, **shared)
        self.mim = PatchHead(width, num_out=num_pixels, **shared)
        self.gmlm = WordHead(2 * width, vocab_size=vocab_size, **shared)
        self.gmim = PatchHead(2 * width, num_out=num_pixels, **shared)
        self.positions = positions
        if positions == "separate":
            self.text_position = embedding(encoder.text_position.shape[0], width, rngs=rngs)
            self.image_position = embedding(encoder.image_position.shape[0], width, rngs=rngs)

    def words(self, states: States, chosen: Chosen) -> jax.Array:
        """Logits (B,M,V) of the chosen words from their own states."""
        return self.mlm(chosen.take(states.text_BxLxW), self.encoder.token[...])

    def patches(self, states: States, chosen: Chosen) -> jax.Array:
        """Pixels (B,M,C) of the chosen patches from their own states."""
        return self.mim(chosen.take(states.image_BxNxW))

    def global_words(self, states: States, chosen: Chosen) -> jax.Array:
        """Logits (B,M,V) of the chosen words from g and their positions."""
        return self.gmlm(self._global_input(states, chosen, "text_position"), self.encoder.token[...])

    def global_patches(self, states: States, chosen: Chosen) -> jax.Array:
        """Pixels (B,M,C) of the chosen patches from g and their positions."""
        return self.gmim(self._global_input(states, chosen, "image_position"))

    def _global_input(self, states: States, chosen: Chosen, name: str) -> jax.Array:
        table = getattr(self if self.positions == "separate" else self.encoder, name)
        position_BxMxW = table[...][chosen.index_BxM]
        return global_input(states.cls_BxW, position_BxMxW * (self.positions != "none"))


class Item:
    """The system protocol of `ecommerce_vl/systems/__init__.py`, for ITEm."""

    views = VIEWS
    fusion = "joint encoder"  # picture and words are read in one pass

    def __init__(self, config, *, vocab_size: int, special_ids: Mapping[str, int]):
        one_of("mask_mode", config["mask_mode"], MASK_MODES)
        one_of("mim_loss", config["mim_loss"], PATCH_LOSSES)
        one_of("global_pos_embed", config["global_pos_embed"], GLOBAL_POSITIONS)
        for name in ("text_mask_ratio", "image_mask_ratio"):
            if not 0 < config[name] <= 1:
                raise ValueError(f"{name} is {config[name]}; expected above 0, at most 1")
        if config["embed_dim"] != config["joint"]["width"]:
            raise ValueError(
                f"embed_dim is {config['embed_dim']}; expected joint.width, {config['joint']['width']}, "
                "since the embedding is a state of the encoder"
            )
        weights = config["weights"]
        none_below_zero("weights", weights)
        if not any(weights.values()):
            raise ValueError(f"weights.{next(iter(weights))} is 0, as the others are; expected one above 0")
        self.config, self.vocab_size = config, vocab_size
        self.vocabulary = Vocabulary(vocab_size, special_ids)
        self.objectives = tuple(name for name in OBJECTIVES if weights[name] > 0)
        matching = (("itm", "itm_accuracy", "5.1%"), ("hard", "itm_hard_accuracy", "5.1%"))
        self.shown = (
            *(matching if "itm" in self.objectives else ()),
            *((name, f"loss_{name}", "5.2f") for name in self.objectives if name != "itm"),
            ("cos", "mean_cosine", "5.2f"),
        )

    def build(self, rngs: nnx.Rngs) -> ItemModel:
        """The encoder and the heads that the config describes."""
        return ItemModel(
            joint_encoder(self.config, vocab_size=self.vocab_size, rngs=rngs),
            num_pixels=3 * self.config["image"]["patch_size"] ** 2,
            positions=self.config["global_pos_embed"],
            dtype=compute_dtype(self.config["dtype"]),
            rngs=rngs,
        )

    def make_extra(self) -> dict:
        """Nothing."""
        return {}

    def encode(self, model: ItemModel, batch, rng: jax.Array) -> dict[str, jax.Array | RowSum]:
        """{objective or metric: sum and count (B,)} of each row, and `unit`, its embedding (B,W)."""
        keys = split_keys(row_keys(rng, batch["product_key"]), USES)
        words, patches = self.choose(keys, batch)
        text_ids_BxL, word_BxM = replace_words(keys["replacements"], batch["text_ids"], words, self.vocabulary)
        encoder = model.encoder
        marks_BxN = patches.marks(encoder.image_position.shape[0])
        states = read(encoder, {**batch, "text_ids": text_ids_BxL}, masked_BxN=marks_BxN, keys_B=keys["paths"])
        raw_BxMxC = patches.take(encoder.raw_patches(batch["image"]))
        target_BxMxC, shows_BxM = patch_targets(raw_BxMxC, normalise=self.config["mim_norm_target"])

        trains_Bx1 = (batch["valid"] & batch["matched"])[:, None]
        word_used_BxM, patch_used_BxM = words.used_BxM & trains_Bx1, patches.used_BxM & trains_Bx1
        pair_Bx1 = (batch["valid"] & batch["has_image"] & batch["has_text"])[:, None]
        hard_Bx1 = pair_Bx1 & batch["hard_mismatch"][:, None]
        rows = {
            "unit": unit(states.cls_BxW),
            "mismatched": row_sum(~batch["matched"][:, None], pair_Bx1),
            "masked_words": row_sum(words.marks(batch["text_ids"].shape[1]), self._words(batch)),
            "masked_patches": row_sum(
                marks_BxN, jnp.broadcast_to(batch["has_image"][:, None], states.image_shown_BxN.shape)
            ),
            "flat_patches": row_sum(~shows_BxM, patch_used_BxM),
        }
        if "itm" in self.objectives:
            logits_Bx1x2 = model.itm(states.cls_BxW)[:, None]
            matched_Bx1 = batch["matched"][:, None].astype(jnp.int32)
            right_Bx1 = logits_Bx1x2.argmax(axis=2) == matched_Bx1
            rows |= {
                "itm": row_sum(cross_entropy(logits_Bx1x2, matched_Bx1), pair_Bx1),
                "itm_accuracy": row_sum(right_Bx1, pair_Bx1),
                "itm_hard_accuracy": row_sum(right_Bx1, hard_Bx1),
            }
        for name, head in (("mlm", model.words), ("gmlm", model.global_words)):
            if name in self.objectives:
                logits_BxMxV = head(states, words)
                rows[name] = row_sum(cross_entropy(logits_BxMxV, word_BxM), word_used_BxM)
                rows[f"{name}_top1"] = row_sum(logits_BxMxV.argmax(axis=2) == word_BxM, word_used_BxM)
        for name, head in (("mim", model.patches), ("gmim", model.global_patches)):
            if name in self.objectives:
                distance_BxM = patch_distance(head(states, patches), target_BxMxC, kind=self.config["mim_loss"])
                rows[name] = row_sum(distance_BxM, patch_used_BxM & shows_BxM)
        return rows

    def choose(self, keys: dict[str, jax.Array], batch) -> tuple[Chosen, Chosen]:
        """The words and the patches of each row that are masked; "conditional" masks those of one modality a row."""
        word_BxL, has_image_B = self._words(batch), batch["has_image"]
        if self.config["mask_mode"] == "conditional":
            both_B = has_image_B & batch["has_text"]
            text_turn_B = jax.vmap(jax.random.bernoulli)(keys["modality"])
            word_BxL &= (text_turn_B | ~both_B)[:, None]
            has_image_B &= ~text_turn_B | ~both_B
        num_patches = (self.config["image"]["size"] // self.config["image"]["patch_size"]) ** 2
        patch_BxN = jnp.broadcast_to(has_image_B[:, None], (len(has_image_B), num_patches))
        return (
            choose(keys["words"], word_BxL, ratio=self.config["text_mask_ratio"]),
            choose(keys["patches"], patch_BxN, ratio=self.config["image_mask_ratio"]),
        )

    def contrast(self, model: ItemModel, encoded, batch, extra, mesh):
        """The weighted sum of the objectives' means over the global batch."""
        encoded = dict(encoded)
        unit_BxW = encoded.pop("unit")
        means = {name: global_mean(rows) for name, rows in encoded.items()}
        term_K = jnp.stack([self.config["weights"][name] * means[name] for name in self.objectives])
        weight_K = adaptive_weights(term_K) if self.config["adaptive_weights"] else jnp.ones(len(term_K))
        metrics = {f"loss_{name}": means.pop(name) for name in self.objectives} | means
        if self.config["adaptive_weights"]:
            metrics |= {f"weight_{name}": weight for name, weight in zip(self.objectives, weight_K, strict=True)}
        valid_Bx1 = batch["valid"][:, None]
        mean_W = jnp.where(valid_Bx1, unit_BxW, 0.0).sum(axis=0) / jnp.maximum(valid_Bx1.sum(), 1)
        # The mean cosine of any two rows, a row with itself included: near 1 the embeddings lie in a narrow cone.
        metrics["mean_cosine"] = (mean_W**2).sum()
        return (weight_K * term_K).sum(), jax.lax.stop_gradient(metrics), extra

    def constrain(self, params: dict) -> dict:
        """Nothing is constrained."""
        return params

    def embed(self, model: ItemModel, batch, views: tuple[str, ...]) -> dict[str, jax.Array]:
        """Unit vectors (B,W) float32 of each view: g of the picture alone, of the words alone, or of what there is."""
        return embed_views(batch, views, lambda shown: unit(read(model.encoder, shown).cls_BxW))

    def _words(self, batch) -> jax.Array:
        return self.vocabulary.words(batch["text_ids"], batch["text_mask"] & batch["has_text"][:, None])
