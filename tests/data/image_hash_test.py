"""The hash moves little under what shops do to a picture, and much between products."""

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from ecommerce_vl.data.image_checks import check_pixels
from ecommerce_vl.data.image_hash import BYTES, distance, distances, ink_box, perceptual_hash, stack

REAL = Path(os.environ.get("LABELLED_DATA", "missing")) / "myntra" / "images"  # the --data of benchmarks/identity.py


def product(seed, size=400):
    """Shapes on white, as a catalog shot has a product."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (size, size), "white")
    draw = ImageDraw.Draw(image)
    left, top = rng.integers(30, 120, 2)
    right, bottom = size - rng.integers(30, 120, 2)
    for _ in range(rng.integers(8, 20)):
        x, y = np.sort(rng.integers(left, right, 2)), np.sort(rng.integers(top, bottom, 2))
        shape = (draw.ellipse, draw.rectangle)[rng.integers(2)]
        shape((x[0], y[0], x[1] + 8, y[1] + 8), fill=tuple(int(v) for v in rng.integers(0, 220, 3)))
    return image


def bordered(image):
    return ImageOps.expand(image, border=max(image.size) // 8, fill="white")


def halved(image):
    return image.resize((image.width // 2, image.height // 2), Image.Resampling.BICUBIC)


def encoded(image):
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=60)
    return Image.open(buffer).convert("RGB")


def everything(image):
    return encoded(halved(bordered(image)))


CHANGES = [(bordered, 32), (halved, 32), (encoded, 32), (everything, 40)]


@pytest.fixture(scope="module")
def products():
    return [product(seed) for seed in range(60)]


@pytest.mark.parametrize("change, limit", CHANGES)
def test_a_changed_picture_stays_near(products, change, limit):
    moved = [distance(perceptual_hash(image), perceptual_hash(change(image))) for image in products]
    assert max(moved) <= limit


@pytest.mark.parametrize("change, limit", CHANGES)
def test_a_changed_real_picture_stays_near(change, limit):
    if not REAL.is_dir():
        pytest.skip("LABELLED_DATA names no folder with myntra/images: no real pictures here")
    images = [Image.open(file).convert("RGB") for file in sorted(REAL.glob("*.jpg"))[::90][:100]]
    moved = [distance(perceptual_hash(image), perceptual_hash(change(image))) for image in images]
    assert np.percentile(moved, 99) <= limit


def test_different_products_are_far(products):
    hashes = stack([perceptual_hash(image) for image in products])
    between = distances(hashes[:, None], hashes)[np.triu_indices(len(hashes), 1)]
    assert between.min() > 80


def test_distances_agree_with_distance(products):
    hashes = [perceptual_hash(image) for image in products[:5]]
    assert all(len(one) == BYTES for one in hashes)
    table = distances(stack(hashes)[:, None], stack(hashes))
    assert table.tolist() == [[distance(a, b) for b in hashes] for a in hashes]
    assert distance(bytes(32), bytes([255]) * 31 + bytes([254])) == 255


def test_the_border_is_cut_and_the_product_is_not():
    image = Image.new("RGB", (300, 200), "white")
    image.paste((200, 30, 30), (100, 50, 200, 150))
    assert ink_box(image) == pytest.approx((101, 51, 199, 149), abs=0.01)
    assert ink_box(Image.new("RGB", (30, 20), "white")) == (0, 0, 30, 20)


@pytest.mark.parametrize(
    "size, colour", [((1, 1), "black"), ((1, 500), "white"), ((500, 3), "grey"), ((40, 40), "white")]
)
def test_pictures_without_content_hash_to_zeros(size, colour):
    assert perceptual_hash(Image.new("RGB", size, colour)) == bytes(BYTES)


def test_a_hairline_is_hashed():
    image = Image.new("RGB", (200, 200), "white")
    image.putpixel((50, 100), (0, 0, 0))
    assert len(perceptual_hash(image)) == BYTES


@pytest.mark.parametrize(
    "image, reason",
    [
        (Image.new("RGB", (100, 401), "white"), "image_extreme_aspect"),
        (Image.new("RGB", (100, 100), (200, 200, 200)), "image_blank"),
        (product(0), None),
        (product(0).resize((100, 400)), None),
    ],
)
def test_pixel_checks(image, reason):
    assert check_pixels(image, max_aspect=4, min_luma_std=5 / 255) == reason
    assert check_pixels(image, max_aspect=0, min_luma_std=0) is None


def test_importing_the_hash_loads_no_jax():
    code = "import sys, ecommerce_vl.data.image_hash, ecommerce_vl.data.identity; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
