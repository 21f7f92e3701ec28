"""The loss on one tile of similarities, r rows against c columns: what it adds to the sums, and its gradient.

A tile lives in no memory beyond its step. Sums over tiles in any order give the loss of the whole block

    x = exp(s) (cosine - m [A > 0]) + bias        A: affinity (candidates.py), a_i = sum_j A_ij
    softmax   term_i = log sum_j exp(x_ij) - sum_j A_ij x_ij / a_i        L = sum_i u_i term_i + sum_j v_j term_j
    sigmoid   term_i = sum_j softplus(x_ij) - A_ij x_ij                   (2303.15343, with soft labels A)

with u_i, v_j the weights of the rows and columns, and the gradient of a tile needs only those sums:

    softmax   dL/dx_ij = u_i (exp(x_ij - lse_i) - A_ij / a_i) + v_j (exp(x_ij - lse_j) - A_ij / a_j)
    sigmoid   dL/dx_ij = (u_i + v_j) (sigmoid(x_ij) - A_ij)

All in float32. There is no automatic differentiation here, so `where` need not guard against NaN in an unused branch.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp

from ecommerce_vl.losses.candidates import Ids, Relation, Rule, relate
from ecommerce_vl.losses.precision import PRECISION

MASKED = -1e30  # not -inf: differences of two of them must be numbers


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Sums:
    """Over what a row (or a column) has met; float32 (n,).

    Args:
      peak_n: greatest logit; mass is relative to it ("softmax").
      mass_n: sum of exp(x - peak), or of softplus(x).
      target_n: sum of A x.
      own_n, negative_n: cosine of the own pair, and the greatest one of a negative.
    """

    peak_n: jax.Array
    mass_n: jax.Array
    target_n: jax.Array
    own_n: jax.Array
    negative_n: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Counts:
    """Of rows only, float32 (n,), for the affinity sums and the metrics.

    Args:
      same_n, negatives_n: how many same pairs and negatives.
      cosine_n: sum of the negatives' cosines.
      weight_n, square_n: sum of w = exp(scale (cosine - greatest)) over the negatives, and of w^2.
    """

    same_n: jax.Array
    negatives_n: jax.Array
    cosine_n: jax.Array
    weight_n: jax.Array
    square_n: jax.Array


@dataclasses.dataclass(frozen=True)
class Tile:
    """Similarities (r,c) float32 and what they mean."""

    rule: Rule
    cosine_rxc: jax.Array
    logits_rxc: jax.Array
    scale: jax.Array
    relation: Relation


def no_sums(n: int) -> Sums:
    """Nothing met yet."""
    zero, least = jnp.zeros(n), jnp.full(n, MASKED)
    return Sums(peak_n=least, mass_n=zero, target_n=zero, own_n=least, negative_n=least)


def no_counts(n: int) -> Counts:
    """Nothing met yet."""
    return Counts(*(jnp.zeros(n) for _ in dataclasses.fields(Counts)))


def make_tile(rule: Rule, z_row_rxD, z_column_cxD, row: Ids, column: Ids, scale, bias, *, paired: bool) -> Tile:
    """Similarities of rows and columns; `scale` is exp(s)."""
    relation = relate(rule, row, column, paired=paired)
    cosine_rxc = jnp.matmul(z_row_rxD, z_column_cxD.T, precision=PRECISION, preferred_element_type=jnp.float32)
    shifted_rxc = cosine_rxc
    if rule.margin and paired:
        shifted_rxc = jnp.where(relation.affinity_rxc > 0, cosine_rxc - rule.margin, cosine_rxc)
    return Tile(rule, cosine_rxc, scale * shifted_rxc + bias, scale, relation)


def add_sums(sums: Sums, tile: Tile, *, axis: int) -> Sums:
    """The sums after a tile; axis 1 adds to rows, 0 to columns."""
    relation, logits_rxc = tile.relation, tile.logits_rxc
    greatest = lambda chosen_rxc, x_rxc: jnp.where(chosen_rxc, x_rxc, MASKED).max(axis=axis)
    total = lambda chosen_rxc, x_rxc: jnp.where(chosen_rxc, x_rxc, 0.0).sum(axis=axis)
    negative_n = jnp.maximum(sums.negative_n, greatest(tile.relation.negative_rxc, tile.cosine_rxc))
    target_n, own_n = sums.target_n, sums.own_n
    if relation.own_rxc is not None:
        own_n = jnp.maximum(own_n, greatest(relation.own_rxc, tile.cosine_rxc))
        target_n = target_n + total(relation.affinity_rxc > 0, relation.affinity_rxc * logits_rxc)
    if tile.rule.kind == "sigmoid":
        mass_n = sums.mass_n + total(relation.shown_rxc, jax.nn.softplus(logits_rxc))
        return Sums(sums.peak_n, mass_n, target_n, own_n, negative_n)
    peak_n = jnp.maximum(sums.peak_n, greatest(relation.shown_rxc, logits_rxc))
    mass_n = sums.mass_n * jnp.exp(sums.peak_n - peak_n)
    mass_n = mass_n + total(relation.shown_rxc, jnp.exp(logits_rxc - jnp.expand_dims(peak_n, axis)))
    return Sums(peak_n, mass_n, target_n, own_n, negative_n)


def add_counts(counts: Counts, tile: Tile, *, before_r: jax.Array, after_r: jax.Array) -> Counts:
    """The counts of rows after a tile; `before_r`, `after_r`: the greatest negative cosine before and with it."""
    negative_rxc = tile.relation.negative_rxc
    weight_rxc = jnp.where(negative_rxc, jnp.exp(tile.scale * (tile.cosine_rxc - after_r[:, None])), 0.0)
    fade_r = jnp.exp(tile.scale * (before_r - after_r))
    same_n = counts.same_n
    if tile.relation.same_rxc is not None:
        same_n = same_n + tile.relation.same_rxc.sum(axis=1, dtype=jnp.float32)
    return Counts(
        same_n=same_n,
        negatives_n=counts.negatives_n + negative_rxc.sum(axis=1, dtype=jnp.float32),
        cosine_n=counts.cosine_n + jnp.where(negative_rxc, tile.cosine_rxc, 0.0).sum(axis=1),
        weight_n=counts.weight_n * fade_r + weight_rxc.sum(axis=1),
        square_n=counts.square_n * fade_r**2 + (weight_rxc**2).sum(axis=1),
    )


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Shares:
    """What the gradient of a tile needs of its rows, or of its columns; float32 (n,).

    Args:
      lse_n: log of the sum of exponentials ("softmax").
      affinity_n: a, sum of affinities; 1 for "sigmoid".
      factor_n: u or v, the weight of the term; 0 where not valid.
    """

    lse_n: jax.Array
    affinity_n: jax.Array
    factor_n: jax.Array


def logit_gradient(tile: Tile, row: Shares, column: Shares | None) -> jax.Array:
    """dL/dx (r,c) float32; `column` is None where columns have no terms."""
    relation, logits_rxc = tile.relation, tile.logits_rxc
    paired = relation.affinity_rxc is not None
    if tile.rule.kind == "sigmoid":
        factor_rxc = row.factor_n[:, None] + (0.0 if column is None else column.factor_n)
        pull_rxc = relation.affinity_rxc if paired else 0.0
        return jnp.where(relation.shown_rxc, factor_rxc * (jax.nn.sigmoid(logits_rxc) - pull_rxc), 0.0)
    push_rxc = row.factor_n[:, None] * jnp.exp(logits_rxc - row.lse_n[:, None])
    pull_n = (row.factor_n / row.affinity_n)[:, None]
    if column is not None:
        push_rxc = push_rxc + column.factor_n * jnp.exp(logits_rxc - column.lse_n)
        pull_n = pull_n + column.factor_n / column.affinity_n
    if paired:
        push_rxc = push_rxc - pull_n * relation.affinity_rxc
    return jnp.where(relation.shown_rxc, push_rxc, 0.0)
