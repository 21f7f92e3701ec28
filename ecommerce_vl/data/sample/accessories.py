"""Silhouettes of accessories, toys and electronics.

Each function draws one product on a canvas; everything drawn from `rng` is the style's own geometry, the same for every
colour and size of the style and told nowhere in the text.
"""

import numpy as np

from ecommerce_vl.data.sample.canvas import Canvas, mirrored, oval, rounded, smooth
from ecommerce_vl.data.sample.chance import happens, pick

_GOLD = (210, 176, 92)
_STEEL = (188, 192, 200)


def draw_handbag(canvas: Canvas, rng: np.random.Generator) -> None:
    top, bottom = rng.uniform(0.38, 0.48), rng.uniform(0.8, 0.92)
    narrow, wide = rng.uniform(0.24, 0.36), rng.uniform(0.32, 0.42)
    handle, rise = rng.uniform(0.12, 0.2), rng.uniform(0.16, 0.32)
    arch = [(0.5 + handle * np.cos(a), top + 0.04 - rise * np.sin(a)) for a in np.linspace(0, np.pi, 21)]
    canvas.stroke(arch, rng.uniform(0.025, 0.045), pick(rng, ("shade", "trim")))
    canvas.fill(
        mirrored([(narrow, top), ((narrow + wide) / 2, (top + bottom) / 2), (wide, bottom - 0.03)], curved=False)
    )
    canvas.fill(rounded(0.5 - wide, bottom - 0.08, 0.5 + wide, bottom, 0.05))
    if happens(rng, 0.5):
        flap = rng.uniform(0.12, 0.24)
        canvas.fill(mirrored([(narrow + 0.01, top - 0.01), (narrow, top + flap * 0.7), (0.06, top + flap)]), "shade")
        canvas.fill(rounded(0.46, top + flap - 0.05, 0.54, top + flap + 0.02, 0.01), _GOLD)
    else:
        canvas.stroke([(0.5 - narrow + 0.02, top + 0.03), (0.5 + narrow - 0.02, top + 0.03)], 0.012)
    for side in (1, -1):
        canvas.fill(oval(0.5 + side * handle, top + 0.05, 0.025, 0.025), _GOLD)
    canvas.logo(0.5 + narrow * 0.6, bottom - 0.16, 0.045)


def draw_backpack(canvas: Canvas, rng: np.random.Generator) -> None:
    width, bottom = rng.uniform(0.23, 0.3), rng.uniform(0.86, 0.94)
    canvas.stroke(oval(0.5, 0.12, 0.07, 0.07, 180, 360), 0.03, "ink")
    for side in (1, -1):
        x = 0.5 + side * (width + 0.02)
        canvas.stroke([(x - side * 0.06, 0.26), (x + side * 0.02, 0.5), (x - side * 0.02, 0.8)], 0.045, "shade")
    canvas.fill(rounded(0.5 - width, 0.11, 0.5 + width, bottom, rng.uniform(0.08, 0.22)))
    canvas.stroke(oval(0.5, 0.36, width * 0.82, rng.uniform(0.1, 0.17), 180, 360), 0.01)
    pocket = rng.uniform(0.52, 0.64)
    paint = pick(rng, ("shade", "trim", "body"))
    canvas.fill(rounded(0.5 - width * 0.76, pocket, 0.5 + width * 0.76, bottom - 0.05, 0.05), paint)
    canvas.stroke([(0.5 - width * 0.66, pocket + 0.05), (0.5 + width * 0.66, pocket + 0.05)], 0.012, "ink")
    canvas.fill(oval(0.5 + width * 0.6, pocket + 0.05, 0.015, 0.02), _STEEL)
    canvas.logo(0.5, 0.42, 0.05)


def draw_cap(canvas: Canvas, rng: np.random.Generator) -> None:
    height, brim = rng.uniform(0.26, 0.38), rng.uniform(0.2, 0.34)
    base = 0.64
    crown = oval(0.42, base, 0.29, height, 180, 360)
    canvas.fill(crown)
    front = [(0.36, base - 0.02), (0.7, base - 0.05), (0.7 + brim * 0.7, base + 0.04), (0.7 + brim * 0.78, base + 0.09)]
    canvas.fill(smooth([*front, (0.6, base + 0.06), (0.36, base + 0.04)]), pick(rng, ("trim", "shade", "shade")))
    canvas.stroke([(0.42, base - height), (0.36, base - 0.02)], 0.007)
    canvas.stroke([(0.42, base - height), (0.56, base - height * 0.6), (0.6, base - 0.04)], 0.007)
    canvas.stroke([(0.14, base - 0.01), (0.4, base + 0.0)], 0.02, "shade")
    canvas.fill(oval(0.42, base - height, 0.03, 0.018), "trim")
    canvas.logo(0.5, base - height * 0.45, 0.055)


