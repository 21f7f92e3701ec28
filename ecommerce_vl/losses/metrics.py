"""What a contrastive loss tells of a batch beside its value, from the sums of a sweep; no block of similarities."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from ecommerce_vl.losses.candidates import Ids, Rule
from ecommerce_vl.losses.tile import Counts, Sums


def batch_metrics(
    rule: Rule,
    z_row_bxD: jax.Array,
    z_column_bxD: jax.Array,
    row: Ids,
    columns: list[Ids],
    sums: Sums,
    counts: Counts,
    column_sums: Sums | None,
    negatives_b: list[jax.Array],
    factor_b: jax.Array,
    *,
    total: Callable,
    axes: tuple[str, ...],
) -> dict[str, jax.Array]:
    """float32 scalars of the global batch, equal on all devices; all of valid rows, unweighted but for the floor.

    Args:
      columns: ids of the batch's candidates and of each further set.
      negatives_b: number of negatives of a row in each of `columns`.
      factor_b: weight of a row's term in the loss.
      total: sum over rows of all devices.

    Returns: `loss_floor` (the least possible loss, the entropy of the targets), `row_top1` and `column_top1` (share
      whose own pair beats every negative; a tie is no win, or a collapse would look perfect), `positives_per_row`,
      `shared_rows` (share with another listing of the same product in the batch), `pair_cosine`, `negative_cosine`,
      `negatives_per_row`, `effective_negatives` ((sum w)^2 / sum w^2 of w = exp(logit): how many of them push),
      `left_out` and `more_left_out` (share of other candidates, of the batch and further ones, that are neither
      positive nor negative), `row_rank` and `column_rank` (`effective_rank`).
    """
    valid_b = row.valid_n
    num_rows = jnp.maximum(total(valid_b), 1.0)
    mean = lambda x_b: total(jnp.where(valid_b, x_b, 0.0)) / num_rows
    num_negatives = jnp.maximum(total(jnp.where(valid_b, counts.negatives_n, 0.0)), 1.0)
    pair_cosine_b = (z_row_bxD.astype(jnp.float32) * z_column_bxD).sum(axis=1)
    directions = 2 if rule.both else 1
    metrics = {
        "loss_floor": total(directions * factor_b * _entropy(rule, counts.same_n)),
        "row_top1": mean(sums.own_n > sums.negative_n),
        "positives_per_row": mean(1 + counts.same_n),
        "shared_rows": mean(counts.same_n > 0),
        "pair_cosine": mean(pair_cosine_b),
        "negative_cosine": total(jnp.where(valid_b, counts.cosine_n, 0.0)) / num_negatives,
        "negatives_per_row": mean(counts.negatives_n),
        "effective_negatives": mean(counts.weight_n**2 / jnp.maximum(counts.square_n, 1e-30)),
        "left_out": _left_out(rule, columns[0], counts.same_n, negatives_b[0], mean=mean, total=total),
        "row_rank": effective_rank(z_row_bxD, valid_b, num_rows, axes=axes),
        "column_rank": effective_rank(z_column_bxD, valid_b, num_rows, axes=axes),
    }
    if column_sums is not None:
        metrics["column_top1"] = mean(column_sums.own_n > column_sums.negative_n)
    if len(columns) > 1:
        others = sum(total(column.valid_n) for column in columns[1:])
        metrics["more_left_out"] = jnp.where(others > 0, 1 - mean(sum(negatives_b[1:])) / jnp.maximum(others, 1.0), 0.0)
    return metrics


def _entropy(rule: Rule, same_b: jax.Array) -> jax.Array:
    """Of the targets of a row with that many same pairs: the loss of its term at best."""
    alpha = rule.share
    if alpha == 0:
        return jnp.zeros_like(same_b)
    if rule.kind == "sigmoid":  # of each soft label
        return same_b * (jax.scipy.special.entr(alpha) + jax.scipy.special.entr(1 - alpha))
    sum_b = 1 + alpha * same_b
    return jnp.log(sum_b) + same_b * jax.scipy.special.entr(alpha) / sum_b


def _left_out(rule: Rule, column: Ids, same_b, negatives_b, *, mean: Callable, total: Callable) -> jax.Array:
    same_b = jnp.zeros_like(same_b) if rule.label_mode == "mask" else same_b
    others = total(column.valid_n) - 1
    return jnp.where(others > 0, 1 - mean(same_b + negatives_b) / jnp.maximum(others, 1.0), 0.0)


def effective_rank(z_bxD: jax.Array, valid_b: jax.Array, num_rows: jax.Array, *, axes: tuple[str, ...]) -> jax.Array:
    """Participation ratio (sum of variances)^2 / sum of squared variances: how many dimensions the vectors fill.

    From 1 (a line) to D. A value that stays near 1 is a collapse that the loss alone does not show.
    """
    z_bxD = jnp.where(valid_b[:, None], z_bxD.astype(jnp.float32), 0.0)
    mean_D = jax.lax.psum(z_bxD.sum(axis=0), axes) / num_rows
    covariance_DxD = jax.lax.psum(z_bxD.T @ z_bxD, axes) / num_rows - jnp.outer(mean_D, mean_D)
    return jnp.trace(covariance_DxD) ** 2 / jnp.maximum((covariance_DxD**2).sum(), 1e-12)
