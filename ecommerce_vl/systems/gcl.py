"""GCL (Marqo, 2404.08535), the control arm of query retrieval: two towers, weighted fields, weighted pairs.

    u = norm(w_image u_image + w_text u_text)                      the product, of what it has
    L = sum_i w_i (CE(q_i -> u) + CE(u_i -> q)) / sum_i w_i        in-batch negatives

One text tower reads titles and queries. The paper weighs pairs by their place in a ranking; here it is by the weight of
the pair within its query (`data/query_pairs.py`). Its negatives are all others of the batch; ours leave out what is
known to be none, as everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp

from ecommerce_vl.losses.candidates import Rule
from ecommerce_vl.losses.contrastive import candidate_loss, check_sweep
from ecommerce_vl.models.dual import DualEncoder
from ecommerce_vl.systems.clicks import NAMES, VIEWS, check_query_length, clicked_products
from ecommerce_vl.systems.encoders import embed_dual, row_keys
from ecommerce_vl.systems.two_towers import TwoTowers


class GCL(TwoTowers):
    """The system protocol of `ecommerce_vl/systems/__init__.py`, for GCL.

    Errors: ValueError that begins with the key of the config.
    """

    views = VIEWS
    shown = (
        ("q→p", "q2p_top1", "6.1%"),
        ("p→q", "p2q_top1", "6.1%"),
        ("scale", "logit_scale", "5.1f"),
        ("rank", "product_rank", ".0f"),
    )

    def __init__(self, config, *, vocab_size: int, special_ids: Mapping[str, int]):
        super().__init__(config, vocab_size=vocab_size)
        self.product_weights = config["product_weights"]
        for name, weight in self.product_weights.items():
            if weight <= 0:
                raise ValueError(
                    f"product_weights.{name} is {weight}; expected above 0: some products have no other part"
                )
        check_query_length(config["text"])
        self.fusion = "norm({image} image + {text} text)".format(**self.product_weights)
        self.rule = Rule(label_mode="mask", span=config["loss"]["span"])
        self.sweep = {name: config["loss"][name] for name in ("impl", "chunk_rows")}
        check_sweep(**self.sweep)

    def encode(self, model: DualEncoder, batch, rng: jax.Array) -> dict[str, jax.Array]:
        """Unit vectors (B,D) float32 of the queries and of the products."""
        query, product = batch["query"], batch["product"]
        of_query_B, of_product_B = (row_keys(jax.random.fold_in(rng, use), product["product_key"]) for use in (0, 1))
        return {
            "query": model.encode_text(query["text_ids"], query["text_mask"], of_query_B),
            **embed_dual(model, product, ("product",), weights=self.product_weights, keys_B=of_product_B),
        }

    def contrast(self, model: DualEncoder, encoded, batch, extra, mesh):
        """The weighted loss of the global batch, both ways."""
        products, scale = clicked_products(encoded["product"], batch), model.logit_scale[...]
        how = {"rule": self.rule, "known_BxK": batch["known"], "mesh": mesh, **self.sweep}
        mean, found = candidate_loss(encoded["query"], products, scale, **how)
        metrics = {NAMES.get(name, name): value for name, value in found.items()}
        return 2 * mean, metrics | {"logit_scale": jnp.exp(scale)}, extra  # the sum of both ways, not their mean

    def embed(self, model: DualEncoder, batch, views: tuple[str, ...]) -> dict[str, jax.Array]:
        """Unit vectors (B,D) float32 of each view; "query" reads texts as queries, by the tower of titles."""
        own = tuple(view for view in views if view != "query")
        vectors = embed_dual(model, batch, own, weights=self.product_weights) if own else {}
        if "query" in views:
            vectors["query"] = model.encode_text(batch["text_ids"], batch["text_mask"])
        return vectors
