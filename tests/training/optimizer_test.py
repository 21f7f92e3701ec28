"""The optimizer decays matrices only, and its rate follows samples."""

import jax.numpy as jnp
import numpy as np
import pytest

from ecommerce_vl.training.optimizer import learning_rate, make_optimizer

FIELDS = {
    "learning_rate": 1.0,
    "warmup_samples": 80,
    "weight_decay": 0.5,
    "b1": 0.9,
    "b2": 0.98,
    "eps": 1e-6,
    "grad_clip": 1.0,
}


def test_only_kernels_and_tokens_decay():
    params = {
        "blocks": {"kernel": jnp.ones((2, 3, 3)), "bias": jnp.ones((2, 3)), "scale": jnp.ones((2, 3))},
        "token": jnp.ones((4, 3)),
        "position": jnp.ones((4, 3)),
        "logit_scale": jnp.ones(()),
    }
    optimizer = make_optimizer(FIELDS, schedule=lambda step: 1.0)
    updates, _ = optimizer.update({**_zeros(params)}, optimizer.init(params), params)
    moved = {
        "kernel": updates["blocks"]["kernel"],
        "bias": updates["blocks"]["bias"],
        "scale": updates["blocks"]["scale"],
        "token": updates["token"],
        "position": updates["position"],
        "logit_scale": updates["logit_scale"],
    }
    assert {name for name, update in moved.items() if np.abs(update).max() > 0} == {"kernel", "token"}


def _zeros(tree):
    return {name: _zeros(item) if isinstance(item, dict) else jnp.zeros_like(item) for name, item in tree.items()}


def test_the_rate_warms_up_over_samples_and_ends_at_zero():
    schedule = learning_rate(FIELDS, batch_size=8, num_steps=100)
    assert float(schedule(0)) == 0.0
    assert float(schedule(5)) == pytest.approx(0.5)
    assert float(schedule(10)) == pytest.approx(1.0)
    assert float(schedule(55)) == pytest.approx(0.5, abs=1e-6)
    assert float(schedule(100)) == pytest.approx(0.0, abs=1e-6)
