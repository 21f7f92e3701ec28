"""Modules as tests want them: with noise on what begins as an identity."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx


def noisy(params: Any, seed: int = 1) -> Any:
    """Parameters with noise: fresh blocks are identities, which would hide what flows through them."""
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: np.asarray(x) + 0.1 * rng.standard_normal(x.shape).astype(np.float32), params)


def stirred(module: nnx.Module, seed: int = 1) -> nnx.Module:
    """The module with noisy parameters."""
    definition, params = nnx.split(module)
    return nnx.merge(definition, jax.tree.map(jnp.asarray, noisy(params, seed)))
