"""Brand emblems: a figure in the brand's colour on a small white badge.

The badge keeps the emblem readable on any pattern, so the brand is visible, though small, in every photograph that
shows the part of the product it sits on.
"""

import math

from ecommerce_vl.data.sample.canvas import Canvas, oval
from ecommerce_vl.data.sample.words import Brand

_BADGE = (250, 250, 248)
_RIM = (58, 58, 64)


def draw_emblem(canvas: Canvas, brand: Brand, x: float, y: float, radius: float) -> None:
    """Draw the emblem of `brand` centred at (x, y) with the given badge radius (canvas units)."""
    canvas.fill(oval(x, y, radius * 1.12, radius * 1.12), _RIM)
    canvas.fill(oval(x, y, radius, radius), _BADGE)
    reach = radius * 0.72

    def place(points: list[tuple[float, float]]) -> None:
        canvas.fill([(x + px * reach, y + py * reach) for px, py in points], brand.color)

    if brand.figure in _POLYGONS:
        for polygon in _POLYGONS[brand.figure]:
            place(polygon)
    elif brand.figure == "flower":
        for k in range(5):
            angle = 2 * math.pi * k / 5
            place(oval(0.6 * math.sin(angle), -0.6 * math.cos(angle), 0.42, 0.42))
    else:
        place(oval(0, 0, 1, 1))
        if brand.figure == "ring":
            canvas.fill(oval(x, y, reach * 0.5, reach * 0.5), _BADGE)
        elif brand.figure == "crescent":
            canvas.fill(oval(x + reach * 0.45, y - reach * 0.2, reach * 0.75, reach * 0.75), _BADGE)


def _star() -> list[tuple[float, float]]:
    points = []
    for k in range(10):
        angle, length = math.pi * k / 5, 1.1 if k % 2 == 0 else 0.45
        points.append((length * math.sin(angle), -length * math.cos(angle)))
    return points


_POLYGONS = {
    "triangle": [[(0, -1), (0.95, 0.75), (-0.95, 0.75)]],
    "square": [[(-0.75, -0.75), (0.75, -0.75), (0.75, 0.75), (-0.75, 0.75)]],
    "diamond": [[(0, -1.05), (0.75, 0), (0, 1.05), (-0.75, 0)]],
    "cross": [[(-0.3, -1), (0.3, -1), (0.3, 1), (-0.3, 1)], [(-1, -0.3), (1, -0.3), (1, 0.3), (-1, 0.3)]],
    "chevron": [[(-0.9, 0.1), (0, -0.9), (0.9, 0.1), (0.9, 0.8), (0, -0.2), (-0.9, 0.8)]],
    "peak": [[(-1, 0.7), (-0.35, -0.7), (0.05, 0), (0.4, -0.4), (1, 0.7)]],
    "bolt": [[(0.2, -1.1), (-0.7, 0.2), (-0.05, 0.2), (-0.3, 1.1), (0.7, -0.25), (0.05, -0.25)]],
    "bars": [[(k, -0.85), (k + 0.4, -0.85), (k + 0.4, 0.85), (k, 0.85)] for k in (-0.9, -0.2, 0.5)],
    "star": [_star()],
}
