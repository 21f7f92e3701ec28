"""The float32 half of exact search: candidates from a gallery that lies divided over devices.

The invariant: of every query the `count` documents with the highest float32 scores come back, and with them a bound
that no document left out exceeds in exact arithmetic. Devices never talk to each other: each goes over its own share of
the gallery block by block and keeps its best, and the host merges them. At no time is there more of the score matrix
than one block for one block of queries on each device.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

_HALF_ULP = 2.0**-24  # relative error of one float32 operation


class Gallery:
    """M documents, float32, an equal share on every device.

    Args:
      vectors: (M, d) float, on the host; each device is given its own rows.
      devices: where they go; no more of them are used than there are documents.
      norm: an upper bound of the L2 norm of every row.
    """

    def __init__(self, vectors: np.ndarray, *, devices: Sequence[jax.Device], norm: float):
        self.size, self.dim = vectors.shape
        self._norm, self._devices = norm, list(devices)[: self.size]
        # Shares differ by one row at most, so the scan is compiled for two shapes at most.
        self._edges = np.arange(len(self._devices) + 1) * self.size // len(self._devices)
        self._shares = [
            jax.device_put(np.asarray(vectors[self._edges[place] : self._edges[place + 1]], np.float32), device)
            for place, device in enumerate(self._devices)
        ]

    def candidates(
        self, queries_QxD: np.ndarray, *, count: int, block: int, norms: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Rows int64 (Q, C) of the best C = min(count, M) documents in no order, a bound float64 (Q,) of the others.

        norms: (Q,), of the queries. block: documents scored at a time on each device.
        A float32 sum of d products, in whatever order a device takes it, is within (d + 2) x 2^-24 x |q| |g| of the
        exact one (Higham, 2002, section 3.1); 8 more are granted to the accelerators that split float32 into parts.
        The bound is -inf where nothing was left out.
        """
        num_queries = len(queries_QxD)
        padded = np.zeros((1 << max(0, num_queries - 1).bit_length(), self.dim), np.float32)  # few shapes
        padded[:num_queries] = queries_QxD
        found = [  # dispatched to all devices before the first answer is read
            _best(jax.device_put(padded, device), share, count=min(count, len(share)), block=min(block, len(share)))
            for device, share in zip(self._devices, self._shares, strict=True)
        ]
        scores = np.concatenate([np.asarray(part)[:num_queries] for part, _ in found], axis=1)
        rows = [first + np.asarray(part)[:num_queries] for first, (_, part) in zip(self._edges, found, strict=False)]
        rows, kept = np.concatenate(rows, axis=1).astype(np.int64), min(count, self.size)
        if scores.shape[1] > kept:
            order = np.argpartition(-scores, kept - 1, axis=1)[:, :kept]
            scores, rows = np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)
        if kept == self.size:
            return rows, np.full(num_queries, -np.inf)
        error = (self.dim + 10) * _HALF_ULP * self._norm * norms
        return rows, scores.min(axis=1).astype(np.float64) + error


@partial(jax.jit, static_argnames=("count", "block"))
def _best(queries_QxD, share_MxD, *, count: int, block: int):
    """Scores float32 and rows int32 (Q, count) of one share, best first."""
    num_rows = len(share_MxD)

    def merge(best, start, length):
        block_BxD = lax.dynamic_slice_in_dim(share_MxD, start, length)
        scores_QxB = jnp.einsum("qd,bd->qb", queries_QxD, block_BxD, precision=lax.Precision.HIGHEST)
        scores_QxC, rows_QxC = lax.top_k(scores_QxB, min(count, length))
        scores_QxC, order = lax.top_k(jnp.concatenate([best[0], scores_QxC], axis=1), count)
        rows_QxC = jnp.concatenate([best[1], rows_QxC + start], axis=1)
        return scores_QxC, jnp.take_along_axis(rows_QxC, order, axis=1)

    none_QxC = jnp.full((len(queries_QxD), count), -jnp.inf), jnp.zeros((len(queries_QxD), count), jnp.int32)
    whole, rest = divmod(num_rows, block)
    best = lax.fori_loop(0, whole, lambda step, best: merge(best, step * block, block), none_QxC)
    return merge(best, whole * block, rest) if rest else best
