"""Every family against transformers' own implementation: by golden files, and with torch where it is installed."""

import json

import jax
import numpy as np
import pytest
import small
from PIL import Image

import ecommerce_vl as vl
from ecommerce_vl.models.dual import unit

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


@pytest.mark.slow
@pytest.mark.parametrize("family", small.CONFIGS)
def test_the_golden_files_are_what_transformers_gives(family, golden):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    import reference

    found, expected = reference.golden(family), golden(family)
    assert found["shapes"] == expected["shapes"]
    for name, array in expected["outputs"].items():
        np.testing.assert_allclose(found["outputs"][name], array, atol=1e-5)
