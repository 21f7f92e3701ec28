"""e-CLIP as a system: missing modalities, the product view, the clamp, and the same step on any mesh."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from jax.sharding import AxisType

from ecommerce_vl.errors import UserError
from ecommerce_vl.systems import build_system
from ecommerce_vl.training.mesh import batch_sharding
from ecommerce_vl.training.optimizer import learning_rate, make_optimizer
from ecommerce_vl.training.schedule import Stage
from ecommerce_vl.training.state import define_model, make_state
from ecommerce_vl.training.step import make_train_step

ROWS = 16


@pytest.fixture(scope="module")
def system(tiny_config):
    return build_system(tiny_config, vocab_size=400)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    return {
        "image": rng.integers(0, 256, (ROWS, 32, 32, 3)).astype(np.uint8),
        "text_ids": rng.integers(3, 400, (ROWS, 16)).astype(np.int32),
        "text_mask": np.arange(16)[None] < rng.integers(4, 16, (ROWS, 1)),
        "has_image": np.ones(ROWS, bool),
        "has_text": np.ones(ROWS, bool),
        "valid": np.ones(ROWS, bool),
        "product_key": np.arange(ROWS, dtype=np.int32),
        "catalog_key": np.array([1, 1, 2, 2, *range(-1, -13, -1)], np.int32),
        "group_key": np.arange(ROWS, dtype=np.int32),
        "category_key": np.arange(ROWS, dtype=np.int32),
    }


def mesh_of(data, fsdp):
    devices = jax.devices()[: data * fsdp]
    return jax.make_mesh((data, fsdp), ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2, devices=devices)


def make_step(system, mesh, *, learning_rate_peak=1e-3):
    fields = {
        "name": "adamw",
        "learning_rate": learning_rate_peak,
        "warmup_samples": 1,
        "weight_decay": 0.1,
        "b1": 0.9,
        "b2": 0.98,
        "eps": 1e-6,
        "grad_clip": 1.0,
        "lr_rule": "sqrt",
        "lr_decay": "cosine",
        "rewarm_steps": 500,
    }
    stages = (Stage(batch_size=ROWS, first_step=0, num_steps=10, first_sample=0),)
    optimizer = make_optimizer(fields, schedule=learning_rate(fields, stages))
    graphdef, _ = define_model(system)
    abstract, init = make_state(system, optimizer, seed=0, mesh=mesh)
    step = make_train_step(system, graphdef, optimizer, abstract_state=abstract, seed=0, mesh=mesh)
    return init(), lambda state, rows: step(state, jax.device_put(rows, batch_sharding(mesh)))


@pytest.mark.slow
def test_training_is_the_same_on_every_mesh(system, batch):
    losses = {}
    for shape in ((1, 1), (8, 1), (2, 4)):
        state, step = make_step(system, mesh_of(*shape))
        losses[shape] = []
        for _ in range(4):  # the rate of the first is 0, and the second overshoots on pictures of noise
            state, metrics = step(state, batch)
            losses[shape].append([float(metrics[name]) for name in ("loss", "grad_norm", "i2t_top1")])
    for shape, found in losses.items():
        np.testing.assert_allclose(found, losses[1, 1], rtol=2e-4, err_msg=str(shape))
    assert losses[1, 1][3][0] < losses[1, 1][0][0]


def test_rows_without_a_modality_do_not_count(system, batch):
    model = system.build(nnx.Rngs(0))
    mesh = mesh_of(1, 1)
    missing = {**batch, "has_image": np.arange(ROWS) != 3, "has_text": np.arange(ROWS) != 5}
    encode = lambda rows: system.encode(model, rows, jax.random.key(0))
    loss = jax.jit(lambda rows: system.contrast(model, encode(rows), rows, {}, mesh)[0])
    blank = {**missing, "image": missing["image"].copy(), "text_mask": missing["text_mask"].copy()}
    blank["image"][3], blank["text_mask"][5] = 0, False
    assert float(loss(missing)) == pytest.approx(float(loss(blank)), abs=1e-6)
    keep = np.setdiff1d(np.arange(ROWS), [3, 5])
    alone = {name: rows[keep] for name, rows in batch.items()}
    assert float(loss(missing)) == pytest.approx(float(loss(alone)), abs=1e-5)


def test_the_product_is_both_or_the_one_that_there_is(system, batch):
    model = system.build(nnx.Rngs(0))
    rows = {**batch, "has_image": np.arange(ROWS) % 3 != 0, "has_text": np.arange(ROWS) % 3 != 1}
    image, text, product = (np.asarray(z) for z in system.embed(model, rows, system.views).values())
    both = image + text
    both /= np.linalg.norm(both, axis=1, keepdims=True)
    expected = np.where(
        (np.arange(ROWS) % 3 == 0)[:, None], text, np.where((np.arange(ROWS) % 3 == 1)[:, None], image, both)
    )
    np.testing.assert_allclose(product, expected, atol=1e-5)


def test_the_logit_scale_never_passes_its_maximum(system):
    most = system.config["logit_scale_max"]
    for scale in (0.5 * most, 2 * most):
        held = system.constrain({"logit_scale": jnp.log(scale), "text": 1})
        assert float(jnp.exp(held["logit_scale"])) == pytest.approx(min(scale, most)) and held["text"] == 1


@pytest.mark.slow
def test_a_step_holds_what_the_system_constrains(system, batch):
    state, step = make_step(system, mesh_of(1, 1), learning_rate_peak=5.0)
    most = system.config["logit_scale_max"]
    state.params["logit_scale"] = jnp.log(jnp.float32(most))
    for _ in range(4):
        state, _ = step(state, batch)
        assert float(jnp.exp(state.params["logit_scale"])) <= 1.00001 * most


def test_embedding_twice_is_bit_identical(system, batch):
    model = system.build(nnx.Rngs(0))
    once, twice = (system.embed(model, batch, system.views) for _ in range(2))
    for view in system.views:
        np.testing.assert_array_equal(once[view], twice[view])
        np.testing.assert_allclose(
            system.embed(model, batch, (view,))[view] if view != "product" else once[view], once[view]
        )


def test_an_unknown_system_is_named(tiny_config):
    with pytest.raises(UserError, match="config.system is 'eclpi'; expected one of eclip, "):
        build_system(tiny_config | {"system": "eclpi"}, vocab_size=10)


@pytest.mark.parametrize(
    ("room", "field", "value"),
    [(None, "label_mode", "soft"), (None, "dtype", "float8"), ("image", "stem", "convo"), ("text", "pool", "max")],
)
def test_a_wrong_choice_is_named_with_what_there_is(tiny_config, room, field, value):
    config = tiny_config | ({field: value} if room is None else {room: tiny_config[room] | {field: value}})
    with pytest.raises(ValueError, match=f"{field} is '{value}'; expected one of"):
        build_system(config, vocab_size=10).build(nnx.Rngs(0))


def test_the_sigmoid_objective_is_that_of_siglip(tiny_config, batch):
    """mean_i sum_j softplus(-z_ij (e^s cos_ij + b)), z = 1 for a product's own pair and -1 for all others."""
    config = copy.deepcopy(tiny_config)
    config["label_mode"], config["loss"]["objective"] = "one_hot", "sigmoid"
    system = build_system(config, vocab_size=400)
    model = system.build(nnx.Rngs(0))
    assert float(model.logit_bias[...]) == -10
    encoded = jax.jit(lambda rows: system.encode(model, rows, jax.random.key(0)))(batch)
    mesh = mesh_of(2, 1)
    loss, metrics, _ = jax.jit(lambda encoded: system.contrast(model, encoded, batch, {}, mesh))(encoded)
    logits = float(metrics["logit_scale"]) * np.asarray(encoded["image"]) @ np.asarray(encoded["text"]).T - 10
    signs = 2 * np.eye(ROWS) - 1
    assert float(loss) == pytest.approx(np.logaddexp(0, -signs * logits).sum(axis=1).mean(), rel=1e-5)
    assert float(metrics["i2t_top1"]) == pytest.approx((np.diag(logits) > (logits - 99 * np.eye(ROWS)).max(1)).mean())


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_a_run_does_not_begin_with_all_vectors_alike(tiny_config, batch, pool):
    """Where they are, the gradient of any contrastive loss is zero, and training waits for rounding to help."""
    config = copy.deepcopy(tiny_config)
    config["image"]["pool"] = config["text"]["pool"] = pool
    system = build_system(config, vocab_size=400)
    graphdef, params = nnx.split(system.build(nnx.Rngs(0)))
    mesh = mesh_of(1, 1)

    def loss(params):
        model = nnx.merge(graphdef, params)
        return system.contrast(model, system.encode(model, batch, jax.random.key(0)), batch, {}, mesh)[:2]

    (_, metrics), grads = jax.jit(jax.value_and_grad(loss, has_aux=True))(params)
    assert metrics["image_rank"] > 1.5 and metrics["text_rank"] > 1.5
    assert optax.tree.norm(grads) > 0.1
