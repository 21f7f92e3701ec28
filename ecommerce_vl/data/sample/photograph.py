"""Turns a cut-out into a photograph as a seller would take it.

Everything here is nuisance: backdrop, crop, turn, mirror, shadow, exposure, colour cast, noise, watermark and JPEG
quality. None of it depends on the product, and none of it is allowed to hide the product or to change its colour beyond
what a cheap camera does.
"""

import functools
import io

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from ecommerce_vl.data.sample.canvas import SIDE
from ecommerce_vl.data.sample.chance import generator, happens, pick
from ecommerce_vl.data.sample.sellers import Seller

PIXELS = 128

_DOWN, _RIGHT = np.mgrid[0:PIXELS, 0:PIXELS].astype(np.float32) / PIXELS
_TINTS = ((226, 232, 240), (244, 226, 220), (222, 238, 224), (246, 238, 206), (232, 222, 242), (206, 226, 232))
_WALLS = ((224, 216, 204), (206, 214, 218), (230, 224, 226), (198, 206, 190), (236, 228, 206))
_FLOORS = ((176, 138, 98), (150, 146, 142), (120, 92, 70), (198, 188, 172))


def photograph(cutout: Image.Image, seller: Seller, rng: np.random.Generator, closeup: bool) -> Image.Image:
    """Return an RGB photograph, `PIXELS` square; a close-up shows a detail and may cut the outline."""
    product = _placed(cutout, rng, closeup)
    alpha = product.getchannel("A")
    cover = np.asarray(alpha, np.float32)[..., None] / 255
    scene = _backdrop(pick(rng, seller.backdrops), rng)
    shadow = alpha.transform(
        alpha.size, Image.Transform.AFFINE, (1, 0, -rng.uniform(-4, 5), 0, 1, -rng.uniform(1, 6))
    ).filter(ImageFilter.GaussianBlur(rng.uniform(2, 5)))
    scene = scene * (1 - rng.uniform(0.15, 0.45) / 255 * np.asarray(shadow, np.float32)[..., None])
    scene = scene + (np.asarray(product.convert("RGB"), np.float32) - scene) * cover
    if seller.watermark:
        scene = scene + (255 - scene) * _watermark(seller.name, rng)[..., None]
    image = Image.fromarray(_developed(scene, rng))
    if happens(rng, 0.12):
        image = image.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 0.8)))
    return image


def encoded(image: Image.Image, rng: np.random.Generator, form: str) -> bytes:
    """Return the photograph as the bytes of a "jpg" (quality around 88) or "png" file."""
    file = io.BytesIO()
    if form == "png":
        image.save(file, "PNG")
    else:
        image.save(file, "JPEG", quality=int(np.clip(rng.normal(88, 4), 72, 96)))
    return file.getvalue()


