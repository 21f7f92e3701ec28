"""How rows reach other devices inside of `shard_map`: all at once, or round the ring. `axes` are those of the mesh."""

from __future__ import annotations

from typing import Any

import jax


def gather_rows(tree: Any, axes: tuple[str, ...]) -> Any:
    """The rows of all devices, (b,...) each, as (B,...) on each; backwards, gradients are summed where the rows lie."""
    return jax.tree.map(lambda x: jax.lax.all_gather(x, axes, tiled=True), tree)


def pass_on(tree: Any, axes: tuple[str, ...], num_devices: int) -> Any:
    """The block of the device before, in a ring of all of them; gradients travel back."""
    ring = [(i, (i + 1) % num_devices) for i in range(num_devices)]
    return jax.tree.map(lambda x: jax.lax.ppermute(x, axes, ring), tree)