def draw_belt(canvas: Canvas, rng: np.random.Generator) -> None:
    width, turn = rng.uniform(0.04, 0.07), rng.uniform(0.28, 0.36)
    canvas.fill(oval(0.5, 0.45, 0.42, turn))
    canvas.fill(oval(0.5, 0.45 - width * 0.3, 0.39, turn - width), "shade")
    canvas.cut(oval(0.5, 0.45 - width * 0.9, 0.375, turn - width * 1.6))
    y = 0.45 + turn - width
    canvas.fill(rounded(0.5, y - width * 0.7, 0.88, y + width * 0.9, 0.03))
    for k in range(4):
        canvas.fill(oval(0.64 + 0.05 * k, y + width * 0.1, 0.009, 0.009), "ink")
    metal = pick(rng, (_GOLD, _STEEL, (72, 72, 78)))
    size = width * rng.uniform(1.2, 1.6)
    figure = (
        rounded if happens(rng, 0.6) else (lambda x0, y0, x1, y1, r: oval((x0 + x1) / 2, (y0 + y1) / 2, size, size))
    )
    canvas.fill(figure(0.44 - size, y - size, 0.44 + size, y + size, 0.02), metal)
    canvas.fill(figure(0.46 - size, y - size * 0.6, 0.42 + size, y + size * 0.6, 0.01), "body")
    canvas.stroke([(0.44, y), (0.44 + size, y)], 0.014, metal)
    canvas.logo(0.24, 0.45 + turn * 0.72, 0.036)


def draw_scarf(canvas: Canvas, rng: np.random.Generator) -> None:
    left, right = rng.uniform(0.78, 0.92), rng.uniform(0.62, 0.92)
    width, fringe = rng.uniform(0.13, 0.18), rng.uniform(0.0, 0.06)
    for x, end, lean in ((0.53, right, 0.06), (0.34, left, -0.04)):
        tail = [(x, 0.3), (x + width, 0.3), (x + width + lean, end), (x + lean, end)]
        canvas.fill(tail)
        for k in np.linspace(0.01, width - 0.01, 9):
            canvas.stroke([(x + lean + k, end - 0.005), (x + lean + k, end + fringe)], 0.01, "body")
        canvas.stroke([(x + width * 0.5, 0.36), (x + width * 0.5 + lean, end - 0.04)], 0.006)
    canvas.fill(oval(0.5, 0.24, rng.uniform(0.24, 0.3), rng.uniform(0.12, 0.16)))
    canvas.fill(oval(0.5, 0.17, 0.17, 0.055), "ink")
    canvas.stroke(oval(0.5, 0.2, 0.22, 0.12, 20, 160), 0.008)
    canvas.stroke(oval(0.5, 0.14, 0.24, 0.15, 30, 130), 0.008)
    canvas.logo(0.34 + width * 0.4, left - 0.09, 0.038)


def draw_sunglasses(canvas: Canvas, rng: np.random.Generator) -> None:
    rx, ry = rng.uniform(0.15, 0.19), rng.uniform(0.1, 0.17)
    lens = pick(rng, ((40, 44, 54), (92, 66, 44), (54, 84, 110), (110, 60, 90)))
    squareness = rng.uniform(0.2, 1.0)
    for side in (1, -1):
        x = 0.5 + side * 0.23
        canvas.stroke(
            [(x + side * rx * 0.9, 0.44), (x + side * (rx + 0.06), 0.3), (0.5 + side * 0.3, 0.26)], 0.028, "shade"
        )
        outer = rounded(x - rx, 0.5 - ry, x + rx, 0.5 + ry, ry * squareness)
        inner = rounded(x - rx + 0.03, 0.53 - ry, x + rx - 0.03, 0.47 + ry, ry * squareness)
        canvas.fill(outer)
        canvas.fill(inner, lens)
        glint = [(x - rx * 0.5, 0.5 - ry * 0.1), (x - rx * 0.1, 0.5 - ry * 0.6)]
        canvas.stroke(glint, 0.02, tuple(min(255, value + 70) for value in lens))
    canvas.stroke(oval(0.5, 0.48, 0.09, rng.uniform(0.03, 0.08), 190, 350), 0.03, "body")
    if happens(rng, 0.3):
        canvas.stroke([(0.3, 0.5 - ry), (0.7, 0.5 - ry)], 0.025, "trim")
    canvas.logo(0.5 + 0.23 + rx * 0.95, 0.47, 0.032)


