"""Every family against transformers' own implementation: by golden files, and with torch where it is installed."""

import json

import jax
import numpy as np
import pytest
import small
from flax import nnx
from PIL import Image

import ecommerce_vl as vl
from configs import eclip
from ecommerce_vl import weights
from ecommerce_vl.models.dual import unit
from ecommerce_vl.systems import build_system
from ecommerce_vl.training.initial import overlay
from ecommerce_vl.training.sharding import path_name

TEXTS = [" ".join(map(str, row)) for row in small.IDS]


@pytest.fixture(autouse=True)
def exact_products():
    with jax.default_matmul_precision("highest"):
        yield


def images(side):
    return [Image.fromarray(picture) for picture in small.pictures(side)]


def load(folder, **options):
    return vl.from_pretrained(folder, log=lambda line: None, **options)


def see(folder, *, side):
    """Pictures are read as they are, at this size."""
    fields = {"size": side, "do_center_crop": False, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(fields))


def assert_same(found, expected):
    np.testing.assert_allclose(found, np.asarray(unit(np.array(expected))), atol=1e-4)
    assert np.abs(np.diff(found, axis=0)).max() > 0.01  # rows differ, so that equality means something


@pytest.mark.parametrize("family", ["clip", "siglip", "siglip2"])
def test_two_towers(family, write_folder, golden):
    folder = write_folder(family)
    expected = golden(family)["outputs"]
    see(folder, side=16)
    encoder = load(folder)
    assert_same(encoder.embed_texts(TEXTS), expected["text"])
    assert_same(encoder.embed_images(images(16)), expected["image"])
    # twice the side: the table of positions is resampled
    see(folder, side=32)
    assert_same(load(folder).embed_images(images(32)), expected["image_32"])


@pytest.mark.parametrize("pool", ["mean", "cls"])
def test_bert(pool, write_folder, golden):
    folder = write_folder("bert")
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({"pooling_mode_cls_token": pool == "cls"}))
    encoder = load(folder)
    assert_same(encoder.embed_texts(TEXTS), golden("bert")["outputs"][pool])
    assert np.isnan(encoder.embed_images(images(16))).all()  # it reads none


def test_vit(write_folder, golden):
    folder = write_folder("vit")
    for side, name in ((16, "cls"), (32, "cls_32")):
        see(folder, side=side)
        assert_same(load(folder).embed_images(images(side)), golden("vit")["outputs"][name])


@pytest.mark.parametrize(
    ("part", "family", "pool", "name"),
    [
        ("text", "bert", "pooler", "pooler"),
        ("image", "vit", "pooler", "pooler"),
        ("image", "siglip", "attention", "image"),  # which the folder decides
    ],
)
def test_poolers_of_a_tower_that_a_run_begins_from(part, family, pool, name, write_folder, golden):
    config = eclip.get_config("tiny")
    config.image.size, config.image.patch_size, config.text.max_length = 16, 8, 12
    config.image.mean, config.image.std, config.image.stem = (0.5,) * 3, (0.5,) * 3, "patch"
    for tower in (config.image, config.text):
        tower.width, tower.depth, tower.heads = 16, 1, 2
    config.init[part] = str(write_folder(family))
    if pool == "pooler":
        config[part].pool = pool
    config = weights.resolve(config.to_dict())
    assert config[part]["pool"] == pool
    system = build_system(config, vocab_size=config["text"]["vocab_size"], special_ids={})
    graphdef, state = nnx.split(nnx.jit(lambda: system.build(nnx.Rngs(0)))())
    params = nnx.to_pure_dict(state)
    shapes = {path_name(path): leaf.shape for path, leaf in jax.tree_util.tree_flatten_with_path(params)[0]}
    model = nnx.merge(graphdef, overlay(params, weights.initial(config, shapes, log=lambda line: None)))
    ids, mask = small.padded()
    inputs = {"text": (ids, mask.astype(bool)), "image": (small.pictures(16),)}[part]
    found = nnx.jit(lambda model: getattr(model, part)(*inputs))(model)
    np.testing.assert_allclose(found, golden(family)["outputs"][name], atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("family", small.CONFIGS)
def test_the_golden_files_are_what_transformers_gives(family, golden):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    import published

    found, expected = published.golden(family), golden(family)
    assert found["shapes"] == expected["shapes"]
    for name, array in expected["outputs"].items():
        np.testing.assert_allclose(found["outputs"][name], array, atol=1e-5)
