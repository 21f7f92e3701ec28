"""The encoders: scan against a plain loop, padding, stems, remat, stochastic depth by row."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from ecommerce_vl.models.dual import DualEncoder, unit
from ecommerce_vl.models.text import TextTransformer
from ecommerce_vl.models.transformer import Transformer
from ecommerce_vl.models.vision import ConvStem, GradientStem, VisionTransformer, cell_features
from tests.modules import stirred

BLOCKS = {"width": 32, "depth": 2, "heads": 2, "mlp_ratio": 4.0, "drop_path": 0.0, "remat": "none"}
TEXT = BLOCKS | {"vocab_size": 50, "max_length": 12}
IMAGE = BLOCKS | {"image_size": 32, "patch_size": 8, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}


def transformer(**fields):
    return stirred(Transformer(32, heads=2, rngs=nnx.Rngs(0), **fields))


def text_encoder(**fields):
    fields = TEXT | {"pool": "cls"} | fields
    return stirred(TextTransformer(**fields, dtype=jnp.float32, rngs=nnx.Rngs(0)))


def image_encoder(**fields):
    fields = IMAGE | {"pool": "cls", "stem": "patch"} | fields
    return stirred(VisionTransformer(**fields, dtype=jnp.float32, rngs=nnx.Rngs(0)))


def some_pixels(rows=3, size=32):
    return np.random.default_rng(0).integers(0, 256, (rows, size, size, 3)).astype(np.uint8)


def test_scanned_layers_equal_a_loop_over_them():
    model = transformer(depth=3)
    x = jax.random.normal(jax.random.key(1), (2, 5, 32))
    mask = jnp.array([[True] * 5, [True, True, False, True, False]])
    definition, stacked = nnx.split(model.blocks)
    looped = x
    for layer in range(3):
        block = nnx.merge(definition, jax.tree.map(lambda leaf, layer=layer: leaf[layer], stacked))
        looped = block(looped, mask, jnp.ones((2, 2)))
    np.testing.assert_allclose(model(x, mask), model.norm(looped), atol=1e-5)


def test_a_fresh_block_is_the_identity():
    model = Transformer(32, depth=3, heads=2, rngs=nnx.Rngs(0))
    x = jax.random.normal(jax.random.key(1), (2, 5, 32))
    np.testing.assert_allclose(model(x), model.norm(x), atol=1e-6)


def test_layers_start_different():
    kernel = Transformer(32, depth=2, heads=2, rngs=nnx.Rngs(0)).blocks.attn.query.kernel[...]
    assert kernel.shape == (2, 32, 32)
    assert not np.allclose(kernel[0], kernel[1])


@pytest.mark.parametrize("remat", ["dots", "full"])
def test_rematerialisation_changes_no_gradient(remat):
    x = jax.random.normal(jax.random.key(1), (2, 5, 32))

    def grads(remat):
        definition, params = nnx.split(transformer(depth=2, remat=remat))
        return nnx.to_pure_dict(jax.grad(lambda p: (nnx.merge(definition, p)(x) ** 2).sum())(params))

    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), grads("none"), grads(remat))


@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_what_lies_under_the_padding_is_invisible(pool):
    model = text_encoder(pool=pool)
    mask = np.array([[True] * 4 + [False] * 8])
    ids = np.arange(12)[None] + 1
    other = np.where(mask, ids, 7)
    np.testing.assert_allclose(model(ids, mask), model(other, mask), atol=1e-6)
    np.testing.assert_allclose(model(ids[:, :4], mask[:, :4]), model(ids, mask), atol=1e-5)
    assert np.abs(model(ids, mask) - model(np.roll(ids, 1, axis=1), mask)).max() > 1e-3


def test_an_empty_text_is_finite():
    assert np.isfinite(text_encoder()(np.zeros((2, 12), np.int32), np.zeros((2, 12), bool))).all()


@pytest.mark.parametrize("stem", ["patch", "conv", "gradient"])
@pytest.mark.parametrize("pool", ["cls", "mean"])
def test_pictures_become_one_state_each(stem, pool):
    states = image_encoder(stem=stem, pool=pool)(some_pixels())
    assert states.shape == (3, 32)
    assert np.isfinite(states).all()


def test_the_patch_stem_is_a_matrix_product_of_patches():
    model = image_encoder()
    stem = model.stem.projection
    pixels = jax.random.normal(jax.random.key(0), (1, 32, 32, 3))
    patches = pixels.reshape(1, 4, 8, 4, 8, 3).transpose(0, 1, 3, 2, 4, 5).reshape(1, 16, -1)
    expected = patches @ stem.kernel[...].reshape(-1, 32) + stem.bias[...]
    np.testing.assert_allclose(model.stem(pixels).reshape(1, 16, 32), expected, atol=1e-4)


@pytest.mark.parametrize(
    ("stem", "patch_size"),
    [(ConvStem, 4)] + [(stem, size) for stem in (ConvStem, GradientStem) for size in (8, 16, 32)],
)
def test_a_stem_of_stages_reaches_the_resolution_of_the_patches(stem, patch_size):
    module = stem(patch_size=patch_size, width=64, dtype=jnp.float32, rngs=nnx.Rngs(0))
    assert jax.eval_shape(module, jnp.zeros((1, 64, 64, 3))).shape == (1, 64 // patch_size, 64 // patch_size, 64)


@pytest.mark.parametrize(("stem", "patch_size"), [(ConvStem, 2), (ConvStem, 14), (GradientStem, 4), (GradientStem, 24)])
def test_a_stem_of_stages_names_a_patch_size_that_it_cannot_reach(stem, patch_size):
    with pytest.raises(ValueError, match=f"image.patch_size is {patch_size}"):
        stem(patch_size=patch_size, width=64, dtype=jnp.float32, rngs=nnx.Rngs(0))


def test_features_of_cells_equal_a_loop_over_their_pixels():
    pixels = np.random.default_rng(0).normal(size=(2, 8, 12, 3))
    edges, others = np.zeros((2, 2, 3, 8)), np.zeros((2, 2, 3, 10))
    grey = np.pad(pixels.mean(axis=3), ((0, 0), (1, 1), (1, 1)), mode="edge")
    for picture, row, column in np.ndindex(2, 8, 12):
        cell = (picture, row // 4, column // 4)
        right = grey[picture, row + 1, column + 2] - grey[picture, row + 1, column]
        down = grey[picture, row + 2, column + 1] - grey[picture, row, column + 1]
        for direction in range(8):
            between = np.arctan2(down, right) - 2 * np.pi * direction / 8
            edges[(*cell, direction)] += np.hypot(right, down) * max(np.cos(between), 0) ** 3 / 16
        red, green, blue = pixels[picture, row, column]
        opponents = np.array([red - green, (red + green) / 2 - blue])
        others[cell][:6] += np.concatenate([pixels[picture, row, column], pixels[picture, row, column] ** 2]) / 16
        others[cell][6:] += np.maximum(np.concatenate([opponents, -opponents]), 0) / 16
    others[..., 3:6] = np.sqrt(others[..., 3:6] - others[..., :3] ** 2)
    energy = np.pad((edges**2).sum(axis=3), ((0, 0), (1, 1), (1, 1)))
    around = [[energy[:, i : i + 3, j : j + 3].sum(axis=(1, 2)) for j in range(3)] for i in range(2)]
    normal = edges / np.sqrt(np.moveaxis(np.array(around), 2, 0))[..., None]
    expected = np.concatenate([2 * normal, 4 * edges, others], axis=3)
    np.testing.assert_allclose(cell_features(jnp.asarray(pixels)), expected, rtol=0.01, atol=0.01)


def test_a_mirrored_picture_has_the_mirrored_features():
    pixels = jnp.asarray(np.random.default_rng(1).normal(size=(1, 8, 8, 3)), jnp.float32)
    found, mirrored = cell_features(pixels), cell_features(pixels[:, :, ::-1])[:, :, ::-1]
    swap = [4, 3, 2, 1, 0, 7, 6, 5]  # direction d becomes pi - d
    np.testing.assert_allclose(found[..., 8:16], mirrored[..., 8:16][..., swap], atol=1e-5)
    np.testing.assert_allclose(found[..., 16:], mirrored[..., 16:], atol=1e-5)


def test_stochastic_depth_belongs_to_the_row_and_is_off_in_evaluation():
    model = image_encoder(drop_path=0.5)
    pixels = some_pixels(4)
    keys = jax.random.split(jax.random.key(0), 4)
    trained = model(pixels, keys)
    order = np.array([2, 0, 3, 1])
    np.testing.assert_allclose(model(pixels[order], keys[order]), trained[order], atol=1e-5)
    assert np.abs(trained - model(pixels)).max() > 1e-3
    np.testing.assert_array_equal(model(pixels), model(pixels))


def test_unit_has_a_finite_gradient_at_zero():
    assert np.isfinite(jax.grad(lambda x: unit(x).sum())(jnp.zeros((1, 4)))).all()


@pytest.mark.parametrize("stem", ["conv", "gradient"])
def test_dual_encoder_gives_unit_float32_vectors_from_bfloat16_computation(stem):
    model = DualEncoder(
        image=IMAGE | {"pool": "cls", "stem": stem},
        text=TEXT | {"pool": "cls"},
        embed_dim=16,
        temperature_init=0.07,
        dtype=jnp.bfloat16,
        rngs=nnx.Rngs(0),
    )
    for z in (model.encode_image(some_pixels()), model.encode_text(np.ones((3, 12), np.int32), np.ones((3, 12), bool))):
        assert z.shape == (3, 16)
        assert z.dtype == jnp.float32
        np.testing.assert_allclose((z**2).sum(-1), 1, atol=1e-5)
    assert {leaf.dtype for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))} == {jnp.dtype("float32")}
    assert float(jnp.exp(model.logit_scale[...])) == pytest.approx(1 / 0.07, rel=1e-5)
