"""Silhouettes of apparel and footwear.

Each function draws one product on a canvas. Everything drawn from `rng` is the style's own geometry (sleeve length,
hem, heel height, ...): it is the same for every colour and size of the style and is told nowhere in the text.
"""

import numpy as np

from ecommerce_vl.data.sample.canvas import Canvas, mirrored, oval, rounded, smooth
from ecommerce_vl.data.sample.chance import happens, pick


def _sleeves(
    canvas: Canvas, shoulder: float, top: float, armpit: tuple[float, float], reach: float, turn: float, cuff: float
) -> None:
    """Draw both sleeves from the shoulder (distance from the axis, y), `turn` radians from hanging straight."""
    end_x, end_y = shoulder + reach * np.sin(turn), top + reach * np.cos(turn)
    side_x, side_y = cuff * np.cos(turn), -cuff * np.sin(turn)
    for side in (1, -1):
        outline = [
            (shoulder - 0.03, top - 0.015),
            (shoulder + 0.02, top + 0.005),
            (end_x + side_x, end_y + side_y),
            (end_x - side_x, end_y - side_y),
            armpit,
        ]
        canvas.fill([(0.5 + side * x, y) for x, y in outline])
        canvas.stroke([(0.5 + side * (shoulder - 0.01), top + 0.01), (0.5 + side * armpit[0], armpit[1])], 0.007)
        low = [(end_x + 0.9 * side_x, end_y + 0.9 * side_y - 0.02), (end_x - 0.9 * side_x, end_y - 0.9 * side_y - 0.02)]
        canvas.stroke([(0.5 + side * x, y) for x, y in low], 0.006)


def draw_dress(canvas: Canvas, rng: np.random.Generator) -> None:
    hem_y, hem = rng.uniform(0.74, 0.96), rng.uniform(0.16, 0.36)
    waist_y, waist = rng.uniform(0.38, 0.47), rng.uniform(0.1, 0.14)
    neck, depth = rng.uniform(0.05, 0.09), rng.uniform(0.04, 0.14)
    reach = pick(rng, (0, 0, 0.12, 0.2, 0.36))
    if reach:
        _sleeves(canvas, 0.145, 0.1, (0.14, 0.22), reach, rng.uniform(0.35, 0.6), 0.045)
    right = [(neck, 0.07), (0.15, 0.1), (0.145, 0.24), (waist, waist_y)]
    right += [((waist + hem) / 2 + rng.uniform(-0.01, 0.03), (waist_y + hem_y) / 2), (hem, hem_y)]
    canvas.fill(mirrored(right))
    if happens(rng, 0.5):
        canvas.cut(oval(0.5, 0.06, neck, depth))
    else:
        canvas.cut([(0.5 - neck, 0.05), (0.5 + neck, 0.05), (0.5, 0.06 + depth)])
    if happens(rng, 0.6):
        belt = [(waist + 0.004, waist_y - 0.018), (waist + 0.008, waist_y + 0.018)]
        canvas.fill(mirrored(belt, curved=False), "trim")
    for k in np.linspace(-0.6, 0.6, int(rng.integers(2, 6))):
        canvas.stroke([(0.5 + k * waist, waist_y + 0.05), (0.5 + k * hem, hem_y - 0.02)], 0.005)
    canvas.logo(0.5 + 0.07, 0.24, 0.035)


def draw_skirt(canvas: Canvas, rng: np.random.Generator) -> None:
    top, hem_y = rng.uniform(0.14, 0.22), rng.uniform(0.66, 0.94)
    waist, hem, hip = rng.uniform(0.15, 0.19), rng.uniform(0.2, 0.42), rng.uniform(0, 0.05)
    canvas.fill(mirrored([(waist, top), ((waist + hem) / 2 + hip, (top + hem_y) / 2), (hem, hem_y)]))
    canvas.fill(rounded(0.5 - waist, top - 0.02, 0.5 + waist, top + 0.05, 0.01), pick(rng, ("trim", "shade")))
    for k in np.linspace(-0.75, 0.75, int(rng.integers(2, 9))):
        canvas.stroke([(0.5 + k * waist, top + 0.06), (0.5 + k * (hem + hip / 2), hem_y - 0.015)], 0.006)
    if happens(rng, 0.4):
        canvas.fill(mirrored([(hem - 0.012, hem_y - 0.05), (hem, hem_y)], curved=False), "trim")
    canvas.logo(0.5 + waist * 0.6, top + 0.13, 0.036)


