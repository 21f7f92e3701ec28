"""A memory bank: embeddings of earlier steps as further negatives (MBNS, 2304.04377).

A FIFO in lanes: rows (P,T) of P lanes with T slots, lanes sharded over the mesh as the batch is. A push of B = q P rows
writes row i into lane i // q, so every device writes its own rows where it lies: no communication, and the same
contents on any number of devices, before and after a restart. A larger batch of a later stage raises q.

Rows that are not valid are stored as not valid: they take a slot, so shapes and places are fixed. Plain arrays, part of
the training state (`extra`), not of the parameters; no gradient reaches them.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from ecommerce_vl.losses.candidates import Candidates
from ecommerce_vl.losses.devices import gather_rows


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Bank:
    """M = P T stored rows.

    Args:
      embedding_PxTxD: float32 unit vectors.
      key_PxT, group_PxTxG, valid_PxT: int32, int32 or None, bool; as in `Candidates`.
      pushed: int32 scalar, slots written since the start; the next is pushed % T.
    """

    embedding_PxTxD: jax.Array
    key_PxT: jax.Array
    valid_PxT: jax.Array
    pushed: jax.Array
    group_PxTxG: jax.Array | None = None


def make_bank(*, size: int, lanes: int, dim: int, num_groups: int = 0) -> Bank:
    """An empty bank of `size` rows.

    Args:
      size: M.
      lanes: P, the smallest number of rows that will be pushed at once (the smallest batch); divides `size`.
      dim: D.
      num_groups: G, columns of `group_CxG` of what will be pushed; 0 for None.

    Errors: ValueError if `lanes` does not divide `size`.
    """
    if size <= 0 or lanes <= 0 or size % lanes:
        raise ValueError(f"bank.size is {size}; expected a multiple of the smallest batch, {lanes}")
    slots = size // lanes
    return Bank(
        embedding_PxTxD=jnp.zeros((lanes, slots, dim)),
        key_PxT=jnp.zeros((lanes, slots), jnp.int32),
        valid_PxT=jnp.zeros((lanes, slots), bool),
        pushed=jnp.zeros((), jnp.int32),
        group_PxTxG=jnp.zeros((lanes, slots, num_groups), jnp.int32) if num_groups else None,
    )


def push(bank: Bank, batch: Candidates) -> Bank:
    """The bank with a batch in the place of its oldest rows; meant to be donated.

    Errors: ValueError if the batch is not a multiple of the lanes, is larger than the bank, or differs in its groups.
    """
    lanes, slots = bank.key_PxT.shape
    rows = len(batch.key_C)
    if rows % lanes or rows > lanes * slots:
        raise ValueError(
            f"batch_size is {rows}; expected a multiple of the bank's {lanes} lanes, "
            f"and at most its {lanes * slots} rows"
        )
    if (bank.group_PxTxG is None) != (batch.group_CxG is None):
        raise ValueError("group_CxG is in only one of bank and batch; set num_groups of make_bank to its columns")

    def write(stored_PxTx, new_Bx):
        new_Pxqx = jax.lax.stop_gradient(new_Bx).astype(stored_PxTx.dtype).reshape(lanes, -1, *new_Bx.shape[1:])
        for s in range(rows // lanes):  # a slot at a time: an update that wraps around would be two
            slot = (bank.pushed + s) % slots
            stored_PxTx = jax.lax.dynamic_update_slice_in_dim(stored_PxTx, new_Pxqx[:, s, None], slot, axis=1)
        return stored_PxTx

    return Bank(
        embedding_PxTxD=write(bank.embedding_PxTxD, batch.embedding_CxD),
        key_PxT=write(bank.key_PxT, batch.key_C),
        valid_PxT=write(bank.valid_PxT, batch.valid_C),
        pushed=bank.pushed + rows // lanes,
        group_PxTxG=None if bank.group_PxTxG is None else write(bank.group_PxTxG, batch.group_CxG),
    )


def filled(bank: Bank) -> jax.Array:
    """Share of slots that have been written, float32 scalar from 0 to 1."""
    slots = bank.key_PxT.shape[1]
    return jnp.minimum(bank.pushed, slots) / slots


def drift(bank: Bank, batch: Candidates, *, mesh: Mesh) -> dict[str, jax.Array]:
    """How stale the bank is: `bank_cosine` of its rows and the same products' of the batch, and how many there are.

    The mean over the `bank_repeats` stored rows whose key is in the batch, 0 where there is none; no gradient. Largest
    in the first steps and where the learning rate is highest.
    """
    axes = tuple(mesh.axis_names)

    def local(stored_PxTxD, key_PxT, valid_PxT, fresh_bxD, key_b, valid_b):
        fresh_BxD, key_B, valid_B = gather_rows((fresh_bxD, key_b, valid_b), axes)
        key_B = jnp.where(valid_B, key_B, jnp.iinfo(jnp.int32).max)  # last, so that a valid row of a key is found first
        order_B = jnp.argsort(key_B)
        stored_MxD, key_M = stored_PxTxD.reshape(-1, stored_PxTxD.shape[2]), key_PxT.reshape(-1)
        at_M = order_B[jnp.searchsorted(key_B[order_B], key_M).clip(0, len(key_B) - 1)]
        same_M = (key_B[at_M] == key_M) & valid_B[at_M] & valid_PxT.reshape(-1)
        cosine_M = (stored_MxD * fresh_BxD[at_M]).sum(axis=1)
        total = lambda x_M: jax.lax.psum(jnp.where(same_M, x_M, 0.0).sum(), axes)
        return total(cosine_M), total(jnp.ones_like(cosine_M))

    arrays = (bank.embedding_PxTxD, bank.key_PxT, bank.valid_PxT, batch.embedding_CxD, batch.key_C, batch.valid_C)
    run = jax.shard_map(local, mesh=mesh, in_specs=P(axes), out_specs=P())
    cosine, repeats = run(*jax.lax.stop_gradient(arrays))
    return {"bank_cosine": cosine / jnp.maximum(repeats, 1.0), "bank_repeats": repeats}


def as_candidates(bank: Bank, *, ready: jax.Array | bool = True) -> Candidates:
    """The stored rows as further negatives, without gradient.

    Args:
      ready: bool scalar, none is valid while it is False; `step >= bank.start_step`.
    """
    flat = lambda x: jax.lax.stop_gradient(x).reshape(-1, *x.shape[2:])
    return Candidates(
        embedding_CxD=flat(bank.embedding_PxTxD),
        key_C=flat(bank.key_PxT),
        valid_C=flat(bank.valid_PxT) & ready,
        group_CxG=None if bank.group_PxTxG is None else flat(bank.group_PxTxG),
        trained=False,
    )
