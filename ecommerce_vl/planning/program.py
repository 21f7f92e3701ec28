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

from ecommerce_vl.planning.blocks import batch_blocks
from ecommerce_vl.planning.collectives import Collective, read_collectives
from ecommerce_vl.planning.flops import Flops, count_flops, flops_of
from ecommerce_vl.planning.topology import Topology, plan_mesh
from ecommerce_vl.systems import build_system
from ecommerce_vl.training.mesh import batch_sharding
from ecommerce_vl.training.schedule import make_stages
from ecommerce_vl.training.trainer import make_trainer
from ecommerce_vl.training.workdir import naming_the_key

SPECIAL_IDS = {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "mask": 3}  # of a tokenizer that is trained on the catalog


@dataclasses.dataclass(frozen=True)
class Program:
    """One compiled step. Bytes are of one device, FLOPs of one step over all devices.

    Args:
      rows: of the batch on one device.
      parameters, optimizer, batch, activations, code: bytes; `activations` is all that the compiler calls temporary.
      peak: arguments, results that do not take over an argument, temporaries and code.
      flops: executed, recomputation included; `model_flops` without it (nor streams), `loss_flops` inside of the loss;
        `passes` as a matrix unit executes them, see `flops.py`.
      hbm_traffic: bytes read and written, as the compiler counts, scaled where it counts loop bodies once.
      collectives: by kind.
      blocks: arrays of the whole batch against itself, None where they cannot be told from the model's; `blocks.py`.
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
    passes: int
    hbm_traffic: float
    collectives: dict[str, Collective]
    blocks: tuple[str, ...] | None


class DoesNotFit(Exception):
    """The compiler found no place for the program in a device's memory."""


def compile_step(config: Mapping[str, Any], topology: Topology, *, rows: int, streams: int) -> Program:
    """Compiles the step with `rows` on each device, encoded in `streams` parts.

    Errors: UserError for a config that no model can be built of; DoesNotFit.
    """
    config, mesh = _resolve(config, topology, rows=rows, streams=streams)
    step, state, batch = _define(config, mesh)
    traced = step.trace(state, batch)
    flops = count_flops(traced.jaxpr.jaxpr)
    try:
        compiled = traced.lower().compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" in str(error) or "Ran out of memory" in str(error):
            raise DoesNotFit(str(error)) from error
        raise
    memory, cost = compiled.memory_analysis(), compiled.cost_analysis()
    counted, text = max(cost.get("flops", 0.0), 1.0), compiled.as_text()
    taken = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
    return Program(
        rows=rows,
        parameters=_device_bytes(state.params),
        optimizer=_device_bytes(state.opt_state),
        batch=_device_bytes(batch),
        activations=memory.temp_size_in_bytes,
        code=memory.generated_code_size_in_bytes,
        peak=taken + memory.temp_size_in_bytes + memory.generated_code_size_in_bytes,
        flops=flops.total,
        model_flops=_model_flops(config, mesh, flops),
        loss_flops=flops.loss,
        passes=flops.passes,
        hbm_traffic=cost.get("bytes accessed", 0.0) * max(1.0, flops.total / len(topology.devices) / counted),
        collectives=read_collectives(text, num_devices=len(topology.devices)),
        blocks=batch_blocks(text, batch=config["batch_size"], sizes=_sizes(state.params, batch)),
    )


def count_step(config: Mapping[str, Any], topology: Topology, *, rows: int, streams: int) -> tuple[Flops, int]:
    """(FLOPs, those of the model without recomputation) of the step that `compile_step` compiles; seconds, not minutes.

    Errors: UserError for a config that no model can be built of.
    """
    config, mesh = _resolve(config, topology, rows=rows, streams=streams)
    flops = flops_of(*_define(config, mesh))
    return flops, _model_flops(config, mesh, flops)


