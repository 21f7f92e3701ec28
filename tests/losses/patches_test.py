"""Contrastive masked patches against a loop over patches; what is removed, what has a gradient, what devices change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import mesh_of

from ecommerce_vl.losses.patches import divergence, own_image, patch_contrast, regression

B, N, M, S, D, TAU, NEAR = 8, 6, 2, 3, 5, 0.07, 0.95


def case(seed=0):
    rng = np.random.default_rng(seed)
    prediction, target = rng.normal(size=(B, M, D)), rng.normal(size=(B, N, D))
    target[:, 1] = target[:, 0] + 1e-3  # near-equal patches of one picture
    target[3, 2] = target[2, 2]  # and of two
    draw = lambda size: np.stack([rng.permutation(N)[:size] for _ in range(B)])
    used, shown = np.ones((B, M), bool), np.arange(B) != 5
    used[4, 1] = False
    return prediction, target, draw(M), draw(S), used, shown


def loss(prediction, target, index, pool, used, shown, num_devices=1):
    masked = own_image(prediction, target, index, pool, used_BxM=used, shown_B=shown, tau=TAU, near=NEAR)
    return patch_contrast(masked, tau=TAU, near=NEAR, mesh=mesh_of(num_devices))


def reference(prediction, target, index, pool, used, shown):
    unit = lambda x: x / jnp.linalg.norm(x, axis=-1, keepdims=True)
    z, y = unit(prediction), unit(jax.lax.stop_gradient(target))
    terms = []
    for i in range(B):
        for m in range(M):
            if not (used[i, m] and shown[i]):
                continue
            own = y[i, index[i, m]]
            others = [y[i, k] for k in range(N) if k != index[i, m]]
            others += [y[n, k] for n in range(B) for k in pool[n] if n != i and shown[n]]
            logits = [z[i, m] @ own / TAU] + [z[i, m] @ k / TAU for k in others if own @ k <= NEAR]
            terms.append(jax.nn.logsumexp(jnp.stack(logits)) - logits[0])
    return jnp.stack(terms).mean()


@pytest.mark.parametrize("num_devices", [1, 2, 4, 8])
def test_value_and_gradient_are_those_of_a_loop_over_patches(num_devices):
    arrays = case()
    run = jax.jit(jax.value_and_grad(lambda p, t: loss(p, t, *arrays[2:], num_devices=num_devices)[0], argnums=(0, 1)))
    value, (of_prediction, of_target) = run(*(jnp.asarray(x, jnp.float32) for x in arrays[:2]))
    with jax.enable_x64(True):
        wanted, wanted_grad = jax.value_and_grad(reference)(*arrays)
    assert float(value) == pytest.approx(float(wanted), abs=1e-5)
    np.testing.assert_allclose(of_prediction, wanted_grad, atol=1e-5)
    assert not np.asarray(of_target).any()  # targets are no teachers of themselves


def test_nothing_to_tell_apart_is_no_loss():
    prediction, _, *rest = case()
    run = jax.jit(jax.value_and_grad(lambda p, t: loss(p, t, *rest)[0]))
    value, grad = run(jnp.asarray(prediction), jnp.ones((B, N, D)))
    assert abs(float(value)) < 1e-6 and np.abs(grad).max() < 1e-5
    value, grad = run(jnp.asarray(prediction), jnp.zeros((B, N, D)))  # black patches of a stem without bias
    assert np.isfinite(value) and np.isfinite(grad).all()


def test_no_picture_at_all_is_no_loss():
    *arrays, used, shown = case()
    value, metrics = loss(*arrays, used, np.zeros_like(shown))
    assert float(value) == 0 and np.isfinite(list(metrics.values())).all()


def test_metrics_say_how_often_the_own_patch_wins():
    _, target, index, pool, used, shown = case()
    exact = np.take_along_axis(target, index[:, :, None], axis=1)
    clear = np.random.default_rng(1).normal(size=target.shape)  # no near-equal ones
    won = loss(np.take_along_axis(clear, index[:, :, None], axis=1), clear, index, pool, used, shown)[1]["patch_top1"]
    lost = loss(-exact, target, index, pool, used, shown)[1]["patch_top1"]
    assert float(won) == 1 and float(lost) == 0


def test_the_forms_it_is_compared_with():
    prediction, target, *_ = case()
    target = target[:, :M]
    standard = (target - target.mean(-1, keepdims=True)) / np.sqrt(target.var(-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(regression(prediction, target), ((prediction - standard) ** 2).mean(-1), rtol=1e-5)
    softmax = lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True)
    wanted = (softmax(target) * np.log(softmax(target) / softmax(prediction))).sum(-1)
    np.testing.assert_allclose(divergence(prediction, target), wanted, rtol=1e-4, atol=1e-6)
    for form in (regression, divergence):
        of_prediction, of_target = jax.grad(lambda p, t, form=form: form(p, t).sum(), argnums=(0, 1))(
            prediction, target
        )
        assert np.asarray(of_prediction).any() and not np.asarray(of_target).any()
