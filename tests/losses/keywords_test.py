"""Pairs of similar queries as positives of each other (MAKE), against the definition, on 1, 2, 4 and 8 devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import mesh_of, unit_rows

from ecommerce_vl.losses.candidates import NO_KEY, Candidates, Rule
from ecommerce_vl.losses.contrastive import candidate_loss

B = 16
RULE = Rule(label_mode="keywords", overlap=0.5, both=False)


def case(words=None):
    rng = np.random.default_rng(0)
    if words is None:
        words = [[1, 2], [2, 1], [1, 2, 3], [1, 9, 8], [], [4, 5], [4, 5], [4], *([50 + n] for n in range(8))]
    table = np.full((B, 3), NO_KEY, np.int32)
    for row, some in enumerate(words):
        table[row, : len(some)] = some
    category = np.array([1, 1, 1, 1, 1, 2, 3, 2, *[4] * 8], np.int32)
    key = np.arange(B, dtype=np.int32)
    key[9] = key[8]  # one product under two queries
    known = np.full((B, 2), NO_KEY, np.int32)
    known[10, 0] = 11
    candidates = Candidates(unit_rows(rng, B), key, np.arange(B) != 15, words_CxW=table, category_C=category)
    return unit_rows(rng, B), candidates, known


def reference(query, product, scale, candidates, known):
    sets = [set(row[row != NO_KEY].tolist()) for row in candidates.words_CxW]
    s, total, valid = jnp.exp(scale) * query @ product.T, 0.0, np.flatnonzero(candidates.valid_C)
    for i in valid:
        overlap = lambda n, i=i: len(sets[i] & sets[n]) / max(len(sets[i] | sets[n]), 1)
        alike = [n for n in valid if overlap(n) >= 0.5 and candidates.category_C[i] == candidates.category_C[n]]
        positives = sorted({i, *alike})
        others = [
            n
            for n in valid
            if n not in positives and candidates.key_C[n] != candidates.key_C[i] and candidates.key_C[n] not in known[i]
        ]
        total += jax.nn.logsumexp(s[i, np.array(positives + others)]) - s[i, np.array(positives)].mean()
    return total / len(valid)


@pytest.mark.parametrize("num_devices", [1, 2, 4, 8])
def test_value_and_gradient_are_those_of_the_definition(num_devices):
    query, candidates, known = case()

    def loss(query, product, scale):
        pairs = jax.tree.map(jnp.asarray, candidates)
        pairs = Candidates(product, pairs.key_C, pairs.valid_C, words_CxW=pairs.words_CxW, category_C=pairs.category_C)
        return candidate_loss(query, pairs, scale, rule=RULE, known_BxK=known, mesh=mesh_of(num_devices), chunk_rows=1)

    run = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))
    (value, metrics), grads = run(query, candidates.embedding_CxD, jnp.float32(1.5))
    with jax.enable_x64(True):
        wide = (query.astype(np.float64), candidates.embedding_CxD.astype(np.float64), jnp.float64(1.5))
        wanted, wanted_grads = jax.value_and_grad(reference, argnums=(0, 1, 2))(*wide, candidates, known)
    assert float(value) == pytest.approx(float(wanted), abs=3e-6)
    for one, other in zip(grads, wanted_grads, strict=True):
        np.testing.assert_allclose(one, other, atol=3e-6)
    # 0, 1 and 2 are alike, 5 and 7 are; 5 and 6 are of different categories.
    assert float(metrics["positives_per_row"]) == pytest.approx(1 + (3 * 2 + 2) / 15)


def test_without_similar_queries_it_is_the_retrieval_loss_without_margin():
    query, candidates, known = case(words=[[row] for row in range(B)])
    plain = Rule(label_mode="mask", both=False)
    both = jax.jit(
        lambda q, pairs: (
            candidate_loss(q, pairs, 2.0, rule=RULE, known_BxK=known, mesh=mesh_of(1))[0],
            candidate_loss(q, pairs, 2.0, rule=plain, known_BxK=known, mesh=mesh_of(1))[0],
        )
    )
    value, wanted = both(query, candidates)
    assert float(value) == pytest.approx(float(wanted), abs=1e-6)


def test_it_needs_words():
    query, candidates, _ = case()
    with pytest.raises(ValueError, match="expected words_CxW and category_C"):
        bare = Candidates(candidates.embedding_CxD, candidates.key_C, candidates.valid_C)
        candidate_loss(query, bare, 2.0, rule=RULE, mesh=mesh_of(1))