def _resolve(config: Mapping[str, Any], topology: Topology, *, rows: int, streams: int) -> tuple[dict[str, Any], Mesh]:
    """The config as it is on the slice, and its mesh."""
    config = copy.deepcopy(dict(config))
    config["batch_size"], config["batch_schedule"], config["streams"] = rows * len(topology.devices), (), streams
    config["total_samples"] = max(config["total_samples"], config["batch_size"])  # at least one step
    if config["dtype"] == "auto":  # which would ask for this machine's backend
        config["dtype"] = "bfloat16" if topology.chip else "float32"
    return config, plan_mesh(topology, **config["mesh"])


def _model_flops(config: Mapping[str, Any], mesh: Mesh, flops: Flops) -> int:
    """Of the step without recomputation; `flops` are those of the step as it is."""
    plain = _without_recomputation(config) | {"streams": 1}
    return flops.total if plain == config else flops_of(*_define(plain, mesh)).total


def _without_recomputation(config: Mapping[str, Any]) -> dict[str, Any]:
    """The config with every encoder's `remat` off."""
    inner = lambda value: _without_recomputation(value) if isinstance(value, Mapping) else value
    changed = {key: inner(value) for key, value in config.items()}
    return changed | ({"remat": "none"} if "remat" in changed else {})


def _define(config, mesh: Mesh):
    """(step, abstract state, abstract batch): everything that this room takes from the training."""
    with naming_the_key(config):
        system = build_system(config, vocab_size=config["text"]["vocab_size"], special_ids=SPECIAL_IDS)
        trainer = make_trainer(config, system, mesh=mesh, stages=make_stages(config))
    return trainer.step, trainer.state, abstract_batch(config, mesh)


def abstract_batch(config, mesh: Mesh) -> dict[str, Any]:
    """The batch of `docs/architecture.md` of the config's source, as shapes on the mesh."""
    B, side, length = config["batch_size"], config["image"]["size"], config["text"]["max_length"]
    of = lambda shape, dtype: jax.ShapeDtypeStruct(shape, dtype, sharding=batch_sharding(mesh))
    product = {
        "image": of((B, side, side, 3), jnp.uint8),
        "text_ids": of((B, length), jnp.int32),
        "text_mask": of((B, length), jnp.bool_),
        **{name: of((B,), jnp.bool_) for name in ("has_image", "has_text", "valid", "matched", "hard_mismatch")},
        **{name: of((B,), jnp.int32) for name in ("product_key", "catalog_key", "group_key", "category_key")},
    }
    of_rows = {"weight": of((B,), jnp.float32), "valid": of((B,), jnp.bool_)}
    source = config["data"]["source"]
    if source == "item_pairs":
        return {"left": product, "right": product, "style_key": of((B,), jnp.int32), **of_rows}
    if source == "query_pairs":
        query_length, num_words = config["text"]["query_length"], config["data"]["keywords"]
        query = {
            "text_ids": of((B, query_length), jnp.int32),
            "text_mask": of((B, query_length), jnp.bool_),
            "query_key": of((B,), jnp.int32),
        } | ({"keywords": of((B, num_words), jnp.int32)} if num_words else {})
        known = of((B, config["data"]["known"]), jnp.int32)
        if config["data"].get("id_rows"):
            product["id_row"] = of((B,), jnp.int32)
        return {"query": query, "product": _without(product, "valid"), "known": known, **of_rows}
    return product


def _without(tree: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in tree.items() if key != name}


def _sizes(params: Any, batch: Any) -> set[int]:
    """Of every axis of the model: those of its parameters, and those of the batch but the rows."""
    shapes = [leaf.shape for leaf in jax.tree.leaves(params)] + [leaf.shape[1:] for leaf in jax.tree.leaves(batch)]
    return {size for shape in shapes for size in shape}


def _device_bytes(tree: Any) -> int:
    """Bytes of one device's shards."""
    shard = lambda leaf: leaf.sharding.shard_shape(leaf.shape)
    return sum(int(np.prod(shard(leaf))) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
