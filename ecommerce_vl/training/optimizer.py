"""The optimizer: AdamW, LAMB or Muon, warm-up and decay over samples, a clipped global norm, decay of matrices only."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import optax.contrib

from ecommerce_vl.training.schedule import Stage
from ecommerce_vl.training.sharding import by_path, path_name

RULES = ("adamw", "lamb", "muon")
LR_RULES = {"constant": 0.0, "sqrt": 0.5, "linear": 1.0}  # the power of the batch size that the rate follows
LR_DECAYS = {"cosine": lambda x, xp: 0.5 * (1 + xp.cos(xp.pi * x)), "linear": lambda x, xp: 1 - x}  # x from 0 to 1
BELOW_BLOCKS = (
    r"(.*?)(token|position|\w+_position|cls|absent|modality|mask_patch|adapt|stem/.*|transformer/embed_norm/.*)$"
)
DECAYED = ("kernel", "token")  # by name: stacked biases have two axes, so the number of axes does not tell


def learning_rate(config, stages: Sequence[Stage]) -> Callable[[Any], Any]:
    """Step -> rate: linear warm-up over `warmup_samples`, then `lr_decay` over samples to zero, times two factors.

    The first is that of the batch size B against the first one: (B / B_0)^(1/2) by the rule "sqrt", B / B_0 by
    "linear", 1 by "constant", where growth stands in for decay. The second rises from 0 to 1 over the first
    `rewarm_steps` of every later stage, at most half of it: moments and the temperature settle to the new batch first.

    Returns: a function of the number of updates done: traced to float32, or for an int computed on the host.

    Errors: ValueError that begins with the key of the config.
    """
    for name, choices in (("lr_rule", LR_RULES), ("lr_decay", LR_DECAYS)):
        if config[name] not in choices:
            raise ValueError(f"optimizer.{name} is {config[name]!r}; expected one of {', '.join(choices)}")
    if config["rewarm_steps"] < 0:
        raise ValueError(f"optimizer.rewarm_steps is {config['rewarm_steps']}; expected at least 0")
    total, first = stages[-1].end_sample, stages[0].batch_size
    # Whole steps of the first stage, at least one of them and at most half of the run.
    warmup = min(max(1, config["warmup_samples"] // first) * first, max(first, total // 2))
    # A row a stage. Shares of the total, since samples may be more than an int32 or a float32 can count.
    first_step = np.array([stage.first_step for stage in stages])
    begin, per_step = (np.array(x) / total for x in zip(*((s.first_sample, s.batch_size) for s in stages), strict=True))
    peak = config["learning_rate"] * np.array([s.batch_size / first for s in stages]) ** LR_RULES[config["lr_rule"]]
    rewarm = np.array([max(1, min(config["rewarm_steps"], stage.num_steps // 2)) for stage in stages])
    rewarm[0] = 1
    decay = LR_DECAYS[config["lr_decay"]]

    def rate(step):
        xp = jnp if isinstance(step, jax.Array) else np  # the loop prints a rate without waking the device
        of = lambda values: xp.asarray(values)[xp.searchsorted(xp.asarray(first_step), step, side="right") - 1]
        since = step - of(first_step)
        seen = of(begin) + since * of(per_step)
        rise = xp.minimum(seen / (warmup / total), 1.0)
        fall = xp.clip((seen - warmup / total) / max(1 - warmup / total, 1e-9), 0.0, 1.0)
        rise_again = xp.minimum((since + 1) / of(rewarm), 1.0)
        return of(peak) * rise * rise_again * decay(fall, xp)

    return rate


def make_optimizer(
    config, *, schedule: Callable[[Any], Any], stages: Sequence[Stage] = ()
) -> optax.GradientTransformation:
    """Clipping by global norm, then the rule that `config.name` names; weight decay on `DECAYED` parameters only.

    `config.frozen_blocks`: the share of each tower's blocks, from the bottom, that stays as it is with all that comes
    before the blocks. They cost a backward pass all the same, since the layers of a stack are one array.

    `config.locked`: regular expressions of paths whose parameters stay as they are and have no optimizer state (LiT,
    2111.07991); with `config.locked_fraction` below 1 for the first of the samples alone, of which `stages` tell: then
    they have a state, and cost a backward pass. `config.layer_decay` below 1: the rate of a block is that of the one
    above times this, that of what comes before the blocks once more so; what lies above the blocks has the whole rate
    (BEiT, 2106.08254).

    "adamw": for large data. "lamb" (1904.00962): updates as large as their matrices, for batches of 16 k and more.
    "muon" orthogonalises the momentum of every kernel (Adam for the rest), so that weak directions learn as fast as
    strong ones: on a few thousand products AdamW fills few dimensions of the space.

    Errors: ValueError for another name.
    """
    shared = {"weight_decay": config["weight_decay"]}
    if config["name"] == "adamw":
        rule = optax.adamw(schedule, b1=config["b1"], b2=config["b2"], eps=config["eps"], mask=_is_decayed, **shared)
    elif config["name"] == "lamb":
        rule = optax.chain(
            optax.scale_by_adam(b1=config["b1"], b2=config["b2"], eps=config["eps"]),
            optax.add_decayed_weights(mask=_is_decayed, **shared),
            _scale_by_trust(),  # optax.lamb would take the layers of a stack for one
            optax.scale_by_learning_rate(schedule),
        )
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
    rule = optax.chain(optax.clip_by_global_norm(config["grad_clip"]), rule)
    if config.get("layer_decay", 1.0) != 1.0:
        decay = config["layer_decay"]
        rule = optax.chain(rule, _by_layer(lambda above, depth: decay**above))
    if frozen := config.get("frozen_blocks", 0.0):
        if not 0 <= frozen <= 1:
            raise ValueError(f"optimizer.frozen_blocks is {frozen}; expected a share from 0 to 1")
        rule = optax.chain(rule, _by_layer(lambda above, depth: np.asarray(above < depth - round(frozen * depth))))
    if not config.get("locked"):
        return rule
    if (share := config.get("locked_fraction", 1.0)) < 1.0:
        if share < 0:
            raise ValueError(f"optimizer.locked_fraction is {share}; expected a share from 0 to 1")
        seen = np.cumsum([stage.batch_size for stage in stages for _ in range(stage.num_steps)])
        first_free = int(np.searchsorted(seen, share * seen[-1], side="right"))
        later = optax.scale_by_schedule(lambda count: jnp.where(count < first_free, 0.0, 1.0))
        still = optax.masked(later, lambda tree: is_locked(tree, config["locked"]))
        return optax.chain(still, rule, still)  # neither their gradients nor the decay of weights
    rules = {"trained": rule, "locked": optax.set_to_zero()}
    names = {True: "locked", False: "trained"}
    return optax.partition(rules, lambda params: jax.tree.map(names.get, is_locked(params, config["locked"])))


def is_locked(params, patterns: Sequence[str]) -> Any:
    """A tree of bool: whether the path of a parameter begins as one of the regular expressions says.

    Errors: ValueError for an expression that no path fits.
    """
    paths = list(by_path(params))
    for pattern in patterns:
        if not any(re.match(pattern, path) for path in paths):
            raise ValueError(f"optimizer.locked has {pattern!r}, which no parameter fits; paths are such as {paths[0]}")
    locked = lambda path, _: any(re.match(pattern, path_name(path)) for pattern in patterns)
    return jax.tree_util.tree_map_with_path(locked, params)


def _by_layer(factor_of: Callable[[Any, int], Any]) -> optax.GradientTransformation:
    """Updates times a factor of (blocks above, blocks in all), block by block of a stack.

    What comes before the blocks has as many above it as there are.
    """

    def update(updates, state, params=None):
        paths, structure = jax.tree_util.tree_flatten_with_path(updates)
        depths = {}  # of each tower, by the path before its blocks
        for path, leaf in paths:
            tower, blocks, _ = path_name(path).partition("transformer/blocks/")
            if blocks:
                depths[tower] = leaf.shape[0]

        def factor(path, leaf):
            if "transformer/blocks/" in path:
                exponents = np.arange(leaf.shape[0])[::-1].reshape(-1, *(1,) * (leaf.ndim - 1))
                return np.asarray(factor_of(exponents, leaf.shape[0]), np.float32)
            below = re.match(BELOW_BLOCKS, path)
            depth = depths.get(below[1]) if below else None
            return 1.0 if depth is None else np.float32(factor_of(depth, depth))

        scaled = [factor(path_name(path), leaf) * leaf for path, leaf in paths]
        return jax.tree.unflatten(structure, scaled), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _scale_by_trust() -> optax.GradientTransformation:
    """LAMB's ratio of the norms of a matrix and of its update, layer by layer of a stack; 1 for other parameters."""

    def update(updates, state, params):
        def scaled(path, update, param):
            name = path_name(path)
            if name.split("/")[-1] not in DECAYED:
                return update
            axes = tuple(range(1 if "/blocks/" in name else 0, update.ndim))
            norms = [jnp.sqrt(jnp.sum(x.astype(jnp.float32) ** 2, axis=axes, keepdims=True)) for x in (param, update)]
            return update * jnp.where((norms[0] > 0) & (norms[1] > 0), norms[0] / jnp.maximum(norms[1], 1e-30), 1.0)

        return jax.tree_util.tree_map_with_path(scaled, updates, params), state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


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
