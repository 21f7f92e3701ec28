"""Towers: a query is a product without a picture, padding is nothing, the gate begins as none."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ecommerce_vl.models.joint import IMAGE, TEXT, JointEncoder
from ecommerce_vl.models.text import TextTransformer
from ecommerce_vl.models.towers import QueryProductTowers
from tests.modules import stirred

B, L, VOCAB, WIDTH = 4, 6, 50, 16
BLOCKS = {"width": WIDTH, "depth": 1, "heads": 2, "mlp_ratio": 2.0, "drop_path": 0.0, "remat": "none"}


def towers(*, adapt, separate, pool):
    words = {"vocab_size": VOCAB, "max_length": L, "dtype": jnp.float32}
    joint = JointEncoder(
        image_size=16, patch_size=8, stem="patch", mean=(0.5,) * 3, std=(0.25,) * 3, adapt=adapt, rngs=nnx.Rngs(0),
        **words, **BLOCKS,
    )  # fmt: skip
    query = TextTransformer(pool="mean", rngs=nnx.Rngs(1), **words, **BLOCKS) if separate else None
    return QueryProductTowers(
        joint=joint, query=query, width=WIDTH, embed_dim=8, pool=pool, cross=None, heads={}, logit_scale=3.0,
        logit_bias=None, dtype=jnp.float32, rngs=nnx.Rngs(2),
    )  # fmt: skip


def make(*, adapt=False, separate=False, pool="mean", stir=True):
    model = towers(adapt=adapt, separate=separate, pool=pool)
    return stirred(model) if stir else model


def inputs():
    rng = np.random.default_rng(0)
    return (
        rng.integers(0, 256, (B, 16, 16, 3)).astype(np.uint8),
        rng.integers(3, VOCAB, (B, L)).astype(np.int32),
        np.arange(L) < np.array([6, 4, 5, 1])[:, None],
    )


YES, NO = np.ones(B, bool), np.zeros(B, bool)


@pytest.mark.parametrize("pool", ["mean", "cls"])
@pytest.mark.parametrize("adapt", [False, True])
def test_a_query_is_a_product_whose_picture_is_absent(pool, adapt):
    model = make(pool=pool, adapt=adapt)
    image, ids, mask = inputs()
    whole = model.joint(image, ids, mask, has_image_B=NO, has_text_B=YES)
    query = model.read_queries(ids, mask)
    np.testing.assert_allclose(model.query_vector(query), model.product_vector(whole), atol=1e-5)
    short = model.joint(None, ids, mask, has_image_B=NO, has_text_B=YES)
    np.testing.assert_allclose(
        np.where(mask[:, :, None], short.text_BxLxW, 0), np.where(mask[:, :, None], whole.text_BxLxW, 0), atol=1e-5
    )


@pytest.mark.parametrize("separate", [False, True])
def test_padding_changes_nothing_and_an_empty_query_is_zeros(separate):
    model = make(separate=separate)
    _, ids, mask = inputs()
    vectors = model.query_vector(model.read_queries(ids, mask))
    other = model.query_vector(model.read_queries(np.where(mask, ids, 7), mask))
    np.testing.assert_allclose(vectors, other, atol=1e-6)
    shorter = model.query_vector(model.read_queries(ids[1:2, :4], mask[1:2, :4]))
    np.testing.assert_allclose(shorter[0], vectors[1], atol=1e-6)
    empty = model.query_vector(model.read_queries(ids, np.zeros_like(mask)))
    assert (np.asarray(empty) == 0).all()
    grad = jax.grad(lambda x: model.query_vector(model.read_queries(ids, mask & False)).sum() * x)(1.0)
    assert np.isfinite(grad)


def test_a_query_encoder_of_its_own_starts_as_a_copy():
    model = make(separate=True, stir=False)
    np.testing.assert_array_equal(model.query.token[...], model.joint.token[...])
    for one, other in zip(
        jax.tree.leaves(nnx.state(model.query.transformer)),
        jax.tree.leaves(nnx.state(model.joint.transformer)),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)


def test_the_gate_starts_as_the_plain_encoder():
    image, ids, mask = inputs()
    plain, gated = make(stir=False), make(adapt=True, stir=False)
    vectors = [m.product_vector(m.joint(image, ids, mask, has_image_B=YES, has_text_B=YES)) for m in (plain, gated)]
    np.testing.assert_allclose(*vectors, atol=1e-6)


def test_a_missing_modality_has_no_share_and_the_gate_matters():
    image, ids, mask = inputs()
    model = make(adapt=True)
    has_image, has_text = np.array([True, False, True, False]), np.array([True, True, False, False])
    states = model.joint(image, ids, mask, has_image_B=has_image, has_text_B=has_text)
    share = np.asarray(states.share_Bx2)
    np.testing.assert_allclose(share.sum(axis=1), 1, atol=1e-6)
    assert 0 < share[0, IMAGE] < 1 and share[1, IMAGE] == 0 and share[2, TEXT] == 0
    assert np.isfinite(model.product_vector(states)).all()
    before = model.product_vector(states)[0]
    model.joint.adapt[...] = model.joint.adapt[...].at[:, IMAGE].add(3.0)
    after = model.product_vector(model.joint(image, ids, mask, has_image_B=has_image, has_text_B=has_text))[0]
    assert np.abs(before - after).max() > 1e-3