def draw_tshirt(canvas: Canvas, rng: np.random.Generator) -> None:
    bottom, width = rng.uniform(0.8, 0.9), rng.uniform(0.2, 0.25)
    reach, neck = rng.uniform(0.13, 0.24), rng.uniform(0.07, 0.1)
    _sleeves(canvas, width - 0.01, 0.17, (width - 0.01, 0.37), reach, rng.uniform(0.5, 0.9), 0.075)
    canvas.fill(
        mirrored([(neck, 0.13), (width, 0.17), (width - 0.01, 0.4), (width + rng.uniform(-0.02, 0.03), bottom)])
    )
    depth = rng.uniform(0.05, 0.12)
    canvas.fill(oval(0.5, 0.13, neck + 0.018, depth + 0.018, 0, 180), pick(rng, ("trim", "shade")))
    canvas.cut(oval(0.5, 0.12, neck, depth))
    canvas.stroke([(0.5 - width + 0.02, bottom - 0.025), (0.5 + width - 0.02, bottom - 0.025)], 0.006)
    motif = pick(rng, ("none", "disc", "band", "diamond", "pocket"))
    if motif == "disc":
        canvas.fill(oval(0.5, 0.48, 0.1, 0.1), "trim")
        canvas.fill(oval(0.5, 0.48, 0.06, 0.06), "light")
    elif motif == "band":
        canvas.fill(rounded(0.5 - width + 0.01, 0.45, 0.5 + width - 0.01, 0.53, 0.01), "trim")
    elif motif == "diamond":
        canvas.fill([(0.5, 0.37), (0.6, 0.49), (0.5, 0.61), (0.4, 0.49)], "trim")
    elif motif == "pocket":
        canvas.fill([(0.37, 0.36), (0.47, 0.36), (0.47, 0.47), (0.42, 0.5), (0.37, 0.47)], "shade")
    canvas.logo(0.5 + 0.12, 0.33, 0.038)


def draw_shirt(canvas: Canvas, rng: np.random.Generator) -> None:
    bottom, width = rng.uniform(0.82, 0.92), rng.uniform(0.19, 0.23)
    _sleeves(canvas, width, 0.18, (width - 0.01, 0.38), rng.uniform(0.38, 0.58), rng.uniform(0.2, 0.45), 0.05)
    tail = rng.uniform(-0.06, 0.02)
    canvas.fill(mirrored([(0.06, 0.13), (width, 0.18), (width - 0.015, 0.5), (width, bottom + tail), (0.08, bottom)]))
    canvas.fill([(0.47, 0.2), (0.53, 0.2), (0.53, bottom - 0.01), (0.47, bottom - 0.01)], "shade")
    for y in np.linspace(0.27, bottom - 0.08, int(rng.integers(4, 8))):
        canvas.fill(oval(0.5, y, 0.011, 0.011), "light")
    spread = rng.uniform(0.06, 0.1)
    for side in (1, -1):
        collar = [(0.5, 0.2), (0.5 + side * spread, 0.25), (0.5 + side * 0.09, 0.12), (0.5 + side * 0.05, 0.1)]
        canvas.fill(collar, "body")
        canvas.stroke([*collar, collar[0]], 0.006)
    if happens(rng, 0.5):
        canvas.stroke([(0.35, 0.36), (0.35, 0.46), (0.39, 0.48), (0.43, 0.46), (0.43, 0.36), (0.35, 0.36)], 0.006)
    canvas.logo(0.61, 0.36, 0.036)


