"""Products as the report shows them: a thumbnail, a title, and whether to blur it.

The invariant: a picture on a page is a small JPEG made here, never the original bytes, and each is made once.
"""

from __future__ import annotations

import io
from functools import cache

from PIL import Image, UnidentifiedImageError

from ecommerce_vl.evaluation.products import SEPARATOR, EmbeddedProducts
from ecommerce_vl.pages import data_uri

THUMBNAIL_PIXELS = 96


def thumbnail(encoded: bytes | None, *, pixels: int = THUMBNAIL_PIXELS) -> str:
    """A JPEG data URI of at most `pixels` a side; "" for a missing or unreadable picture."""
    try:
        with Image.open(io.BytesIO(encoded or b"")) as image:
            image.draft("RGB", (2 * pixels, 2 * pixels))
            picture = image.convert("RGB")
    except (UnidentifiedImageError, OSError, ValueError):
        return ""
    picture.thumbnail((pixels, pixels), Image.Resampling.LANCZOS)
    small = io.BytesIO()
    picture.save(small, format="JPEG", quality=82, optimize=True)
    return data_uri(small.getvalue())


def leaf(path: str) -> str:
    """The last part of a category path."""
    return path.rsplit(SEPARATOR, 1)[-1]


class Cards:
    """What the page knows of each product, by row."""

    def __init__(self, products: EmbeddedProducts):
        self.products = products
        self.thumbnail = cache(lambda row, pixels: thumbnail(products.images[row], pixels=pixels))

    def card(self, row: int, view: str = "product", *, pixels: int = THUMBNAIL_PIXELS, **more) -> dict:
        """A product shown through `view`: a searched title is prominent, a picture that was not is small beside it."""
        products = self.products
        return {
            "id": products.ids[row],
            "title": products.titles[row] or "(no title)",
            "leaf": leaf(products.category_paths[row]),
            "adult": products.adult[row] == "yes",
            "picture": self.thumbnail(int(row), pixels),
            "view": view,
        } | more
