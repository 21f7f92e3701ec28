"""Silhouettes of home goods and bottles.

Each function draws one product on a canvas; everything drawn from `rng` is the style's own geometry, the same for every
colour and size of the style and told nowhere in the text. Mugs and pots, bowls and plates, and the three kinds of
bottle overlap on purpose: telling them apart takes the detail (handle, rim, neck), not the outline's area.
"""

import numpy as np

from ecommerce_vl.data.sample.canvas import Canvas, Color, mirrored, oval, rounded, smooth
from ecommerce_vl.data.sample.chance import happens, pick

_STEEL = (176, 180, 188)
_DARK = (48, 46, 50)
_PAPER = (246, 240, 224)


def draw_mug(canvas: Canvas, rng: np.random.Generator) -> None:
    top, bottom = rng.uniform(0.18, 0.34), rng.uniform(0.76, 0.88)
    wide, base = rng.uniform(0.21, 0.28), rng.uniform(0.15, 0.26)
    center, lip = 0.44, rng.uniform(0.035, 0.06)
    middle, size = (top + bottom) / 2, rng.uniform(0.11, 0.17)
    handle = oval(center + wide * 0.92, middle, size * rng.uniform(0.9, 1.2), size * 1.15, -95, 95)
    canvas.stroke(handle, rng.uniform(0.045, 0.065), pick(rng, ("body", "shade")))
    right = [(wide, top), (wide * 0.99, middle), (base, bottom - 0.02), (base * 0.8, bottom + 0.02)]
    canvas.fill([(x - 0.5 + center, y) for x, y in mirrored(right)])
    canvas.fill(oval(center, top, wide, lip), "light")
    canvas.fill(oval(center, top + 0.006, wide - 0.025, lip - 0.012), pick(rng, ("ink", (74, 44, 30), (236, 232, 226))))
    canvas.logo(center - 0.02, middle + 0.04, 0.055)


def draw_pot(canvas: Canvas, rng: np.random.Generator) -> None:
    top, bottom = rng.uniform(0.36, 0.46), rng.uniform(0.74, 0.84)
    wide, base = rng.uniform(0.28, 0.33), rng.uniform(0.24, 0.3)
    one_handle = happens(rng, 0.4)
    center = 0.38 if one_handle else 0.5
    knob = pick(rng, (_DARK, _STEEL, _STEEL))
    if one_handle:
        canvas.stroke([(center + wide - 0.02, top + 0.07), (0.97, top + rng.uniform(-0.04, 0.06))], 0.05, knob)
    else:
        for side in (1, -1):
            x = center + side * wide
            loop = [(x, top + 0.06), (x + side * 0.09, top + 0.05), (x + side * 0.1, top + 0.13), (x, top + 0.14)]
            canvas.stroke(loop, 0.03, knob)
    right = [(wide, top), (wide, (top + bottom) / 2), (base, bottom - 0.02), (base * 0.85, bottom + 0.02)]
    canvas.fill([(x - 0.5 + center, y) for x, y in mirrored(right)])
    if happens(rng, 0.7):
        rise = rng.uniform(0.07, 0.13)
        canvas.fill(oval(center, top, wide + 0.015, rise, 180, 360), "shade")
        canvas.stroke([(center, top - rise + 0.01), (center, top - rise - 0.03)], 0.035, knob)
        canvas.fill(oval(center, top - rise - 0.04, 0.05, 0.024), knob)
    else:
        canvas.fill(oval(center, top, wide, 0.05), "light")
        canvas.fill(oval(center, top + 0.006, wide - 0.02, 0.038), "ink")
    canvas.stroke([(center - wide, top + 0.02), (center + wide, top + 0.02)], 0.018, "light")
    canvas.logo(center, (top + bottom) / 2 + 0.04, 0.05)


def draw_plate(canvas: Canvas, rng: np.random.Generator) -> None:
    tilt, rim = rng.uniform(0.3, 0.42), rng.uniform(0.55, 0.75)
    canvas.fill(oval(0.5, 0.52, 0.43, tilt + 0.02), "shade")
    canvas.fill(oval(0.5, 0.5, 0.43, tilt))
    style = pick(rng, ("ring", "double", "plain"))
    if style != "plain":
        canvas.stroke(oval(0.5, 0.5, 0.41, tilt - 0.02), 0.02, "trim")
    if style == "double":
        canvas.stroke(oval(0.5, 0.5, 0.36, tilt - 0.07), 0.01, "trim")
    canvas.fill(oval(0.5, 0.5, 0.43 * rim, tilt * rim), pick(rng, ("light", "light", "body")))
    canvas.stroke(oval(0.5, 0.5, 0.43 * rim, tilt * rim), 0.008)
    canvas.logo(0.5, 0.5, 0.05)


