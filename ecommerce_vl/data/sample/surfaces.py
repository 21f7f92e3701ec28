"""Surfaces of the sample catalog: printed patterns and material textures.

A surface is the full canvas-sized image that a shape is cut out of. The pattern (layout, pitch, direction) is drawn
from the style's generator and appears nowhere in the text; the material is a relief that multiplies the colour, so it
shows under every pattern.
"""

import functools

import numpy as np
from PIL import Image, ImageDraw

from ecommerce_vl.data.sample.canvas import SIDE, Color
from ecommerce_vl.data.sample.chance import generator, happens, pick

_Y, _X = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32)

# Opacity of the body (0 to 255) and strength of its highlights, for materials that are not matt and opaque.
OPACITY = {"glass": 205}
GLOSS = {"leather": 0.5, "silk": 0.4, "ceramic": 0.6, "glass": 0.8, "metal": 0.7, "plastic": 0.5, "rubber": 0.25}


def surface(color: Color, second: Color, pattern: str, material: str, rng: np.random.Generator) -> Image.Image:
    """Return the surface image: `pattern` in `second` on `color`, textured as `material`."""
    cover = _PRINTS[pattern](rng)[..., None]
    relief = np.roll(_relief(material), (int(rng.integers(SIDE)), int(rng.integers(SIDE))), (0, 1))[..., None]
    base, over = np.float32(color), np.float32(second)
    return Image.fromarray(np.clip((base + (over - base) * cover) * relief, 0, 255).astype(np.uint8))


def _along(rng: np.random.Generator) -> np.ndarray:
    """Return the coordinate across stripes of a random direction."""
    angle = np.radians(pick(rng, (0, 0, 90, 45, -45)))
    return _Y * np.float32(np.cos(angle)) + _X * np.float32(np.sin(angle))


def _plain(rng: np.random.Generator) -> np.ndarray:
    return np.zeros((SIDE, SIDE), np.float32)


def _striped(rng: np.random.Generator) -> np.ndarray:
    pitch, share = rng.uniform(14, 40), rng.uniform(0.25, 0.6)
    phase = _along(rng) / pitch % 1
    stripes = phase < share
    if happens(rng, 0.3):
        stripes &= ~((phase > share * 0.4) & (phase < share * 0.6))
    return stripes.astype(np.float32)


def _dotted(rng: np.random.Generator) -> np.ndarray:
    pitch, share = rng.uniform(16, 36), rng.uniform(0.2, 0.36)
    row = np.floor(_Y / pitch)
    x = (_X / pitch + 0.5 * (row % 2)) % 1 - 0.5
    y = _Y / pitch % 1 - 0.5
    return (x * x + y * y < share * share).astype(np.float32)


