"""The optimizer: AdamW or Muon, a warm-up and a cosine over samples, clipped by global norm, decaying matrices only."""

from __future__ import annotations

import jax
import optax
import optax.contrib

from ecommerce_vl.training.sharding import path_name

RULES = ("adamw", "muon")
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
    """Clipping by global norm, then the rule that `config.name` names; weight decay on `DECAYED` parameters only.

    "adamw": for large data. "muon" orthogonalises the momentum of every kernel (Adam for the rest), so that weak
    directions learn as fast as strong ones: on a few thousand products AdamW fills few dimensions of the space.

    Errors: ValueError for another name.
    """
    shared = {"weight_decay": config["weight_decay"]}
    if config["name"] == "adamw":
        rule = optax.adamw(schedule, b1=config["b1"], b2=config["b2"], eps=config["eps"], mask=_is_decayed, **shared)
    elif config["name"] == "muon":
        rule = optax.contrib.muon(
            schedule,
            adam_b1=config["b1"],
            adam_b2=config["b2"],
            eps=config["eps"],
            consistent_rms=0.2,  # updates as large as AdamW's, so that one learning rate serves both
            weight_decay_mask=_is_decayed,
            muon_weight_dimension_numbers=_matrices,
            **shared,
        )
    else:
        raise ValueError(f"optimizer.name is {config['name']!r}; expected one of {', '.join(RULES)}")
    return optax.chain(optax.clip_by_global_norm(config["grad_clip"]), rule)


def _is_decayed(params) -> dict:
    return jax.tree_util.tree_map_with_path(lambda path, _: path_name(path).split("/")[-1] in DECAYED, params)


def _matrices(params) -> dict:
    """How each kernel is a matrix: inputs by outputs, the layers of a stack side by side; None for all others."""

    def numbers(path, leaf):
        name = path_name(path)
        if not name.endswith("kernel"):
            return None
        first = 1 if "/blocks/" in name else 0
        return optax.contrib.MuonDimensionNumbers(tuple(range(first, leaf.ndim - 1)), leaf.ndim - 1)

    return jax.tree_util.tree_map_with_path(numbers, params)
