"""The ten sellers of the sample catalog and their habits.

A seller decides language, word order and shouting in titles, and backdrop and watermark in photographs. These habits
vary while the product stays the same, so they are exactly what an embedding has to learn to ignore.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Seller:
    """One shop. Probabilities are per listing; `terse` is how often the noun is missing from a title."""

    key: str
    name: str
    locale: str
    orders: tuple[str, ...]
    separator: str
    shouting: float
    promotion: float
    terse: float
    backdrops: tuple[str, ...]
    watermark: bool


def _seller(key: str, name: str, locale: str, orders: str, separator: str, backdrops: str, **habits) -> Seller:
    """Return a seller from compact notation; word orders are parted by "/", groups within one by "|"."""
    parsed = tuple(orders.split("/"))
    usual = {"shouting": 0.02, "promotion": 0.05, "terse": 0.02, "watermark": False}
    return Seller(key, name, locale, parsed, separator, backdrops=tuple(backdrops.split()), **usual | habits)


_LOUD = {"shouting": 0.4, "promotion": 0.45}
_MARKED = {"watermark": True}

SELLERS = (
    _seller("S01", "PrimeGoods", "en", "brand model color noun size/brand noun model color size", " ", "white"),
    _seller("S02", "bargain-bay", "en", "noun brand model color material size", " ", "grey floor", **_LOUD),
    _seller("S03", "Maison Eleven", "en", "model noun|by brand|in color", " ", "gradient room"),
    _seller("S04", "DailyDeals", "en", "brand|model|noun|pattern|color|size", ", ", "white color", **_MARKED),
    _seller("S05", "oak & willow", "en", "color material noun|brand model", " - ", "wood room"),
    _seller(
        "S06",
        "MarketHub",
        "en",
        "brand model size color/noun model brand/brand color noun",
        " ",
        "color gradient",
        **_MARKED,
    ),
    _seller("S07", "Kaufwelt24", "de", "brand noun model color material size", " ", "white gradient"),
    _seller("S08", "Sparfuchs", "de", "noun color pattern|brand model|size", " | ", "floor grey", **_LOUD),
    _seller("S09", "Stilhaus", "de", "model|noun of material|in color|by brand", " ", "room wood"),
    _seller("S10", "Nordversand", "de", "brand model|color|size|noun", ", ", "color white", terse=0.08, **_MARKED),
)
