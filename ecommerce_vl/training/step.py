"""The training step: state, batch -> state, metrics. It knows neither the system nor the loop."""

from __future__ import annotations

from collections.abc import Callable

import jax
import optax
from flax import nnx
from jax.sharding import Mesh

from ecommerce_vl.training.mesh import batch_sharding, replicated
from ecommerce_vl.training.state import TrainState


def make_train_step(
    system, graphdef: nnx.GraphDef, optimizer: optax.GradientTransformation, *, abstract_state, seed: int, mesh: Mesh
) -> Callable:
    """The compiled step; it takes over the buffers of the state it is given.

    Metrics are replicated float32 scalars: those of the loss, `loss`, `grad_norm`, and `invalid_rows` of the batch.
    """

    def step(state: TrainState, batch) -> tuple[TrainState, dict]:
        rng = jax.random.fold_in(jax.random.key(seed), state.step)

        def loss_of(params):
            loss, metrics, extra = system.loss(nnx.merge(graphdef, params), batch, rng, state.extra, mesh)
            return loss, (metrics, extra)

        (loss, (metrics, extra)), grads = jax.value_and_grad(loss_of, has_aux=True)(state.params)
        updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
        params = system.constrain(optax.apply_updates(state.params, updates))
        metrics = metrics | {
            "loss": loss,
            "grad_norm": optax.tree.norm(grads),
            "invalid_rows": (~batch["valid"]).sum(),
        }
        return TrainState(step=state.step + 1, params=params, opt_state=opt_state, extra=extra), metrics

    shardings = jax.tree.map(lambda leaf: leaf.sharding, abstract_state)
    return jax.jit(
        step,
        in_shardings=(shardings, batch_sharding(mesh)),
        out_shardings=(shardings, replicated(mesh)),
        donate_argnums=0,
    )