def _placed(cutout: Image.Image, rng: np.random.Generator, closeup: bool) -> Image.Image:
    """Return the cut-out as the camera sees it: scaled, turned, shifted, sheared, sometimes mirrored."""
    scale = rng.uniform(1.25, 1.7) if closeup else rng.uniform(0.78, 1.02)
    turn = np.radians(rng.normal(0, 4) if happens(rng, 0.9) else rng.uniform(-25, 25))
    room = 0.18 if closeup else 0.05 + 0.5 * max(0, 0.95 - scale)
    shift = rng.uniform(-room, room, 2)
    # Corners of the photograph (upper left, lower left, lower right, upper right) mapped back onto the cut-out.
    corners = np.array([[-0.5, -0.5], [-0.5, 0.5], [0.5, 0.5], [0.5, -0.5]]) - shift
    corners = corners @ np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    corners = corners / (scale * rng.uniform([0.92, 0.96], [1.04, 1.04])) + rng.normal(0, 0.015, (4, 2))
    if happens(rng, 0.12):
        corners[:, 0] *= -1
    quad = tuple(((corners + 0.5) * SIDE).ravel())
    return cutout.transform((SIDE, SIDE), Image.Transform.QUAD, quad, Image.Resampling.BILINEAR).reduce(SIDE // PIXELS)


def _backdrop(kind: str, rng: np.random.Generator) -> np.ndarray:
    """Return the empty scene as float RGB."""
    if kind == "white":
        return np.full((PIXELS, PIXELS, 3), rng.uniform(246, 255), np.float32)
    if kind == "grey":
        return _between((rng.uniform(200, 226),) * 3, (rng.uniform(160, 200),) * 3, _DOWN)
    if kind == "color":
        tint = np.clip(np.array(pick(rng, _TINTS)) + rng.normal(0, 8, 3), 0, 255)
        return _between(tint, tint * 0.93, _DOWN)
    if kind == "gradient":
        center = rng.uniform(0.3, 0.7, 2)
        distance = np.clip(np.hypot(_RIGHT - center[0], _DOWN - center[1]) * 1.3, 0, 1)
        return _between((252, 252, 252), pick(rng, _TINTS), distance)
    if kind == "wood":
        wave = np.sin(_DOWN * rng.uniform(60, 110) + 2 * np.sin(_RIGHT * rng.uniform(3, 8) + rng.uniform(0, 6)))
        scene = _between((214, 180, 140), (186, 146, 104), 0.5 + 0.3 * wave)
        scene[(np.arange(PIXELS) + int(rng.integers(40))) % 40 == 0] *= 0.8
        return scene * np.float32(rng.uniform(0.85, 1.1))
    # "floor" and "room": a wall above a floor; the room adds a skirting board and something hanging on the wall.
    horizon = rng.uniform(0.62, 0.84)
    wall, ground = np.float32(pick(rng, _WALLS)), np.float32(pick(rng, _FLOORS))
    scene = np.where((horizon > _DOWN)[..., None], wall * (0.9 + 0.12 * _RIGHT[..., None]), ground)
    if kind == "room":
        scene[int((horizon - 0.035) * PIXELS) : int(horizon * PIXELS)] = wall * 1.05
        x, y = rng.integers(4, 90, 2)
        scene[y // 3 : y // 3 + 26, x : x + 30] = wall * 0.8
        scene[y // 3 + 2 : y // 3 + 24, x + 2 : x + 28] = np.float32(pick(rng, _TINTS)) * 0.92
    return scene.astype(np.float32)


def _between(first, second, share: np.ndarray) -> np.ndarray:
    first, second = np.float32(first), np.float32(second)
    return first + (second - first) * share[..., None]


def _watermark(name: str, rng: np.random.Generator) -> np.ndarray:
    """Return the coverage (0 to 1) of the seller's name somewhere on the photograph."""
    stamp = _stamp(name)
    cover = np.zeros((PIXELS, PIXELS), np.float32)
    height, width = stamp.shape
    x = int(rng.integers(2, PIXELS - width - 1))
    y = int(pick(rng, (3, PIXELS - height - 3, PIXELS // 2)))
    cover[y : y + height, x : x + width] = stamp * rng.uniform(0.35, 0.6)
    return cover


@functools.cache
def _stamp(name: str) -> np.ndarray:
    # Pillow's built-in bitmap font: no font file to find, and the same pixels on every machine.
    font = ImageFont.load_default_imagefont()
    left, top, right, bottom = (int(edge) for edge in font.getbbox(name))
    image = Image.new("L", (right - left, bottom - top), 0)
    ImageDraw.Draw(image).text((-left, -top), name, fill=255, font=font)
    return np.asarray(image, np.float32) / 255


def _developed(scene: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return the scene as 8-bit pixels after exposure, contrast, colour cast, uneven light and sensor noise."""
    gain = rng.normal(1, 0.06) * rng.normal(1, 0.02, 3)
    contrast = rng.uniform(0.85, 1.12)
    light = 1 + rng.normal(0, 0.08) * (_RIGHT - 0.5) + rng.normal(0, 0.08) * (_DOWN - 0.5)
    pixels = ((scene - 128) * np.float32(contrast) + 128) * gain.astype(np.float32) * light[..., None]
    # One cheap tile of noise, rolled: drawing 50,000 normal deviates per photograph would cost more than the rest.
    noise = np.roll(_grain(), (int(rng.integers(PIXELS)), int(rng.integers(PIXELS))), (0, 1))
    return np.clip(pixels + noise * np.float32(rng.uniform(0, 5)), 0, 255).astype(np.uint8)


@functools.cache
def _grain() -> np.ndarray:
    return generator(0, "grain").normal(0, 1, (PIXELS, PIXELS, 3)).astype(np.float32)