def draw_bowl(canvas: Canvas, rng: np.random.Generator) -> None:
    top, depth = rng.uniform(0.34, 0.46), rng.uniform(0.3, 0.42)
    wide, lip = rng.uniform(0.34, 0.44), rng.uniform(0.06, 0.14)
    foot = rng.uniform(0.1, 0.18)
    canvas.fill(rounded(0.5 - foot, top + depth - 0.05, 0.5 + foot, top + depth + 0.04, 0.01), "shade")
    canvas.fill(oval(0.5, top, wide, depth, 0, 180))
    canvas.fill(oval(0.5, top, wide, lip), "light")
    canvas.fill(oval(0.5, top + 0.01, wide - 0.025, lip - 0.015), pick(rng, ("shade", "trim", "ink")))
    canvas.logo(0.5, top + depth * 0.6, 0.05)


def draw_vase(canvas: Canvas, rng: np.random.Generator) -> None:
    neck, belly, foot = rng.uniform(0.05, 0.14), rng.uniform(0.16, 0.3), rng.uniform(0.08, 0.17)
    neck_y, belly_y = rng.uniform(0.2, 0.32), rng.uniform(0.5, 0.68)
    lip = neck + rng.uniform(0, 0.06)
    if happens(rng, 0.3):
        for side in (1, -1):
            loop = [
                (0.5 + side * neck, neck_y),
                (0.5 + side * belly * 1.1, neck_y + 0.02),
                (0.5 + side * belly, belly_y),
            ]
            canvas.stroke(smooth(loop, closed=False), 0.035, "shade")
    right = [(lip, 0.1), (neck, neck_y), (belly, belly_y), (foot, 0.88), (foot * 1.05, 0.92)]
    canvas.fill(mirrored(right))
    canvas.fill(oval(0.5, 0.1, lip, 0.03), "light")
    canvas.fill(oval(0.5, 0.104, max(lip - 0.02, 0.02), 0.02), "ink")
    if happens(rng, 0.4):
        canvas.stroke([(0.5 - neck, neck_y), (0.5 + neck, neck_y)], 0.03, "trim")
    canvas.logo(0.5, belly_y, 0.05)


def draw_cushion(canvas: Canvas, rng: np.random.Generator) -> None:
    half, tall, pinch = 0.38, rng.uniform(0.26, 0.38), rng.uniform(0.02, 0.06)
    corners = [(half, -tall), (half - pinch, 0), (half, tall), (0, tall - pinch)]
    corners += [(-half, tall), (pinch - half, 0), (-half, -tall), (0, pinch - tall)]
    canvas.fill(smooth([(0.5 + x, 0.5 + y) for x, y in corners]))
    trimming = pick(rng, ("piping", "tassels", "button", "none"))
    if trimming == "piping":
        canvas.stroke(smooth([(0.5 + 0.95 * x, 0.5 + 0.95 * y) for x, y in corners]), 0.016, "trim")
    elif trimming == "tassels":
        for x, y in corners[::2]:
            canvas.stroke([(0.5 + 0.97 * x, 0.5 + 0.97 * y), (0.5 + 1.12 * x, 0.5 + 1.15 * y)], 0.04, "trim")
    elif trimming == "button":
        canvas.fill(oval(0.5, 0.5, 0.035, 0.035), "trim")
        for x, y in corners[::2]:
            canvas.stroke([(0.5 + 0.1 * x, 0.5 + 0.1 * y), (0.5 + 0.4 * x, 0.5 + 0.4 * y)], 0.007)
    canvas.logo(0.5 + 0.22, 0.5 + tall * 0.6, 0.042)


