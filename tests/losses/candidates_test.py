"""The general loss against the float64 reference, on 1 to 8 devices, in every way of computing it."""

import dataclasses
import re
from functools import lru_cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference import mesh_of, pair_matrices, reference_value_and_grad, unit_rows

from ecommerce_vl.losses.candidates import NO_KEY, Candidates, Rule
from ecommerce_vl.losses.contrastive import candidate_loss

B, M = 24, 16
SCALE = np.float32(np.log(8))
RULES = {
    "catalog": Rule(label_mode="catalog", alpha=0.6, margin=0.15),
    "one_hot": Rule(),
    "mask": Rule(label_mode="mask", both=False, margin=0.1),
    "sigmoid": Rule(kind="sigmoid", label_mode="catalog", alpha=0.7),
    "sigmoid_rows": Rule(kind="sigmoid", label_mode="mask", both=False, margin=0.2),
    "span": Rule(label_mode="catalog", alpha=1.0, span=5),
}
# Chunks that do not divide b = 24, 12, 6, 3.
CHUNKS = {1: 7, 2: 5, 4: 4, 8: 2}


def scene(seed=0):
    """Rows, candidates with padding, groups and weights, a bank, mined negatives with gradient, known keys."""
    rng = np.random.default_rng(seed)
    key = np.array([1, 1, 2, 2, 2, 3, 4, 5, 6, 7, 1, 8, 9, 10, 11, 3, -1, -2, -3, -4, 12, 13, 14, 1], np.int32)
    candidates = Candidates(
        unit_rows(rng, B),
        key,
        np.arange(B) % 7 != 4,
        group_CxG=np.stack([np.arange(B) // 3 * (np.arange(B) % 2) - 50, rng.integers(0, 12, B)], 1).astype(np.int32),
        weight_C=rng.uniform(0, 2, B).astype(np.float32),
    )
    further = lambda trained: Candidates(
        unit_rows(rng, M),
        rng.integers(0, 30, M).astype(np.int32),
        rng.random(M) > 0.3,
        group_CxG=rng.integers(-60, 20, (M, 2)).astype(np.int32),
        trained=trained,
    )
    known = np.full((B, 3), NO_KEY, np.int32)
    known[::2, 0], known[1::4, 1] = 5, 9
    return unit_rows(rng, B), candidates, (further(False), further(True)), known


def compiled(rule, z_row, candidates, scale, bias, more, known, **options):
    """Value, gradients of (rows, embeddings, scale, bias), and metrics."""

    @jax.jit
    def run(z_row, embeddings, scale, bias):
        def loss(z_row, embeddings, scale, bias):
            sets = [
                dataclasses.replace(item, embedding_CxD=z)
                for z, item in zip(embeddings, (candidates, *more), strict=True)
            ]
            return candidate_loss(
                z_row, sets[0], scale, rule=rule, bias=bias, more=tuple(sets[1:]), known_BxK=known, **options
            )

        return jax.value_and_grad(loss, argnums=(0, 1, 2, 3), has_aux=True)(z_row, embeddings, scale, bias)

    embeddings = tuple(item.embedding_CxD for item in (candidates, *more))
    (value, metrics), grads = jax.device_get(run(z_row, embeddings, np.float32(scale), np.float32(bias)))
    return value, grads, metrics


@lru_cache
def expected_of(name, bias):
    z_row, candidates, more, known = scene()
    return reference_value_and_grad(RULES[name], z_row, candidates, SCALE, bias, more=more, known=known)


@lru_cache  # the test of the metrics asks for some again
def check(name, num_devices, impl, chunk_rows):
    rule, (z_row, candidates, more, known) = RULES[name], scene()
    bias = -1.5 if rule.kind == "sigmoid" else 0.3
    value, grads, metrics = compiled(
        rule, z_row, candidates, SCALE, bias, more, known, mesh=mesh_of(num_devices), impl=impl, chunk_rows=chunk_rows
    )
    wanted, (of_row, of_sets, of_scale, of_bias) = expected_of(name, bias)
    assert value == pytest.approx(wanted, rel=2e-6, abs=2e-6)
    np.testing.assert_allclose(grads[0], of_row, atol=2e-6)
    np.testing.assert_allclose(grads[1][0], of_sets[0], atol=2e-6)
    assert (grads[1][1] == 0).all()  # the bank
    np.testing.assert_allclose(grads[1][2], of_sets[2], atol=2e-6)
    # Two sums over the whole block, up to 20 here, in float32: the last bits are the order of the sum.
    assert grads[2] == pytest.approx(of_scale, rel=5e-7, abs=3e-6)
    assert grads[3] == pytest.approx(of_bias, rel=5e-7, abs=3e-6)
    for grad in (grads[0], grads[1][0]):
        assert (grad[~candidates.valid_C] == 0).all()
    return metrics


@pytest.mark.parametrize("num_devices", [1, 2, 4, 8])
@pytest.mark.parametrize("impl", ["gather", "ring"])
def test_value_and_gradients_equal_the_reference(num_devices, impl):
    check("catalog", num_devices, impl, CHUNKS[num_devices])


@pytest.mark.parametrize("name", [name for name in RULES if name != "catalog"])
def test_every_rule_equals_the_reference(name):
    check(name, 8, "ring", 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("num_devices", [1, 2, 4, 8])
@pytest.mark.parametrize("impl", ["gather", "ring"])
@pytest.mark.parametrize("chunk_rows", [0, 1, "ragged", 1000])
def test_every_rule_in_every_way_on_every_number_of_devices(name, num_devices, impl, chunk_rows):
    check(name, num_devices, impl, CHUNKS[num_devices] if chunk_rows == "ragged" else chunk_rows)


def test_metrics_equal_what_the_block_says_and_do_not_depend_on_the_way():
    # One listing of a product and no margin, so that a positive is a row's own pair.
    z_row, candidates, more, known = scene()
    metrics = check("mask", 1, "gather", 0)
    for name, other in check("mask", 8, "ring", 2).items():
        assert metrics[name] == pytest.approx(other, abs=1e-5), name
    rule, valid = RULES["mask"], candidates.valid_C
    affinity, shown = pair_matrices(rule, candidates, more, known)
    negative = shown & (affinity == 0)
    cosine = (z_row @ np.concatenate([candidates.embedding_CxD, *(item.embedding_CxD for item in more)]).T)[valid]
    negative, own = negative[valid], np.diag(z_row @ candidates.embedding_CxD.T)[valid]
    weight = np.exp(np.exp(SCALE) * cosine) * negative
    expected = {
        "negatives_per_row": negative.sum(1).mean(),
        "effective_negatives": (weight.sum(1) ** 2 / (weight**2).sum(1)).mean(),
        "negative_cosine": cosine[negative].mean(),
        "pair_cosine": own.mean(),
        "row_top1": (own > np.where(negative, cosine, -2).max(1)).mean(),
        "left_out": 1 - negative[:, :B].sum(1).mean() / (valid.sum() - 1),
        "more_left_out": 1 - negative[:, B:].sum(1).mean() / sum(item.valid_C.sum() for item in more),
    }
    assert 0 < expected["row_top1"] < 1
    for name, value in expected.items():
        assert metrics[name] == pytest.approx(value, abs=1e-5), name


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_the_floor_is_the_least_loss(kind):
    """Scores that equal the targets' logits reach it; found by descent on the scores of one class of listings."""
    rule = Rule(kind=kind, label_mode="catalog", alpha=0.5)
    key, valid = jnp.array([7, 7, 7, -1]), jnp.ones(4, bool)

    @jax.jit
    def loss(scores):
        return candidate_loss(scores, Candidates(jnp.eye(4), key, valid), jnp.float32(0), rule=rule, mesh=mesh_of(1))

    own, same, other = (np.log(1.0), np.log(0.5), -60.0) if kind == "softmax" else (60.0, 0.0, -60.0)
    block = np.where(np.asarray(key)[:, None] == np.asarray(key), same, other)
    value, metrics = loss(jnp.asarray(np.where(np.eye(4, dtype=bool), own, block), jnp.float32))
    assert float(value) > 0.1
    assert float(value) == pytest.approx(float(metrics["loss_floor"]), abs=1e-5)


@pytest.mark.parametrize(("margin", "loss"), [(0.0, 0.018479), (0.1, 0.129109)])
def test_golden_values_of_the_margin(margin, loss):
    """Positive 0.5, negatives 0.3 and 0.1, tau 0.05."""
    query = jnp.array([[0.5, 0.3, 0.1]] * 3)
    valid = jnp.array([True, False, False])
    negatives = Candidates(jnp.eye(3)[1:], jnp.array([5, 6]), jnp.ones(2, bool))
    value, _ = jax.jit(
        lambda: candidate_loss(
            query, Candidates(jnp.eye(3), jnp.arange(3), valid), jnp.log(20.0), more=(negatives,),
            mesh=mesh_of(1), rule=Rule(label_mode="mask", margin=margin, both=False),
        )
    )()  # fmt: skip
    assert float(value) == pytest.approx(loss, abs=1e-6)


@pytest.mark.parametrize(("impl", "both"), [("gather", False), ("ring", True)])
def test_a_stopped_gradient_changes_no_value_and_reaches_own_devices_only(impl, both):
    rule = Rule(label_mode="mask", both=both, stop_gradient=True)
    z_row, candidates, more, known = scene()
    value, grads, _ = compiled(
        rule, z_row, candidates, SCALE, 0.0, more, known, mesh=mesh_of(4), impl=impl, chunk_rows=4
    )
    wanted, (of_row, of_sets, of_scale, _) = reference_value_and_grad(
        rule, z_row, candidates, SCALE, more=more, known=known, devices=4
    )
    _, (_, exact, _, _) = reference_value_and_grad(
        Rule(label_mode="mask", both=both), z_row, candidates, SCALE, more=more, known=known
    )
    assert value == pytest.approx(wanted, abs=2e-6)
    np.testing.assert_allclose(grads[0], of_row, atol=2e-6)
    np.testing.assert_allclose(grads[1][0], of_sets[0], atol=2e-6)
    np.testing.assert_allclose(grads[1][2], of_sets[2], atol=2e-6)
    assert grads[2] == pytest.approx(of_scale, abs=3e-6)
    assert np.abs(grads[1][0] - exact[0]).max() > 1e-3


@pytest.mark.parametrize("impl", ["gather", "ring"])
def test_lists_of_no_known_keys_are_none(impl):
    z_row, candidates, more, _ = scene()
    options = {"mesh": mesh_of(2), "impl": impl, "chunk_rows": 4}
    found, expected = (
        compiled(Rule(), z_row, candidates, SCALE, 0.0, more, known, **options)[0]
        for known in (np.zeros((B, 0), np.int32), None)
    )
    assert found == expected


def test_a_row_alone_in_its_span_has_no_negatives():
    z_row, candidates, _, _ = scene()
    value, metrics = jax.jit(
        lambda: candidate_loss(
            z_row,
            candidates,
            SCALE,
            rule=Rule(label_mode="mask", both=False, span=1),
            impl="ring",
            chunk_rows=1,
            mesh=mesh_of(2),
        )
    )()
    assert float(value) == pytest.approx(0, abs=1e-6)
    assert float(metrics["negatives_per_row"]) == 0


def test_a_duplicate_of_the_positive_among_further_candidates_changes_nothing():
    z_row, candidates, (bank, _), _ = scene()
    run = jax.jit(lambda key: candidate_loss(
        z_row, candidates, SCALE, mesh=mesh_of(2), rule=Rule(label_mode="mask", both=False),
        more=(Candidates(bank.embedding_CxD, key, jnp.ones(M, bool), trained=False),),
    )[0])  # fmt: skip
    one = Candidates(*(x[:1] for x in (candidates.embedding_CxD, candidates.key_C, candidates.valid_C)))
    masked = jax.jit(lambda key: candidate_loss(
        z_row[:1], one, SCALE, mesh=mesh_of(1), rule=Rule(label_mode="mask", both=False),
        more=(Candidates(z_row[:1], key, jnp.ones(1, bool)),),
    )[0])  # fmt: skip
    assert float(masked(candidates.key_C[:1])) == pytest.approx(0, abs=1e-6)
    assert float(masked(candidates.key_C[:1] + 90)) > 0.5
    # All the bank of the products of the batch: only rows of other products feel it.
    assert float(run(jnp.full(M, 99))) > float(run(jnp.full(M, 1)))


def test_bfloat16_vectors_get_bfloat16_gradients_near_the_reference():
    z_row, candidates, _, _ = scene()
    half = lambda x: jnp.asarray(x, jnp.bfloat16)
    rule = Rule(label_mode="catalog")
    loss = lambda z, c: candidate_loss(
        z, Candidates(c, candidates.key_C, candidates.valid_C), SCALE, rule=rule, impl="ring", mesh=mesh_of(2)
    )[0]
    value, grads = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(half(z_row), half(candidates.embedding_CxD))
    rounded = Candidates(half(candidates.embedding_CxD), candidates.key_C, candidates.valid_C)
    wanted, (of_row, of_sets, _, _) = reference_value_and_grad(rule, half(z_row), rounded, SCALE)
    assert float(value) == pytest.approx(wanted, abs=1e-5)
    assert grads[0].dtype == grads[1].dtype == jnp.bfloat16
    np.testing.assert_allclose(grads[0].astype(jnp.float32), of_row, atol=1e-3)
    np.testing.assert_allclose(grads[1].astype(jnp.float32), of_sets[0], atol=1e-3)


def largest_shape(text):
    """Elements of the largest array in a compiled program, whose shapes are those of one device."""
    shapes = re.findall(r"\b(?:f32|bf16|pred|s32|u32|s8|u8)\[([0-9,]+)\]", text)
    return max(int(np.prod([int(n) for n in shape.split(",")])) for shape in shapes)


def test_no_device_holds_the_block():
    """Of the program for 8 devices, B = 1024: no array of B x B; with chunks none of b x B, in a ring less still."""
    rows, dim, chunk_rows, mesh = 1024, 16, 32, mesh_of(8)
    b = rows // 8
    spec = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec(mesh.axis_names))
    array = lambda *shape, dtype=jnp.float32: jax.ShapeDtypeStruct(shape, dtype, sharding=spec)
    arguments = array(rows, dim), array(rows, dim), array(rows, dtype=jnp.int32), array(rows, dtype=bool)

    def program(loss):
        return jax.jit(jax.grad(loss, argnums=(0, 1))).lower(*arguments).compile()

    def ours(impl, chunk_rows):
        def loss(z_row, z_column, key, valid):
            rule = Rule(label_mode="catalog")
            candidates = Candidates(z_column, key, valid)
            return candidate_loss(z_row, candidates, SCALE, rule=rule, impl=impl, chunk_rows=chunk_rows, mesh=mesh)[0]

        return program(loss)

    def whole(z_row, z_column, key, valid):
        everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
        scores = jax.lax.with_sharding_constraint(z_row @ z_column.T, everywhere)
        return jax.nn.log_softmax(scores).trace()

    assert largest_shape(program(whole).as_text()) >= rows * rows  # the measure sees such a buffer
    gather, chunked, ring = ours("gather", 0), ours("gather", chunk_rows), ours("ring", chunk_rows)
    assert largest_shape(gather.as_text()) == b * rows
    assert largest_shape(chunked.as_text()) == chunk_rows * rows
    assert largest_shape(ring.as_text()) == chunk_rows * b
    bytes_of = lambda compiled: compiled.memory_analysis().temp_size_in_bytes
    assert bytes_of(gather) < 4 * rows * rows
    assert bytes_of(chunked) < 4 * b * rows * 2
    assert bytes_of(ring) < 4 * b * rows / 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"impl": "loop"}, "impl is 'loop'; expected one of gather, ring"),
        ({"chunk_rows": -1}, "chunk_rows is -1"),
    ],
)
def test_a_wrong_option_is_named(options, message):
    z_row, candidates, _, _ = scene()
    with pytest.raises(ValueError, match=message):
        candidate_loss(z_row, candidates, SCALE, rule=Rule(), mesh=mesh_of(1), **options)


def test_shapes_that_do_not_fit_are_named():
    z_row, candidates, (bank, _), _ = scene()
    with pytest.raises(ValueError, match="candidates are 24 for 16 rows"):
        candidate_loss(z_row[:16], candidates, SCALE, rule=Rule(), mesh=mesh_of(1))
    odd = Candidates(*(x[:6] for x in (bank.embedding_CxD, bank.key_C, bank.valid_C)))
    with pytest.raises(ValueError, match="more is 6 rows, which do not divide over 4 devices"):
        candidate_loss(z_row, candidates, SCALE, rule=Rule(), more=(odd,), mesh=mesh_of(4))


@pytest.mark.parametrize(
    ("field", "value"), [("kind", "hinge"), ("alpha", 1.5), ("label_mode", "soft"), ("margin", -0.1), ("span", -2)]
)
def test_a_wrong_rule_is_named(field, value):
    with pytest.raises(ValueError, match=f"{'catalog_' * (field == 'alpha')}{field} is "):
        Rule(**{field: value})
