"""Divisions whose whole may be nothing. The invariant: no warning, and what is undefined is 0 or NaN by choice."""

import numpy as np


def or_zero(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Float64: part / whole, 0 where the whole is 0 (nothing was found, so nothing was right)."""
    return _divide(part, whole, missing=0.0)


def or_nan(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """Float64: part / whole, NaN where the whole is 0 (there was nothing to find, so there is no value)."""
    return _divide(part, whole, missing=np.nan)


def _divide(part: np.ndarray, whole: np.ndarray, *, missing: float) -> np.ndarray:
    part, whole = np.broadcast_arrays(np.asarray(part, np.float64), np.asarray(whole, np.float64))
    return np.divide(part, whole, out=np.full(part.shape, missing), where=whole > 0)
