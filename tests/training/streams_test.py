"""Streams: the loss and gradient of the whole batch, less memory, and no row that moves between devices."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import AxisType

from ecommerce_vl.systems import build_system
from ecommerce_vl.training.mesh import batch_sharding, replicated
from ecommerce_vl.training.streams import encode_in_streams, rows_per_stream
from tests.modules import noisy

ROWS = 64


def mesh_of(num_devices, fsdp=1):
    devices = jax.devices()[:num_devices]
    shape = (num_devices // fsdp, fsdp)
    return jax.make_mesh(shape, ("data", "fsdp"), axis_types=(AxisType.Auto,) * 2, devices=devices)


def config_of(tiny_config, *, drop_path=0.0, size=16, width=16):
    image = {"size": size, "patch_size": 8, "width": width, "depth": 2, "heads": 2, "stem": "patch"}
    text = {"width": 16, "depth": 2, "heads": 2, "max_length": 8}
    shared = {"drop_path": drop_path}
    return tiny_config | {
        "image": tiny_config["image"] | image | shared,
        "text": tiny_config["text"] | text | shared,
        "embed_dim": 16,
    }


def batch_of(config, rows=ROWS):
    rng = np.random.default_rng(0)
    size, length = config["image"]["size"], config["text"]["max_length"]
    return {
        "image": rng.integers(0, 256, (rows, size, size, 3)).astype(np.uint8),
        "text_ids": rng.integers(3, 100, (rows, length)).astype(np.int32),
        "text_mask": np.arange(length)[None] < rng.integers(2, length, (rows, 1)),
        "has_image": np.arange(rows) != 5,
        "has_text": np.arange(rows) != 9,
        "valid": np.arange(rows) != 20,
        "product_key": np.arange(rows, dtype=np.int32) + 1000,
        # Listings of one catalog lie in different streams and on different devices.
        "catalog_key": np.where(np.arange(rows) % 31 == 0, 7, -1 - np.arange(rows)).astype(np.int32),
    }


def stirred(system):
    """The definition, and parameters with noise: fresh blocks are identities, which would hide what they drop."""
    definition, state = nnx.split(system.build(nnx.Rngs(0)))
    return definition, noisy(nnx.to_pure_dict(state))


def loss_of(system, definition, params, batch, *, streams, mesh):
    encode = lambda params, rows: system.encode(nnx.merge(definition, params), rows, jax.random.key(3))
    encoded = encode_in_streams(encode, params, batch, streams=streams, mesh=mesh)
    return system.contrast(nnx.merge(definition, params), encoded, batch, {}, mesh)[0]


def gradient(system, definition, params, batch, *, streams, mesh):
    placed = jax.device_put(params, replicated(mesh)), jax.device_put(batch, batch_sharding(mesh))
    return jax.jit(jax.value_and_grad(partial(loss_of, system, definition, streams=streams, mesh=mesh)))(*placed)


def assert_same(found, expected):
    assert float(found[0]) == pytest.approx(float(expected[0]), rel=1e-6)
    found, expected = (jax.tree_util.tree_flatten_with_path(grads)[0] for _, grads in (found, expected))
    for (path, one), (_, other) in zip(found, expected, strict=True):
        one, other = np.asarray(one), np.asarray(other)
        # A key's bias shifts all scores of a query alike, so its gradient is rounding and nothing else.
        floor = 1e-6 if "key" in str(path) and "bias" in str(path) else 0.0
        assert np.linalg.norm(one - other) <= 1e-5 * np.linalg.norm(other) + floor, path


@pytest.fixture(scope="module")
def dropping(tiny_config):
    """A system that drops paths, its definition and parameters, a batch, and its gradient in one piece on one device"""
    config = config_of(tiny_config, drop_path=0.3)
    system = build_system(config, vocab_size=100)
    case = system, *stirred(system), batch_of(config)
    return case, gradient(*case, streams=1, mesh=mesh_of(1))


@pytest.mark.parametrize(
    ("num_devices", "streams"),
    [
        pytest.param(1, 2, marks=pytest.mark.slow),
        (1, 8),
        pytest.param(8, 1, marks=pytest.mark.slow),
        (8, 2),
        pytest.param(8, 8, marks=pytest.mark.slow),
    ],
)
def test_streams_give_the_loss_and_gradient_of_the_whole_batch(dropping, num_devices, streams):
    case, expected = dropping
    assert_same(gradient(*case, streams=streams, mesh=mesh_of(num_devices)), expected)


@pytest.mark.slow
def test_without_drop_path_the_same(dropping, tiny_config):
    (_, _, params, batch), (with_drops, _) = dropping
    system = build_system(config_of(tiny_config), vocab_size=100)
    definition = nnx.split(nnx.eval_shape(lambda: system.build(nnx.Rngs(0))))[0]
    whole, cut = (gradient(system, definition, params, batch, streams=k, mesh=mesh_of(8)) for k in (1, 4))
    assert_same(cut, whole)
    assert abs(float(whole[0]) - float(with_drops)) > 1e-4  # or the other tests would not have dropped anything


@pytest.mark.slow
def test_the_two_passes_of_gradcache_give_the_same(dropping):
    """The published form: encode without gradients, differentiate the loss by the vectors, then stream by stream."""
    (system, definition, params, batch), expected = dropping
    mesh, streams = mesh_of(1), 4
    encode = lambda params, rows: system.encode(nnx.merge(definition, params), rows, jax.random.key(3))
    contrast = lambda params, encoded: system.contrast(nnx.merge(definition, params), encoded, batch, {}, mesh)[0]
    parts = [jax.tree.map(lambda x, k=k: jnp.split(x, streams)[k], batch) for k in range(streams)]

    @jax.jit
    def two_passes(params):
        encoded = jax.tree.map(lambda *z: jnp.concatenate(z), *[encode(params, part) for part in parts])
        loss, (grads, by_vector) = jax.value_and_grad(contrast, argnums=(0, 1))(params, encoded)
        for k, part in enumerate(parts):
            _, back = jax.vjp(lambda params, part=part: encode(params, part), params)
            (more,) = back(jax.tree.map(lambda z, k=k: jnp.split(z, streams)[k], by_vector))
            grads = jax.tree.map(jnp.add, grads, more)
        return loss, grads

    assert_same(two_passes(params), expected)


@pytest.mark.parametrize("num_devices", [1, 2, 4, 8])
@pytest.mark.parametrize("streams", [1, 3])
def test_against_a_float64_gradient_written_by_hand(num_devices, streams):
    """z = x w, L = mean_i log sum_j exp(z_i . z_j): every row meets every other."""
    rng = np.random.default_rng(2)
    x, w = rng.normal(size=(24, 5)), 0.3 * rng.normal(size=(5, 4))
    z = x @ w
    scores = np.exp(z @ z.T)
    softmax = scores / scores.sum(axis=1, keepdims=True) / len(x)
    expected = np.log(scores.sum(axis=1)).mean(), x.T @ (softmax @ z + softmax.T @ z)

    def loss(w, x):
        z = encode_in_streams(lambda w, x: x @ w, w, x, streams=streams, mesh=mesh)
        return jax.nn.logsumexp(z @ z.T, axis=1).mean()

    mesh = mesh_of(num_devices)
    rows = jax.device_put(x.astype(np.float32), batch_sharding(mesh))
    found = jax.jit(jax.value_and_grad(loss))(w.astype(np.float32), rows)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=2e-5, atol=2e-6)


def test_rows_come_back_in_the_order_of_the_batch():
    mesh = mesh_of(4)
    rows = jax.device_put(np.arange(48), batch_sharding(mesh))
    batch = {"x": rows, "known": jax.device_put(np.zeros((48, 0)), batch_sharding(mesh))}  # a list may be of no length
    encode = lambda _, part: {"z": 2 * part["x"] + part["known"].sum(axis=1)}
    through = jax.jit(lambda batch: encode_in_streams(encode, None, batch, streams=3, mesh=mesh))
    found = through(batch)["z"]
    np.testing.assert_array_equal(found, 2 * np.arange(48))
    assert found.sharding.is_equivalent_to(batch_sharding(mesh), 1)


def compiled(system, definition, params, batch, *, streams, mesh):
    abstract = lambda tree, sharding: jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
    )
    grad = jax.jit(jax.grad(partial(loss_of, system, definition, streams=streams, mesh=mesh)))
    return grad.lower(abstract(params, replicated(mesh)), abstract(batch, batch_sharding(mesh))).compile()


def moved(text):
    """Lines of a compiled program that move rows between devices, or gather pictures."""
    return [
        line
        for line in text.splitlines()
        if re.search(r" (all-to-all|collective-permute)(-start)?\(", line)
        or re.search(r"= \(?u8\[.* all-gather(-start)?\(", line)
    ]


@pytest.mark.slow
def test_no_row_moves_between_devices(dropping):
    (system, definition, params, batch), _ = dropping
    mesh = mesh_of(8, fsdp=4)
    assert moved(compiled(system, definition, params, batch, streams=2, mesh=mesh).as_text()) == []
    # The layout that does not work is seen: whole streams on few devices.
    split = jax.jit(
        lambda x: jax.lax.map(
            lambda rows: jax.lax.with_sharding_constraint(rows, batch_sharding(mesh)) * 2,
            x.reshape(2, -1, *x.shape[1:]),
        ),
        in_shardings=batch_sharding(mesh),
    )
    assert moved(split.lower(batch["image"]).compile().as_text())


@pytest.mark.slow
def test_memory_falls_with_the_number_of_streams(tiny_config):
    config = config_of(tiny_config, size=64, width=32)
    system = build_system(config, vocab_size=100)
    case = system, *stirred(system), batch_of(config)
    used = {
        streams: compiled(*case, streams=streams, mesh=mesh_of(1)).memory_analysis().temp_size_in_bytes
        for streams in (1, 2, 8)
    }
    assert used[8] < 0.6 * used[2] and used[2] < 0.7 * used[1], used


def test_streams_that_do_not_divide_name_those_that_do():
    assert rows_per_stream(streams=4, batch_size=64, num_devices=8) == 16
    with pytest.raises(ValueError, match=r"^streams is 3, which does not divide the 8 rows .* one of 1, 2, 4, 8,"):
        rows_per_stream(streams=3, batch_size=64, num_devices=8)
    with pytest.raises(ValueError, match="^streams is 0; expected at least 1"):
        rows_per_stream(streams=0, batch_size=64, num_devices=8)