def draw_lamp(canvas: Canvas, rng: np.random.Generator) -> None:
    narrow, wide = rng.uniform(0.08, 0.24), rng.uniform(0.2, 0.34)
    top, edge = rng.uniform(0.06, 0.12), rng.uniform(0.36, 0.48)
    stem = rng.uniform(0.02, 0.09)
    stand = pick(rng, (_STEEL, _DARK, (150, 108, 66), "trim"))
    belly = [(0.02, edge - 0.02), (stem, (edge + 0.9) / 2), (0.03, 0.86)]
    canvas.fill(mirrored(belly), stand)
    canvas.fill(rounded(0.5 - rng.uniform(0.12, 0.2), 0.86, 0.5 + rng.uniform(0.12, 0.2), 0.92, 0.025), stand)
    canvas.fill(oval(0.5, edge, wide, 0.035), (255, 236, 170))
    curved = happens(rng, 0.4)
    shade = [(narrow, top), ((narrow + wide) / 2 + (0.06 if curved else 0), (top + edge) / 2), (wide, edge)]
    canvas.fill(mirrored(shade, curved=curved))
    canvas.stroke([(0.5 - wide, edge), (0.5 + wide, edge)], 0.014, "trim")
    canvas.logo(0.5, edge - 0.12, 0.045)


def draw_chair(canvas: Canvas, rng: np.random.Generator) -> None:
    wide, top = rng.uniform(0.2, 0.27), rng.uniform(0.05, 0.16)
    seat, splay, leg = rng.uniform(0.5, 0.58), rng.uniform(0, 0.07), rng.uniform(0.025, 0.045)
    for side, depth in ((1, 0.88), (-1, 0.88), (1, 0.95), (-1, 0.95)):
        inset = 0.05 if depth < 0.9 else 0
        foot = (0.5 + side * (wide - inset + splay), depth)
        canvas.stroke([(0.5 + side * (wide - inset - 0.01), seat), foot], leg, "shade" if inset else "body")
    back = pick(rng, ("solid", "slats", "ladder", "round"))
    if back == "solid":
        canvas.fill(rounded(0.53 - wide, top, 0.47 + wide, seat - 0.02, rng.uniform(0.02, 0.1)))
    elif back == "round":
        canvas.fill(oval(0.5, (top + seat) / 2, wide - 0.02, (seat - top) / 2))
    else:
        for side in (1, -1):
            canvas.stroke([(0.5 + side * (wide - 0.03), top), (0.5 + side * (wide - 0.02), seat)], leg * 1.2, "body")
        canvas.stroke([(0.53 - wide, top + 0.02), (0.47 + wide, top + 0.02)], 0.06, "body")
        for k in np.linspace(0.2, 0.8, 4):
            if back == "slats":
                x = 0.53 - wide + k * (2 * wide - 0.06)
                canvas.stroke([(x, top), (x, seat)], 0.022, "shade")
            else:
                y = top + k * (seat - top)
                canvas.stroke([(0.53 - wide, y), (0.47 + wide, y)], 0.03, "shade")
    canvas.fill(
        [(0.53 - wide, seat - 0.05), (0.47 + wide, seat - 0.05), (0.52 + wide, seat + 0.02), (0.48 - wide, seat + 0.02)]
    )
    canvas.fill(rounded(0.48 - wide, seat + 0.015, 0.52 + wide, seat + 0.05, 0.01), pick(rng, ("trim", "shade")))
    canvas.logo(0.5, top + 0.09, 0.042)


def draw_table(canvas: Canvas, rng: np.random.Generator) -> None:
    wide, top = rng.uniform(0.36, 0.46), rng.uniform(0.26, 0.48)
    stance = pick(rng, ("four", "pedestal", "trestle"))
    leg, splay = rng.uniform(0.025, 0.05), rng.uniform(-0.06, 0.04)
    if stance == "pedestal":
        canvas.stroke([(0.5, top), (0.5, 0.84)], leg * 1.6, "shade")
        canvas.fill(oval(0.5, 0.86, 0.2, 0.04), "shade")
    elif stance == "trestle":
        for side in (1, -1):
            for foot in (0.08, -0.08):
                canvas.stroke(
                    [(0.5 + side * (wide - 0.12), top), (0.5 + side * (wide - 0.12) + foot, 0.9)], leg, "body"
                )
    else:
        for side in (1, -1):
            canvas.stroke([(0.5 + side * (wide - 0.12), top), (0.5 + side * (wide - 0.12 + splay), 0.82)], leg, "shade")
            canvas.stroke([(0.5 + side * (wide - 0.03), top), (0.5 + side * (wide - 0.03 + splay), 0.92)], leg, "body")
    if happens(rng, 0.4):
        canvas.fill(rounded(0.56 - wide, top, 0.44 + wide, top + 0.12, 0.01), "shade")
        canvas.fill(oval(0.5, top + 0.08, 0.022, 0.014), "trim")
    if happens(rng, 0.5):
        canvas.fill(oval(0.5, top + 0.025, wide, 0.09), "shade")
        canvas.fill(oval(0.5, top, wide, 0.09))
    else:
        canvas.fill(
            [(0.58 - wide, top - 0.09), (0.42 + wide, top - 0.09), (0.5 + wide, top + 0.03), (0.5 - wide, top + 0.03)]
        )
        canvas.fill(rounded(0.5 - wide, top + 0.025, 0.5 + wide, top + 0.06, 0.005), "shade")
    canvas.logo(0.5 + wide * 0.5, top - 0.02, 0.04)


