"""Products as the report shows them: a thumbnail, a title, and whether the picture is blurred.

Invariant: the picture of an adult product is blurred wherever it stands; so is the refused picture of a row of which it
is not known.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
from PIL import Image

from ecommerce_vl.data.images import ImageDefect, ImagePipeline
from ecommerce_vl.data.prepared import Records
from ecommerce_vl.data.record import CATEGORY_SEPARATOR
from ecommerce_vl.data.report.tables import rows_of
from ecommerce_vl.data.text import SEPARATOR, TextTemplate
from ecommerce_vl.data.thumbnails import shrunk, thumbnail
from ecommerce_vl.data.tokenizer import TextTokenizer
from ecommerce_vl.pages import data_uri

THUMBNAIL = 96  # pixels of the longer side
SHOWN = 300  # characters of a text; what is longer is no better an example
# What the default configs train with; the mean and the deviation are applied after what is shown.
PIPELINE = ImagePipeline(size=224, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25))
TEMPLATE = TextTemplate(("category", "brand", "color", "material", "pattern", "size", "gender"), field_dropout=0.0)


@dataclasses.dataclass(frozen=True)
class Card:
    """One product or refused row.

    Args:
      picture: a data URI, "" for none.
      note: what the section adds, such as the detail of a reason.
      facts: small print, such as seller and split.
    """

    id: str
    title: str
    picture: str
    blurred: bool
    facts: tuple[str, ...] = ()
    note: str = ""


def read_cards(connection: duckdb.DuckDBPyConnection, data: Path, ids: Iterable[str]) -> dict[str, Card]:
    """The cards of the kept products among the ids; the index is read once, each record once."""
    places = rows_of(
        connection,
        "SELECT id, split, position, num_images, seller_id, category FROM products "
        "WHERE id IN (SELECT unnest(?::VARCHAR[])) ORDER BY split, position",
        [sorted(set(ids))],
    )
    cards = {}
    for split in dict.fromkeys(place["split"] for place in places):
        chosen = [place for place in places if place["split"] == split]
        for place, record in zip(chosen, _records(data, split, chosen), strict=True):
            leaf = place["category"].rsplit(CATEGORY_SEPARATOR, 1)[-1]
            more = f"{place['num_images']} pictures" if place["num_images"] > 1 else ""
            cards[place["id"]] = Card(
                id=place["id"],
                title=record["title"][:SHOWN],
                picture=small(record["images"][0] if record["images"] else None),
                blurred=record["adult"] == "yes",
                facts=tuple(filter(None, (leaf[:60], place["seller_id"][:60], record["locale"], split, more))),
            )
    return cards


def case_card(case: Mapping[str, Any], cards: Mapping[str, Card], *, refused: bool) -> Card:
    """The card of a reject or repair; a repair also knows the product that was kept.

    Args:
      case: `id`, `detail`, `picture`, and `title` and `adult`, which may be None.
      refused: whether the row itself was refused, so that no record of it is kept.
    """
    kept = None if refused else cards.get(case["id"])
    picture = small(case["picture"])
    return Card(
        id=case["id"] or f"row {case['row']}",
        title=(case["title"] or (kept.title if kept else "") or "")[:SHOWN],
        picture=picture or (kept.picture if kept else ""),
        blurred=kept.blurred if kept else case["adult"] in ("yes", None),
        facts=kept.facts if kept else ((f"row {case['row']}",) if case["id"] else ()),
        note=case["detail"][:SHOWN],
    )


def copy_card(pair: Mapping[str, Any], kept: Card | None) -> Card:
    """The card of a dropped copy, see `copy_pairs`; where nothing is known of it, it is as adult as the kept one."""
    return Card(
        id=pair["id_b"],
        title=(pair["title"] or "")[:SHOWN],
        picture=small(pair["picture"]),
        blurred=pair["adult"] == "yes" or (kept.blurred if kept else pair["adult"] is None),
        facts=(f"row {pair['b']}",),
    )


def model_views(
    connection: duckdb.DuckDBPyConnection, data: Path, ids: Iterable[str], tokenizer: TextTokenizer | None
) -> list[dict[str, Any]]:
    """Products exactly as the model sees them, without what training leaves out or changes at random.

    Returns: `card` with the padded square, `parts` of the enriched text, and its `tokens`.
    """
    places = rows_of(
        connection,
        "SELECT id, split, position FROM products WHERE id IN (SELECT unnest(?::VARCHAR[])) ORDER BY split, position",
        [sorted(set(ids))],
    )
    views = []
    for split in dict.fromkeys(place["split"] for place in places):
        chosen = [place for place in places if place["split"] == split]
        for record in _records(data, split, chosen):
            text = TEMPLATE.enriched(record)
            views.append(
                {
                    "card": Card(record["id"], record["title"][:SHOWN], _square(record), record["adult"] == "yes"),
                    "parts": [part[:SHOWN] for part in text.split(SEPARATOR)] if text else [],
                    "tokens": int(tokenizer.lengths([text])[0]) if tokenizer and text else 0,
                }
            )
    return views


def _records(data: Path, split: str, places: list[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """Read by their places: `PreparedData` would hold the index of all products."""
    records = Records(data, split, np.array([place["position"] for place in places], np.int64))
    return (records[row] for row in range(len(records)))


def _square(record: Mapping[str, Any]) -> str:
    """The model's square of the main picture as a data URI, "" where there is none."""
    if not record["images"]:
        return ""
    try:
        return data_uri(shrunk(Image.fromarray(PIPELINE(record["images"][0])), pixels=PIPELINE.size))
    except ImageDefect:
        return ""


def small(data: bytes | None) -> str:
    """A picture as the source of an <img>; "" for a missing or unreadable one."""
    return data_uri(thumbnail(data, pixels=THUMBNAIL))
