"""Streams: a batch larger than memory is encoded part by part, and its gradient is still that of the whole batch.

e-CLIP (2207.00208) trains with such streams without publishing how; this is gradient caching (GradCache, 2101.06983)
as one differentiable function. A scan encodes K streams and keeps only their vectors; one loss sees the vectors of the
whole batch, with all its negatives; the backward pass encodes each stream once more, with the gradient of its vectors,
and adds up the gradients of the parameters. Summing the losses of K small batches would not do: each would see only
its own negatives.

Layout: stream k takes rows [k b/K, (k+1) b/K) of the b rows that every device holds, so no row moves between devices.
(A reshape of the global rows to (K, B/K) would put whole streams on few devices.)

Memory: activations of b/K rows a device instead of b, and the vectors of all. Time: one more forward pass. On meshes
of several devices, gradients of the parameters are reduced once a stream.

Invariant: what is random in a row comes from keys of the row, so both passes and every K see the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from ecommerce_vl.training.mesh import batch_sharding


def rows_per_stream(*, streams: int, batch_size: int, num_devices: int) -> int:
    """Rows of the global batch that are encoded at a time.

    Args:
      streams: K, into which `batch_size` rows are cut.
      batch_size: of the global batch; a larger one of a schedule takes more streams of the same size.

    Errors: ValueError if no whole number of rows falls to every device.
    """
    if streams < 1:
        raise ValueError(f"streams is {streams}; expected at least 1, which encodes the whole batch at once")
    if batch_size % (streams * num_devices):
        per_device = batch_size // num_devices
        choices = [k for k in range(1, per_device + 1) if per_device % k == 0]
        raise ValueError(
            f"streams is {streams}, which does not divide the {per_device} rows that each of {num_devices} devices has "
            f"of a batch of {batch_size}; expected one of {', '.join(map(str, choices))}, or another batch_size"
        )
    return batch_size // streams


def encode_in_streams(encode: Callable[[Any, Any], Any], params: Any, batch: Any, *, streams: int, mesh: Mesh) -> Any:
    """`encode(params, batch)` with the activations of one stream at a time, in the forward and the backward pass.

    Args:
      encode: (params, batch) -> rows; each row of the result depends on that row of the batch alone.
      batch: arrays (B,...) sharded over all axes of the mesh.
      streams: K, dividing the rows of every device; 1 is a plain call, which keeps its activations.

    Returns: what `encode` returns of the whole batch, arrays (B,...) sharded like it.
    """
    if streams == 1:
        return encode(params, batch)
    sharding, num_devices = batch_sharding(mesh), mesh.size
    by_row = lambda tree: jax.tree.map(lambda x: jax.lax.with_sharding_constraint(x, sharding), tree)

    # N devices, K streams, c = b/K rows; the cut stays inside what each device holds.
    num_rows = len(jax.tree.leaves(batch)[0]) // streams
    cut = lambda x: x.reshape(num_devices, streams, num_rows // num_devices, *x.shape[1:])
    batch_NxKxc = by_row(jax.tree.map(cut, batch))

    def rows_of(k):
        take = lambda x: jax.lax.dynamic_index_in_dim(x, k, axis=1, keepdims=False).reshape(num_rows, *x.shape[3:])
        return by_row(jax.tree.map(take, batch_NxKxc))

    # Nothing of a stream is kept, not even its rows: they are cut from the batch again, which costs no copy of it.
    encode_one = jax.checkpoint(lambda params, k: by_row(encode(params, rows_of(k))), prevent_cse=False)
    encoded_Kx = jax.lax.map(lambda k: encode_one(params, k), jnp.arange(streams))

    def join(z_KxNc):
        z_KxNxc = z_KxNc.reshape(streams, num_devices, -1, *z_KxNc.shape[2:])
        return by_row(z_KxNxc.swapaxes(0, 1)).reshape(-1, *z_KxNc.shape[2:])

    return by_row(jax.tree.map(join, encoded_Kx))
