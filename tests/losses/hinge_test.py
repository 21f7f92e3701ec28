"""Hinge losses: golden values, masks and divisors, and a float64 reference on 1, 2, 4 and 8 devices."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import mesh_of, unit_rows

from ecommerce_vl.losses import hinge
from ecommerce_vl.losses.candidates import Ids


@partial(jax.jit, static_argnames=("margin", "mesh"))
def match(*arrays, **options):
    return hinge.match(*arrays, **options)


@partial(jax.jit, static_argnames=("margin", "mesh", "k"))
def locality(*arrays, **options):
    return hinge.locality(*arrays, **options)


def ids(rows, *, valid=None, group=None):
    return Ids(
        index_n=jnp.arange(rows),
        key_n=jnp.arange(rows),
        valid_n=jnp.ones(rows, bool) if valid is None else jnp.asarray(valid),
        group_nxG=None if group is None else jnp.asarray(group),
    )


def row_losses(S, *, margin=0.2, row=None, column=None):
    """The losses (B,) of given cosines: rows that are them, against the unit vectors."""
    B = len(S)
    row, column = row or ids(B), column or ids(B)
    found = match(jnp.asarray(S, jnp.float32)[:, None], jnp.eye(B), row, column, margin=margin, mesh=mesh_of(1))
    return jax.tree.map(lambda x: np.asarray(x)[:, 0], found)


def neighbours(D, moved, *, k, margin=0.01, column=None):
    """The locality losses (B,) of given cosines."""
    B = len(D)
    x, z = jnp.asarray(D, jnp.float32), jnp.asarray(moved, jnp.float32)[:, None]
    return np.asarray(locality(x, z, jnp.eye(B), column or ids(B), k=k, margin=margin, mesh=mesh_of(1)))[:, 0]


def test_golden_match():
    found = row_losses([[0.9, 0.5], [0.85, 0.8]])
    np.testing.assert_allclose(found.loss_BxV, [0, 0.125], atol=1e-6)
    np.testing.assert_array_equal(found.active_BxV, [0, 1])
    np.testing.assert_array_equal(found.top1_BxV, [1, 0])


def test_golden_locality():
    D = [[0.9, 0.6, 0.1], [0.2, 0.8, 0.3], [0.0, 0.4, 0.7]]
    moved = [[0.7, 0.5, 0.9], [0.2, 0.7, 0.1], [0.3, 0.4, 0.4]]
    np.testing.assert_allclose(neighbours(D, moved, k=2), [0.015, 0.015, 0.04], atol=1e-6)


def test_match_is_zero_where_pairs_lead_by_the_margin_and_its_divisor_is_the_batch():
    S = np.full((4, 4), 0.5) + np.diag([0.21] * 4)
    assert (row_losses(S).loss_BxV == 0).all()
    S[0, 1] = 0.71  # violates by the whole margin: 0.2 / B, with B = 4 and not 3
    np.testing.assert_allclose(row_losses(S).loss_BxV, [0.05, 0, 0, 0], atol=1e-6)


def test_a_view_that_equals_its_product_loses_nothing():
    rng = np.random.default_rng(0)
    x = np.eye(8, dtype=np.float32)  # well separated
    assert float(match(x[:, None], x, ids(8), ids(8), margin=0.2, mesh=mesh_of(1)).loss_BxV.max()) == 0
    x, r = unit_rows(rng, 8), unit_rows(rng, 8)
    assert float(locality(x, x[:, None], r, ids(8), k=3, margin=0.0, mesh=mesh_of(1)).max()) == 0


def test_neighbours_are_chosen_row_by_row_and_there_may_be_fewer_than_k():
    rng = np.random.default_rng(1)
    D, moved = rng.uniform(-1, 1, (2, 6, 6)).astype(np.float32)
    for k in (3, 10):
        kept = min(k, 6)
        expected = []
        for i in range(6):
            top = sorted(range(6), key=lambda j: -D[i, j])[:kept]
            expected.append(sum(max(0.0, float(D[i, j] - moved[i, j]) ** 2 - 0.01) for j in top) / kept)
        np.testing.assert_allclose(neighbours(D, moved, k=k), expected, atol=1e-6)


@pytest.mark.parametrize("column", range(2))
def test_rows_that_share_an_id_do_not_meet(column):
    """Rows 0 and 2 share an id of one column: neither S[0,2] nor S[2,0] matters, and the divisor stays B."""
    rng = np.random.default_rng(2)
    group = np.arange(8).reshape(4, 2)
    group[2, column] = group[0, column]
    S = rng.uniform(0, 1, (4, 4))
    other = S.copy()
    other[0, 2], other[2, 0] = 0.99, 0.98
    shared = ids(4, group=group)
    first, second = (row_losses(values, row=shared, column=shared) for values in (S, other))
    jax.tree.map(np.testing.assert_array_equal, first, second)
    masked = S.copy()
    masked[0, 2] = masked[2, 0] = -5.0
    np.testing.assert_allclose(first.loss_BxV, row_losses(masked).loss_BxV, atol=1e-6)
    assert (row_losses(other).loss_BxV > first.loss_BxV)[[0, 2]].all()


def test_padding_is_no_query_no_column_and_not_counted():
    rng = np.random.default_rng(3)
    S, moved = rng.uniform(0, 1, (2, 6, 6))
    keep = [0, 1, 3, 5]
    valid = np.isin(np.arange(6), keep)
    padded = row_losses(S, row=ids(6, valid=valid), column=ids(6, valid=valid))
    alone = row_losses(S[np.ix_(keep, keep)])
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x[keep], y, atol=1e-6), padded, alone)
    assert (padded.loss_BxV[~valid] == 0).all()
    np.testing.assert_allclose(
        neighbours(S, moved, k=3, column=ids(6, valid=valid))[keep],
        neighbours(S[np.ix_(keep, keep)], moved[np.ix_(keep, keep)], k=3),
        atol=1e-6,
    )


def test_the_mean_is_weighted_and_zero_without_rows():
    x = jnp.asarray([[1.0, 5.0], [3.0, 7.0], [9.0, 9.0]])
    weight = jnp.asarray([[1.0, 0.0], [3.0, 0.0], [0.0, 0.0]])
    np.testing.assert_allclose(hinge.mean_of_rows(x, weight), [2.5, 0.0])


def batch_loss(x_BxVxD, z_BxVxD, r_BxD, *, row, column, weight, mesh):
    """Everything at once, for value and gradient."""
    rows = hinge.match(x_BxVxD, r_BxD, row, column, margin=0.2, mesh=mesh)
    moved = hinge.locality(x_BxVxD[:, 0], z_BxVxD, r_BxD, column, k=3, margin=0.01, mesh=mesh)
    return hinge.mean_of_rows(rows.loss_BxV, weight).sum() + hinge.mean_of_rows(moved, weight).sum()


def reference_loss(x, z, r, *, valid, group_row, group_column, weight):
    """The same from the formulas, in float64 with loops over terms."""
    keep = [i for i in range(len(r)) if valid[i]]
    B, V = len(keep), x.shape[1]
    total = 0.0
    for v in range(V):
        losses, moved = {}, {}
        for i in keep:
            terms = [
                jnp.maximum(x[i, v] @ r[j] - x[i, v] @ r[i] + 0.2, 0.0)
                for j in keep
                if j != i and not (group_row[i] == group_column[j]).any()
            ]
            losses[i] = sum(terms) / B
            D = np.array([float(jax.lax.stop_gradient(x[i, 0] @ r[j])) for j in keep])
            top = [keep[n] for n in np.argsort(-D)[: min(3, B)]]
            moved[i] = sum(
                jnp.maximum((x[i, 0] @ r[j] - z[i, v] @ r[j]) ** 2 - 0.01, 0.0) for j in top
            ) / min(3, B)  # fmt: skip
        whole = sum(weight[i, v] for i in keep)
        total += sum(weight[i, v] * (losses[i] + moved[i]) for i in keep) / whole
    return total


def random_batch(B=8, V=2, dim=4):
    rng = np.random.default_rng(4)
    x, z = (unit_rows(rng, B * V, dim).reshape(B, V, dim) for _ in range(2))
    r = unit_rows(rng, B, dim)
    group_row, group_column = rng.integers(0, 12, (2, B, 2))
    group_row[3], group_column[6] = [7, 8], [7, 9]
    valid = np.arange(B) != 5
    weight = rng.uniform(0.2, 2, (B, V)).astype(np.float32) * valid[:, None]
    weight[2, 1] = 0.0  # a view that this row does not have
    return x, z, r, valid, group_row, group_column, weight


@pytest.fixture(scope="module")
def expected():
    x, z, r, valid, group_row, group_column, weight = random_batch()
    with jax.enable_x64(True):
        wide = [jnp.asarray(array, jnp.float64) for array in (x, z, r)]
        function = partial(
            reference_loss, valid=valid, group_row=group_row, group_column=group_column, weight=weight.astype(float)
        )
        value, grads = function(*wide), []
        # Not compiled: which columns are on top is read off concrete values.
        for at in range(3):
            of_one = lambda one, at=at: function(*wide[:at], one, *wide[at + 1 :])
            grads.append(np.asarray(jax.jacrev(of_one)(wide[at])))
        return float(value), grads


@pytest.mark.parametrize("num_devices", [1, 2, 4, 8])
def test_value_and_gradients_equal_the_reference_on_any_number_of_devices(num_devices, expected):
    x, z, r, valid, group_row, group_column, weight = random_batch()
    mesh = mesh_of(num_devices)
    row, column = ids(8, valid=valid, group=group_row), ids(8, valid=valid, group=group_column)
    loss = partial(batch_loss, row=row, column=column, weight=weight, mesh=mesh)
    value, grads = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2)))(x, z, r)
    assert float(value) == pytest.approx(expected[0], abs=1e-6)
    for found, wanted in zip(grads, expected[1], strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert np.abs(grads[0][5]).max() == np.abs(grads[2][5]).max() == 0


def test_the_rank_is_of_valid_rows_on_any_mesh():
    z, valid = unit_rows(np.random.default_rng(5), 8, 4), np.arange(8) < 6
    rank = lambda devices: float(jax.jit(partial(hinge.rank_of_rows, mesh=mesh_of(devices)))(z, valid))
    covariance = np.cov(z[:6].T, bias=True)
    assert rank(1) == pytest.approx(np.trace(covariance) ** 2 / (covariance**2).sum(), rel=1e-5)
    assert rank(4) == pytest.approx(rank(1), rel=1e-5)
