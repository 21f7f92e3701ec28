"""Draws a product of the sample catalog as a cut-out: the object alone on transparent ground.

Geometry and print come from the style, colour from the product, so two sizes of one colour look the same and two
colours of one style share every line. The photograph is made elsewhere, per listing.
"""

import numpy as np
from PIL import Image, ImageFilter

from ecommerce_vl.data.sample import accessories, furnishings, garments
from ecommerce_vl.data.sample.canvas import SIDE, Canvas, Color, mix
from ecommerce_vl.data.sample.chance import generator, pick
from ecommerce_vl.data.sample.emblems import draw_emblem
from ecommerce_vl.data.sample.products import Product
from ecommerce_vl.data.sample.surfaces import GLOSS, OPACITY, surface
from ecommerce_vl.data.sample.words import PIGMENTS

SHAPES = {
    name.removeprefix("draw_"): shape
    for module in (garments, accessories, furnishings)
    for name, shape in vars(module).items()
    if name.startswith("draw_")
}


def draw_product(product: Product, seed: int) -> Image.Image:
    """Return the RGBA cut-out of `product`, `canvas.SIDE` pixels square."""
    style = product.style
    tint = generator(seed, "tint", style.index).normal(0, 7, 3)
    color = tuple(int(value) for value in np.clip(np.array(PIGMENTS[product.color]) + tint, 8, 247))
    second = _second_color(color, generator(seed, "second", style.index, sorted(PIGMENTS).index(product.color)))
    texture = surface(color, second, style.pattern, style.material, generator(seed, "print", style.index))
    canvas = Canvas(
        texture,
        color,
        second,
        OPACITY.get(style.material, 255),
        lambda canvas, x, y, radius: draw_emblem(canvas, style.brand, x, y, radius),
    )
    SHAPES[style.category.key](canvas, generator(seed, "geometry", style.index))
    return _lit(canvas, style.category.form, GLOSS.get(style.material, 0.08))


def _second_color(color: Color, rng: np.random.Generator) -> Color:
    """Return a colour for prints and trims that stands out from `color`."""
    far = [pigment for pigment in PIGMENTS.values() if np.abs(np.subtract(pigment, color)).sum() > 210]
    soft = mix(color, (255, 255, 255) if sum(color) < 400 else (30, 28, 40), 0.6)
    return pick(rng, (pick(rng, far), soft, (242, 240, 234) if sum(color) < 480 else (52, 54, 70)))


def _lit(canvas: Canvas, form: str, gloss: float) -> Image.Image:
    """Return the finished cut-out, modelled as a soft relief lit from the upper left."""
    alpha = canvas.alpha
    # The blurred silhouette serves as a height map: it falls off at every edge, so its slope is the surface's tilt.
    low = alpha.reduce(4).filter(ImageFilter.GaussianBlur(3)).resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    height = np.asarray(low, np.float32) / 255
    slope = np.zeros_like(height)
    slope[3:-3, 3:-3] = height[6:, 3:-3] - height[:-6, 3:-3] + height[3:-3, 6:] - height[3:-3, :-6]
    light = 0.78 + 0.24 * height + 0.75 * slope
    shine = np.clip(slope - 0.1, 0, 1) * gloss
    if form == "round":
        columns = np.flatnonzero(np.asarray(alpha).max(axis=0))
        across = (np.arange(SIDE, dtype=np.float32) - columns[0]) / max(1, columns[-1] - columns[0])
        light *= 0.62 + 0.46 * np.cos((across - 0.38) * 2.3)
        shine = shine + gloss * 0.45 * np.exp(-(((across - 0.27) / 0.05) ** 2))
    else:
        diagonal = np.add.outer(np.arange(SIDE, dtype=np.float32), np.arange(SIDE, dtype=np.float32)) / SIDE
        shine = shine + gloss * 0.22 * np.exp(-(((diagonal - 0.8) / 0.1) ** 2))
    pixels = np.asarray(canvas.image, np.float32)
    pixels = pixels * light[..., None] + 255 * shine[..., None]
    lit = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    lit.putalpha(alpha)
    return lit
