"""What a config makes of a system on a mesh: its state and its step, for whoever trains with them or plans."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from flax import nnx
from jax.sharding import Mesh

from ecommerce_vl.training.optimizer import learning_rate, make_optimizer
from ecommerce_vl.training.schedule import Stage
from ecommerce_vl.training.state import define_model, make_state
from ecommerce_vl.training.step import make_train_step
from ecommerce_vl.training.streams import rows_per_stream


class Trainer(NamedTuple):
    """Args:
    graphdef: of the modules.
    state: `TrainState` of shapes with their shardings; nothing is allocated.
    init: makes that state in its place.
    schedule: step -> learning rate.
    step: state, batch -> state, metrics.
    """

    graphdef: nnx.GraphDef
    state: Any
    init: Callable[[], Any]
    schedule: Callable[[Any], Any]
    step: Callable


def make_trainer(config: Mapping[str, Any], system, *, mesh: Mesh, stages: Sequence[Stage]) -> Trainer:
    """The trainer of a config.

    Errors: ValueError that begins with the key of the config.
    """
    per_stream = rows_per_stream(streams=config["streams"], batch_size=config["batch_size"], num_devices=mesh.size)
    schedule = learning_rate(config["optimizer"], stages)
    optimizer = make_optimizer(config["optimizer"], schedule=schedule, stages=stages)
    graphdef, _ = define_model(system)
    state, init = make_state(system, optimizer, seed=config["seed"], mesh=mesh)
    step = make_train_step(
        system,
        graphdef,
        optimizer,
        abstract_state=state,
        seed=config["seed"],
        mesh=mesh,
        rows_per_stream=per_stream,
        locked=config["optimizer"]["locked"] if config["optimizer"]["locked_fraction"] >= 1.0 else (),
    )
    return Trainer(graphdef, state, init, schedule, step)
