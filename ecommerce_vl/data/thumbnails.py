"""Small JPEGs of pictures, for pages that people look at."""

from __future__ import annotations

import io

from PIL import Image

from ecommerce_vl.data.images import MAX_PIXELS, ImageDefect, decode

QUALITY = 85  # of JPEG; about 4 kB a picture of 128 pixels


def thumbnail(data: bytes | None, *, pixels: int) -> bytes | None:
    """The picture as a JPEG whose longer side is at most `pixels`; None for a missing or unreadable one."""
    if not data:
        return None
    try:
        return shrunk(decode(data, target=pixels, max_pixels=MAX_PIXELS), pixels=pixels)
    except ImageDefect:
        return None


def shrunk(picture: Image.Image, *, pixels: int) -> bytes:
    """An RGB picture as a JPEG whose longer side is at most `pixels`; a smaller one keeps its size."""
    small = picture.copy()
    small.thumbnail((pixels, pixels), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    small.save(encoded, "JPEG", quality=QUALITY, optimize=True)
    return encoded.getvalue()
