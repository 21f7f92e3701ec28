"""Token and patch losses against loops in float64, and their sums over the global batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ecommerce_vl.losses.adaptive import adaptive_weights
from ecommerce_vl.losses.tokens import (
    cross_entropy,
    global_mean,
    patch_distance,
    patch_targets,
    row_sum,
)

B, M, V, C = 8, 3, 11, 12


def naive(logits, target, weight):
    """The mean over weighted positions, one at a time, in float64."""
    total = count = 0.0
    for row in range(B):
        for slot in range(M):
            if weight[row, slot]:
                x = logits[row, slot].astype(np.float64)
                total += np.log(np.exp(x).sum()) - x[target[row, slot]]
                count += 1
    return total / max(count, 1)


def example(seed=0):
    rng = np.random.default_rng(seed)
    weight = rng.random((B, M)) < np.array([0, 1, 0.3, 0.9, 0.5, 1, 0.2, 0.6])[:, None]
    return rng.normal(size=(B, M, V)).astype(np.float32) * 3, rng.integers(0, V, (B, M)), weight


def test_the_mean_is_over_the_positions_of_the_whole_batch():
    logits, target, weight = example()
    value = jax.jit(lambda x: global_mean(row_sum(cross_entropy(x, target), weight)))
    assert float(value(logits)) == pytest.approx(naive(logits, target, weight), abs=1e-6)
    # The gradient of the naive form by central differences.
    gradient, step = np.asarray(jax.jit(jax.grad(value))(jnp.asarray(logits))), 1e-3
    for row, slot, v in [(1, 0, 2), (3, 1, int(target[3, 1])), (5, 2, 0), (0, 0, 0)]:
        up, down = logits.astype(np.float64), logits.astype(np.float64)
        up[row, slot, v] += step
        down[row, slot, v] -= step
        expected = (naive(up, target, weight) - naive(down, target, weight)) / (2 * step)
        assert gradient[row, slot, v] == pytest.approx(expected, abs=1e-6)
    assert not gradient[~weight].any()


def test_two_halves_of_unequal_counts_add_up_to_the_whole():
    logits, target, weight = example()
    rows_of = jax.jit(lambda *part: row_sum(cross_entropy(*part[:2]), part[2]))
    rows = rows_of(logits, target, weight)
    halves = [rows_of(logits[h], target[h], weight[h]) for h in (slice(0, 4), slice(4, 8))]
    assert float(halves[0].count_B.sum()) != float(halves[1].count_B.sum())
    joined = type(rows)(*(jnp.concatenate(parts) for parts in zip(*halves, strict=True)))
    assert float(global_mean(joined)) == pytest.approx(float(global_mean(rows)), abs=1e-6)


def test_nothing_to_count_is_zero_and_hides_what_is_not_finite():
    assert float(global_mean(row_sum(jnp.full((B, M), jnp.nan), jnp.zeros((B, M))))) == 0.0


def test_patch_targets_are_normalised_and_flat_ones_told_apart():
    rng = np.random.default_rng(0)
    raw = rng.normal(2.0, 3.0, (B, M, C)).astype(np.float32)
    raw[0, 0] = 1.7
    raw[1, 1] = 0.5 + 0.009 * np.sign(rng.normal(size=C))  # noise of compression: variance 8e-5
    target, shows = patch_targets(jnp.asarray(raw), normalise=True)
    assert not shows[0, 0] and not shows[1, 1] and np.asarray(shows).sum() == B * M - 2
    np.testing.assert_allclose(target[0, 0], 0, atol=1e-3)
    np.testing.assert_allclose(np.asarray(target)[np.asarray(shows)].mean(axis=1), 0, atol=1e-3)
    np.testing.assert_allclose(np.asarray(target)[np.asarray(shows)].var(axis=1), 1, atol=1e-3)
    np.testing.assert_array_equal(patch_targets(jnp.asarray(raw), normalise=False)[0], raw)


@pytest.mark.parametrize(("kind", "of"), [("l1", np.abs), ("l2", np.square)])
def test_patch_distance(kind, of):
    a, b = np.random.default_rng(0).normal(size=(2, B, M, C)).astype(np.float32)
    np.testing.assert_allclose(patch_distance(a, b, kind=kind), of(a - b).mean(axis=2), rtol=1e-6)


def test_an_unknown_distance_is_named():
    with pytest.raises(ValueError, match="mim_loss is 'huber'; expected one of l1, l2"):
        patch_distance(jnp.zeros((1, 1, 1)), jnp.zeros((1, 1, 1)), kind="huber")


def test_adaptive_weights():
    np.testing.assert_allclose(adaptive_weights(jnp.array([1.0, 2.0, 3.0])), [0.313727, 0.319253, 0.367020], atol=1e-6)
    np.testing.assert_allclose(adaptive_weights(jnp.array([7.0])), [1.0])
    assert not np.asarray(jax.jacobian(adaptive_weights)(jnp.array([1.0, 2.0, 3.0]))).any()
    assert (np.diff(adaptive_weights(jnp.array([1.0, 2.0, 3.0]), alpha=1e4)) < 1e-5).all()
