"""The training state: one pytree of plain arrays, sharded by the rule table.

There is no random state in it: the key of step t is a function of the seed and t.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from ecommerce_vl.training.sharding import shard_like


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class TrainState:
    """Args:
    step: int32 scalar, optimizer updates done.
    params: nested dict of float32 arrays.
    opt_state: of optax.
    extra: what a system carries from step to step beside parameters (memory banks); {} if nothing.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    extra: Any


def define_model(system) -> tuple[nnx.GraphDef, Any]:
    """The module's definition and its abstract parameters, built without allocating anything."""
    graphdef, state = nnx.split(nnx.eval_shape(lambda: system.build(nnx.Rngs(0))))
    return graphdef, nnx.to_pure_dict(state)


def init_params(system, *, seed: int) -> Any:
    """The parameters that training begins with, nested dict of float32 arrays; to be compiled by who calls it."""
    return nnx.to_pure_dict(nnx.split(system.build(nnx.Rngs(seed)))[1])


def make_state(system, optimizer: optax.GradientTransformation, *, seed: int, mesh: Mesh) -> tuple[Any, Any]:
    """(abstract state with shardings, function that initialises it in place on the mesh)."""

    def init() -> TrainState:
        params = init_params(system, seed=seed)
        step = jnp.zeros((), jnp.int32)
        return TrainState(step=step, params=params, opt_state=optimizer.init(params), extra=system.make_extra())

    shapes = jax.eval_shape(init)
    shardings = shard_like(shapes, mesh)
    abstract = jax.tree.map(lambda leaf, s: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=s), shapes, shardings)
    return abstract, jax.jit(init, out_shardings=shardings)
