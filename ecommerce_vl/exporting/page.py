"""Search results as one HTML page with pictures.

The invariant, as of the evaluation report: one file that fetches nothing and runs nothing, all text in it escaped,
pictures of adult products blurred.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from ecommerce_vl import pages
from ecommerce_vl.data.record import CATEGORY_SEPARATOR
from ecommerce_vl.data.thumbnails import thumbnail
from ecommerce_vl.exporting.reader import Card
from ecommerce_vl.files import write_text

QUERY_PIXELS = 220


def write_page(
    file: Path,
    cards: Sequence[Card],
    *,
    scores: Sequence[float],
    query: str,
    image: bytes | None,
    info: Mapping[str, object],
) -> None:
    """Writes the page of a search.

    Args:
      cards: products in order of rank; scores: their cosines.
      query: the words, "" if there are none; image: the encoded query picture, None if there is none.
      info: facts for the head, label -> value, shown in order.

    Errors: OSError when it cannot be written.
    """
    hits = [
        {
            "rank": rank,
            "score": f"{score:.3f}",
            "share": f"{100 * min(max(score, 0.0), 1.0):.1f}",
            "id": card.id,
            "title": card.title or "(no title)",
            "untitled": not card.title,
            "brand": card.brand,
            "category": card.category,
            "leaf": card.category.rsplit(CATEGORY_SEPARATOR, 1)[-1],
            "adult": card.adult == "yes",
            "picture": pages.data_uri(card.thumbnail),
        }
        for rank, (card, score) in enumerate(zip(cards, scores, strict=True), start=1)
    ]
    page = (
        pages.environment(Path(__file__).parent)
        .get_template("results.html")
        .render(
            query=query,
            picture=pages.data_uri(thumbnail(image, pixels=QUERY_PIXELS)),
            info=info,
            hits=hits,
        )
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, page)
