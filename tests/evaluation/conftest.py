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
    labelled = list(enumerate(zip(colours, shapes, strict=True)))
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
        brands=[f"brand {i // 12}" for i in range(count)],
        attributes=[{"color": c, "shape": [s, "drawn"]} if i % 13 else {} for i, (c, s) in labelled],
        prices=np.arange(count) // 2 * 10.0 + 1.0,
    )


class WordEncoder:
    """Knows the axes of `products`: the words of a colour or a shape point where products of it lie."""

    batch_size = 32
    modalities = ("image", "text")

    def __init__(self, seed: int = 0):
        axes = np.random.default_rng(seed).normal(size=(len(SHAPES) + len(COLOURS), 16))
        self.axes = dict(zip((*SHAPES, *COLOURS), axes, strict=True))

    def embed_texts(self, texts) -> np.ndarray:
        rows = np.array(
            [sum((self.axes.get(word, 0.01) for word in text.split()), np.full(16, 0.01)) for text in texts]
        )
        return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)

    embed_queries = embed_texts

    def embed_products(self, records) -> np.ndarray:
        return self.embed_texts([record["title"] for record in records])

    def embed_views(self, records) -> dict[str, np.ndarray]:
        text = self.embed_texts([record["title"] for record in records])
        lacks = np.array([not record["images"] for record in records])
        return {"image": np.where(lacks[:, None], np.nan, text), "text": text, "product": text}


def records(products: EmbeddedProducts) -> list[dict]:
    """What these products would be embedded from."""
    blank = dict.fromkeys(("product_type", "locale", "adult", "brand", "price", "color", "material", "pattern"), "")
    blank |= dict.fromkeys(("size", "gender", "age_group", "condition"), "") | {"catalog_key": -1, "group_key": -1}
    return [
        blank | {"id": name, "title": title, "images": [image] if image else [], "attributes": {}}
        for name, title, image in zip(products.ids, products.titles, products.images, strict=True)
    ]


@pytest.fixture(scope="session")
def known(splits) -> dict:
    """What a door gives beside the splits: the encoder, one with other axes as the untrained, the records."""
    return {
        "encoder": WordEncoder(),
        "others": {"untrained": WordEncoder(seed=9)},
        "records": {name: records(part) for name, part in splits.items()},
    }


@pytest.fixture(scope="session")
def splits() -> dict[str, EmbeddedProducts]:
    return {
        "test": products(60, prefix="t", seed=1),
        "train": products(120, prefix="r", seed=2),
        "validation": products(40, prefix="v", seed=3),
    }
