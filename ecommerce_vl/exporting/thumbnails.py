"""Thumbnails beside the vectors, so that whoever searches them can show products without the prepared data."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from PIL import Image

from ecommerce_vl.data.images import MAX_PIXELS, ImageDefect, decode

FOLDER = "thumbnails"
PIXELS = 128  # longer side at most
QUALITY = 85  # of JPEG; about 4 kB a picture
SCHEMA = pa.schema(
    [("product_id", pa.string())]
    + [(name, pa.string()) for name in ("title", "brand", "category", "locale", "adult")]
    + [("thumbnail", pa.binary())]
)


def thumbnail(data: bytes | None, *, pixels: int = PIXELS) -> bytes | None:
    """The picture as a JPEG whose longer side is at most `pixels`; None for a missing or unreadable one."""
    if not data:
        return None
    try:
        picture = decode(data, target=pixels, max_pixels=MAX_PIXELS)
    except ImageDefect:
        return None
    picture.thumbnail((pixels, pixels), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=QUALITY, optimize=True)
    return encoded.getvalue()


def thumbnail_table(records: Sequence[Mapping[str, Any]], *, pictures: Sequence[bytes | None]) -> pa.Table:
    """What a search page shows of each record; `pictures` are its thumbnails, None where there is none."""
    return pa.table(
        {
            "product_id": [record["id"] for record in records],
            "title": [record["title"] for record in records],
            "brand": [record["brand"] for record in records],
            "category": [record["product_type"] for record in records],
            "locale": [record["locale"] for record in records],
            "adult": [record["adult"] for record in records],
            "thumbnail": list(pictures),
        },
        schema=SCHEMA,
    )
