"""Where every parameter lies: a table from its path to mesh axes, first match wins.

Paths are ours (`image/transformer/blocks/attn/query/kernel`); optimizer moments carry the same path at their end, so
they follow their parameter. The leading axis of a `blocks` kernel is the layer.
"""

from __future__ import annotations

import math
import re
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

RULES: tuple[tuple[str, P], ...] = (
    (r"blocks/.*/(query|key|value|up)/kernel$", P(None, None, "fsdp")),
    (r"blocks/.*/(out|down)/kernel$", P(None, "fsdp", None)),
    (r"(token|recall/table)$", P("fsdp", None)),
    (r"extra/.*bank/(embedding|key|valid|group)_", P(("data", "fsdp"))),
    (r"stem/.*(down|projection)/kernel$", P(None, "fsdp")),
    (r"stem/.*mix/kernel$", P(None, None, None, "fsdp")),
    (r"projection/kernel$", P("fsdp", None)),
    (r"", P()),
)


def path_name(path: tuple) -> str:
    """A pytree path as `a/b/c`."""
    return "/".join(str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key)))) for key in path)


def by_path(tree: Any) -> dict[str, Any]:
    """Path -> leaf of a tree, in its order."""
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def partition_spec(name: str, shape: tuple[int, ...], mesh: Mesh) -> P:
    """The spec of one array; an axis that the mesh does not divide is left whole."""
    spec = next(spec for pattern, spec in RULES if re.search(pattern, name))
    size = lambda axis: math.prod(mesh.shape[name] for name in ((axis,) if isinstance(axis, str) else axis))
    axes = [axis if axis and shape[i] % size(axis) == 0 else None for i, axis in enumerate(spec)]
    return P(*axes) if any(axes) else P()


def shard_like(tree: Any, mesh: Mesh) -> Any:
    """The named sharding of every array of a tree of arrays or of their abstract shapes."""
    return jax.tree_util.tree_map_with_path(
        lambda path, leaf: NamedSharding(mesh, partition_spec(path_name(path), leaf.shape, mesh)), tree
    )