def draw_watch(canvas: Canvas, rng: np.random.Generator) -> None:
    radius, strap = rng.uniform(0.17, 0.23), rng.uniform(0.09, 0.13)
    canvas.fill(mirrored([(strap * 0.8, 0.04), (strap, 0.3), (strap, 0.7), (strap * 0.8, 0.96)]))
    for y in (0.78, 0.84, 0.9):
        canvas.fill(oval(0.5, y, 0.012, 0.012), "ink")
    canvas.fill(rounded(0.5 - strap, 0.1, 0.5 + strap, 0.15, 0.01), "shade")
    case = pick(rng, (_GOLD, _STEEL, (66, 66, 72)))
    dial = pick(rng, ((248, 248, 244), (34, 36, 44), (38, 60, 104), (232, 222, 200)))
    hand = (30, 30, 34) if sum(dial) > 380 else (240, 240, 240)
    canvas.fill(rounded(0.5 + radius, 0.47, 0.53 + radius, 0.53, 0.01), case)
    if happens(rng, 0.65):
        canvas.fill(oval(0.5, 0.5, radius, radius), case)
        canvas.fill(oval(0.5, 0.5, radius - 0.03, radius - 0.03), dial)
    else:
        canvas.fill(rounded(0.5 - radius, 0.5 - radius, 0.5 + radius, 0.5 + radius, 0.05), case)
        canvas.fill(rounded(0.53 - radius, 0.53 - radius, 0.47 + radius, 0.47 + radius, 0.03), dial)
    reach = radius - 0.055
    for k in range(12):
        angle = np.pi * k / 6
        canvas.fill(oval(0.5 + reach * np.sin(angle), 0.5 - reach * np.cos(angle), 0.009, 0.009), hand)
    canvas.stroke([(0.5, 0.5), (0.5 - reach * 0.5, 0.5 - reach * 0.35)], 0.014, hand)
    canvas.stroke([(0.5, 0.5), (0.5 + reach * 0.5, 0.5 - reach * 0.65)], 0.01, hand)
    canvas.logo(0.5, 0.5 + reach * 0.5, 0.034)


def draw_ball(canvas: Canvas, rng: np.random.Generator) -> None:
    radius = 0.4
    canvas.fill(oval(0.5, 0.5, radius, radius))
    seams = pick(rng, ("panels", "arcs", "wedges", "none"))
    if seams == "panels":
        spots = [
            (0.5, 0.5, 0.12),
            *((0.5 + 0.32 * np.sin(a), 0.5 - 0.32 * np.cos(a), 0.09) for a in np.arange(5) * 1.2566),
        ]
        for x, y, size in spots:
            corners = [(x + size * np.sin(a), y - size * np.cos(a)) for a in np.arange(5) * 1.2566 + 3.1416]
            canvas.fill(corners, "trim")
    elif seams == "arcs":
        canvas.stroke(oval(0.02, 0.5, 0.3, 0.42, -75, 75), 0.014)
        canvas.stroke(oval(0.98, 0.5, 0.3, 0.42, 105, 255), 0.014)
        canvas.stroke([(0.5, 0.1), (0.5, 0.9)], 0.014)
        canvas.stroke([(0.1, 0.5), (0.9, 0.5)], 0.014)
    elif seams == "wedges":
        for k in range(3):
            start = 120 * k + 15
            canvas.fill([(0.5, 0.5), *oval(0.5, 0.5, radius, radius, start, start + 60)], "trim")
    canvas.logo(0.57, 0.4, 0.055)


def draw_teddy(canvas: Canvas, rng: np.random.Generator) -> None:
    head, belly = rng.uniform(0.17, 0.21), rng.uniform(0.19, 0.24)
    ear, spread = rng.uniform(0.06, 0.09), rng.uniform(0.75, 0.95)
    leg = rng.uniform(0.09, 0.12)
    for side in (1, -1):
        canvas.fill(oval(0.5 + side * head * spread, 0.3 - head * 0.75, ear, ear))
        canvas.fill(oval(0.5 + side * head * spread, 0.3 - head * 0.75, ear * 0.55, ear * 0.55), "light")
        canvas.stroke([(0.5 + side * belly * 0.7, 0.54), (0.5 + side * (belly + 0.1), 0.66)], 0.12, "shade")
        canvas.fill(oval(0.5 + side * belly * 0.8, 0.87, leg, leg))
        canvas.fill(oval(0.5 + side * belly * 0.8, 0.87, leg * 0.55, leg * 0.55), "light")
    canvas.fill(oval(0.5, 0.67, belly, 0.23))
    canvas.fill(oval(0.5, 0.3, head, head * 0.92))
    canvas.fill(oval(0.5, 0.36, head * 0.5, head * 0.38), "light")
    canvas.fill(oval(0.5, 0.335, 0.03, 0.022), (40, 32, 32))
    for side in (1, -1):
        canvas.fill(oval(0.5 + side * head * 0.4, 0.26, 0.02, 0.022), (34, 28, 30))
    if happens(rng, 0.6):
        for side in (1, -1):
            canvas.fill([(0.5, 0.48), (0.5 + side * 0.1, 0.43), (0.5 + side * 0.1, 0.53)], "trim")
    canvas.logo(0.5, 0.7, 0.05)


