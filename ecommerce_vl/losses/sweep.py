"""Every row meets every candidate: how tiles come to the rows, and the collectives that does take.

Rows stay where they are, b = B/N on a device. Candidates come to them in one of two ways:

    gather    all-gather of the embeddings; each device holds (C,D) of them, and their gradients in the backward pass
    ring      blocks of C/N candidates travel round the ring, and in the backward pass their gradients with them, which
              are home after N hops; nothing of size (C,D) exists

and are met `chunk_rows` rows at a time (0: all b), so a tile is chunk_rows x C or chunk_rows x C/N. Every similarity is
computed once in each pass and serves both directions: four matrix products, against three that keep the block in
memory. Ids, and sums over columns, are vectors of length C and always gathered and reduced whole.

The gradient is written by hand (`tile.py`) outside of `shard_map`, so that no collective is differentiated: the one of
the temperature is a `psum` that stands here, once.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from ecommerce_vl.losses.candidates import Rule
from ecommerce_vl.losses.devices import gather_rows, pass_on
from ecommerce_vl.losses.metrics import batch_metrics
from ecommerce_vl.losses.precision import PRECISION
from ecommerce_vl.losses.tile import (
    Shares,
    Sums,
    add_counts,
    add_sums,
    logit_gradient,
    make_tile,
    no_counts,
    no_sums,
)

IMPLS = ("gather", "ring")


@dataclasses.dataclass(frozen=True)
class Plan:
    """The loss and how it is computed; all static.

    Args:
      rule: of the loss.
      mesh: all its axes shard rows and candidates.
      impl: "gather" or "ring".
      chunk_rows: rows of a tile; 0 for all of a device.
      trained: for the batch's candidates and each further set, whether a gradient reaches them.
    """

    rule: Rule
    mesh: Mesh
    impl: str
    chunk_rows: int
    trained: tuple[bool, ...]

    @property
    def axes(self) -> tuple[str, ...]:
        """Of the mesh, all of which shard rows and candidates."""
        return tuple(self.mesh.axis_names)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def all_pairs_loss(plan: Plan, z_row_BxD, embeddings, logit_scale, bias, ids, weight_B):
    """The loss and its metrics; gradients of rows, embeddings, `logit_scale` and `bias`; metrics have none.

    Args:
      embeddings: tuple of (C,D), the batch's first, then further candidates.
      logit_scale, bias: float32 scalars.
      ids: tuple of `Ids`; first of the rows, then of each of `embeddings`.
      weight_B: float32, of the pairs.
    """
    return _forward(plan, z_row_BxD, embeddings, logit_scale, bias, ids, weight_B)[0]


def _forward(plan: Plan, *arrays):
    specs = (P(plan.axes), P(plan.axes), P(), P(), P(plan.axes), P(plan.axes))
    out_specs = ((P(), P()), P(plan.axes))
    # Nothing is differentiated through, which is what the check of varying values is there for.
    local = partial(_forward_local, plan)
    return jax.shard_map(local, mesh=plan.mesh, in_specs=specs, out_specs=out_specs, check_vma=False)(*arrays)


def _keep(plan: Plan, *arrays):
    out, shares = _forward(plan, *arrays)
    return out, (arrays[:-1], shares)


def _backward(plan: Plan, kept, cotangents):
    (z_row_BxD, embeddings, logit_scale, bias, ids), shares = kept
    specs = (P(plan.axes), P(plan.axes), P(), P(), P(plan.axes), P(plan.axes), P())
    out_specs = (P(plan.axes), P(plan.axes), P(), P())
    local = partial(_backward_local, plan)
    grads = jax.shard_map(local, mesh=plan.mesh, in_specs=specs, out_specs=out_specs, check_vma=False)(
        z_row_BxD, embeddings, logit_scale, bias, ids, shares, cotangents[0]
    )
    return *grads, None, None


all_pairs_loss.defvjp(_keep, _backward)


def _forward_local(plan: Plan, z_row_bxD, embeddings, logit_scale, bias, ids, weight_b):
    """What one device does; returns (loss, metrics) and what the backward pass needs of rows and of columns."""
    rule, (row, *columns) = plan.rule, ids
    b, scale = len(weight_b), jnp.exp(logit_scale)
    z_rows, rows = _chunks(plan, (z_row_bxD, row))
    count, r = rows.index_n.shape
    sums, counts = (jax.tree.map(lambda x: jnp.tile(x, (count, 1)), part) for part in (no_sums(r), no_counts(r)))
    column_sums, negatives_b = None, []

    for source, (embedding, column) in enumerate(zip(embeddings, columns, strict=True)):
        paired = source == 0
        both = rule.both and paired
        gathered = gather_rows(column, plan.axes)

        def visit(z_cxD, _, offset, state, gathered=gathered, paired=paired, both=both):
            block = _part(gathered, offset, len(z_cxD))

            def chunk(k, state):
                sums, counts, block_sums = state
                row_sums, row_counts = _at((sums, counts), k)
                tile = make_tile(
                    rule, _at(z_rows, k), z_cxD, _at(rows, k), block, scale, bias, paired=paired
                )  # fmt: skip
                new_sums = add_sums(row_sums, tile, axis=1)
                new_counts = add_counts(row_counts, tile, before_r=row_sums.negative_n, after_r=new_sums.negative_n)
                if both:
                    block_sums = add_sums(block_sums, tile, axis=0)
                put = lambda tree, part: jax.tree.map(lambda x, y: x.at[k].set(y), tree, part)
                return put(sums, new_sums), put(counts, new_counts), block_sums

            sums, counts, all_sums = state
            sums, counts, block_sums = _loop(count, chunk, (sums, counts, no_sums(len(z_cxD)) if both else None))
            place = partial(jax.lax.dynamic_update_slice_in_dim, start_index=offset, axis=0)
            all_sums = jax.tree.map(lambda x, y: place(x, y), all_sums, block_sums) if both else None
            return None, (sums, counts, all_sums)

        start = no_sums(len(gathered.index_n)) if both else None
        _, (sums, counts, met) = _meet(plan, embedding, None, visit, (sums, counts, start))
        column_sums = met if both else column_sums
        negatives_b.append(counts.negatives_n.reshape(-1)[:b] - sum(negatives_b))

    flat = lambda tree: jax.tree.map(lambda x: x.reshape(-1)[:b], tree)
    sums, counts = flat(sums), flat(counts)
    column_sums = _part(_reduce(plan, column_sums), _me(plan) * b, b) if rule.both else None

    total = lambda x: jax.lax.psum(x.astype(jnp.float32).sum(), plan.axes)
    weight_b = jnp.where(row.valid_n, weight_b, 0.0)
    whole = total(weight_b)
    factor_b = weight_b / jnp.where(whole > 0, whole, 1.0) / (2 if rule.both else 1)
    softmax = rule.kind == "softmax"
    affinity_b = 1 + rule.share * counts.same_n if softmax else jnp.ones(b)

    def term(sums: Sums) -> tuple[jax.Array, jax.Array]:
        lse_b = jnp.where(row.valid_n, sums.peak_n + jnp.log(jnp.maximum(sums.mass_n, 1e-30)), 0.0)
        value_b = (lse_b if softmax else sums.mass_n) - sums.target_n / affinity_b
        return total(factor_b * jnp.where(row.valid_n, value_b, 0.0)), Shares(lse_b, affinity_b, factor_b)

    loss, row_shares = term(sums)
    column_shares = None
    if rule.both:
        column_loss, column_shares = term(column_sums)
        loss = loss + column_loss
    metrics = batch_metrics(
        rule, z_row_bxD, embeddings[0], row, columns, sums, counts, column_sums, negatives_b, factor_b, total=total,
        axes=plan.axes,
    )  # fmt: skip
    return (loss, metrics), (row_shares, column_shares)


def _backward_local(plan: Plan, z_row_bxD, embeddings, logit_scale, bias, ids, shares, cotangent):
    """Gradients of rows, embeddings, `logit_scale` and `bias`; every tile is computed again."""
    (row, *columns), (row_shares, column_shares) = ids, shares
    z_rows, rows, row_shares = _chunks(plan, (z_row_bxD, row, row_shares))
    scale = jnp.exp(logit_scale)
    row_grads, scalar_grads = jnp.zeros(z_rows.shape, jnp.float32), jnp.zeros(2)
    column_grads = []

    for source, (embedding, column) in enumerate(zip(embeddings, columns, strict=True)):
        paired = source == 0
        gathered = gather_rows((column, column_shares if paired else None), plan.axes)

        def visit(z_cxD, grad_cxD, offset, state, gathered=gathered, paired=paired):
            block, block_shares = _part(gathered, offset, len(z_cxD))

            def chunk(k, state):
                row_grads, scalar_grads, grad_cxD = state
                z_rxD, row, row_share = _at((z_rows, rows, row_shares), k)
                tile = make_tile(plan.rule, z_rxD, z_cxD, row, block, scale, bias, paired=paired)
                grad_rxc = logit_gradient(tile, row_share, block_shares)
                multiply = partial(jnp.matmul, precision=PRECISION, preferred_element_type=jnp.float32)
                if row_grads is not None:
                    row_grads = row_grads.at[k].add(multiply(grad_rxc, z_cxD.astype(jnp.float32)))
                    of_scale = (grad_rxc * (tile.logits_rxc - bias)).sum()
                    scalar_grads = scalar_grads + jnp.stack([of_scale, grad_rxc.sum()])
                if grad_cxD is not None:
                    grad_cxD = grad_cxD + multiply(grad_rxc.T, z_rxD.astype(jnp.float32))
                return row_grads, scalar_grads, grad_cxD

            row_grads, scalar_grads, grad_cxD = _loop(len(z_rows), chunk, (*state, grad_cxD))
            return grad_cxD, (row_grads, scalar_grads)

        trained, state = plan.trained[source], (row_grads, scalar_grads)
        none_cxD = jnp.zeros(embedding.shape, jnp.float32)
        if trained and plan.rule.stop_gradient:  # only what lies on the device itself learns from its rows
            _, state = _meet(plan, embedding, None, visit, state)
            grad_cxD, _ = visit(embedding, none_cxD, _me(plan) * len(embedding), (None, None))
        else:
            grad_cxD, state = _meet(plan, embedding, none_cxD if trained else None, visit, state)
        row_grads, scalar_grads = state
        grad_cxD = grad_cxD * (scale * cotangent) if trained else none_cxD
        column_grads.append(grad_cxD.astype(embedding.dtype))

    row_grad_bxD = row_grads.reshape(-1, z_row_bxD.shape[1])[: len(z_row_bxD)] * (scale * cotangent)
    scalar_grads = jax.lax.psum(scalar_grads, plan.axes) * cotangent
    return row_grad_bxD.astype(z_row_bxD.dtype), tuple(column_grads), scalar_grads[0], scalar_grads[1]


def _meet(plan: Plan, embedding_cxD: jax.Array, grad_cxD: jax.Array | None, visit: Callable, state: Any):
    """Calls `visit` for every candidate of all devices; returns the gradients of the own ones, and the last state.

    Args:
      embedding_cxD: the device's own candidates.
      grad_cxD: zeros, or None if none are wanted.
      visit: (embeddings, gradients so far, place of the first in the global set, state) -> (gradients, state).
    """
    if plan.impl == "gather":
        z_CxD = gather_rows(embedding_cxD, plan.axes)
        grad_CxD, state = visit(z_CxD, None if grad_cxD is None else jnp.zeros(z_CxD.shape, jnp.float32), 0, state)
        if grad_CxD is not None:
            grad_CxD = jax.lax.psum_scatter(grad_CxD, plan.axes, scatter_dimension=0, tiled=True)
        return grad_CxD, state

    num_devices = plan.mesh.size
    onward = partial(pass_on, axes=plan.axes, num_devices=num_devices)

    def hop(h, carry):
        z_cxD, grad_cxD, state = carry
        following_cxD = onward(z_cxD)  # depends on nothing of this hop, so it can travel meanwhile
        owner = (_me(plan) - h) % num_devices
        grad_cxD, state = visit(z_cxD, grad_cxD, owner * len(z_cxD), state)
        return following_cxD, None if grad_cxD is None else onward(grad_cxD), state

    return _loop(num_devices, hop, (embedding_cxD, grad_cxD, state))[1:]


def _me(plan: Plan) -> jax.Array:
    return jax.lax.axis_index(plan.axes)


def _reduce(plan: Plan, sums: Sums) -> Sums:
    """Sums over the columns of all devices, from those of each."""
    peak_C = jax.lax.pmax(sums.peak_n, plan.axes)
    add, greatest = partial(jax.lax.psum, axis_name=plan.axes), partial(jax.lax.pmax, axis_name=plan.axes)
    return Sums(
        peak_n=peak_C,
        # The peak of "sigmoid" is the same everywhere, so its mass is added as it is.
        mass_n=add(sums.mass_n * jnp.exp(sums.peak_n - peak_C)),
        target_n=add(sums.target_n),
        own_n=greatest(sums.own_n),
        negative_n=greatest(sums.negative_n),
    )


def _chunks(plan: Plan, tree: Any) -> Any:
    """Rows (b,...) as (chunks, rows of a chunk, ...); the last is filled up with zeros, which are not valid."""

    def cut(x):
        size = min(plan.chunk_rows, len(x)) or len(x)
        short = -len(x) % size
        if short:
            x = jnp.pad(x, ((0, short),) + ((0, 0),) * (x.ndim - 1))
        return x.reshape(len(x) // size, size, *x.shape[1:])

    return jax.tree.map(cut, tree)


def _at(tree: Any, k) -> Any:
    return jax.tree.map(lambda x: x[k], tree)


def _part(tree: Any, offset, size: int) -> Any:
    return jax.tree.map(lambda x: jax.lax.dynamic_slice_in_dim(x, offset, size), tree)


def _loop(count: int, body: Callable, carry: Any) -> Any:
    """`fori_loop`, without a loop around a single step: the compiler sees through it."""
    return body(0, carry) if count == 1 else jax.lax.fori_loop(0, count, body, carry)
