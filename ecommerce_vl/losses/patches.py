"""Masked patches: which one was it, among others (MPM_R of 2304.04377), and the forms that it is compared with.

    z_j = norm(W h_j) of a masked patch j,  y_k = norm(sg(patch embedding of k before masking))
    L   = mean_j [ lse_{k in P_j} <z_j, y_k> / tau - <z_j, y_j> / tau ]
    P_j = {j}, the other patches of the picture, and patches of other pictures; without k != j of <y_j, y_k> > 0.95

A picture of one colour everywhere has nothing to tell apart: all alternatives of its patches are removed, and its terms
are 0. The part of a patch's own picture is a matter of one row (`own_image`, which systems encode); the patches of
other pictures are those of the whole batch (`patch_contrast`, with the only collective here, of targets, which have no
gradient).

The paper names the task and its outcome; this form, the temperature and the removal of near-equal patches are ours.
"""

from __future__ import annotations

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from ecommerce_vl.losses.devices import gather_rows
from ecommerce_vl.losses.precision import PRECISION
from ecommerce_vl.losses.tile import MASKED

FORMS = ("contrastive", "regression", "kl", "pixels")


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Masked:
    """The M masked patches of each row, and what its own picture says of them; float32.

    Args:
      prediction_BxMxD, target_BxMxD: unit vectors z_j and y_j, the latter without gradient.
      logit_BxM: <z_j, y_j> / tau.
      lse_BxM: over the patches of the own picture that are in P_j, j itself among them.
      rival_BxM: the greatest logit of those others.
      pool_BxSxD: targets of some patches of the picture, which serve the other rows.
      used_BxM: bool, which of the M there are.
      shown_B: bool, rows that have a picture.
    """

    prediction_BxMxD: jax.Array
    target_BxMxD: jax.Array
    logit_BxM: jax.Array
    lse_BxM: jax.Array
    rival_BxM: jax.Array
    pool_BxSxD: jax.Array
    used_BxM: jax.Array
    shown_B: jax.Array


def own_image(
    prediction_BxMxD: jax.Array,
    target_BxNxD: jax.Array,
    index_BxM: jax.Array,
    pool_index_BxS: jax.Array,
    *,
    used_BxM: jax.Array,
    shown_B: jax.Array,
    tau: float,
    near: float = 0.95,
) -> Masked:
    """What each row knows of its masked patches without the others.

    Args:
      prediction_BxMxD: W h of the masked patches, any scale.
      target_BxNxD: embeddings of all patches before masking, any scale; no gradient reaches them.
      index_BxM, pool_index_BxS: int32, the masked patches, and those that serve other rows.
      used_BxM, shown_B: bool, as in `Masked`.
      tau: temperature.
      near: cosine of two targets above which they count as one patch.
    """
    z_BxMxD = _unit(prediction_BxMxD)
    y_BxNxD = _unit(jax.lax.stop_gradient(target_BxNxD))
    own_BxMxD = jnp.take_along_axis(y_BxNxD, index_BxM[:, :, None], axis=1)
    dot = partial(jnp.einsum, "bmd,bnd->bmn", precision=PRECISION)
    logit_BxMxN = dot(z_BxMxD, y_BxNxD) / tau
    itself_BxMxN = index_BxM[:, :, None] == jnp.arange(y_BxNxD.shape[1])
    kept_BxMxN = itself_BxMxN | (dot(own_BxMxD, y_BxNxD) <= near)
    return Masked(
        prediction_BxMxD=z_BxMxD,
        target_BxMxD=own_BxMxD,
        logit_BxM=jnp.take_along_axis(logit_BxMxN, index_BxM[:, :, None], axis=2)[:, :, 0],
        lse_BxM=jax.nn.logsumexp(jnp.where(kept_BxMxN, logit_BxMxN, MASKED), axis=2),
        rival_BxM=jnp.where(kept_BxMxN & ~itself_BxMxN, logit_BxMxN, MASKED).max(axis=2),
        pool_BxSxD=jnp.take_along_axis(y_BxNxD, pool_index_BxS[:, :, None], axis=1),
        used_BxM=used_BxM,
        shown_B=shown_B,
    )