def _label(
    canvas: Canvas, width: float, top: float, bottom: float, paint: str | Color, rng: np.random.Generator
) -> None:
    """Put a paper label with the emblem and a few lines around a bottle."""
    canvas.fill(rounded(0.5 - width, top, 0.5 + width, bottom, 0.01), paint)
    band = pick(rng, ("top", "both", "none"))
    if band != "none":
        canvas.fill(rounded(0.5 - width, top + 0.01, 0.5 + width, top + 0.035, 0.002), "trim")
    if band == "both":
        canvas.fill(rounded(0.5 - width, bottom - 0.035, 0.5 + width, bottom - 0.01, 0.002), "trim")
    for k in range(int(rng.integers(1, 4))):
        y = bottom - 0.055 - 0.022 * k
        canvas.stroke([(0.5 - width * 0.6, y), (0.5 + width * (0.6 - 0.2 * k), y)], 0.008, "ink")
    canvas.logo(0.5, top + 0.085, 0.05)


def draw_wine(canvas: Canvas, rng: np.random.Generator) -> None:
    wide, shoulder = rng.uniform(0.105, 0.14), rng.uniform(0.34, 0.44)
    slope = rng.uniform(0.03, 0.12)
    right = [
        (0.042, 0.05),
        (0.042, shoulder - slope),
        (wide * 0.9, shoulder + 0.02),
        (wide, shoulder + 0.1),
        (wide, 0.95),
    ]
    canvas.fill(mirrored(right))
    capsule = rng.uniform(0.12, 0.2)
    canvas.fill(
        rounded(0.452, 0.035, 0.548, 0.05 + capsule, 0.01),
        pick(rng, ("trim", (140, 26, 44), (30, 30, 34), (196, 160, 80))),
    )
    top = rng.uniform(0.52, 0.6)
    _label(canvas, wide * 0.98, top, top + rng.uniform(0.24, 0.32), _PAPER, rng)


def draw_spirits(canvas: Canvas, rng: np.random.Generator) -> None:
    wide, shoulder = rng.uniform(0.15, 0.21), rng.uniform(0.3, 0.38)
    right = [(0.05, 0.12), (0.05, shoulder - 0.05), (wide * 0.92, shoulder), (wide, shoulder + 0.05), (wide, 0.93)]
    canvas.fill(mirrored(right, curved=happens(rng, 0.5)))
    canvas.fill(rounded(0.435, 0.05, 0.565, rng.uniform(0.13, 0.17), 0.012), pick(rng, (_DARK, (150, 108, 66), "trim")))
    top = rng.uniform(0.46, 0.54)
    _label(
        canvas,
        wide * rng.uniform(0.7, 0.98),
        top,
        top + rng.uniform(0.26, 0.36),
        pick(rng, (_PAPER, "light", "ink")),
        rng,
    )


def draw_juice(canvas: Canvas, rng: np.random.Generator) -> None:
    wide, shoulder = rng.uniform(0.13, 0.18), rng.uniform(0.28, 0.4)
    waist = wide * rng.uniform(0.82, 1.0)
    right = [
        (0.06, 0.1),
        (0.065, shoulder - 0.1),
        (wide, shoulder + 0.04),
        (waist, 0.62),
        (wide, 0.85),
        (wide * 0.9, 0.94),
    ]
    canvas.fill(mirrored(right))
    canvas.fill(rounded(0.425, 0.05, 0.575, 0.13, 0.012), pick(rng, ("trim", "light", (240, 240, 236))))
    fruit = pick(rng, ((236, 128, 36), (206, 44, 52), (120, 172, 60), (240, 200, 60)))
    top = rng.uniform(0.46, 0.52)
    _label(canvas, waist * 0.99, top, top + 0.3, pick(rng, (_PAPER, "light")), rng)
    canvas.fill(oval(0.5 + waist * 0.5, top + 0.2, 0.05, 0.05), fruit)
