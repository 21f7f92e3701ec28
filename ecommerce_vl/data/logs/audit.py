"""Random pairs with their pictures on one HTML page, for the eye that no threshold replaces.

The invariant, as of the evaluation report: one file that fetches nothing and runs nothing, all text in it escaped,
pictures of adult products blurred. The same pairs and seed give the same page.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ecommerce_vl import pages
from ecommerce_vl.data.logs.item_pairs import BITS
from ecommerce_vl.data.logs.tables import ITEM_PAIRS, QUERY_PAIRS, SUMMARY
from ecommerce_vl.data.prepared import PreparedData, Records
from ecommerce_vl.data.record import CATEGORY_SEPARATOR
from ecommerce_vl.data.thumbnails import thumbnail
from ecommerce_vl.errors import UserError
from ecommerce_vl.files import write_text

PIXELS = 128
SPELLED = {
    "one_query": "clicked under one query",
    "similar_block": "clicked on a similar-items block",
    "same_category": "same category",
    "query_relevance": "both titles fit the query",
    "title_cosine": "similar titles",
    "image_cosine": "similar pictures",
    "support": "enough shoppers",
    "not_trivial": "not the same listing twice",
    "other_seller": "different sellers",
}


def write_audit(data: Path, out: Path | None = None, *, pairs: int = 50, seed: int = 0) -> Path:
    """Writes the page of random item pairs and query pairs; returns its path.

    Args:
      data: prepared data with mined pairs.
      out: the page; None for DATA/pairs.html.
      pairs: of either kind at most; seed: of the choice.

    Errors: UserError if no logs were mined into `data`.
    """
    if not (data / SUMMARY).exists():
        raise UserError(f"{data} has no {SUMMARY}; mine logs first: run prepare with --clicks=FILE")
    out = out or data / "pairs.html"
    summary = json.loads((data / SUMMARY).read_text(encoding="utf-8"))
    shelf = _Shelf(PreparedData(data))
    items = [
        {
            "left": shelf.card(pair["trigger_id"]),
            "right": shelf.card(pair["recall_id"]),
            "reasons": [SPELLED[name] for name, bit in BITS.items() if pair["reason"] & bit],
            "facts": {
                "relation": pair["relation"].replace("_", " "),
                "shoppers": f"{pair['support']:,}",
                "affinity": f"{pair['affinity']:.3f}",
                "weight": f"{pair['weight']:.2f}",
                "split": pair["split"],
            },
        }
        for pair in _drawn(data / ITEM_PAIRS, pairs, seed)
    ]
    asked = [
        {
            "query": pair["query"],
            "right": shelf.card(pair["product_id"]),
            "facts": {
                "clicks": f"{pair['clicks']:,} of {pair['impressions']:,} shown",
                "carts": f"{pair['carts']:,}",
                "purchases": f"{pair['purchases']:,}",
                "weight": f"{pair['weight']:.2f}",
                "split": pair["split"] + (f", {pair['block'].replace('_', ' ')}" if pair["block"] else ""),
            },
        }
        for pair in _drawn(data / QUERY_PAIRS, pairs, seed + 1)
    ]
    page = (
        pages.environment(Path(__file__).parent)
        .get_template("pairs.html")
        .render(
            items=items,
            asked=asked,
            item_total=summary["stages"]["item_caps"]["rows_out"],
            query_total=summary["stages"]["query_caps"]["rows_out"],
            stages=summary["stages"],
            skipped=summary["skipped"],
        )
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_text(out, page)
    return out


def _drawn(file: Path, count: int, seed: int) -> list[dict[str, Any]]:
    table = pq.read_table(file)
    rows = np.random.default_rng(seed).choice(table.num_rows, min(count, table.num_rows), replace=False)
    return table.take(np.sort(rows)).to_pylist()


class _Shelf:
    """What the page shows of a product, read from the shards by id."""

    def __init__(self, data: PreparedData):
        self.data = data

    def card(self, product_id: str) -> Mapping[str, Any]:
        index = self.data.index
        place = pc.index(index["id"], product_id).as_py()
        if place < 0:
            raise UserError(f"{self.data.folder}: the pair's product {product_id!r} is not in it; mine the logs again")
        row = index.slice(place, 1).select(["split", "position"]).to_pylist()[0]
        record = Records(self.data.folder, row["split"], np.array([row["position"]]))[0]
        return {
            "id": product_id,
            "title": record["title"] or "(no title)",
            "leaf": record["product_type"].rsplit(CATEGORY_SEPARATOR, 1)[-1],
            "seller": record["seller_id"],
            "adult": record["adult"] == "yes",
            "picture": pages.data_uri(thumbnail(next(iter(record["images"]), None), pixels=PIXELS)),
        }
