"""The quick evaluation: how good the vectors of a fixed sample are, measured inside the training command.

The invariant: its rows are a function of parameters and data. The sample is drawn once from the validation split by a
constant seed, read without augmentation and by title alone, and lies on the devices from then on; a run that goes on
at step t has the rows up to t, since they are written before the save at t. Every process takes part, because the
parameters may be sharded over all of them; each reads the rows of its own devices.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from ecommerce_vl.data.images import ImageDefect, ImagePipeline
from ecommerce_vl.data.prepared import PreparedData, Records
from ecommerce_vl.data.tokenizer import TextTokenizer
from ecommerce_vl.training.mesh import batch_sharding, replicated
from ecommerce_vl.training.writer import MetricWriter, NoWriter

SPLIT = "validation"
PREFIX = "eval/"
_SEED = 0  # of the sample: the same for all runs over one data set, so that they can be compared
# (vectors of each view (N,D), keys (N,) by name) -> value by "task/setting/metric"; evaluation/quick.py has it.
Measure = Callable[[Mapping[str, np.ndarray], Mapping[str, np.ndarray]], dict[str, float]]


class QuickEvaluation:
    """Embeds the sample with the parameters of a step, measures, and writes the row and the line.

    Args:
      data: the prepared data; its validation products with a picture and a title are drawn from.
      num_products: of the sample, at most.
      batch_size: products embedded at a time, at most; a multiple of the number of devices.
      system, graphdef, param_shardings: what embeds, as in `training/step.py`.
      measure: turns vectors into values.
    """

    def __init__(
        self,
        data: PreparedData,
        *,
        num_products: int,
        batch_size: int,
        pipeline: ImagePipeline,
        tokenizer: TextTokenizer,
        system,
        graphdef: nnx.GraphDef,
        param_shardings: Any,
        mesh: Mesh,
        measure: Measure,
        log: Callable[[str], None],
    ):
        rows = data.rows(SPLIT)
        pairs = np.flatnonzero((rows["num_images"] > 0) & rows["has_text"])
        chosen = np.sort(np.random.default_rng(_SEED).permutation(pairs)[:num_products])
        self.keys = {name: rows[f"{name}_key"][chosen] for name in ("catalog", "group", "category")}
        self.num_products, self.measure, self.log = len(chosen), measure, log
        if self.num_products < 2:
            log(f"eval     off: {self.num_products} of the {SPLIT} products have a picture and a title; two are needed")
            self.num_products = 0
        records = Records(data.folder, SPLIT, rows["position"][chosen])
        size = min(batch_size, -(-len(chosen) // mesh.size) * mesh.size)
        self._batches = [
            _batch(records, range(start, start + size), pipeline=pipeline, tokenizer=tokenizer, mesh=mesh)
            for start in range(0, self.num_products, size or 1)
        ]

        def embed(params, batch):
            with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
                vectors = system.embed(nnx.merge(graphdef, params), batch, system.views)
            present = {"image": batch["has_image"], "text": batch["has_text"]}
            both = batch["has_image"] | batch["has_text"]
            return {view: jnp.where(present.get(view, both)[:, None], x, jnp.nan) for view, x in vectors.items()}

        self._embed = jax.jit(
            embed, in_shardings=(param_shardings, batch_sharding(mesh)), out_shardings=replicated(mesh)
        )

    def __call__(self, step: int, params: Any, writer: MetricWriter | NoWriter) -> float:
        """Measures `params`, writes the row of `step`, and returns the seconds that it took."""
        if not self.num_products:
            return 0.0
        with jax.transfer_guard("allow"):  # the vectors come to the host; the training loop forbids it to itself
            jax.block_until_ready(params)  # the steps before are not this evaluation's time
            begin_s = time.monotonic()
            parts = [jax.device_get(self._embed(params, batch)) for batch in self._batches]
        vectors = {
            view: np.concatenate([part[view] for part in parts])[: self.num_products].astype(np.float32)
            for view in parts[0]
        }
        values = self.measure(vectors, self.keys)
        seconds = time.monotonic() - begin_s
        writer.scalars(step, {PREFIX + name: value for name, value in values.items()} | {f"{PREFIX}seconds": seconds})
        shown = "  ".join(f"{name.partition('/')[2]} {value:.3f}" for name, value in values.items())
        self.log(f"eval {step:>7,}  {shown}  ({self.num_products:,} {SPLIT} products, {seconds:.1f} s)")
        return seconds


def _batch(records: Records, rows: range, *, pipeline, tokenizer, mesh: Mesh) -> dict[str, jax.Array]:
    """Rows of the sample as a batch on the devices; rows beyond its end have neither picture nor text."""
    sharding = batch_sharding(mesh)

    @cache
    def example(row: int) -> dict[str, np.ndarray]:
        record = records[row] if row < len(records) else {"title": "", "images": []}
        try:
            pixels = pipeline(record["images"][0]) if record["images"] else None
        except ImageDefect:  # prepare has checked it, so the shard was damaged since: training counts such rows
            pixels = None
        ids, mask = tokenizer([record["title"]])
        return {
            "image": np.zeros((pipeline.size, pipeline.size, 3), np.uint8) if pixels is None else pixels,
            "has_image": np.asarray(pixels is not None),
            "text_ids": ids[0],
            "text_mask": mask[0],
            "has_text": mask[0].any(),
        }

    def array(name: str) -> jax.Array:
        like = empty[name]
        return jax.make_array_from_callback(
            (len(rows), *like.shape),
            sharding,
            lambda index: np.stack([example(row)[name] for row in rows[index[0]]]),
        )

    empty = example(len(records))
    return {name: array(name) for name in empty}
