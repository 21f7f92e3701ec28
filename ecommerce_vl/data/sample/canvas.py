"""The drawing surface of the sample catalog: one product cut-out on a transparent square.

Shapes are given in unit coordinates (x to the right, y down, 0 to 1) so that geometry is independent of resolution.
The canvas is about 2.5 times finer than a product in the finished photograph; shapes are drawn hard-edged and become
smooth when the photograph is reduced. Paint is "body" (the textured surface of the product), "shade" (the same, turned
from the light), "trim" (the second colour), "ink" (seams), "light" or an (r, g, b) triple.
"""

from collections.abc import Callable, Iterable

import numpy as np
from PIL import Image, ImageDraw

SIDE = 256

Point = tuple[float, float]
Color = tuple[int, int, int]


def smooth(points: Iterable[Point], closed: bool = True, steps: int = 7) -> list[Point]:
    """Return a Catmull-Rom curve through `points`, `steps` points per segment."""
    knots = np.asarray(list(points), dtype=float)
    if closed:
        padded = np.concatenate([knots[-1:], knots, knots[:2]])
    else:
        padded = np.concatenate([knots[:1], knots, knots[-1:]])
    p0, p1, p2, p3 = (padded[k : len(padded) - 3 + k, None, :] for k in range(4))
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    curve = 0.5 * (2 * p1 + (p2 - p0) * t + (2 * p0 - 5 * p1 + 4 * p2 - p3) * t**2 + (3 * p1 - p0 - 3 * p2 + p3) * t**3)
    curve = curve.reshape(-1, 2)
    if not closed:
        curve = np.concatenate([curve, knots[-1:]])
    return [tuple(point) for point in curve]


def mirrored(right: Iterable[Point], curved: bool = True) -> list[Point]:
    """Return the outline symmetric about x = 0.5 whose right half is given as (distance from the axis, y)."""
    right = list(right)
    if curved:
        right = smooth(right, closed=False)
    return [(0.5 + dx, y) for dx, y in right] + [(0.5 - dx, y) for dx, y in reversed(right)]


def oval(x: float, y: float, rx: float, ry: float, start: float = 0, end: float = 360) -> list[Point]:
    """Return points on an ellipse from `start` to `end` degrees, clockwise on the screen from the right."""
    angles = np.radians(np.linspace(start, end, 33))
    return list(zip(x + rx * np.cos(angles), y + ry * np.sin(angles), strict=True))


def rounded(x0: float, y0: float, x1: float, y1: float, radius: float) -> list[Point]:
    """Return a rectangle with rounded corners; the radius is cut to what fits."""
    radius = min(radius, (x1 - x0) / 2, (y1 - y0) / 2)
    corners = ((x1 - radius, y1 - radius, 0), (x0 + radius, y1 - radius, 90))
    corners += ((x0 + radius, y0 + radius, 180), (x1 - radius, y0 + radius, 270))
    points: list[Point] = []
    for x, y, start in corners:
        angles = np.radians(np.linspace(start, start + 90, 7))
        points += zip(x + radius * np.cos(angles), y + radius * np.sin(angles), strict=True)
    return points


def mix(first: Color, second: Color, share: float) -> Color:
    """Return `first` moved towards `second` by `share` (0 to 1)."""
    return tuple(round(a + (b - a) * share) for a, b in zip(first, second, strict=True))


class Canvas:
    """A product cut-out under construction: colours plus coverage.

    `texture` is the full-size image of the body's surface, `color` its main colour, `trim` the second colour,
    `opacity` (0 to 255) how much the body covers, `emblem` draws the brand's emblem.
    """

    def __init__(
        self, texture: Image.Image, color: Color, trim: Color, opacity: int, emblem: Callable[..., None]
    ) -> None:
        self._texture = texture
        self._shade = texture.point(lambda value: value * 0.7)
        self._solid = {"trim": trim, "ink": mix(color, (16, 14, 22), 0.5), "light": mix(color, (255, 255, 255), 0.45)}
        self._opacity = opacity
        self._emblem = emblem
        self.image = Image.new("RGB", (SIDE, SIDE), color)
        self.alpha = Image.new("L", (SIDE, SIDE), 0)
        self._on_image = ImageDraw.Draw(self.image)
        self._on_alpha = ImageDraw.Draw(self.alpha)

    def fill(self, points: Iterable[Point], paint: str | Color = "body") -> None:
        """Fill a polygon."""
        scaled = [(x * SIDE, y * SIDE) for x, y in points]
        self._apply(lambda draw, value: draw.polygon(scaled, fill=value), paint)

    def stroke(self, points: Iterable[Point], width: float, paint: str | Color = "ink") -> None:
        """Draw an open line with round ends; `width` is in units of the canvas side."""
        scaled = [(x * SIDE, y * SIDE) for x, y in points]
        pixels = max(1, round(width * SIDE))
        radius = pixels / 2 - 0.5

        def line(draw: ImageDraw.ImageDraw, value: Color | int) -> None:
            draw.line(scaled, fill=value, width=pixels, joint="curve")
            if pixels > 3:
                for x, y in (scaled[0], scaled[-1]):
                    draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=value)

        self._apply(line, paint)

    def cut(self, points: Iterable[Point]) -> None:
        """Make a polygon transparent again."""
        self._on_alpha.polygon([(x * SIDE, y * SIDE) for x, y in points], fill=0)

    def logo(self, x: float, y: float, radius: float = 0.045) -> None:
        """Put the brand's emblem at (x, y)."""
        self._emblem(self, x, y, radius)

    def _apply(self, shape: Callable[[ImageDraw.ImageDraw, Color | int], None], paint: str | Color) -> None:
        if paint in ("body", "shade"):
            mask = Image.new("L", (SIDE, SIDE), 0)
            shape(ImageDraw.Draw(mask), 255)
            self.image.paste(self._texture if paint == "body" else self._shade, (0, 0), mask)
            shape(self._on_alpha, self._opacity)
        else:
            shape(self._on_image, self._solid[paint] if isinstance(paint, str) else paint)
            shape(self._on_alpha, 255)
