"""GCL (Marqo, 2404.08535), the control arm of query retrieval: two towers, weighted fields, pairs weighted by clicks.

    u = norm(w_image u_image + w_text u_text)                      the product, of what it has
    L = sum_i w_i (CE(q_i -> u) + CE(u_i -> q)) / sum_i w_i        in-batch negatives

One text tower reads titles and queries. The paper weighs pairs by their place in a ranking; here it is by the clicks of
the mined log. Its negatives are all others of the batch; ours leave out what is known to be none, as everywhere.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from flax import nnx

from ecommerce_vl.losses.candidates import Rule
from ecommerce_vl.losses.contrastive import candidate_loss, check_sweep
from ecommerce_vl.models.dual import DualEncoder
from ecommerce_vl.systems import encoders
from ecommerce_vl.systems.clicks import NAMES, clicked_products
from ecommerce_vl.systems.encoders import dual_encoder, embed_dual, row_keys


class GCL:
    """The system protocol of `ecommerce_vl/systems/__init__.py`, for GCL.

    Errors: ValueError that begins with the key of the config.
    """

    views = (*encoders.VIEWS, "query")
    shown = (
        ("q→p", "q2p_top1", "6.1%"),
        ("p→q", "p2q_top1", "6.1%"),
        ("scale", "logit_scale", "5.1f"),
        ("rank", "product_rank", ".0f"),
    )

    def __init__(self, config, *, vocab_size: int, special_ids: Mapping[str, int]):
        self.product_weights = config["product_weights"]
        if min(self.product_weights.values()) < 0 or not any(self.product_weights.values()):
            raise ValueError(f"product_weights are {dict(self.product_weights)}; expected at least 0, not both")
        self.fusion = "norm({image} image + {text} text)".format(**self.product_weights)
        self.rule = Rule(label_mode="mask", span=config["loss"]["span"])
        self.sweep = {name: config["loss"][name] for name in ("impl", "chunk_rows")}
        check_sweep(**self.sweep)
        self.config, self.vocab_size = config, vocab_size

    def build(self, rngs: nnx.Rngs) -> DualEncoder:
        """The dual encoder that the config describes."""
        return dual_encoder(self.config, vocab_size=self.vocab_size, rngs=rngs)

    def make_extra(self) -> dict:
        """Nothing: GCL keeps no bank."""
        return {}

    def encode(self, model: DualEncoder, batch, rng: jax.Array) -> dict[str, jax.Array]:
        """Unit vectors (B,D) float32 of the queries and of the products."""
        keys_B = row_keys(rng, batch["product"]["product_key"])
        query = batch["query"]
        return {
            "query": model.encode_text(query["text_ids"], query["text_mask"], keys_B),
            **embed_dual(model, batch["product"], ("product",), weights=self.product_weights, keys_B=keys_B),
        }

    def contrast(self, model: DualEncoder, encoded, batch, extra, mesh):
        """The weighted loss of the global batch, both ways."""
        products, scale = clicked_products(encoded["product"], batch), model.logit_scale[...]
        how = {"rule": self.rule, "known_BxK": batch["known"], "mesh": mesh, **self.sweep}
        mean, found = candidate_loss(encoded["query"], products, scale, **how)
        metrics = {NAMES.get(name, name): value for name, value in found.items()}
        return 2 * mean, metrics | {"logit_scale": jnp.exp(scale)}, extra  # the sum of both ways, not their mean

    def constrain(self, params: dict) -> dict:
        """exp(s) stays at or below its maximum after every update (CLIP)."""
        ceiling = math.log(self.config["logit_scale_max"])
        return params | {"logit_scale": jnp.minimum(params["logit_scale"], ceiling)}

    def embed(self, model: DualEncoder, batch, views: tuple[str, ...]) -> dict[str, jax.Array]:
        """Unit vectors (B,D) float32 of each view; "query" reads texts as queries, by the tower of titles."""
        own = tuple(view for view in views if view != "query")
        vectors = embed_dual(model, batch, own, weights=self.product_weights) if own else {}
        if "query" in views:
            vectors["query"] = model.encode_text(batch["text_ids"], batch["text_mask"])
        return vectors
