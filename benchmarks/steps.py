"""Training steps of any size on random products, for the benchmarks of this folder."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from configs import eclip
from ecommerce_vl.systems import build_system
from ecommerce_vl.training.mesh import batch_sharding, make_mesh
from ecommerce_vl.training.schedule import make_stages
from ecommerce_vl.training.trainer import make_trainer


def small_config(*, batch: int, size: int, width: int, depth: int) -> ConfigDict:
    """e-CLIP with both encoders of one width; patches of 8 pixels, heads of 32 units or one."""
    config = eclip.get_config("tiny")
    config.batch_size, config.total_samples, config.embed_dim = batch, 100 * batch, width
    config.image.stem, config.image.size, config.image.patch_size = "patch", size, 8
    config.image.width, config.image.depth = width, depth
    config.text.width, config.text.depth, config.text.max_length = width, max(1, depth // 2), 16
    config.text.vocab_size = 1_000
    config.image.heads = config.text.heads = max(1, width // 32)
    return config


def make_step(config: ConfigDict, *, streams: int = 1) -> tuple[Any, Callable, Mesh]:
    """A fresh state, the step as the loop compiles it, and its mesh over all devices."""
    mesh = make_mesh(**config.mesh, batch_size=config.batch_size)
    system = build_system(config, vocab_size=config.text.vocab_size)
    trainer = make_trainer(config.to_dict() | {"streams": streams}, system, mesh=mesh, stages=make_stages(config))
    return trainer.init(), trainer.step, mesh


def random_batch(config: ConfigDict, mesh: Mesh | None = None) -> dict:
    """Products of random pixels and words, on the devices of the mesh, or as the loader gives them."""
    rng, rows, size, length = np.random.default_rng(0), config.batch_size, config.image.size, config.text.max_length
    keys = ("product_key", "catalog_key", "group_key", "category_key")
    batch = {
        "image": rng.integers(0, 256, (rows, size, size, 3)).astype(np.uint8),
        "text_ids": rng.integers(3, config.text.vocab_size, (rows, length)).astype(np.int32),
        "text_mask": np.ones((rows, length), bool),
        **{name: np.ones(rows, bool) for name in ("has_image", "has_text", "valid", "matched")},
        "hard_mismatch": np.zeros(rows, bool),
        **{name: np.arange(rows, dtype=np.int32) for name in keys},
    }
    return batch if mesh is None else jax.device_put(batch, batch_sharding(mesh))
