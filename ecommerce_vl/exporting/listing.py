"""Search results as an aligned table for a terminal: no line is wider than it, and no title can steer it."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from ecommerce_vl.data.record import CATEGORY_SEPARATOR
from ecommerce_vl.exporting.reader import Card

GAP = "  "
MIN_TITLE = 16  # columns; on a narrower terminal lines break
MAX_ID, MAX_CATEGORY = 24, 24


def listing(cards: Sequence[Card], *, scores: Sequence[float], width: int) -> str:
    """Lines of rank, score, id, title and leaf category under a head; `width` in columns."""
    rows = [
        (
            str(rank),
            f"{score:.4f}",
            clipped(printable(card.id), MAX_ID),
            printable(card.title) or "(no title)",
            clipped(printable(card.category.rsplit(CATEGORY_SEPARATOR, 1)[-1]), MAX_CATEGORY),
        )
        for rank, (card, score) in enumerate(zip(cards, scores, strict=True), start=1)
    ]
    table = [("rank", "score", "id", "title", "category"), *rows]
    widths = [max(columns(row[place]) for row in table) for place in range(5)]
    others = sum(widths) - widths[3] + 4 * len(GAP)
    widths[3] = min(widths[3], max(MIN_TITLE, width - others))
    right = (0, 1)
    lines = []
    for row in table:
        cells = [clipped(cell, wide) for cell, wide in zip(row, widths, strict=True)]
        fills = [" " * (wide - columns(cell)) for cell, wide in zip(cells, widths, strict=True)]
        padded = [fills[i] + cells[i] if i in right else cells[i] + fills[i] for i in range(5)]
        lines.append(GAP.join(padded).rstrip())
    return "\n".join(lines)


def printable(text: str) -> str:
    """The text without control characters, which a terminal would obey."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def columns(text: str) -> int:
    """How many columns a terminal gives the text: Chinese, Japanese and Korean letters take two, accents none."""
    return sum(
        0 if unicodedata.combining(letter) else 2 if unicodedata.east_asian_width(letter) in "WF" else 1
        for letter in text
    )


def clipped(text: str, width: int) -> str:
    """The text in at most `width` columns, an ellipsis where it was cut."""
    if columns(text) <= width:
        return text
    kept, used = [], 0
    for letter in text:
        used += columns(letter)
        if used > width - 1:
            break
        kept.append(letter)
    return "".join(kept).rstrip() + "…"