def draw_headphones(canvas: Canvas, rng: np.random.Generator) -> None:
    rx, top = rng.uniform(0.27, 0.33), rng.uniform(0.1, 0.2)
    cup_x, cup_y = rng.uniform(0.07, 0.11), rng.uniform(0.13, 0.2)
    band = oval(0.5, 0.56, rx, 0.56 - top, 180, 360)
    canvas.stroke(band, rng.uniform(0.04, 0.075), "body")
    canvas.stroke(oval(0.5, 0.58, rx - 0.045, 0.53 - top, 205, 335), 0.03, "trim")
    squareness = rng.uniform(0.5, 1)
    for side in (1, -1):
        x = 0.5 + side * (rx - 0.01)
        pad = x - side * cup_x * 0.7
        canvas.fill(rounded(pad - cup_x * 0.6, 0.64 - cup_y, pad + cup_x * 0.6, 0.64 + cup_y, cup_x), "ink")
        low, high = sorted((x - side * cup_x * 0.3, x + side * cup_x))
        canvas.fill(rounded(low, 0.64 - cup_y * 0.92, high, 0.64 + cup_y * 0.92, cup_x * squareness))
    if happens(rng, 0.3):
        canvas.stroke([(0.2, 0.76), (0.26, 0.88), (0.4, 0.9)], 0.018, "ink")
        canvas.fill(oval(0.42, 0.9, 0.03, 0.024), "ink")
    canvas.logo(0.5 + rx + cup_x * 0.3, 0.64, 0.042)


def draw_phonecase(canvas: Canvas, rng: np.random.Generator) -> None:
    width, corner = rng.uniform(0.2, 0.24), rng.uniform(0.03, 0.08)
    canvas.fill(rounded(0.5 - width - 0.015, 0.065, 0.5 + width + 0.015, 0.935, corner + 0.01), "ink")
    canvas.fill(rounded(0.5 - width, 0.08, 0.5 + width, 0.92, corner))
    lens = pick(rng, ("column", "square", "bar"))
    if lens == "column":
        block, spots = (0.11, 0.27), ((0.055, 0.065), (0.055, 0.14), (0.055, 0.21))
    elif lens == "square":
        block, spots = (0.19, 0.19), ((0.055, 0.055), (0.135, 0.135), (0.055, 0.135))
    else:
        block, spots = (2 * width - 0.06, 0.1), ((0.06, 0.05), (0.15, 0.05), (0.24, 0.05))
    x0, y0 = 0.53 - width, 0.11
    canvas.fill(rounded(x0, y0, x0 + block[0], y0 + block[1], 0.035), (38, 38, 44))
    for dx, dy in spots:
        canvas.fill(oval(x0 + dx, y0 + dy, 0.03, 0.03), (92, 98, 112))
        canvas.fill(oval(x0 + dx, y0 + dy, 0.016, 0.016), (18, 20, 28))
    if happens(rng, 0.35):
        canvas.stroke([(0.5 - width * 0.6, 0.66), (0.5 + width * 0.6, 0.66)], 0.07, "trim")
    canvas.logo(0.5, 0.54, 0.055)


def draw_keyboard(canvas: Canvas, rng: np.random.Generator) -> None:
    wide, rows = rng.uniform(0.4, 0.47), int(rng.integers(4, 6))
    height = rows * 0.075 + 0.05
    y0 = 0.5 - height / 2
    canvas.fill(rounded(0.5 - wide, y0 - 0.02, 0.5 + wide, y0 + height + 0.03, rng.uniform(0.02, 0.06)))
    pad = happens(rng, 0.5)
    right = wide - (0.2 if pad else 0.03)
    count = int(rng.integers(10, 14))
    step = (wide - 0.03 + right) / count
    key = pick(rng, ("ink", "light", (236, 236, 238), (52, 54, 60)))
    for row in range(rows - 1):
        for column in range(count):
            x, y = 0.53 - wide + column * step, y0 + 0.025 + row * 0.075
            paint = "trim" if column == 0 and row == 0 else key
            canvas.fill([(x, y), (x + step - 0.012, y), (x + step - 0.012, y + 0.058), (x, y + 0.058)], paint)
    y = y0 + 0.025 + (rows - 1) * 0.075
    canvas.fill(rounded(0.6 - wide, y, 0.45 + right, y + 0.058, 0.01), key)
    if pad:
        for k in range(9):
            x, y = 0.5 + right + 0.025 + 0.053 * (k % 3), y0 + 0.025 + 0.075 * (k // 3)
            canvas.fill([(x, y), (x + 0.042, y), (x + 0.042, y + 0.058), (x, y + 0.058)], key)
    canvas.logo(0.48 + right, y0 + height - 0.02, 0.04)
