"""Seeded randomness for the sample catalog.

Every random decision is drawn from a generator named by (seed, kind, indices). That keeps one invariant: a style, a
product or a photograph comes out the same whether it is made alone, first or last, so the size of the catalog and the
order of work never change what an item looks like.
"""

import zlib
from collections.abc import Sequence

import numpy as np


def generator(seed: int, kind: str, *indices: int) -> np.random.Generator:
    """Return the generator that belongs to one decision, e.g. ``generator(0, "geometry", 17)``."""
    return np.random.default_rng([seed, zlib.crc32(kind.encode()), *indices])


def pick(rng: np.random.Generator, choices: Sequence, weights: Sequence[float] | None = None):
    """Return one of `choices`, uniformly or by `weights` (which need not sum to one)."""
    if weights is None:
        return choices[int(rng.integers(len(choices)))]
    edges = np.cumsum(weights)
    return choices[int(np.searchsorted(edges, rng.random() * edges[-1], side="right"))]


def happens(rng: np.random.Generator, probability: float) -> bool:
    """Return True with the given probability."""
    return bool(rng.random() < probability)
