"""Hard negatives for matching: each row draws one candidate that is no false negative, and gets its states.

A row i draws n with probability proportional to exp(s cos_in) over its negatives of the *global* batch, by the Gumbel
maximum; the noise comes from the row's key and the candidate's place, so the draw is the same on any number of devices.
(Drawing among the rows of one device would be cheaper, and would change the loss with the mesh.)

What a draw costs is one row of similarities. What it fetches are token states, which are large: blocks of B/N rows go
round the ring, each device keeps the rows that it drew, and their gradients come home the same way. No device ever
holds the states of the whole batch.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from ecommerce_vl.losses.candidates import Candidates, Ids, Rule, ids_of, relate
from ecommerce_vl.losses.devices import gather_rows, pass_on
from ecommerce_vl.losses.precision import PRECISION
from ecommerce_vl.losses.tile import MASKED


def draw_partners(
    key_B: jax.Array,
    z_row_BxD: jax.Array,
    candidates: Candidates,
    logit_scale: jax.Array,
    *,
    mesh: Mesh,
    rule: Rule,
    known_BxK: jax.Array | None = None,
) -> tuple[tuple[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]:
    """A candidate for each row, and a row for each candidate; arguments as of `contrastive.candidate_loss`.

    Args:
      key_B: one random key a row of the batch.

    Returns: ((index_B int32, found_B bool) of candidates for rows, the same of rows for candidates). `found` is False
      where a row has no negative; its index is then of no use. No gradient.
    """
    held = jax.lax.stop_gradient
    row = ids_of(candidates, known_CxK=known_BxK)
    axes = tuple(mesh.axis_names)
    local = partial(_draw, rule, axes)
    noise = jax.vmap(lambda key: jax.random.split(key, 2))(key_B)
    return jax.shard_map(local, mesh=mesh, in_specs=(P(axes), P(axes), P(axes), P(axes), P()), out_specs=P(axes))(
        noise, held(z_row_BxD), held(candidates.embedding_CxD), row, jnp.exp(held(jnp.float32(logit_scale)))
    )


def _draw(rule: Rule, axes, key_bx2, z_row_bxD, z_column_bxD, ids: Ids, scale):
    all_ids = gather_rows(ids, axes)
    similar = partial(jnp.matmul, precision=PRECISION, preferred_element_type=jnp.float32)

    def best(key_b, logits_bxB, negative_bxB):
        noise_bxB = jax.vmap(lambda key: jax.random.gumbel(key, logits_bxB.shape[1:]))(key_b)
        return jnp.where(negative_bxB, logits_bxB + noise_bxB, MASKED).argmax(axis=1), negative_bxB.any(axis=1)

    negative = lambda row, column: relate(rule, row, column, paired=True).negative_rxc
    for_row = best(key_bx2[:, 0], scale * similar(z_row_bxD, gather_rows(z_column_bxD, axes).T), negative(ids, all_ids))
    for_column = best(
        key_bx2[:, 1], scale * similar(z_column_bxD, gather_rows(z_row_bxD, axes).T), negative(all_ids, ids).T
    )
    return for_row, for_column


def fetch_rows(tree: Any, index_B: jax.Array, *, mesh: Mesh) -> Any:
    """Rows `index_B` of the global arrays (B,...) of a tree, sharded as they are; gradients go back to those rows.

    Args:
      index_B: int32, of rows of the global batch.
    """
    axes, num_devices = tuple(mesh.axis_names), mesh.size
    if num_devices == 1:
        return jax.tree.map(lambda x: x[index_B], tree)

    def local(block, index_b):
        b = len(index_b)
        owner_b, place_b = index_b // b, index_b % b
        me = jax.lax.axis_index(axes)
        taken = jax.tree.map(lambda x: x[place_b], block)  # right for the rows of the device itself
        for hop in range(1, num_devices):
            block = pass_on(block, axes, num_devices)
            here_b = owner_b == (me - hop) % num_devices
            choose = lambda x, kept, here_b=here_b: jnp.where(
                here_b.reshape(-1, *(1,) * (x.ndim - 1)), x[place_b], kept
            )
            taken = jax.tree.map(choose, block, taken)
        return taken

    return jax.shard_map(local, mesh=mesh, in_specs=(P(axes), P(axes)), out_specs=P(axes))(tree, index_B)
