"""InfoNCE over the global batch with catalog labels (e-CLIP 2207.00208; CLIP 2103.00020).

Every device holds b = B/N rows, gathers the texts of all, and forms one b x B block of similarities. Rows of the
block give image->text; its columns, reduced over devices, give text->image, so each similarity is computed once.

    A[i,j] = 1 if i == j, alpha if i != j and catalog[i] == catalog[j], else 0        Y = A / row sums,  Z = Y^T
    L = 1/2 ( mean_i sum_j -Y[i,j] log softmax(S[i,:])[j]  +  mean_j sum_i -Z[i,j] log softmax(S[:,j])[i] )

Invariants: the value is that of the whole batch on any number of devices; it does not change under a joint
permutation of the rows; rows with `valid == False` are no queries, no positives and no negatives; the divisor is the
global number of valid rows. Memory a device: b x B float32, two to three times in the backward pass; communication:
one all-gather of (B,D) texts and ids, reductions of length-B vectors.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

LABEL_MODES = ("one_hot", "catalog", "mask")
MASKED = -1e30  # not -inf: a fully masked row would have NaN gradients


def clip_catalog(
    z_image_BxD: jax.Array,
    z_text_BxD: jax.Array,
    logit_scale: jax.Array,
    *,
    catalog_key_B: jax.Array,
    valid_B: jax.Array,
    label_mode: str,
    catalog_alpha: float,
    mesh: Mesh,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The contrastive loss of a batch whose rows are sharded over all axes of the mesh.

    Args:
      z_image_BxD, z_text_BxD: float32 unit vectors; row i of both is one product.
      logit_scale: float32 scalar s; similarities are exp(s) * cosine.
      catalog_key_B: int32, equal for listings of one product; unique where unknown.
      valid_B: bool, False for padding and for rows without a picture or a text.
      label_mode: "one_hot" is CLIP; "catalog" shares the target among the listings of one product; "mask" leaves
        such pairs out, neither positive nor negative.
      catalog_alpha: weight of another listing of the same product against the row's own, in (0, 1]; "catalog" only.
      mesh: all its axes shard the batch; their product divides B.

    Returns:
      The loss (float32 scalar) and metrics: `loss_floor` (entropy of the targets, the least possible loss),
      `i2t_top1` and `t2i_top1` (share of rows whose best match is a positive), `positives_per_row`, `shared_rows`
      (share of rows with another listing of the same product in the batch), `pair_cosine`, `negative_cosine`,
      `image_rank` and `text_rank` (dimensions that the vectors fill, see `_effective_rank`).

    Errors: ValueError for an unknown `label_mode`.
    """
    if label_mode not in LABEL_MODES:
        raise ValueError(f"label_mode is {label_mode!r}; expected one of {', '.join(LABEL_MODES)}")
    axes = tuple(mesh.axis_names)
    local = partial(_local_block, axes=axes, label_mode=label_mode, alpha=catalog_alpha)
    return jax.shard_map(local, mesh=mesh, in_specs=(P(axes), P(axes), P(), P(axes), P(axes)), out_specs=(P(), P()))(
        z_image_BxD, z_text_BxD, logit_scale, catalog_key_B, valid_B
    )