def patch_contrast(
    masked: Masked, *, tau: float, near: float = 0.95, mesh: Mesh
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """MPM_R of the global batch; 0 where no row has a picture.

    Returns: the loss (float32 scalar) and `patch_top1` (share of masked patches whose own target is strictly the best
      of its P_j), `patch_candidates` (mean size of P_j among the patches of other pictures).
    """
    axes = tuple(mesh.axis_names)
    lse_BxM, best_BxM, count_BxM = jax.shard_map(
        partial(_others, tau, near, axes), mesh=mesh, in_specs=P(axes), out_specs=P(axes)
    )(masked)
    used_BxM = (masked.used_BxM & masked.shown_B[:, None]).astype(jnp.float32)
    number = jnp.maximum(used_BxM.sum(), 1.0)
    mean = lambda x_BxM: (x_BxM * used_BxM).sum() / number
    loss = mean(jnp.logaddexp(masked.lse_BxM, lse_BxM) - masked.logit_BxM)
    metrics = {
        "patch_top1": mean(masked.logit_BxM > jnp.maximum(best_BxM, masked.rival_BxM)),
        "patch_candidates": mean(count_BxM),
    }
    return loss, jax.lax.stop_gradient(metrics)


def _others(tau: float, near: float, axes, masked: Masked):
    """Of the patches of other pictures: log-sum-exp, the greatest logit and the number; float32 (b,M)."""
    b, S, D = masked.pool_BxSxD.shape
    pool_QxD = gather_rows(masked.pool_BxSxD, axes).reshape(-1, D)
    shown_Q = jnp.repeat(gather_rows(masked.shown_B, axes), S)
    row_b = jax.lax.axis_index(axes) * b + jnp.arange(b)
    other_bxQ = jnp.repeat(jnp.arange(len(pool_QxD) // S), S) != row_b[:, None]
    dot = partial(jnp.einsum, "bmd,qd->bmq", precision=PRECISION)
    kept_bxMxQ = (other_bxQ & shown_Q)[:, None, :] & (dot(masked.target_BxMxD, pool_QxD) <= near)
    logit_bxMxQ = jnp.where(kept_bxMxQ, dot(masked.prediction_BxMxD, pool_QxD) / tau, MASKED)
    lse_bxM = jax.nn.logsumexp(logit_bxMxQ, axis=2)
    return lse_bxM, logit_bxMxQ.max(axis=2), kept_bxMxQ.sum(axis=2, dtype=jnp.float32)


def regression(prediction_BxMxD: jax.Array, target_BxMxD: jax.Array) -> jax.Array:
    """Of each masked patch (B,M): the mean squared error to the standardised target, which has no gradient."""
    target = jax.lax.stop_gradient(target_BxMxD.astype(jnp.float32))
    target = (target - target.mean(axis=-1, keepdims=True)) / jnp.sqrt(target.var(axis=-1, keepdims=True) + 1e-6)
    return ((prediction_BxMxD.astype(jnp.float32) - target) ** 2).mean(axis=-1)


def divergence(prediction_BxMxD: jax.Array, target_BxMxD: jax.Array) -> jax.Array:
    """Of each masked patch (B,M): KL( softmax(target) || softmax(prediction) ) over the features (2302.05093)."""
    log_p = jax.nn.log_softmax(jax.lax.stop_gradient(target_BxMxD.astype(jnp.float32)))
    log_q = jax.nn.log_softmax(prediction_BxMxD.astype(jnp.float32))
    return (jnp.exp(log_p) * (log_p - log_q)).sum(axis=-1)


def _unit(x: jax.Array) -> jax.Array:
    x = x.astype(jnp.float32)
    return x * jax.lax.rsqrt(jnp.maximum((x**2).sum(axis=-1, keepdims=True), 1e-12))
