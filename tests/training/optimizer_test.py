"""The optimizer decays matrices only, and its rate follows samples."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecommerce_vl.training.optimizer import BELOW_BLOCKS, learning_rate, make_optimizer
from ecommerce_vl.training.schedule import Stage

FIELDS = {
    "name": "adamw",
    "learning_rate": 1.0,
    "warmup_samples": 80,
    "weight_decay": 0.5,
    "b1": 0.9,
    "b2": 0.98,
    "eps": 1e-6,
    "grad_clip": 1.0,
    "lr_rule": "sqrt",
    "lr_decay": "cosine",
    "rewarm_steps": 0,
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
    schedule = learning_rate(FIELDS, (Stage(batch_size=8, first_step=0, num_steps=100, first_sample=0),))
    assert float(schedule(0)) == 0.0
    assert float(schedule(5)) == pytest.approx(0.5)
    assert float(schedule(10)) == pytest.approx(1.0)
    assert float(schedule(55)) == pytest.approx(0.5, abs=1e-6)
    assert float(schedule(100)) == pytest.approx(0.0, abs=1e-6)


def test_muon_moves_every_direction_of_a_kernel_alike_and_the_layers_of_a_stack_apart():
    rng = np.random.default_rng(0)
    params = {"image": {"blocks": {"kernel": jnp.zeros((2, 8, 8))}, "bias": jnp.zeros(8)}}
    low_rank = rng.normal(size=(8, 1)) @ rng.normal(size=(1, 8)) + 0.05 * rng.normal(size=(8, 8))
    grads = {"image": {"blocks": {"kernel": jnp.stack([jnp.asarray(low_rank), jnp.eye(8)])}, "bias": jnp.ones(8)}}
    optimizer = make_optimizer(FIELDS | {"name": "muon", "weight_decay": 0.0}, schedule=lambda step: 1.0)
    updates, _ = optimizer.update(grads, optimizer.init(params), params)
    moved = updates["image"]["blocks"]["kernel"]
    before, after = (np.linalg.svd(x, compute_uv=False) for x in (low_rank, moved[0]))
    assert before[1] / before[0] < 0.1 < 0.5 < after[1] / after[0]
    np.testing.assert_allclose(moved[1], np.diag(np.diag(moved[1])), atol=1e-3)


def test_an_unknown_rule_is_named():
    with pytest.raises(ValueError, match="optimizer.name is 'sgd'; expected one of adamw, lamb, muon"):
        make_optimizer(FIELDS | {"name": "sgd"}, schedule=lambda step: 1.0)


def test_frozen_blocks_stay_with_what_comes_before_them_and_the_others_move():
    params = {
        "joint": {
            "token": jnp.ones((4, 3)),
            "adapt": jnp.ones((3, 3)),
            "stem": {"projection": {"kernel": jnp.ones((3, 3))}},
            "transformer": {"blocks": {"kernel": jnp.ones((4, 3, 3))}, "norm": {"scale": jnp.ones(3)}},
        },
        "projection": {"kernel": jnp.ones((3, 2))},
    }
    optimizer = make_optimizer(FIELDS | {"frozen_blocks": 0.5}, schedule=lambda step: 1.0)
    gradients = {**_zeros(params), "projection": {"kernel": jnp.ones((3, 2))}}
    gradients["joint"]["adapt"] = jnp.ones((3, 3))
    updates, _ = optimizer.update(gradients, optimizer.init(params), params)  # decay alone moves the blocks
    joint = updates["joint"]
    moved = np.abs(joint["transformer"]["blocks"]["kernel"]).max(axis=(1, 2)) > 0
    assert moved.tolist() == [False, False, True, True] and not joint["token"].any()
    assert not joint["stem"]["projection"]["kernel"].any() and not joint["adapt"].any()
    assert (updates["projection"]["kernel"] != 0).all()
    with pytest.raises(ValueError, match=r"optimizer\.frozen_blocks is 2; expected a share"):
        make_optimizer(FIELDS | {"frozen_blocks": 2}, schedule=lambda step: 1.0)


def test_what_lies_above_the_blocks_is_known_by_its_name():
    """Of all shipped systems; what is new is told here whether `frozen_blocks` and `layer_decay` leave it alone."""
    golden = Path(__file__).parents[1] / "golden"
    lines = [line for file in golden.glob("sharding-*.txt") for line in file.read_text().splitlines() if line]
    paths = {line.split()[0] for line in lines}
    above = {path for path in paths if "transformer/blocks/" not in path and not re.match(BELOW_BLOCKS, path)}
    parts = {re.sub(r"/(transform/.*|transformer/norm/.*|kernel|bias|scale|table)$", "", path) for path in above}
    heads = {"gmim", "gmlm", "mim", "mlm", "heads/patches", "heads/words", "recall", "recall/product", "recall/query"}
    parts = {part for part in parts if "projection" not in part} - heads
    last = {"gmim/pixels", "mim/pixels", "itm/linear", "cross/match", "cross/product", "cross/query", "logit_scale"}
    assert parts == last | {"cross", "encoder", "image", "joint", "query", "text"}  # their last norms


def test_lamb_moves_a_matrix_in_proportion_to_its_size_layer_by_layer():
    stack = jnp.stack([jnp.ones((3, 3)), 10 * jnp.ones((3, 3))])
    params = {"x": {"blocks": {"kernel": stack}, "kernel": 10 * jnp.ones((3, 3)), "bias": jnp.full(3, 10.0)}}
    gradient = jax.tree.map(lambda x: jnp.full_like(x, 0.01), params)
    optimizer = make_optimizer(FIELDS | {"name": "lamb", "weight_decay": 0.0}, schedule=lambda step: 0.1)
    updates, _ = optimizer.update(gradient, optimizer.init(params), params)
    np.testing.assert_allclose(updates["x"]["blocks"]["kernel"][0], -0.1, rtol=1e-3)
    np.testing.assert_allclose(updates["x"]["blocks"]["kernel"][1], -1.0, rtol=1e-3)
    np.testing.assert_allclose(updates["x"]["kernel"], -1.0, rtol=1e-3)
    np.testing.assert_allclose(updates["x"]["bias"], -0.1, rtol=1e-3)


def test_a_tower_may_stay_for_the_first_of_the_samples_alone():
    """Of 4 steps of 8 rows and 4 of 16, the first half of the samples are 6 steps."""
    stages = (
        Stage(8, first_step=0, num_steps=4, first_sample=0),
        Stage(16, first_step=4, num_steps=4, first_sample=32),
    )
    fields = FIELDS | {"locked": ("image/",), "locked_fraction": 0.5, "grad_clip": 1.0}
    optimizer = make_optimizer(fields, schedule=lambda step: 0.1, stages=stages)
    params = {name: {"kernel": jnp.ones((2, 2))} for name in ("image", "text")}
    state, moved = optimizer.init(params), []
    for _ in range(8):
        gradient = {"image": {"kernel": jnp.full((2, 2), 1e6)}, "text": {"kernel": jnp.full((2, 2), 0.01)}}
        updates, state = optimizer.update(gradient, state, params)
        moved.append(bool(jnp.any(updates["image"]["kernel"] != 0)))
        assert (updates["text"]["kernel"] < 0).all()
    assert moved == [False] * 5 + [True] * 3
    with pytest.raises(ValueError, match="optimizer.locked_fraction is -1"):
        make_optimizer(fields | {"locked_fraction": -1.0}, schedule=lambda step: 0.1, stages=stages)