def _local_block(z_image_bxD, z_text_bxD, logit_scale, key_b, valid_b, *, axes, label_mode, alpha):
    """What one device does; b local rows against B gathered columns."""
    b = key_b.shape[0]
    gather = partial(jax.lax.all_gather, axis_name=axes, tiled=True)
    z_text_BxD, key_B, valid_B = gather(z_text_bxD), gather(key_b), gather(valid_b)
    row_b = jax.lax.axis_index(axes) * b + jnp.arange(b)
    own_bxB = row_b[:, None] == jnp.arange(key_B.shape[0])[None, :]
    valid_bxB = valid_b[:, None] & valid_B[None, :]
    same_bxB = (key_b[:, None] == key_B[None, :]) & ~own_bxB & valid_bxB

    # Full float32: by default GPUs multiply float32 in TF32 and TPUs in bfloat16; the block is 0.1 % of a step.
    cosine_bxB = jnp.matmul(z_image_bxD, z_text_BxD.T, precision=jax.lax.Precision.HIGHEST)
    logits_bxB = jnp.exp(logit_scale) * cosine_bxB
    shown_bxB = valid_bxB & ~same_bxB if label_mode == "mask" else valid_bxB
    logits_bxB = jnp.where(shown_bxB, logits_bxB, MASKED)

    share = alpha if label_mode == "catalog" else 0.0
    affinity_bxB = jnp.where(own_bxB & valid_bxB, 1.0, jnp.where(same_bxB, share, 0.0))
    # A is symmetric, so the sum of column j is the gathered sum of row j.
    sum_b = jnp.maximum(affinity_bxB.sum(axis=1), 1e-12)
    sum_B = gather(sum_b)

    row_lse_b = jax.nn.logsumexp(logits_bxB, axis=1)
    col_max_B = jax.lax.pmax(jax.lax.stop_gradient(logits_bxB.max(axis=0)), axes)
    col_lse_B = col_max_B + jnp.log(jax.lax.psum(jnp.exp(logits_bxB - col_max_B).sum(axis=0), axes))

    total = lambda x: jax.lax.psum(x.sum(), axes)
    num_rows = jnp.maximum(total(valid_b.astype(jnp.float32)), 1.0)
    safe_logits_bxB = jnp.where(affinity_bxB > 0, logits_bxB, 0.0)
    row_loss = total(jnp.where(valid_b, row_lse_b, 0.0)) - total(affinity_bxB / sum_b[:, None] * safe_logits_bxB)
    # Every device knows all column normalisers; each adds those of its own rows.
    col_lse_b = jax.lax.dynamic_slice_in_dim(col_lse_B, jax.lax.axis_index(axes) * b, b)
    col_loss = total(jnp.where(valid_b, col_lse_b, 0.0)) - total(affinity_bxB / sum_B[None, :] * safe_logits_bxB)
    loss = (row_loss + col_loss) / (2 * num_rows)

    fixed = jax.lax.stop_gradient  # before the metrics, not after: `pmax` has no gradient rule
    metrics = _block_metrics(
        fixed(cosine_bxB), fixed(logits_bxB), affinity_bxB / sum_b[:, None], same_bxB, own_bxB, valid_b, valid_bxB,
        num_rows, axes=axes,
    )  # fmt: skip
    metrics |= {
        "image_rank": _effective_rank(fixed(z_image_bxD), valid_b, num_rows, axes=axes),
        "text_rank": _effective_rank(fixed(z_text_bxD), valid_b, num_rows, axes=axes),
    }
    return loss, metrics


def _effective_rank(z_bxD, valid_b, num_rows, *, axes):
    """Participation ratio (sum of variances)^2 / sum of squared variances: how many dimensions the vectors fill.

    From 1 (a line) to D. A value that stays near 1 is a collapse that the loss alone does not show.
    """
    z_bxD = jnp.where(valid_b[:, None], z_bxD, 0.0)
    mean_D = jax.lax.psum(z_bxD.sum(axis=0), axes) / num_rows
    covariance_DxD = jax.lax.psum(z_bxD.T @ z_bxD, axes) / num_rows - jnp.outer(mean_D, mean_D)
    return jnp.trace(covariance_DxD) ** 2 / jnp.maximum((covariance_DxD**2).sum(), 1e-12)


def _block_metrics(cosine_bxB, logits_bxB, target_bxB, same_bxB, own_bxB, valid_b, valid_bxB, num_rows, *, axes):
    total = lambda x: jax.lax.psum(x.astype(jnp.float32).sum(), axes)
    positive_bxB = (own_bxB | same_bxB) & valid_bxB
    best_b = jnp.argmax(logits_bxB, axis=1)
    i2t_b = jnp.take_along_axis(positive_bxB, best_b[:, None], axis=1)[:, 0] & valid_b
    # A column is right if its best positive beats every negative; a tie is no win, or a collapse would look perfect.
    best = lambda chosen_bxB: jax.lax.pmax(jnp.where(chosen_bxB, logits_bxB, MASKED).max(axis=0), axes)
    valid_B = jax.lax.all_gather(valid_b, axes, tiled=True)
    t2i_B = (best(positive_bxB) > best(valid_bxB & ~positive_bxB)) & valid_B
    t2i_hits = jax.lax.pmean(t2i_B.astype(jnp.float32).sum(), axes)
    entropy = total(jnp.where(target_bxB > 0, -target_bxB * jnp.log(jnp.maximum(target_bxB, 1e-30)), 0.0))
    num_negatives = jnp.maximum(total(valid_bxB & ~positive_bxB), 1.0)
    return {
        "loss_floor": entropy / num_rows,
        "i2t_top1": total(i2t_b) / num_rows,
        "t2i_top1": t2i_hits / num_rows,
        "positives_per_row": total(positive_bxB) / num_rows,
        "shared_rows": total(same_bxB.any(axis=1)) / num_rows,
        "pair_cosine": total(jnp.where(own_bxB & valid_bxB, cosine_bxB, 0.0)) / num_rows,
        "negative_cosine": total(jnp.where(valid_bxB & ~positive_bxB, cosine_bxB, 0.0)) / num_negatives,
    }
