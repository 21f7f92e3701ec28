"""The training step: state, batch -> state, metrics. It knows neither the system nor the loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import optax
from flax import nnx
from jax.sharding import Mesh

from ecommerce_vl.training.mesh import batch_sharding, replicated
from ecommerce_vl.training.optimizer import is_locked
from ecommerce_vl.training.state import TrainState
from ecommerce_vl.training.streams import encode_in_streams


def make_train_step(
    system,
    graphdef: nnx.GraphDef,
    optimizer: optax.GradientTransformation,
    *,
    abstract_state,
    seed: int,
    mesh: Mesh,
    rows_per_stream: int | None = None,
    locked: Sequence[str] = (),
) -> Callable:
    """The compiled step; it takes over the buffers of the state it is given, and compiles once a batch size.

    Args:
      rows_per_stream: rows of the global batch that are encoded at a time; it divides every batch. None encodes all
        at once. It changes memory and time, the gradient by rounding only; see `training/streams.py`.
      locked: `config.optimizer.locked`; parameters of these paths get no gradient, and cost no backward pass.

    Metrics are replicated scalars: float32 those of the loss, `loss` and `grad_norm`, int32 `invalid_rows`.
    """

    def step(state: TrainState, batch) -> tuple[TrainState, dict]:
        rng = jax.random.fold_in(jax.random.key(seed), state.step)

        num_rows = batch["valid"].shape[0]

        def encode(params, rows):
            with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):  # the models state their layout in terms of it
                return system.encode(nnx.merge(graphdef, params), rows, rng)

        def loss_of(params):
            if locked:
                stay = lambda stays, leaf: jax.lax.stop_gradient(leaf) if stays else leaf
                params = jax.tree.map(stay, is_locked(params, locked), params)
            encoded = encode_in_streams(
                encode, params, batch, streams=num_rows // (rows_per_stream or num_rows), mesh=mesh
            )
            loss, metrics, extra = system.contrast(nnx.merge(graphdef, params), encoded, batch, state.extra, mesh)
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
