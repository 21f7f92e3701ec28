"""Styles and products of the sample catalog, before any seller lists or photographs them.

A style fixes category, brand, model name, material, pattern and geometry; its products differ in colour or size only.
Both depend on nothing but (seed, style index), so the thousandth style can be made without the 999 before it.
"""

from dataclasses import dataclass

import numpy as np

from ecommerce_vl.data.sample.chance import generator, happens, pick
from ecommerce_vl.data.sample.taxonomy import CATEGORIES, Category
from ecommerce_vl.data.sample.words import BRANDS, Brand

_MAX_VARIANTS = 16
_ONSETS = ["b", "br", "d", "f", "fl", "g", "h", "j", "k", "l", "m", "n", "p", "r", "s", "st", "t", "tr", "v", "z"]
_VOWELS = ["a", "e", "i", "o", "u", "ai", "ia", "ea"]
_ENDINGS = ["n", "ra", "lo", "s", "x", "ta", "no", "ris", "va", "l", "den", "mo", "k", "ne"]
_FAMILIES = ["Classic", "Urban", "Nova", "Trail", "Aura", "Studio", "Retro", "Luna", "Prime", "Basic", "Coast", "Pure"]


@dataclass(frozen=True)
class Style:
    """What all variants share; `index` also names the geometry and the print layout."""

    index: int
    category: Category
    brand: Brand
    model: str
    material: str
    pattern: str

    @property
    def key(self) -> str:
        return f"G{self.index:06d}"


@dataclass(frozen=True)
class Product:
    """One variant of a style as anybody may sell it; `price` in euro, `gtin` None where none was ever assigned."""

    style: Style
    variant: int
    color: str
    size: str
    price: float
    gtin: str | None

    @property
    def key(self) -> str:
        return f"C{self.style.index * _MAX_VARIANTS + self.variant:07d}"


def make_style(seed: int, index: int) -> Style:
    """Return style number `index` of the catalog of `seed`."""
    slots = [category for category in CATEGORIES for _ in range(category.weight)]
    # Every category comes first once in the first block, so that even a small catalog covers the tree.
    if index < len(CATEGORIES):
        category = CATEGORIES[generator(seed, "first categories").permutation(len(CATEGORIES))[index]]
    else:
        block, place = divmod(index - len(CATEGORIES), len(slots))
        category = slots[generator(seed, "categories", block).permutation(len(slots))[place]]
    rng = generator(seed, "style", index)
    model = (pick(rng, _ONSETS) + pick(rng, _VOWELS) + pick(rng, _ONSETS) + pick(rng, _VOWELS)).capitalize()
    model += pick(rng, _ENDINGS)
    if happens(rng, 0.35):
        model = f"{pick(rng, _FAMILIES)} {model}"
    if happens(rng, 0.2):
        model += f" {int(rng.integers(1, 10)) * pick(rng, (1, 10, 100))}"
    return Style(
        index=index,
        category=category,
        brand=pick(rng, [brand for brand in BRANDS if category.group in brand.groups]),
        model=model,
        material=pick(rng, category.materials),
        pattern=pick(rng, category.patterns),
    )


def make_products(seed: int, style: Style) -> list[Product]:
    """Return the one to five products of a style."""
    rng = generator(seed, "variants", style.index)
    low, high = style.category.price
    # Log-uniform: most products sit near the lower end of their price range.
    price = low * (high / low) ** rng.random()
    count = pick(rng, (1, 2, 3, 4, 5), (0.2, 0.3, 0.25, 0.15, 0.1))
    chosen = [(pick(rng, style.category.colors), pick(rng, style.category.sizes))]
    for _ in range(4 * count):
        color, size = pick(rng, chosen)
        if happens(rng, 0.55):
            color = pick(rng, style.category.colors)
        else:
            size = pick(rng, style.category.sizes)
        if len(chosen) < count and (color, size) not in chosen:
            chosen.append((color, size))
    return [
        Product(
            style=style,
            variant=variant,
            color=color,
            size=size,
            price=round(price * rng.uniform(0.97, 1.03), 2),
            gtin=_gtin(style.index * _MAX_VARIANTS + variant) if happens(rng, 0.85) else None,
        )
        for variant, (color, size) in enumerate(chosen)
    ]


def _gtin(number: int) -> str:
    """Return a unique EAN-13 in GS1's range for demonstrations (952), which no real product carries."""
    digits = f"952{number * 7919 % 10**9:09d}"
    weighted = int(np.dot([int(digit) for digit in digits], [1, 3] * 6))
    return f"{digits}{-weighted % 10}"
