"""Hinge losses over a batch of product pairs: eSSPR (2302.05093), with a margin on cosines and no temperature.

    match      l_i = (1/B) sum_j max(0, cos(x_i, r_j) - cos(x_i, r_i) + m [j != i])
    locality   l_i = (1/k) sum_{j in top(i)} max(0, (cos(x_i, r_j) - cos(z_i, r_j))^2 - m)

`match` of products against their pairs is the paper's PPM, of transformed views against their own products its PDC;
top(i) are the k columns nearest to x_i, chosen without gradient. Losses are of rows; `mean_of_rows` is the only divisor
over rows.

Invariants: B is the number of valid columns of the global batch, whatever the number of devices and however many terms
are masked; a term is masked, never a column's place in B, where row and column share an id (`candidates.relate`); rows
that are not valid are no queries and no columns. Rows stay where they are; columns are gathered once for all views.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from ecommerce_vl.losses.candidates import Ids, Rule, relate
from ecommerce_vl.losses.devices import gather_rows
from ecommerce_vl.losses.metrics import effective_rank
from ecommerce_vl.losses.precision import PRECISION

# What shares an id with a row is neither its positive nor its negative.
RULE = Rule(label_mode="mask")


class Match(NamedTuple):
    """Of each row and view, float32 (B,V): the loss, the share of its unmasked terms that are above zero (those that
    still teach), and 1 where its pair is nearer than every negative."""

    loss_BxV: jax.Array
    active_BxV: jax.Array
    top1_BxV: jax.Array


def match(
    z_row_BxVxD: jax.Array,
    z_column_BxD: jax.Array,
    row: Ids,
    column: Ids,
    *,
    margin: float,
    mesh: Mesh,
) -> Match:
    """The matching loss of each of V views of every row against all columns, of which column i is the pair of row i.

    Args:
      z_row_BxVxD, z_column_BxD: float32 unit vectors, sharded over all axes of the mesh; B is a multiple of its size.
      row, column: ids of rows and of columns; those of views that a row lacks are left out by `mean_of_rows`.
      margin: m, on cosines.
    """

    def local(z_row_bxVxD, z_column_bxD, row, column):
        own_bxVx1 = jnp.einsum("bvd,bd->bv", z_row_bxVxD, z_column_bxD, precision=PRECISION)[..., None]
        z_column_BxD, column = gather_rows((z_column_bxD, column), tuple(mesh.axis_names))
        relation = relate(RULE, row, column, paired=True)
        negative_bx1xB = (relation.shown_rxc & ~relation.own_rxc)[:, None]
        cosine_bxVxB = jnp.einsum("bvd,cd->bvc", z_row_bxVxD, z_column_BxD, precision=PRECISION)
        term_bxVxB = jnp.where(negative_bx1xB, jnp.maximum(cosine_bxVxB - own_bxVx1 + margin, 0.0), 0.0)
        best_bxV = jnp.where(negative_bx1xB, cosine_bxVxB, -jnp.inf).max(axis=-1)
        return Match(
            term_bxVxB.sum(axis=-1) / _at_least_one(column.valid_n.sum()),
            (term_bxVxB > 0).sum(axis=-1) / _at_least_one(negative_bx1xB.sum(axis=-1)),
            (own_bxVx1[..., 0] > best_bxV).astype(jnp.float32),
        )

    return _by_row(local, mesh)(z_row_BxVxD, z_column_BxD, row, column)


def locality(
    x_BxD: jax.Array,
    z_BxVxD: jax.Array,
    z_column_BxD: jax.Array,
    column: Ids,
    *,
    k: int,
    margin: float,
    mesh: Mesh,
) -> jax.Array:
    """The locality loss (B,V) of V transformed views z of each product x: its neighbourhood must not move.

    Args:
      k: size of the neighbourhood; no more than there are valid columns are taken, and divided by.
      margin: m, on squared differences of cosines: 0.01 lets a cosine move by 0.1.
      Others as in `match`.
    """

    def local(x_bxD, z_bxVxD, z_column_bxD, column):
        z_column_BxD, column = gather_rows((z_column_bxD, column), tuple(mesh.axis_names))
        D_bxB = jnp.einsum("bd,cd->bc", x_bxD, z_column_BxD, precision=PRECISION)
        moved_bxVxB = jnp.einsum("bvd,cd->bvc", z_bxVxD, z_column_BxD, precision=PRECISION)
        known_bxB = jnp.where(column.valid_n, jax.lax.stop_gradient(D_bxB), -jnp.inf)
        _, top_bxk = jax.lax.top_k(known_bxB, min(k, len(z_column_BxD)))
        # A mask and not the k columns alone: their gradient would be a scatter, whose order of sums is not fixed.
        chosen_bxB = jnp.zeros(D_bxB.shape, bool).at[jnp.arange(len(D_bxB))[:, None], top_bxk].set(True)
        chosen_bx1xB = (chosen_bxB & column.valid_n)[:, None]
        term_bxVxB = jnp.maximum((D_bxB[:, None] - moved_bxVxB) ** 2 - margin, 0.0)
        kept = jnp.minimum(top_bxk.shape[1], column.valid_n.sum())
        return jnp.where(chosen_bx1xB, term_bxVxB, 0.0).sum(axis=-1) / _at_least_one(kept)

    return _by_row(local, mesh)(x_BxD, z_BxVxD, z_column_BxD, column)


def mean_of_rows(x_BxV: jax.Array, weight_BxV: jax.Array) -> jax.Array:
    """The weighted mean (V,) over rows; 0 where no row has a weight."""
    whole_V = weight_BxV.sum(axis=0)
    return (x_BxV * weight_BxV).sum(axis=0) / jnp.where(whole_V > 0, whole_V, 1.0)


def rank_of_rows(z_BxD: jax.Array, valid_B: jax.Array, *, mesh: Mesh) -> jax.Array:
    """How many dimensions the valid rows fill (`metrics.effective_rank`), without gradient."""
    axes = tuple(mesh.axis_names)

    def local(z_bxD, valid_b):
        num_rows = _at_least_one(jax.lax.psum(valid_b.sum(), axes))
        return effective_rank(z_bxD, valid_b, num_rows, axes=axes)

    arrays = jax.lax.stop_gradient((z_BxD, valid_B))
    return jax.shard_map(local, mesh=mesh, in_specs=P(axes), out_specs=P())(*arrays)


def _by_row(local, mesh: Mesh):
    """`local` on the rows of each device, all arrays by row."""
    spec = P(tuple(mesh.axis_names))
    return jax.shard_map(local, mesh=mesh, in_specs=spec, out_specs=spec)


def _at_least_one(count: jax.Array) -> jax.Array:
    return jnp.maximum(count, 1).astype(jnp.float32)