def draw_sweater(canvas: Canvas, rng: np.random.Generator) -> None:
    bottom, width = rng.uniform(0.78, 0.88), rng.uniform(0.21, 0.26)
    reach, turn = rng.uniform(0.48, 0.6), rng.uniform(0.2, 0.5)
    _sleeves(canvas, width, 0.18, (width - 0.01, 0.4), reach, turn, 0.06)
    canvas.fill(mirrored([(0.08, 0.13), (width, 0.18), (width, 0.5), (width - 0.01, bottom)]))
    canvas.fill(rounded(0.5 - width + 0.02, bottom - 0.06, 0.5 + width - 0.02, bottom + 0.02, 0.015), "shade")
    for x in np.linspace(0.5 - width + 0.04, 0.5 + width - 0.04, 12):
        canvas.stroke([(x, bottom - 0.055), (x, bottom + 0.012)], 0.005)
    neck = pick(rng, ("round", "turtle", "hood", "deep"))
    if neck == "turtle":
        canvas.fill(rounded(0.4, 0.05, 0.6, 0.17, 0.03), "shade")
    elif neck == "hood":
        canvas.fill(smooth([(0.36, 0.17), (0.4, 0.05), (0.5, 0.02), (0.6, 0.05), (0.64, 0.17), (0.5, 0.26)]), "shade")
        canvas.fill(oval(0.5, 0.14, 0.075, 0.075), "ink")
        for x in (0.46, 0.54):
            canvas.stroke([(x, 0.22), (x, 0.36)], 0.008, "light")
        canvas.stroke([(0.38, 0.74), (0.41, 0.62), (0.59, 0.62), (0.62, 0.74)], 0.007)
    else:
        depth = 0.06 if neck == "round" else 0.15
        canvas.fill(oval(0.5, 0.13, 0.11, depth + 0.025, 0, 180), "shade")
        canvas.cut(oval(0.5, 0.12, 0.085, depth))
    canvas.logo(0.61, 0.36, 0.04)


def draw_trousers(canvas: Canvas, rng: np.random.Generator) -> None:
    bottom = pick(rng, (0.95, 0.95, 0.93, 0.8, 0.62))
    waist, hip = rng.uniform(0.14, 0.17), rng.uniform(0.18, 0.22)
    cuff, gap = rng.uniform(0.05, 0.11), rng.uniform(0.02, 0.07)
    right = [(waist, 0.06), (hip, 0.24), (gap + 0.06 + cuff, (bottom + 0.3) / 2), (gap + 2 * cuff, bottom)]
    for side in (1, -1):
        leg = [*smooth(right, closed=False), (gap, bottom), (0, 0.36), (0, 0.06)]
        canvas.fill([(0.5 + side * x, y) for x, y in leg])
        canvas.stroke([(0.5 + side * 0.13, 0.12), (0.5 + side * (hip - 0.01), 0.2)], 0.007)
        canvas.stroke(
            [(0.5 + side * (gap + 0.01), bottom - 0.03), (0.5 + side * (gap + 1.9 * cuff), bottom - 0.03)], 0.006
        )
    canvas.fill(rounded(0.5 - waist, 0.05, 0.5 + waist, 0.105, 0.01), "shade")
    canvas.stroke([(0.5, 0.1), (0.5, 0.36)], 0.006)
    canvas.fill(oval(0.5, 0.078, 0.014, 0.014), "trim")
    canvas.logo(0.5 - 0.1, 0.19, 0.036)


def draw_jacket(canvas: Canvas, rng: np.random.Generator) -> None:
    bottom, width = rng.uniform(0.74, 0.96), rng.uniform(0.22, 0.26)
    flare = rng.uniform(-0.02, 0.05)
    _sleeves(canvas, width, 0.18, (width - 0.01, 0.4), rng.uniform(0.5, 0.6), rng.uniform(0.18, 0.4), 0.06)
    canvas.fill(mirrored([(0.08, 0.12), (width, 0.18), (width - 0.01, 0.45), (width + flare, bottom)]))
    opening = rng.uniform(0.0, 0.05)
    lining = [(0.44, 0.12), (0.56, 0.12), (0.5 + opening, 0.4), (0.5 + opening, bottom), (0.5 - opening, bottom)]
    canvas.fill([*lining, (0.5 - opening, 0.4)], "ink")
    canvas.stroke([(0.5, 0.3), (0.5, bottom - 0.01)], 0.014, (196, 198, 204))
    collar, drop = rng.uniform(0.08, 0.13), rng.uniform(0.2, 0.4)
    for side in (1, -1):
        lapel = [
            (0.5 + side * 0.05, 0.1),
            (0.5 + side * 0.1, 0.12),
            (0.5 + side * collar, drop),
            (0.5 + side * 0.02, 0.42),
        ]
        canvas.fill(lapel, "shade")
        canvas.stroke(lapel, 0.006)
        canvas.stroke([(0.5 + side * 0.09, 0.62), (0.5 + side * 0.17, 0.57)], 0.014, "ink")
    if happens(rng, 0.4):
        canvas.fill(rounded(0.5 - width - flare, bottom - 0.06, 0.5 + width + flare, bottom + 0.01, 0.01), "trim")
    canvas.logo(0.65, 0.36, 0.04)


