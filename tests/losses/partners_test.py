"""Hard negatives: never a masked one, in proportion to the softmax, the same on every mesh; rows that travel."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec
from reference import mesh_of, pair_matrices, unit_rows
from scipy.stats import chisquare

from ecommerce_vl.losses.candidates import NO_KEY, Candidates, Rule
from ecommerce_vl.losses.partners import draw_partners, fetch_rows

B, SCALE = 16, 1.5
RULE = Rule(label_mode="mask")


@pytest.fixture(scope="module")
def case():
    rng = np.random.default_rng(0)
    query, product = unit_rows(rng, B), unit_rows(rng, B)
    key = np.array([0, 0, 1, 2, *range(10, 22)], np.int32)  # rows 0 and 1: one product
    group = np.stack([np.arange(-1, -B - 1, -1), np.array([7, 8, 8, 9, *range(20, 32)])], axis=1).astype(np.int32)
    valid = np.arange(B) != 5
    known = np.full((B, 3), NO_KEY, np.int32)
    known[4] = [1, 2, NO_KEY]
    return query, Candidates(product, key, valid, group), known


def draws(case, num_devices, rounds):
    query, candidates, known = case
    mesh = mesh_of(num_devices)
    sharding = NamedSharding(mesh, PartitionSpec(mesh.axis_names))

    def one(seed, query, candidates, known):
        keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), jnp.arange(B))
        return draw_partners(keys, query, candidates, SCALE, mesh=mesh, rule=RULE, known_BxK=known)

    run = jax.jit(lambda query, candidates, known: jax.lax.map(lambda s: one(s, query, candidates, known), rounds))
    return jax.device_get(run(*jax.tree.map(lambda x: jax.device_put(x, sharding), (query, candidates, known))))


def test_draws_follow_the_softmax_of_what_is_not_masked(case):
    query, candidates, known = case
    affinity, shown = pair_matrices(RULE, candidates, known=known)
    negative = shown & (affinity == 0)
    logits = np.where(negative, np.exp(SCALE) * query @ candidates.embedding_CxD.T, -np.inf)
    rounds = 4_000
    for (at, found), table in zip(draws(case, 1, jnp.arange(rounds)), (logits, logits.T), strict=True):
        np.testing.assert_array_equal(found.all(axis=0), np.isfinite(table).any(axis=1))
        for row in np.flatnonzero(found.all(axis=0)):
            count = np.bincount(at[:, row], minlength=B)
            assert count[~np.isfinite(table[row])].sum() == 0  # neither its own product nor a false negative
            p = np.exp(table[row] - table[row].max())
            p /= p.sum()
            wanted = rounds * p
            often = wanted > 5
            pool = lambda x, often=often: np.append(x[often], x[~often].sum())
            kept = pool(wanted) > 0
            assert chisquare(pool(count)[kept], pool(wanted)[kept]).pvalue > 1e-4


@pytest.mark.parametrize("num_devices", [2, 8])
def test_the_draw_does_not_depend_on_the_mesh(case, num_devices):
    for one, other in zip(
        jax.tree.leaves(draws(case, 1, jnp.arange(20))),
        jax.tree.leaves(draws(case, num_devices, jnp.arange(20))),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_a_row_without_negatives_says_so():
    z = unit_rows(np.random.default_rng(1), 8)
    same = Candidates(z, np.zeros(8, np.int32), np.ones(8, bool))
    keys = jax.random.split(jax.random.key(0), 8)
    for _, found in draw_partners(keys, z, same, 0.0, mesh=mesh_of(1), rule=RULE):
        assert not np.asarray(found).any()


@pytest.mark.parametrize("num_devices", [1, 4, 8])
def test_fetched_rows_and_their_gradients(num_devices):
    rng = np.random.default_rng(2)
    states, weight, shown = rng.normal(size=(B, 3, 4)), rng.normal(size=(B, 3, 4)), rng.random((B, 3)) > 0.5
    index = rng.integers(0, B, B)
    index[:3] = 9  # one row for many

    def function(states):
        taken, taken_shown = fetch_rows((states, jnp.asarray(shown)), index, mesh=mesh_of(num_devices))
        return (taken * weight).sum(), (taken, taken_shown)

    with jax.enable_x64(True):
        grad, (taken, taken_shown) = jax.jit(jax.grad(function, has_aux=True))(states)
    np.testing.assert_array_equal(taken, states[index])
    np.testing.assert_array_equal(taken_shown, shown[index])
    wanted = np.zeros_like(states)
    np.add.at(wanted, index, weight)
    np.testing.assert_allclose(grad, wanted, atol=1e-12)
