"""The optimizer: AdamW with a warm-up and a cosine over samples, clipped by global norm, decaying matrices only."""

from __future__ import annotations

import jax
import optax

from ecommerce_vl.training.sharding import path_name

DECAYED = ("kernel", "token")  # by name: stacked biases have two axes, so the number of axes does not tell


def learning_rate(config, *, batch_size: int, num_steps: int) -> optax.Schedule:
    """Step -> rate: linear warm-up over `warmup_samples`, then a cosine to zero at the last step."""
    warmup_steps = min(max(1, config["warmup_samples"] // batch_size), max(1, num_steps // 2))
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=config["learning_rate"],
        warmup_steps=warmup_steps,
        decay_steps=max(num_steps, warmup_steps + 1),
    )


def make_optimizer(config, *, schedule: optax.Schedule) -> optax.GradientTransformation:
    """AdamW after clipping; weight decay on `DECAYED` parameters only."""

    def decayed(params):
        return jax.tree_util.tree_map_with_path(lambda path, _: path_name(path).split("/")[-1] in DECAYED, params)

    return optax.chain(
        optax.clip_by_global_norm(config["grad_clip"]),
        optax.adamw(
            schedule,
            b1=config["b1"],
            b2=config["b2"],
            eps=config["eps"],
            weight_decay=config["weight_decay"],
            mask=decayed,
        ),
    )