def draw_socks(canvas: Canvas, rng: np.random.Generator) -> None:
    top, width = rng.uniform(0.06, 0.42), rng.uniform(0.13, 0.16)
    for shift_x, shift_y in ((0.18, -0.02), (0.0, 0.04)):
        x0, y0 = 0.22 + shift_x, top + shift_y
        ankle = 0.62 + shift_y
        outline = [(x0, y0), (x0 + width, y0), (x0 + width, ankle), (x0 + width + 0.2, ankle + 0.12)]
        outline += [(x0 + width + 0.22, ankle + 0.2), (x0 + width + 0.14, ankle + 0.25), (x0 + 0.02, ankle + 0.22)]
        canvas.fill(smooth([*outline, (x0 - 0.015, ankle + 0.1)], steps=5))
        canvas.fill(oval(x0 + 0.03, ankle + 0.15, 0.06, 0.06), "trim")
        canvas.fill(oval(x0 + width + 0.17, ankle + 0.18, 0.055, 0.06), "trim")
        canvas.fill(rounded(x0 - 0.01, y0 - 0.01, x0 + width + 0.01, y0 + 0.06, 0.015), "shade")
    canvas.logo(0.22 + width / 2, 0.56, 0.038)


def draw_sneaker(canvas: Canvas, rng: np.random.Generator) -> None:
    collar, sole = rng.uniform(0.3, 0.42), rng.uniform(0.06, 0.11)
    base = 0.76 - sole
    tongue = collar - rng.uniform(0.02, 0.07)
    upper = [(0.08, base + 0.01), (0.08, collar + 0.1), (0.1, collar), (0.2, collar + 0.06), (0.32, collar + 0.02)]
    upper += [(0.37, tongue), (0.43, tongue + 0.02), (0.62, base - 0.13), (0.84, base - 0.08), (0.92, base + 0.02)]
    canvas.fill([*smooth(upper, closed=False), (0.9, base + 0.03)])
    canvas.fill(smooth([(0.72, base + 0.02), (0.78, base - 0.09), (0.88, base - 0.06), (0.93, base + 0.02)]), "shade")
    canvas.fill([(0.08, base + 0.01), (0.08, collar + 0.12), (0.16, collar + 0.14), (0.2, base + 0.01)], "trim")
    white = pick(rng, ((244, 244, 242), (230, 222, 204), (60, 60, 66)))
    wedge = rng.uniform(0, 0.03)
    outline = [(0.06, base - wedge), (0.3, base + 0.01), (0.7, base + 0.01), (0.94, base)]
    canvas.fill([*outline, (0.95, base + sole * 0.6), (0.9, 0.76), (0.1, 0.76), (0.06, base + sole * 0.6)], white)
    canvas.stroke([(0.08, 0.755), (0.92, 0.755)], 0.015, "ink")
    for k in range(int(rng.integers(3, 6))):
        x, y = 0.43 + 0.052 * k, tongue + 0.06 + 0.045 * k
        canvas.stroke([(x - 0.045, y + 0.035), (x + 0.015, y - 0.012)], 0.016, "light")
    motif = pick(rng, ("swoosh", "bars", "none"))
    if motif == "swoosh":
        canvas.fill(smooth([(0.28, base - 0.1), (0.4, base - 0.03), (0.62, base - 0.11), (0.4, base - 0.06)]), "trim")
    elif motif == "bars":
        for k in range(3):
            canvas.stroke([(0.34 + 0.06 * k, base - 0.02), (0.4 + 0.06 * k, base - 0.13)], 0.022, "trim")
    canvas.logo(0.25, base - 0.1, 0.042)


