"""GCL: the loss of its paper against a naive one on every mesh, the weighted product, and what queries are read by."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType

from configs import gcl
from ecommerce_vl.losses.candidates import NO_KEY
from ecommerce_vl.models.dual import unit
from ecommerce_vl.systems import build_system
from ecommerce_vl.training.mesh import batch_sharding

ROWS, VOCAB = 16, 60


def system_of(**changes):
    config = gcl.get_config("sample")
    config.image.size, config.image.width, config.image.depth = 16, 16, 1
    config.text.width, config.text.depth, config.text.heads, config.text.max_length = 16, 1, 2, 8
    config.embed_dim = 8
    config.update_from_flattened_dict(changes)
    return build_system(config.to_dict(), vocab_size=VOCAB)


def batch_of(seed=0):
    rng = np.random.default_rng(seed)
    words = lambda size: {
        "text_ids": rng.integers(1, VOCAB, (ROWS, size)).astype(np.int32),
        "text_mask": np.arange(size) < rng.integers(2, size + 1, (ROWS, 1)),
    }
    number = np.arange(ROWS, dtype=np.int32)
    return {
        "query": {**words(5), "query_key": np.where(number < 2, 0, number)},
        "product": {
            "image": rng.integers(0, 256, (ROWS, 16, 16, 3)).astype(np.uint8),
            **words(8),
            "has_image": number != 3,
            "has_text": number != 6,
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
    shown = batch["valid"][:, None] & batch["valid"] & (~left_out | np.eye(ROWS, dtype=bool))
    logits = jnp.where(shown, scale * query_BxD @ product_BxD.T, -jnp.inf)
    logits = jnp.where(batch["valid"][:, None] & batch["valid"], logits, jnp.where(np.eye(ROWS, dtype=bool), 0, logits))
    rows, columns = (jax.nn.logsumexp(logits, axis=axis) - logits[number, number] for axis in (1, 0))
    weight = batch["weight"] * batch["valid"]
    return (weight * (rows + columns)).sum() / weight.sum()


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_value_and_gradient_are_those_of_the_paper_on_every_mesh(devices):
    batch, system = batch_of(), system_of()
    graphdef, params = nnx.split(system.build(nnx.Rngs(0)))
    mesh = jax.make_mesh(
        (devices, 1), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2, devices=jax.devices()[:devices]
    )

    def ours(params, rows):
        model = nnx.merge(graphdef, params)
        return system.contrast(model, system.encode(model, rows, jax.random.key(0)), rows, {}, mesh)[0]

    def reference(params):
        model = nnx.merge(graphdef, params)
        product, query = batch["product"], batch["query"]
        image, text = model.encode_image(product["image"]), model.encode_text(product["text_ids"], product["text_mask"])
        both = 0.9 * image * product["has_image"][:, None] + 0.1 * text * product["has_text"][:, None]
        asked = model.encode_text(query["text_ids"], query["text_mask"])
        return naive(asked, unit(both), jnp.exp(model.logit_scale[...]), batch)

    value, gradient = jax.jit(jax.value_and_grad(ours))(params, jax.device_put(batch, batch_sharding(mesh)))
    expected, of_expected = jax.jit(jax.value_and_grad(reference))(params)
    assert float(value) == pytest.approx(float(expected), rel=1e-5)
    for found, wanted in zip(jax.tree.leaves(gradient), jax.tree.leaves(of_expected), strict=True):
        np.testing.assert_allclose(found, wanted, atol=2e-5)


def test_a_query_is_read_as_a_title_is_and_a_product_by_its_weights():
    system, product = system_of(**{"product_weights.image": 0.0, "product_weights.text": 1.0}), batch_of()["product"]
    vectors = system.embed(system.build(nnx.Rngs(0)), product, system.views)
    np.testing.assert_array_equal(vectors["query"], vectors["text"])
    shown = product["has_text"]
    np.testing.assert_allclose(vectors["product"][shown], vectors["text"][shown], atol=1e-6)
    assert not np.allclose(vectors["product"][shown], vectors["image"][shown], atol=0.1)
    assert system.fusion == "norm(0.0 image + 1.0 text)"


@pytest.mark.parametrize("weights", [(-0.1, 1.0), (0.0, 0.0)])
def test_wrong_weights_of_a_product_are_named(weights):
    with pytest.raises(ValueError, match="product_weights are .*; expected at least 0, not both"):
        system_of(**{"product_weights.image": weights[0], "product_weights.text": weights[1]})
