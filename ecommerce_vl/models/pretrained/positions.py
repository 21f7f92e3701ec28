"""Tables of positions of a square grid of patches, resampled to another grid.

Both methods are a matrix on either axis of the grid. Invariant: rows of that matrix sum to one; an equal size changes
no bit.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from ecommerce_vl.errors import UserError


def _cubic(t: np.ndarray, a: float = -0.75) -> np.ndarray:
    """Keys' kernel (1981) with the slope that torch takes where it does not antialias."""
    t = np.abs(t)
    near = ((a + 2) * t - (a + 3)) * t**2 + 1
    far = ((t - 5) * t + 8) * t * a - 4 * a
    return np.where(t <= 1, near, np.where(t < 2, far, 0.0))


def _triangle(t: np.ndarray) -> np.ndarray:
    return np.maximum(1 - np.abs(t), 0.0)


def bicubic(num_old: int, num_new: int) -> np.ndarray:
    """(new, old) float64: four neighbours, the edge repeated; as transformers does for CLIP, ViT and SigLIP."""
    centre = (np.arange(num_new) + 0.5) * num_old / num_new - 0.5
    taps = np.floor(centre)[:, None] + np.arange(-1, 3)
    weights = _cubic(centre[:, None] - taps)
    matrix = np.zeros((num_new, num_old))
    np.add.at(matrix, (np.arange(num_new)[:, None], np.clip(taps, 0, num_old - 1).astype(int)), weights)
    return matrix


def bilinear(num_old: int, num_new: int) -> np.ndarray:
    """(new, old) float64: triangles as wide as a new cell where it is the larger; as SigLIP 2 does."""
    scale = max(num_old / num_new, 1.0)
    centre = (np.arange(num_new) + 0.5) * num_old / num_new
    weights = _triangle((np.arange(num_old) + 0.5 - centre[:, None]) / scale)
    return weights / weights.sum(axis=1, keepdims=True)


def resampled(method: Callable[[int, int], np.ndarray], *, num_special: int) -> Callable:
    """The `fit` of a table row: the first `num_special` positions ([CLS]) stay, the grid behind them is resampled."""

    def fit(table_NxW: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        if table_NxW.shape[0] == shape[0]:
            return table_NxW
        old, new = math.isqrt(table_NxW.shape[0] - num_special), math.isqrt(shape[0] - num_special)
        if old**2 + num_special != table_NxW.shape[0]:
            raise UserError(
                f"{table_NxW.shape[0]} positions of pictures are no square grid; expected one, as of {old}x{old}"
            )
        grid = table_NxW[num_special:].reshape(old, old, -1)
        matrix = method(old, new)
        grid = np.einsum("ij,kl,jlw->ikw", matrix, matrix, grid.astype(np.float64)).reshape(new**2, -1)
        return np.concatenate([table_NxW[:num_special], grid.astype(np.float32)])

    return fit
