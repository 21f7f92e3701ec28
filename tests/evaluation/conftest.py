"""Products for the evaluation tests: drawn pictures, titles that say what is drawn, vectors with a known structure."""

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw

from ecommerce_vl.evaluation.products import EmbeddedProducts

COLOURS = {"red": (200, 30, 30), "green": (30, 160, 60), "blue": (40, 60, 200), "yellow": (220, 200, 40)}
SHAPES = ("cup", "ball", "box")


def draw(shape: str, colour: str, shift: int) -> bytes:
    image = Image.new("RGB", (120, 120), (245, 245, 245))
    box = (20 + shift, 20, 100, 100 - shift)
    pen = ImageDraw.Draw(image)
    {"cup": pen.pieslice, "ball": pen.chord, "box": pen.rectangle}[shape](
        box, **({"fill": COLOURS[colour]} if shape == "box" else {"start": 0, "end": 220, "fill": COLOURS[colour]})
    )
    encoded = io.BytesIO()
    image.save(encoded, format="JPEG")
    return encoded.getvalue()


def products(count: int, *, prefix: str, seed: int, noise: float = 0.5) -> EmbeddedProducts:
    """Two listings per product; every seventh listing lacks its picture, every eleventh its title."""
    random = np.random.default_rng(seed)
    shapes = [SHAPES[i // 2 % 3] for i in range(count)]
    colours = [list(COLOURS)[i // 6 % 4] for i in range(count)]
    axes = np.random.default_rng(0).normal(size=(len(SHAPES) + len(COLOURS), 16))
    meaning = np.stack(
        [
            axes[SHAPES.index(s)] + axes[len(SHAPES) + list(COLOURS).index(c)]
            for s, c in zip(shapes, colours, strict=True)
        ]
    )
    own = np.repeat(random.normal(size=(-(-count // 2), 16)), 2, axis=0)[:count]
    lacks = {"image": np.arange(count) % 7 == 3, "text": (np.arange(count) % 11 == 5) & (np.arange(count) % 7 != 3)}
    vectors = {}
    for view in ("image", "text"):
        rows = meaning + own + noise * random.normal(size=(count, 16))
        vectors[view] = np.where(lacks[view][:, None], np.nan, rows / np.linalg.norm(rows, axis=1, keepdims=True))
    joint = np.nansum([vectors["image"], vectors["text"]], axis=0)
    vectors["product"] = joint / np.linalg.norm(joint, axis=1, keepdims=True)
    return EmbeddedProducts(
        ids=[f"{prefix}{i:03d}" for i in range(count)],
        titles=[f"{c} {s} no {i // 2}" for i, (c, s) in enumerate(zip(colours, shapes, strict=True))],
        category_paths=[f"Home > {s}" for s in shapes],
        catalog_keys=np.arange(count) // 2,
        group_keys=np.arange(count) // 6,
        locales=["en"] * count,
        adult=["yes" if i % 5 == 0 else "no" for i in range(count)],
        images=[
            None if lacks["image"][i] else draw(s, c, i % 6)
            for i, (c, s) in enumerate(zip(colours, shapes, strict=True))
        ],
        vectors={view: rows.astype(np.float32) for view, rows in vectors.items()},
    )


@pytest.fixture(scope="session")
def splits() -> dict[str, EmbeddedProducts]:
    return {
        "test": products(60, prefix="t", seed=1),
        "train": products(120, prefix="r", seed=2),
        "validation": products(40, prefix="v", seed=3),
    }
