"""The catalog loss: golden values, identities, and a float64 reference on 1, 2, 4 and 8 devices."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType

from ecommerce_vl.losses.candidates import Candidates, Rule
from ecommerce_vl.losses.contrastive import candidate_loss

GOLDEN_SCORES = np.array([[2, 1, 0], [0.5, 2, 0], [0, -1, 2]], np.float32)
GOLDEN_CATALOG = np.array([7, 7, -3])


def mesh_of(num_devices):
    shape = (1, 1) if num_devices == 1 else (num_devices // 2, 2)
    return jax.make_mesh(shape, ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2, devices=jax.devices()[:num_devices])


# Compiled: run operation by operation, a shard_map is slow.
@partial(jax.jit, static_argnames=("label_mode", "catalog_alpha", "mesh"))
def clip_catalog(z_image, z_text, scale, *, catalog_key_B, valid_B, label_mode, catalog_alpha, mesh):
    """The loss as e-CLIP asks for it."""
    rule = Rule(label_mode=label_mode, alpha=catalog_alpha)
    return candidate_loss(z_image, Candidates(z_text, catalog_key_B, valid_B), scale, rule=rule, mesh=mesh)


def reference(z_image, z_text, scale, *, catalog, valid, mode, alpha):
    """Value by the formula of the module, in float64 and on the valid rows alone."""
    z_image, z_text, catalog = (np.asarray(x)[valid] for x in (z_image, z_text, catalog))
    S = np.exp(np.float64(scale)) * z_image.astype(np.float64) @ z_text.astype(np.float64).T
    same = catalog[:, None] == catalog[None, :]
    eye = np.eye(len(S), dtype=bool)
    A = np.where(eye, 1.0, np.where(same & (mode == "catalog"), alpha, 0.0))
    S = np.where(same & ~eye & (mode == "mask"), -np.inf, S)
    lse = lambda x, axis: np.log(np.exp(x - x.max(axis, keepdims=True)).sum(axis)) + x.max(axis)
    Y = A / A.sum(1, keepdims=True)
    shown = np.where(A > 0, S, 0.0)
    return ((lse(S, 1) - (Y * shown).sum(1)).mean() + (lse(S, 0) - (Y.T * shown).sum(0)).mean()) / 2


def random_batch(rows=16, dim=8, seed=0):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(2, rows, dim)).astype(np.float32)
    z /= np.linalg.norm(z, axis=-1, keepdims=True)
    catalog = np.array([1, 1, 2, 2, 2, -1, -2, -3, -4, -5, 3, 4, 5, 3, -8, -9])[:rows]
    valid = np.arange(rows) % 7 != 4
    return z[0], z[1], catalog, valid


def golden(scores, *, alpha):
    """The loss of three rows whose similarities are these scores."""
    return clip_catalog(
        scores,
        jnp.eye(3),
        jnp.zeros(()),
        catalog_key_B=jnp.asarray(GOLDEN_CATALOG),
        valid_B=jnp.ones(3, bool),
        label_mode="catalog",
        catalog_alpha=alpha,
        mesh=mesh_of(1),
    )


@pytest.mark.parametrize(
    ("alpha", "loss", "floor"), [(0.0, 0.296453, 0.0), (0.5, 0.574231, 0.424343), (1.0, 0.713120, 0.462098)]
)
def test_golden_values(alpha, loss, floor):
    value, metrics = golden(jnp.asarray(GOLDEN_SCORES), alpha=alpha)
    assert float(value) == pytest.approx(loss, abs=1e-6)
    assert float(metrics["loss_floor"]) == pytest.approx(floor, abs=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_equal_scores_give_log_of_the_batch(alpha):
    value, _ = golden(jnp.zeros((3, 3)), alpha=alpha)
    assert float(value) == pytest.approx(np.log(3), abs=1e-6)


def test_gradient_with_respect_to_scores_is_the_identity_of_the_paper_spec():
    """dL/dS = ((softmax over columns - Y) + (softmax over rows - Z)) / (2 B)."""
    alpha = 0.5

    def loss(S):
        return golden(S, alpha=alpha)[0]

    A = np.array([[1, alpha, 0], [alpha, 1, 0], [0, 0, 1]])
    Y = A / A.sum(1, keepdims=True)
    S = GOLDEN_SCORES.astype(np.float64)
    rows = np.exp(S) / np.exp(S).sum(1, keepdims=True)
    columns = np.exp(S) / np.exp(S).sum(0, keepdims=True)
    np.testing.assert_allclose(
        jax.grad(loss)(jnp.asarray(GOLDEN_SCORES)), ((rows - Y) + (columns - Y.T)) / 6, atol=1e-6
    )


@pytest.mark.parametrize("num_devices", [1, 2, 4, 8])
@pytest.mark.parametrize(("mode", "alpha"), [("one_hot", 1.0), ("catalog", 0.7), ("mask", 1.0)])
def test_value_and_gradients_equal_the_reference_on_any_number_of_devices(num_devices, mode, alpha):
    z_image, z_text, catalog, valid = random_batch()
    scale = float(np.float32(np.log(10)))
    mesh = mesh_of(num_devices)

    def loss(z_image, z_text, scale):
        return clip_catalog(
            z_image,
            z_text,
            scale,
            catalog_key_B=jnp.asarray(catalog),
            valid_B=jnp.asarray(valid),
            label_mode=mode,
            catalog_alpha=alpha,
            mesh=mesh,
        )[0]

    value, grads = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(z_image, z_text, np.float32(scale))
    of = lambda a, b, s: reference(a, b, s, catalog=catalog, valid=valid, mode=mode, alpha=alpha)
    assert float(value) == pytest.approx(of(z_image, z_text, scale), abs=1e-5)

    step = 1e-5
    numeric_scale = (of(z_image, z_text, scale + step) - of(z_image, z_text, scale - step)) / (2 * step)
    assert float(grads[2]) == pytest.approx(numeric_scale, abs=1e-4)
    for side in (0, 1):
        numeric = np.zeros_like(z_image, np.float64)
        for row, column in [(r, c) for r in range(len(z_image)) for c in range(3)]:
            pair = [z_image.astype(np.float64), z_text.astype(np.float64)]
            up, down = [z.copy() for z in pair], [z.copy() for z in pair]
            up[side][row, column] += step
            down[side][row, column] -= step
            numeric[row, column] = (of(*up, scale) - of(*down, scale)) / (2 * step)
        np.testing.assert_allclose(np.asarray(grads[side])[:, :3], numeric[:, :3], atol=2e-5)
        assert (np.asarray(grads[side])[~valid] == 0).all()


def test_metrics_are_equal_on_one_and_eight_devices():
    z_image, z_text, catalog, valid = random_batch()
    run = lambda n: jax.device_get(
        clip_catalog(
            jnp.asarray(z_image),
            jnp.asarray(z_text),
            jnp.float32(2.0),
            catalog_key_B=jnp.asarray(catalog),
            valid_B=jnp.asarray(valid),
            label_mode="catalog",
            catalog_alpha=1.0,
            mesh=mesh_of(n),
        )[1]
    )
    one, eight = run(1), run(8)
    for name in one:
        assert one[name] == pytest.approx(eight[name], abs=1e-6), name
    S = (z_image @ z_text.T)[np.ix_(valid, valid)]
    same = (catalog[:, None] == catalog[None, :])[np.ix_(valid, valid)]
    negative = np.where(same, -2, S)  # another listing of the product is no wrong answer, and no right one
    assert one["row_top1"] == pytest.approx((np.diag(S) > negative.max(1)).mean(), abs=1e-6)
    assert one["column_top1"] == pytest.approx((np.diag(S) > negative.max(0)).mean(), abs=1e-6)
    assert 0 < one["row_top1"] < 1
    assert one["shared_rows"] == pytest.approx((same.sum(1) > 1).mean(), abs=1e-6)


def test_a_joint_permutation_changes_nothing():
    z_image, z_text, catalog, valid = random_batch()
    order = np.random.default_rng(1).permutation(len(catalog))
    run = lambda o: float(
        clip_catalog(
            jnp.asarray(z_image[o]),
            jnp.asarray(z_text[o]),
            jnp.float32(2.0),
            catalog_key_B=jnp.asarray(catalog[o]),
            valid_B=jnp.asarray(valid[o]),
            label_mode="catalog",
            catalog_alpha=0.5,
            mesh=mesh_of(4),
        )[0]
    )
    assert run(np.arange(len(order))) == pytest.approx(run(order), abs=1e-5)


def test_no_valid_row_gives_zero_and_finite_gradients():
    z_image, z_text, catalog, _ = random_batch(rows=8)
    loss = lambda z: clip_catalog(
        z,
        jnp.asarray(z_text),
        jnp.float32(2.0),
        catalog_key_B=jnp.asarray(catalog),
        valid_B=jnp.zeros(8, bool),
        label_mode="catalog",
        catalog_alpha=1.0,
        mesh=mesh_of(2),
    )[0]
    value, grads = jax.value_and_grad(loss)(jnp.asarray(z_image))
    assert float(value) == 0.0
    assert (np.asarray(grads) == 0).all()


def test_an_unknown_label_mode_is_named():
    with pytest.raises(ValueError, match="label_mode is 'soft'"):
        clip_catalog(
            jnp.eye(2),
            jnp.eye(2),
            jnp.zeros(()),
            catalog_key_B=jnp.arange(2),
            valid_B=jnp.ones(2, bool),
            label_mode="soft",
            catalog_alpha=1.0,
            mesh=mesh_of(1),
        )


def test_a_collapsed_space_is_not_called_right():
    z = jnp.ones((8, 4)) / 2
    _, metrics = clip_catalog(
        z,
        z,
        jnp.float32(2.0),
        catalog_key_B=-1 - jnp.arange(8),
        valid_B=jnp.ones(8, bool),
        label_mode="catalog",
        catalog_alpha=1.0,
        mesh=mesh_of(2),
    )
    assert float(metrics["column_top1"]) == 0.0
    assert float(metrics["row_top1"]) <= 1 / 8
    assert float(metrics["row_rank"]) < 1e-3


def test_the_effective_rank_counts_dimensions_that_are_filled():
    z = jnp.concatenate([jnp.eye(8), -jnp.eye(8)])[:, :8]
    _, metrics = clip_catalog(
        z,
        z[:, :1] * jnp.eye(8)[:1],
        jnp.float32(2.0),
        catalog_key_B=-1 - jnp.arange(16),
        valid_B=jnp.ones(16, bool),
        label_mode="catalog",
        catalog_alpha=1.0,
        mesh=mesh_of(4),
    )
    assert float(metrics["row_rank"]) == pytest.approx(8, abs=1e-3)
    assert float(metrics["column_rank"]) == pytest.approx(1, abs=1e-3)
