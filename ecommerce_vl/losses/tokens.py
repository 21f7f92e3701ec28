"""Losses of single tokens and patches: encoded as a sum and a count for each row, divided once over the global batch.

    L = sum_b sum_m weight[b,m] loss[b,m] / max(1, sum_b sum_m weight[b,m])

Invariant: a row's sum and count depend on that row alone, so that streams and devices add them up in any order; the
value is the mean over the positions of the whole batch, not a mean of means.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

PATCH_LOSSES = ("l1", "l2")
FLAT_VARIANCE = 1e-4  # of normalised pixels; a patch below it is a plain background and its noise


class RowSum(NamedTuple):
    """float32 (B,): the sum of a quantity over the positions of each row, and the weight of those positions."""

    sum_B: jax.Array
    count_B: jax.Array


def row_sum(value_BxM: jax.Array, weight_BxM: jax.Array) -> RowSum:
    """Weighted sums over the positions of each row; what lies under a weight of 0 does not count, finite or not."""
    weight_BxM = weight_BxM.astype(jnp.float32)
    value_BxM = jnp.where(weight_BxM > 0, value_BxM.astype(jnp.float32), 0.0)
    return RowSum((value_BxM * weight_BxM).sum(axis=1), weight_BxM.sum(axis=1))


def global_mean(rows: RowSum) -> jax.Array:
    """The mean over all positions of the global batch; 0 where there is none."""
    return rows.sum_B.sum() / jnp.maximum(rows.count_B.sum(), 1.0)


def cross_entropy(logits_BxMxV: jax.Array, target_BxM: jax.Array) -> jax.Array:
    """-log softmax(logits)[target] (B,M) float32, in nats."""
    logits_BxMxV = logits_BxMxV.astype(jnp.float32)
    at_target_BxM = jnp.take_along_axis(logits_BxMxV, target_BxM[:, :, None], axis=2)[:, :, 0]
    return jax.nn.logsumexp(logits_BxMxV, axis=2) - at_target_BxM


def patch_targets(raw_BxMxC: jax.Array, *, normalise: bool) -> tuple[jax.Array, jax.Array]:
    """What a masked patch is to be predicted as, and which patches show anything.

    Normalising each patch by its own mean and deviation is that of masked autoencoders (2111.06377); on a plain
    background it would only amplify the noise of compression, so such patches are told apart.

    Args:
      raw_BxMxC: float32 pixels after the normalisation of the encoder.
      normalise: to mean 0 and variance 1 a patch; else the raw pixels.

    Returns: target (B,M,C) float32, and bool (B,M), False for a patch whose raw variance is below `FLAT_VARIANCE`.
    """
    raw_BxMxC = raw_BxMxC.astype(jnp.float32)
    mean_BxMx1 = raw_BxMxC.mean(axis=2, keepdims=True)
    variance_BxMx1 = ((raw_BxMxC - mean_BxMx1) ** 2).mean(axis=2, keepdims=True)
    target_BxMxC = (raw_BxMxC - mean_BxMx1) / jnp.sqrt(variance_BxMx1 + 1e-6) if normalise else raw_BxMxC
    return target_BxMxC, variance_BxMx1[:, :, 0] >= FLAT_VARIANCE


def patch_distance(prediction_BxMxC: jax.Array, target_BxMxC: jax.Array, *, kind: str) -> jax.Array:
    """Mean absolute ("l1") or squared ("l2") difference of each patch, (B,M) float32.

    Errors: ValueError for another kind.
    """
    if kind not in PATCH_LOSSES:
        raise ValueError(f"mim_loss is {kind!r}; expected one of {', '.join(PATCH_LOSSES)}")
    difference = prediction_BxMxC.astype(jnp.float32) - target_BxMxC
    return (jnp.abs(difference) if kind == "l1" else difference**2).mean(axis=2)