def draw_boot(canvas: Canvas, rng: np.random.Generator) -> None:
    top, heel = rng.uniform(0.1, 0.34), rng.uniform(0.05, 0.12)
    shaft, base = rng.uniform(0.24, 0.3), 0.82 - rng.uniform(0.0, 0.02)
    x1 = 0.24 + shaft
    upper = [(0.24, base), (0.235, 0.6), (0.22, top), (x1 + 0.02, top), (x1, 0.5), (x1 + 0.08, 0.6), (0.78, 0.68)]
    canvas.fill([*smooth([*upper, (0.84, base - 0.05)], closed=False), (0.84, base)])
    canvas.fill(rounded(0.225, base - 0.01, 0.86, base + 0.035, 0.01), "ink")
    canvas.fill(
        [(0.23, base + 0.02), (0.4, base + 0.02), (0.38, base + 0.03 + heel), (0.24, base + 0.03 + heel)], "ink"
    )
    closing = pick(rng, ("laces", "zip", "elastic"))
    if closing == "laces":
        for k in range(5):
            y = top + 0.06 + 0.08 * k
            if y < 0.62:
                canvas.stroke([(x1 - 0.09, y + 0.02), (x1 + 0.005 + 0.06 * (y > 0.52), y)], 0.015, "light")
    elif closing == "zip":
        canvas.stroke([(0.36, top + 0.03), (0.35, base - 0.04)], 0.012, (206, 206, 210))
    else:
        canvas.fill([(0.32, top + 0.01), (0.44, top + 0.01), (0.4, 0.62), (0.35, 0.62)], "trim")
    canvas.fill(rounded(0.215, top - 0.015, x1 + 0.025, top + 0.03, 0.012), "shade")
    canvas.logo(0.3, 0.62, 0.04)


def draw_sandal(canvas: Canvas, rng: np.random.Generator) -> None:
    sole, lift = rng.uniform(0.04, 0.09), rng.uniform(0, 0.1)
    under = [(0.07, 0.68 - lift), (0.3, 0.69 - lift / 2), (0.6, 0.71), (0.93, 0.69), (0.94, 0.71 + sole)]
    canvas.fill(
        [*under, (0.5, 0.72 + sole), (0.07, 0.71 + sole)], pick(rng, ((178, 140, 96), (226, 212, 188), (66, 58, 54)))
    )
    canvas.stroke([(0.07, 0.68 - lift), (0.3, 0.69 - lift / 2), (0.6, 0.71), (0.93, 0.69)], 0.022, "ink")
    count = int(rng.integers(1, 4))
    for k in range(count):
        x = 0.56 + 0.13 * k - 0.05 * count
        height = rng.uniform(0.14, 0.2) - 0.02 * k
        arch = [(x, 0.7), (x + 0.03, 0.7 - height), (x + 0.12, 0.71 - height), (x + 0.2, 0.7)]
        canvas.fill([*smooth(arch, closed=False), (x + 0.13, 0.7), (x + 0.1, 0.76 - height), (x + 0.07, 0.7)])
    ankle = rng.uniform(0.38, 0.5)
    canvas.stroke([(0.1, 0.68 - lift), (0.1, ankle), (0.24, ankle - 0.03), (0.36, ankle + 0.02)], 0.05, "body")
    canvas.stroke([(0.36, ankle + 0.02), (0.47, 0.69)], 0.045, "body")
    canvas.fill(rounded(0.27, ankle - 0.05, 0.34, ankle + 0.03, 0.01), (206, 190, 120))
    canvas.logo(0.12, 0.58, 0.036)


def draw_heel(canvas: Canvas, rng: np.random.Generator) -> None:
    lift, toe = rng.uniform(0.16, 0.32), rng.uniform(0.93, 0.97)
    back = 0.74 - lift
    cup = rng.uniform(0.14, 0.2)
    top = [(0.1, back - cup), (0.2, back - cup + 0.05), (0.42, back + 0.1), (0.62, 0.62), (0.8, 0.66), (toe, 0.74)]
    bottom = [(0.78, 0.77), (0.6, 0.74), (0.38, back + 0.17), (0.24, back + 0.06), (0.1, back + 0.03)]
    canvas.fill([*smooth(top, closed=False), *smooth(bottom, closed=False)])
    canvas.fill(
        [(0.1, back), (0.24, back + 0.05), (0.17, 0.6), (0.145, 0.77), (0.105, 0.77)], pick(rng, ("trim", "shade"))
    )
    canvas.stroke([(0.38, back + 0.18), (0.6, 0.755), (0.78, 0.775), (toe - 0.02, 0.765)], 0.014, "ink")
    if happens(rng, 0.4):
        canvas.stroke([(0.13, back - cup + 0.02), (0.2, back - cup - 0.1), (0.34, back - cup - 0.06)], 0.022, "body")
    if happens(rng, 0.4):
        canvas.fill(oval(0.8, 0.67, 0.05, 0.03), "trim")
    canvas.logo(0.18, back - 0.04, 0.04)