def _checked(rng: np.random.Generator) -> np.ndarray:
    pitch, share = rng.uniform(22, 46), rng.uniform(0.3, 0.5)
    if happens(rng, 0.3):
        return ((_X // pitch + _Y // pitch) % 2).astype(np.float32)
    return 0.5 * (_X / pitch % 1 < share) + 0.5 * (_Y / pitch % 1 < share)


def _zigzag(rng: np.random.Generator) -> np.ndarray:
    pitch, width, depth = rng.uniform(20, 40), rng.uniform(20, 44), rng.uniform(0.3, 0.6)
    fold = np.abs(_X / width % 1 - 0.5) * 2 * depth
    return ((_Y / pitch + fold) % 1 < rng.uniform(0.3, 0.55)).astype(np.float32)


def _blocked(rng: np.random.Generator) -> np.ndarray:
    border = SIDE * rng.uniform(0.4, 0.62)
    slope = pick(rng, (0, 0, 0.5, -0.5))
    return (_Y + slope * (_X - SIDE / 2) > border).astype(np.float32)


def _floral(rng: np.random.Generator) -> np.ndarray:
    petals, size, pitch = int(rng.integers(4, 7)), rng.uniform(4.5, 8.5), rng.uniform(30, 48)
    return _scattered(rng, pitch, functools.partial(_flower, petals=petals, size=size))


def _starry(rng: np.random.Generator) -> np.ndarray:
    size, pitch = rng.uniform(6, 11), rng.uniform(28, 46)
    return _scattered(rng, pitch, functools.partial(_star, size=size))


def _scattered(rng: np.random.Generator, pitch: float, stamp) -> np.ndarray:
    """Return a loose grid of stamps, each drawn by stamp(draw, x, y, turn)."""
    image = Image.new("L", (SIDE, SIDE), 0)
    draw = ImageDraw.Draw(image)
    count = int(SIDE / pitch) + 1
    jitter = rng.uniform(-0.2, 0.2, (count, count, 2))
    for row in range(count):
        for column in range(count):
            dx, dy = jitter[row, column]
            x = (column + 0.5 * (row % 2) + 0.3 + dx) * pitch
            stamp(draw, x, (row + 0.3 + dy) * pitch, turn=5 * dx)
    return np.asarray(image, np.float32) / 255


def _flower(draw: ImageDraw.ImageDraw, x: float, y: float, turn: float, petals: int, size: float) -> None:
    for k in range(petals):
        angle = 2 * np.pi * k / petals + turn
        px, py = x + size * np.cos(angle), y + size * np.sin(angle)
        draw.ellipse((px - size * 0.6, py - size * 0.6, px + size * 0.6, py + size * 0.6), fill=255)
    draw.ellipse((x - size * 0.5, y - size * 0.5, x + size * 0.5, y + size * 0.5), fill=70)


def _star(draw: ImageDraw.ImageDraw, x: float, y: float, turn: float, size: float) -> None:
    angles = np.pi * np.arange(10) / 5 + turn
    reach = size * np.where(np.arange(10) % 2, 0.45, 1.1)
    draw.polygon(list(zip(x + reach * np.sin(angles), y - reach * np.cos(angles), strict=True)), fill=255)


_PRINTS = {
    "plain": _plain,
    "striped": _striped,
    "dotted": _dotted,
    "checked": _checked,
    "floral": _floral,
    "zigzag": _zigzag,
    "blocked": _blocked,
    "starry": _starry,
}


@functools.cache
def _relief(material: str) -> np.ndarray:
    """Return the brightness relief of a material around 1; the same for every catalog, shifted per style."""
    rng = generator(0, "relief " + material)
    turn = np.float32(2 * np.pi / SIDE)  # whole periods only, so that a shifted relief has no seam
    fine = rng.normal(0, 1, (SIDE, SIDE)).astype(np.float32)
    coarse = np.asarray(Image.fromarray(rng.normal(0, 1, (32, 32)).astype(np.float32)).resize((SIDE, SIDE)))
    relief = {
        "cotton": lambda: 0.02 * fine,
        "linen": lambda: 0.05 * np.sin(64 * turn * _X) + 0.05 * np.sin(64 * turn * _Y) + 0.04 * fine,
        "wool": lambda: 0.16 * np.sin(32 * turn * (_X + 2 * np.abs(_Y % 8 - 4))) + 0.04 * fine,
        "silk": lambda: 0.11 * np.sin(3 * turn * _X + 2 * np.sin(2 * turn * _Y)),
        "denim": lambda: 0.1 * np.sin(50 * turn * (_X + _Y)) + 0.06 * fine + 0.05 * coarse,
        "polyester": lambda: 0.04 * np.sin(4 * turn * (_X - _Y)),
        "leather": lambda: 0.07 * coarse + 0.03 * fine,
        "suede": lambda: 0.07 * fine + 0.05 * coarse,
        "canvas": lambda: 0.09 * np.sign(np.sin(42 * turn * _X) * np.sin(42 * turn * _Y)) + 0.03 * fine,
        "rubber": lambda: 0.07 * (np.sin(36 * turn * _X) * np.sin(36 * turn * _Y) > 0.4),
        "ceramic": lambda: 0.015 * fine,
        "glass": lambda: 0.12 * np.sin(3 * turn * _X),
        "metal": lambda: 0.16 * np.sin(5 * turn * _X) + 0.06 * np.sin(13 * turn * _X + 1) + 0.02 * fine[:, :1].T,
        "wood": lambda: 0.13 * np.sin(16 * turn * _Y + 3 * np.sin(turn * _X) + 2.2 * coarse) + 0.03 * fine,
        "plastic": lambda: 0.01 * fine,
        "plush": lambda: 0.12 * fine + 0.07 * coarse,
    }[material]
    return (1 + relief()).astype(np.float32)
