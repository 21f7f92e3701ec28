"""The training step of a config on a slice: built abstractly, compiled, measured. The one file here that knows
`training/` and `systems/`."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from ecommerce_vl.errors import UserError
from ecommerce_vl.planning.collectives import Collective, read_collectives
from ecommerce_vl.planning.flops import flops_of
from ecommerce_vl.planning.topology import Topology, plan_mesh
from ecommerce_vl.systems import build_system
from ecommerce_vl.training.mesh import batch_sharding
from ecommerce_vl.training.optimizer import learning_rate, make_optimizer
from ecommerce_vl.training.schedule import make_stages
from ecommerce_vl.training.state import define_model, make_state
from ecommerce_vl.training.step import make_train_step
from ecommerce_vl.training.streams import rows_per_stream

SPECIAL_IDS = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "mask": 3}  # of a tokenizer that is trained on the catalog


@dataclasses.dataclass(frozen=True)
class Program:
    """One compiled step. Bytes are of one device, FLOPs of one step over all devices.

    Args:
      rows: of the batch on one device.
      parameters, optimizer, batch, activations, code: bytes; `activations` is all that the compiler calls temporary.
      peak: arguments, results that do not take over an argument, temporaries and code.
      flops: executed, recomputation included; `model_flops` without it, `loss_flops` inside of the loss.
      hbm_traffic: bytes read and written, as the compiler counts, scaled where it counts loop bodies once.
      collectives: by kind.
    """

    rows: int
    parameters: int
    optimizer: int
    batch: int
    activations: int
    code: int
    peak: int
    flops: int
    model_flops: int
    loss_flops: int
    hbm_traffic: float
    collectives: dict[str, Collective]


class DoesNotFit(Exception):
    """The compiler found no place for the program in a device's memory."""


def compile_step(config: Mapping[str, Any], topology: Topology, *, rows: int) -> Program:
    """Compiles the step with `rows` on each device.

    Errors: UserError for a config that no model can be built of; DoesNotFit.
    """
    config = copy.deepcopy(dict(config))
    config["batch_size"] = rows * len(topology.devices)
    if config["dtype"] == "auto":  # which would ask for this machine's backend
        config["dtype"] = "bfloat16" if topology.chip else "float32"
    mesh = plan_mesh(topology, **config["mesh"])
    step, state, batch = _define(config, mesh)
    flops, loss_flops = flops_of(step, state, batch)
    kept = copy.deepcopy(config)
    for part in kept.values():
        if isinstance(part, Mapping) and "remat" in part:
            part["remat"] = "none"
    model_flops, _ = flops_of(*_define(kept, mesh))
    try:
        compiled = step.lower(state, batch).compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error) or "Ran out of memory" in str(error):
            raise DoesNotFit(str(error)) from error
        raise
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    counted = max(cost.get("flops", 0.0), 1.0)
    taken = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return Program(
        rows=rows,
        parameters=_device_bytes(state.params),
        optimizer=_device_bytes(state.opt_state),
        batch=_device_bytes(batch),
        activations=memory.temp_size_in_bytes,
        code=memory.generated_code_size_in_bytes,
        peak=taken + memory.temp_size_in_bytes + memory.generated_code_size_in_bytes,
        flops=flops,
        model_flops=model_flops,
        loss_flops=loss_flops,
        hbm_traffic=cost.get("bytes accessed", 0.0) * max(1.0, flops / len(topology.devices) / counted),
        collectives=read_collectives(compiled.as_text(), num_devices=len(topology.devices)),
    )


def _define(config, mesh: Mesh):
    """(step, abstract state, abstract batch): everything that this room takes from the training."""
    try:
        system = build_system(config, vocab_size=config["text"]["vocab_size"], special_ids=SPECIAL_IDS)
        schedule = learning_rate(config["optimizer"], make_stages(config))
        stream_rows = rows_per_stream(streams=config["streams"], batch_size=config["batch_size"], num_devices=mesh.size)
        optimizer = make_optimizer(config["optimizer"], schedule=schedule)
        graphdef, _ = define_model(system)
        state, _ = make_state(system, optimizer, seed=config["seed"], mesh=mesh)
    except ValueError as error:
        raise UserError(f"config.{error}") from error
    seed = config["seed"]
    step = make_train_step(
        system, graphdef, optimizer, abstract_state=state, seed=seed, mesh=mesh, rows_per_stream=stream_rows
    )
    return step, state, abstract_batch(config, mesh)


def abstract_batch(config, mesh: Mesh) -> dict[str, jax.ShapeDtypeStruct]:
    """The batch of `docs/architecture.md` as shapes on the mesh."""
    B, side, length = config["batch_size"], config["image"]["size"], config["text"]["max_length"]
    of = lambda shape, dtype: jax.ShapeDtypeStruct(shape, dtype, sharding=batch_sharding(mesh))
    product = {
        "image": of((B, side, side, 3), jnp.uint8),
        "text_ids": of((B, length), jnp.int32),
        "text_mask": of((B, length), jnp.bool_),
        **{name: of((B,), jnp.bool_) for name in ("has_image", "has_text", "valid")},
        **{name: of((B,), jnp.int32) for name in ("product_key", "catalog_key", "group_key", "category_key")},
    }
    if config["data"]["source"] != "query_pairs":
        return product
    query_length, num_words = config["text"]["query_length"], config["data"]["keywords"]
    query = {
        "text_ids": of((B, query_length), jnp.int32),
        "text_mask": of((B, query_length), jnp.bool_),
        "query_key": of((B,), jnp.int32),
    } | ({"keywords": of((B, num_words), jnp.int32)} if num_words else {})
    known = of((B, config["data"]["known"]), jnp.int32)
    valid = product.pop("valid")
    return {"query": query, "product": product, "weight": of((B,), jnp.float32), "known": known, "valid": valid}


def _device_bytes(tree: Any) -> int:
    """Bytes of one device's shards."""
    shard = lambda leaf: leaf.sharding.shard_shape(leaf.shape)
    return sum(int(np.prod(shard(leaf))) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
