"""A fraction of the products, such as a seed model is trained on: whole groups of related products, spread evenly.

Which products are in it depends on their component in index.parquet and the fraction alone, so that whoever asks later
gets the same ones; a larger fraction holds a smaller one.
"""

from __future__ import annotations

import numpy as np

GOLDEN = (5**0.5 - 1) / 2  # its multiples modulo 1 spread evenly over [0, 1)


def in_fraction(component_N: np.ndarray, fraction: float) -> np.ndarray:
    """Bool (N,) of products of these components (int64)."""
    return component_N * GOLDEN % 1 < fraction


def in_fraction_sql(component: str, fraction: float) -> str:
    """The same as an expression of SQL over a column."""
    return f"{component} * {GOLDEN!r}::DOUBLE % 1 < {fraction!r}::DOUBLE"
