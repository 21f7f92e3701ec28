"""GCL: the weighted product, the loss of its paper against a naive one on every mesh, what reads queries."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType

from configs import gcl
from ecommerce_vl.errors import UserError
from ecommerce_vl.losses.candidates import NO_KEY
from ecommerce_vl.models.dual import unit
from ecommerce_vl.systems import build_system
from ecommerce_vl.systems.clicks import check_query_length
from ecommerce_vl.training.mesh import batch_sharding
from ecommerce_vl.training.workdir import naming_the_key
from tests.modules import stirred

ROWS, VOCAB = 16, 60


def config_of(**changes):
    config = gcl.get_config("sample")
    config.image.size, config.image.width, config.image.depth = 16, 16, 1
    config.text.width, config.text.depth, config.text.heads, config.text.max_length = 16, 1, 2, 8
    config.embed_dim, config.text.query_length = 8, 5
    config.update_from_flattened_dict(changes)
    return config.to_dict()


def system_of(**changes):
    return build_system(config_of(**changes), vocab_size=VOCAB)


def batch_of(seed=0):
    rng = np.random.default_rng(seed)
    words = lambda size: {
        "text_ids": rng.integers(1, VOCAB, (ROWS, size)).astype(np.int32),
        "text_mask": np.arange(size) < rng.integers(2, size + 1, (ROWS, 1)),
    }
    number = np.arange(ROWS, dtype=np.int32)
    query, title = words(5), words(8)
    query["text_mask"][4] = False  # nothing is asked
    return {
        "query": {**query, "query_key": np.where(number < 2, 0, number)},
        "product": {
            "image": rng.integers(0, 256, (ROWS, 16, 16, 3)).astype(np.uint8),
            **title,
            "has_image": (number != 3) & (number != 11),
            "has_text": (number != 6) & (number != 11),  # 11 shows nothing
            "product_key": number,
            "catalog_key": np.where(number % 7 == 0, 7, -1 - number),
            "category_key": number // 4,
        },
        "weight": rng.uniform(0.2, 5, ROWS).astype(np.float32),
        "known": np.where(np.arange(4) == 0, ((number + 1) % ROWS)[:, None], NO_KEY).astype(np.int32),
        "valid": number != 9,
    }


def naive(query_BxD, product_BxD, scale, batch):
    """sum_i w_i (CE of row i + CE of column i) / sum_i w_i, over all pairs that may be negatives."""
    product, number = batch["product"], np.arange(ROWS)
    same = lambda key: key[:, None] == key
    left_out = same(product["catalog_key"]) | same(batch["query"]["query_key"])
    left_out |= (batch["known"][:, :, None] == product["product_key"]).any(axis=1)
    own, valid = np.eye(ROWS, dtype=bool), batch["valid"] & (number != 4) & (number != 11)
    counts = valid[:, None] & valid
    logits = jnp.where(counts & (~left_out | own), scale * query_BxD @ product_BxD.T, -jnp.inf)
    logits = jnp.where(own & ~counts, 0.0, logits)
    rows, columns = (jax.nn.logsumexp(logits, axis=axis) - logits[number, number] for axis in (1, 0))
    weight = batch["weight"] * valid
    return (weight * (rows + columns)).sum() / weight.sum()


@pytest.fixture(scope="module")
def encoded():
    """(system, model, batch, what the towers made of it)."""
    system, batch = system_of(), batch_of()
    model = stirred(system.build(nnx.Rngs(0)))
    return system, model, batch, jax.jit(lambda rows: system.encode(model, rows, jax.random.key(0)))(batch)


def test_the_product_is_the_weighted_sum_of_what_it_has(encoded):
    system, model, batch, vectors = encoded
    product = batch["product"]
    views = jax.jit(lambda rows: system.embed(model, rows, ("image", "text", "product")))(product)
    has_image, has_text = (product[f"has_{name}"][:, None] for name in ("image", "text"))
    both = 0.9 * views["image"] * has_image + 0.1 * views["text"] * has_text
    np.testing.assert_allclose(views["product"], unit(both), atol=1e-6)
    np.testing.assert_allclose(vectors["product"], views["product"], atol=1e-6)


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_value_and_gradient_are_those_of_the_paper_on_every_mesh(encoded, devices):
    system, model, batch, vectors = encoded
    axes = {"axis_types": (AxisType.Auto,) * 2, "devices": jax.devices()[:devices]}
    mesh = jax.make_mesh((devices, 1), ("data", "fsdp"), **axes)
    ours = jax.value_and_grad(lambda vectors, rows: system.contrast(model, vectors, rows, {}, mesh)[0])
    placed = jax.device_put((jax.device_get(vectors), batch), batch_sharding(mesh))
    value, gradient = jax.jit(ours)(*placed)
    scale = jnp.exp(model.logit_scale[...])
    expected, of_expected = jax.value_and_grad(lambda of: naive(of["query"], of["product"], scale, batch))(vectors)
    assert float(value) == pytest.approx(float(expected), rel=1e-5)
    for name, wanted in of_expected.items():
        np.testing.assert_allclose(gradient[name], wanted, atol=2e-5)


def test_a_query_is_read_as_a_title_is_and_a_product_by_its_weights():
    system, product = system_of(**{"product_weights.image": 1e-9, "product_weights.text": 1.0}), batch_of()["product"]
    model = system.build(nnx.Rngs(0))
    vectors = jax.jit(lambda rows: system.embed(model, rows, system.views))(product)
    np.testing.assert_array_equal(vectors["query"], vectors["text"])
    shown = product["has_text"]
    np.testing.assert_allclose(vectors["product"][shown], vectors["text"][shown], atol=1e-6)
    assert not np.allclose(vectors["product"][shown], vectors["image"][shown], atol=0.1)
    assert system.fusion == "norm(1e-09 image + 1.0 text)"


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("product_weights.text", 0.0, "config.product_weights.text is 0.0; expected above 0"),
        ("text.query_length", 9, "config.text.query_length is 9; expected 1 to 8, as text.max_length"),
        ("loss.impl", "rings", "config.loss.impl is 'rings'; expected one of gather, ring"),
    ],
)
def test_wrong_values_are_named_with_their_key(key, value, sentence):
    with pytest.raises(UserError, match=sentence), naming_the_key(config_of(**{key: value})):
        system_of(**{key: value})


def test_a_text_encoder_that_reads_its_padding_reads_queries_of_the_length_of_titles():
    with pytest.raises(ValueError, match="text.query_length is 20; expected 64, as text.max_length"):
        check_query_length({"query_length": 20, "max_length": 64, "padding": "shown"})
