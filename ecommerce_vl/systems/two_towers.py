"""What the systems of two towers share: the dual encoder, and a temperature that stays within its limit."""

from __future__ import annotations

import math

import jax.numpy as jnp
from flax import nnx

from ecommerce_vl.models.dual import DualEncoder
from ecommerce_vl.systems.encoders import dual_encoder


class TwoTowers:
    """Members of the system protocol of `ecommerce_vl/systems/__init__.py`, for a `config` and its `vocab_size`."""

    def __init__(self, config, *, vocab_size: int):
        self.config, self.vocab_size = config, vocab_size

    def build(self, rngs: nnx.Rngs) -> DualEncoder:
        """The dual encoder that the config describes."""
        return dual_encoder(self.config, vocab_size=self.vocab_size, rngs=rngs)

    def make_extra(self) -> dict:
        """Nothing: they keep no bank."""
        return {}

    def constrain(self, params: dict) -> dict:
        """exp(s) stays at or below its maximum after every update (CLIP)."""
        ceiling = math.log(self.config["logit_scale_max"])
        return params | {"logit_scale": jnp.minimum(params["logit_scale"], ceiling)}
