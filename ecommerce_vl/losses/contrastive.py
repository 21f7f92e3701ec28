"""One contrastive loss for everything: InfoNCE (CLIP 2103.00020), catalog labels (e-CLIP 2207.00208), SigLIP
(2303.15343), AM-softmax with cross-device and memory-bank negatives (2304.04377).

    A[i,j] = 1 if i == j, alpha if i != j and catalog[i] == catalog[j], else 0        Y = A / row sums,  Z = Y^T
    L = 1/2 ( mean_i sum_j -Y[i,j] log softmax(S[i,:])[j]  +  mean_j sum_i -Z[i,j] log softmax(S[:,j])[i] )

`candidates.py` says what is compared and by which rule, `tile.py` is the arithmetic, `sweep.py` the devices.

Invariants: the value is that of the whole batch on any number of devices, for every `impl` and `chunk_rows`; it does
not change under a joint permutation of the rows (without `span`); rows with `valid == False` are no queries, no
positives and no negatives; the divisor is the global weight of the valid rows.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from ecommerce_vl.losses.candidates import Candidates, Rule, ids_of
from ecommerce_vl.losses.sweep import IMPLS, Plan, all_pairs_loss


def check_sweep(impl: str, chunk_rows: int) -> None:
    """Errors: ValueError for an `impl` or `chunk_rows` that `candidate_loss` does not take."""
    if impl not in IMPLS:
        raise ValueError(f"impl is {impl!r}; expected one of {', '.join(IMPLS)}")
    if chunk_rows < 0:
        raise ValueError(f"chunk_rows is {chunk_rows}; expected 0 (all rows at once) or a number of rows, such as 256")


def candidate_loss(
    z_row_BxD: jax.Array,
    candidates: Candidates,
    logit_scale: jax.Array,
    *,
    mesh: Mesh,
    rule: Rule,
    bias: jax.Array | None = None,
    more: tuple[Candidates, ...] = (),
    known_BxK: jax.Array | None = None,
    row_group_BxG: jax.Array | None = None,
    impl: str = "gather",
    chunk_rows: int = 0,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """The loss of rows against candidates, of which candidate i is the pair of row i.

    Query -> product by AM-softmax (2304.04377) is `Rule(label_mode="mask", margin=m, both=False)`, s = 1 / tau:

        L = mean_i [ lse( s (cos_ii - m), { s cos_in : n a negative of i } ) - s (cos_ii - m) ]

    Args:
      z_row_BxD: float32 or bfloat16 unit vectors, sharded over all axes of the mesh.
      candidates: of the batch, B of them; their ids, validity and weights are those of the pairs.
      logit_scale: float32 scalar s; similarities are exp(s) * cosine.
      mesh: all its axes shard rows and candidates; their product divides B and the size of each of `more`.
      rule: targets, margin, directions.
      bias: float32 scalar added to similarities, for "sigmoid" (SigLIP starts it at -10); None is 0.
      more: further negatives, nobody's pair: `bank.as_candidates`, mined products.
      known_BxK: int32 keys that are no negatives of a row, such as the other clicked products of a query, filled up
        with `NO_KEY`.
      row_group_BxG: int32, the ids of the rows where they are not those of their candidates; of as many columns.
      impl: "gather" or "ring", see `sweep.py`. Memory and time only, never the value.
      chunk_rows: rows of a device that meet candidates at a time; 0 for all.

    Returns: the loss (float32 scalar) and the metrics of `metrics.batch_metrics`, which have no gradient.

    Errors: ValueError for unknown names and for shapes that do not fit.
    """
    B, N = len(z_row_BxD), mesh.size
    check_sweep(impl, chunk_rows)
    if len(candidates.embedding_CxD) != B:
        raise ValueError(f"candidates are {len(candidates.embedding_CxD)} for {B} rows; expected one for each row")
    if any(item.weight_C is not None for item in more):
        raise ValueError("more has weights; expected weight_C=None there, since only pairs of the batch have terms")
    for name, size in [("batch_size", B), *(("more", len(item.key_C)) for item in more)]:
        if size % N:
            raise ValueError(f"{name} is {size} rows, which do not divide over {N} devices; use a multiple of {N}")
    sets = (candidates, *more)
    columns = tuple(ids_of(item) for item in sets)
    row = ids_of(candidates, known_CxK=known_BxK)
    if row_group_BxG is not None:
        row = dataclasses.replace(row, group_nxG=row_group_BxG)
    weight_B = jnp.ones(B) if candidates.weight_C is None else candidates.weight_C
    plan = Plan(rule, mesh, impl, chunk_rows, trained=tuple(item.trained for item in sets))
    return all_pairs_loss(
        plan,
        z_row_BxD,
        tuple(item.embedding_CxD for item in sets),
        jnp.asarray(logit_scale, jnp.float32),
        jnp.asarray(0.0 if bias is None else bias, jnp.float32),
        (row, *columns),
        weight_B.astype(jnp.float32),
    )
