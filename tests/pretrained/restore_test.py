"""The way back: a trained dual encoder as a folder of transformers, which loads as it was trained."""

import importlib.util
import json
import subprocess
import sys

import jax
import numpy as np
import pytest
import small
from PIL import Image

import ecommerce_vl as vl
from ecommerce_vl import weights
from ecommerce_vl.errors import UserError
from ecommerce_vl.exporting.hugging_face import write_folder as write_model
from ecommerce_vl.models.pretrained.table import Row, restore

TEXTS = [" ".join(map(str, row)) for row in small.IDS]


def load(folder, **options):
    return vl.from_pretrained(folder, log=lambda line: None, **options)


def trained(encoder):
    """Every parameter moved, as training would."""
    rng = np.random.default_rng(1)
    move = lambda x: np.asarray(x) + 0.02 * rng.standard_normal(np.shape(x)).astype(np.float32)
    encoder.params = jax.tree.map(move, encoder.params)
    return encoder


@pytest.mark.parametrize(
    "family", [pytest.param("clip", marks=pytest.mark.slow), "siglip", pytest.param("siglip2", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("side", [16, pytest.param(32, marks=pytest.mark.slow)])
def test_what_was_trained_comes_back(family, side, write_folder, tmp_path):
    """Also at another size of pictures than the published model's, whose positions are then the trained ones."""
    published = write_folder(family)
    fields = {"size": {"height": side, "width": side}, "do_center_crop": False}
    fields |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (published / "preprocessor_config.json").write_text(json.dumps(fields))
    encoder = trained(load(published))
    folder, tensors = weights.restored(encoder.config, encoder.params)
    write_model(tensors, folder.path, tmp_path / "out", image_size=side)
    again = load(tmp_path / "out")
    pictures = [Image.fromarray(picture) for picture in small.pictures(side)]
    np.testing.assert_allclose(again.embed_texts(TEXTS), encoder.embed_texts(TEXTS), atol=1e-5)
    np.testing.assert_allclose(again.embed_images(pictures), encoder.embed_images(pictures), atol=1e-5)
    assert np.abs(again.embed_texts(TEXTS) - load(published).embed_texts(TEXTS)).max() > 0.01, "it was moved"
    assert set(tensors) == set(folder.tensors()), "no tensor is lost, none is new"
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    vision = config["vision_config"]
    assert vision["num_patches"] == (side // 8) ** 2 if family == "siglip2" else vision["image_size"] == side
    shapes = lambda tensors: {key: np.shape(tensor) for key, tensor in tensors.items()}
    written, before = (shapes(weights.Folder(name).tensors()) for name in (tmp_path / "out", published))
    assert {key for key in written if written[key] != before[key]} <= {key for key in written if "vision" in key}
    assert (written == before) == (side == 16)
    with pytest.raises(UserError, match="holds a model already"):
        write_model(tensors, folder.path, tmp_path / "out", image_size=side)
    with pytest.raises(UserError, match="the published model itself"):
        write_model(tensors, folder.path, published, image_size=side)


TRANSFORMERS = """
import sys, numpy as np, torch
from transformers import AutoModel
folder, file = sys.argv[1:]
model, given = AutoModel.from_pretrained(folder).eval(), np.load(file)
unit = lambda x: (x / x.norm(dim=-1, keepdim=True)).numpy()
pixels = (torch.tensor(given["pixels"]).permute(0, 3, 1, 2).float() / 255 - 0.5) / 0.5
masks = {"attention_mask": torch.tensor(given["mask"])} if model.config.model_type == "clip" else {}
with torch.no_grad():
    text, image = model.get_text_features(torch.tensor(given["ids"]), **masks), model.get_image_features(pixels)
for found, name in ((text, "text"), (image, "image")):
    np.testing.assert_allclose(unit(getattr(found, "pooler_output", found)), given[name], atol=1e-5)
"""


@pytest.mark.slow
@pytest.mark.parametrize("family", ["clip", "siglip"])
def test_transformers_loads_what_was_written(family, write_folder, tmp_path):
    if not all(map(importlib.util.find_spec, ("torch", "transformers"))):
        pytest.skip("the extra parity is not installed")
    published = write_folder(family)
    fields = {"size": {"height": 16, "width": 16}, "do_center_crop": False}
    fields |= {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    (published / "preprocessor_config.json").write_text(json.dumps(fields))
    encoder = trained(load(published))
    folder, tensors = weights.restored(encoder.config, encoder.params)
    write_model(tensors, folder.path, tmp_path / "out", image_size=16)
    pixels, (ids, mask) = small.pictures(16), small.padded()
    vectors = {
        "text": encoder.embed_texts(TEXTS),
        "image": encoder.embed_images([Image.fromarray(picture) for picture in pixels]),
    }
    np.savez(tmp_path / "given.npz", pixels=pixels, ids=ids, mask=mask, **vectors)
    command = [sys.executable, "-c", TRANSFORMERS, str(tmp_path / "out"), str(tmp_path / "given.npz")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_is_no_published_dual_encoder_is_named(write_folder):
    bert = load(write_folder("bert"))
    with pytest.raises(UserError, match=r"this bert began with config.init.text=.*; expected one with"):
        weights.restored(bert.config, bert.params)
    with pytest.raises(UserError, match="this eclip began at random; expected one with"):
        weights.restored({"system": "eclip", "init": {"dual": ""}}, {})


def test_what_has_no_place_is_named():
    bias, weight = Row("bias", ()), Row("kernel", "weight", np.transpose)
    tensors = {"weight": np.zeros((2, 3)), "other": np.ones(1)}
    arrays = {"bias": np.zeros(3), "kernel": np.arange(6.0).reshape(3, 2)}
    found = restore([bias, weight], arrays, tensors)
    np.testing.assert_array_equal(found["weight"], arrays["kernel"].T)
    np.testing.assert_array_equal(found["other"], [1])
    with pytest.raises(ValueError, match="bias is not zero, and the source has no place for it"):
        restore([bias], arrays | {"bias": np.ones(3)}, tensors)
    with pytest.raises(ValueError, match="kernel is a sum of weight, other"):
        restore([Row("kernel", ("weight", "other"))], arrays, tensors)
