"""Weights of several losses that follow the losses themselves (FashionBERT, 2005.09801).

    n_k = softmax(G)[k]^2
    w_k = prod_{j != k} (alpha K - n_j) / sum_m prod_{j != m} (alpha K - n_j)

Invariant: the weights sum to 1, a larger loss has a larger weight, and no gradient flows through them.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def adaptive_weights(loss_K: jax.Array, *, alpha: float = 1.0) -> jax.Array:
    """Weights (K,) float32 of K losses.

    Args:
      loss_K: float32, K at least 1.
      alpha: evens the weights out as it grows; at least 1.
    """
    K = len(loss_K)
    gap_K = alpha * K - jax.nn.softmax(jax.lax.stop_gradient(loss_K)) ** 2
    others_K = jnp.where(jnp.eye(K, dtype=bool), 1.0, gap_K[None, :]).prod(axis=1)
    return others_K / others_K.sum()
