"""The quick evaluation: how good the vectors of a fixed sample are, measured inside the training command.

The invariant: its rows are a function of parameters and data. The sample is drawn once from the validation split by a
constant seed, read without augmentation and by title alone, and lies on the devices from then on; a run that goes on
at step t has the rows up to t, since they are written before the save at t. Every process takes part, because the
parameters may be sharded over all of them; each reads the rows of its own devices.

Where a system embeds queries, the sample is of products that held-out queries lead to, and those queries ask.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from ecommerce_vl.data.images import ImageDefect, ImagePipeline
from ecommerce_vl.data.prepared import PreparedData, Records
from ecommerce_vl.data.product_ids import id_row
from ecommerce_vl.data.query_pairs import asked_in
from ecommerce_vl.data.tokenizer import TextTokenizer
from ecommerce_vl.training.mesh import batch_sharding, replicated
from ecommerce_vl.training.writer import MetricWriter, NoWriter

SPLIT = "validation"
PREFIX = "eval/"
_SEED = 0  # of the sample: the same for all runs over one data set, so that they can be compared
# (vectors by view, keys (N,) by name, right products of each query) -> value by "task/setting/metric"; see
# evaluation/quick.py.
Measure = Callable[[Mapping[str, np.ndarray], Mapping[str, np.ndarray], Sequence[Sequence[int]]], dict[str, float]]
Example = dict[str, np.ndarray]


class QuickEvaluation:
    """Embeds the sample with the parameters of a step, measures, and writes the row and the line.

    Args:
      data: the prepared data; of its validation products those with a picture and a title are drawn from, and first of
        all, where the system embeds queries, those that queries lead to, whatever they have.
      config: of the run; `evaluate.products` of the sample at most, as many queries, `batch_size` embedded at a time.
      system, graphdef, param_shardings: what embeds, as in `training/step.py`.
      measure: turns vectors into values.
    """

    def __init__(
        self,
        data: PreparedData,
        config: Mapping[str, Any],
        *,
        pipeline: ImagePipeline,
        tokenizer: TextTokenizer,
        system,
        graphdef: nnx.GraphDef,
        param_shardings: Any,
        mesh: Mesh,
        measure: Measure,
        log: Callable[[str], None],
    ):
        most, options = config["evaluate"]["products"], config["data"]
        asked = asked_in(data, options["queries"], split=SPLIT) if "query" in system.views else []
        rows = data.rows(SPLIT)
        chosen = _sample(rows, {name for _, name in asked}, most=most)
        self.keys = {name: rows[f"{name}_key"][chosen] for name in ("catalog", "group", "category")}
        self.num_products, self.measure, self.log = len(chosen), measure, log
        if self.num_products < 2:
            log(f"eval     off: {self.num_products} of the {SPLIT} products can be asked for; two are needed")
            self.num_products = 0
        queries, self.answers = _queries(asked, rows["id"][chosen], most=most)
        of_product = partial(
            _product,
            Records(data.folder, SPLIT, rows["position"][chosen]),
            pipeline=pipeline,
            tokenizer=tokenizer,
            id_rows=options.get("id_rows", 0),
        )
        query_length = config["text"].get("query_length") or config["text"]["max_length"]
        of_query = partial(_query, queries, tokenizer=tokenizer.of_length(query_length))
        batches = partial(_batches, batch_size=config["batch_size"], mesh=mesh)
        # By the views that are embedded together.
        self._batches = {tuple(view for view in system.views if view != "query"): batches(of_product, len(chosen))}
        if queries:
            self._batches[("query",)] = batches(of_query, len(queries))

        def embed(params, batch, views):
            with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
                vectors = system.embed(nnx.merge(graphdef, params), batch, views)
            present = {"image": batch["has_image"], "text": batch["has_text"]}
            both = batch["has_image"] | batch["has_text"]
            return {view: jnp.where(present.get(view, both)[:, None], x, jnp.nan) for view, x in vectors.items()}

        shardings = {"in_shardings": (param_shardings, batch_sharding(mesh)), "out_shardings": replicated(mesh)}
        self._embed = {views: jax.jit(partial(embed, views=views), **shardings) for views in self._batches}

    def __call__(self, step: int, params: Any, writer: MetricWriter | NoWriter) -> float:
        """Measures `params`, writes the row of `step`, and returns the seconds that it took."""
        if not self.num_products:
            return 0.0
        with jax.transfer_guard("allow"):  # the vectors come to the host; the training loop forbids it to itself
            jax.block_until_ready(params)  # the steps before are not this evaluation's time
            begin_s = time.monotonic()
            vectors = {}
            for views, batches in self._batches.items():
                parts = [jax.device_get(self._embed[views](params, batch)) for batch in batches]
                length = len(self.answers) if views == ("query",) else self.num_products
                for view in views:
                    vectors[view] = np.concatenate([part[view] for part in parts])[:length].astype(np.float32)
        values = self.measure(vectors, self.keys, self.answers)
        seconds = time.monotonic() - begin_s
        writer.scalars(step, {PREFIX + name: value for name, value in values.items()} | {f"{PREFIX}seconds": seconds})
        shown = "  ".join(f"{name.partition('/')[2]} {value:.3f}" for name, value in values.items())
        asking = f"{len(self.answers):,} queries, " if self.answers else ""
        self.log(f"eval {step:>7,}  {shown}  ({asking}{self.num_products:,} {SPLIT} products, {seconds:.1f} s)")
        return seconds


def _sample(rows: Mapping[str, np.ndarray], asked_for: set[str], *, most: int) -> np.ndarray:
    """Rows of the split, ascending: at most so many with a picture and a title, those of queries first.

    Products that queries lead to need not have both.
    """
    wanted = np.array([name in asked_for for name in rows["id"]], bool)
    pairs = (rows["num_images"] > 0) & rows["has_text"]
    drawn = np.random.default_rng(_SEED).permutation(np.flatnonzero(wanted | pairs))
    return np.sort(drawn[np.argsort(~wanted[drawn], kind="stable")][:most])


def _queries(asked: Sequence[tuple[str, str]], ids: np.ndarray, *, most: int) -> tuple[list[str], list[list[int]]]:
    """At most so many queries that lead to products of the sample, and the rows of these."""
    row_of, rows = dict(zip(ids, range(len(ids)), strict=True)), {}
    for query, name in asked:
        if name in row_of:
            rows.setdefault(query, []).append(row_of[name])
    names = sorted(rows)
    chosen = [names[place] for place in np.random.default_rng(_SEED).permutation(len(names))[:most]]
    return chosen, [rows[query] for query in chosen]


def _product(records: Records, row: int, *, pipeline, tokenizer: TextTokenizer, id_rows: int) -> Example:
    """A row of the sample; beyond its end neither picture nor text."""
    record = records[row] if row < len(records) else {"id": "", "title": "", "images": []}
    try:
        pixels = pipeline(record["images"][0]) if record["images"] else None
    except ImageDefect:  # prepare has checked it, so the shard was damaged since: training counts such rows
        pixels = None
    return {
        "image": np.zeros((pipeline.size, pipeline.size, 3), np.uint8) if pixels is None else pixels,
        "has_image": np.asarray(pixels is not None),
        **_words(record["title"], tokenizer),
        **({"id_row": np.asarray(id_row(record["id"], num_rows=id_rows), np.int32)} if id_rows else {}),
    }


def _query(queries: Sequence[str], row: int, *, tokenizer: TextTokenizer) -> Example:
    words = _words(queries[row] if row < len(queries) else "", tokenizer)
    return words | {"has_image": np.asarray(False)}


def _words(text: str, tokenizer: TextTokenizer) -> Example:
    ids, mask = tokenizer([text])
    return {"text_ids": ids[0], "text_mask": mask[0], "has_text": mask[0].any()}


def _batches(example: Callable[[int], Example], count: int, *, batch_size: int, mesh: Mesh) -> list[Example]:
    """Batches of the examples on the devices, each read once."""
    size, sharding, example = min(batch_size, -(-count // mesh.size) * mesh.size), batch_sharding(mesh), cache(example)
    like = example(count)

    def array(name: str, rows: range) -> jax.Array:
        read = lambda index: np.stack([example(row)[name] for row in rows[index[0]]])
        return jax.make_array_from_callback((len(rows), *like[name].shape), sharding, read)

    starts = range(0, count, size or 1)
    return [{name: array(name, range(start, start + size)) for name in like} for start in starts]
