"""Where a run begins: at random, but for the parameters that it is given, which are kept beside it.

Invariant: `initial.safetensors` in a run directory holds exactly what the run was given at step 0, under our paths.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from safetensors.numpy import load_file, save_file

from ecommerce_vl.files import whole_file
from ecommerce_vl.training.sharding import by_path, path_name
from ecommerce_vl.training.state import TrainState

FILE = "initial.safetensors"
# ({path: shape}, log=) -> {path: float32 array} of some of them
Initial = Callable[..., Mapping[str, np.ndarray]]


def start_from(state: TrainState, initial: Initial, *, keep: Path | None, log: Callable[[str], None]) -> TrainState:
    """The state with the given parameters in their places.

    Args:
      state: of step 0; moments of the optimizer do not depend on parameters then.
      keep: the run directory that keeps them; None on processes that write nothing.
    """
    arrays = initial({path: leaf.shape for path, leaf in by_path(state.params).items()}, log=log)
    if keep is not None:
        with whole_file(keep / FILE) as partial:
            save_file(dict(arrays), partial)
    return dataclasses.replace(state, params=overlay(state.params, arrays))


def kept(workdir: Path) -> dict[str, np.ndarray]:
    """What the run was given; {} if it began at random."""
    file = Path(workdir) / FILE
    return load_file(file) if file.exists() else {}


def overlay(params: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """A tree of device arrays with those at the given paths replaced, each where it lies."""

    def place(path, leaf):
        array = arrays.get(path_name(path))
        if array is None:
            return leaf
        return jax.make_array_from_callback(leaf.shape, leaf.sharding, lambda index: array[index])

    return jax.tree_util.tree_map_with_path(place, params)
