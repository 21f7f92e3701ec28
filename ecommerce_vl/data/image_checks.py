"""Pictures that show no product by their shape or their light."""

from __future__ import annotations

from PIL import Image, ImageStat


def check_pixels(image: Image.Image, *, max_aspect: float, min_luma_std: float) -> str | None:
    """The reason to refuse an RGB picture, None if there is none.

    Args:
      image: decoded; a small copy gives the same answer for less.
      max_aspect: longer side over shorter side; above it a banner or a strip, `image_extreme_aspect`. 0: any shape.
      min_luma_std: standard deviation of luma as a share of white; below it a blank sheet, `image_blank`. 0: any light.
    """
    if max_aspect and max(image.size) > max_aspect * min(image.size):
        return "image_extreme_aspect"
    if min_luma_std and ImageStat.Stat(image.convert("L")).stddev[0] < min_luma_std * 255:
        return "image_blank"
    return None
