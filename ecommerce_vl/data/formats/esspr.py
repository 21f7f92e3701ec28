"""Annotated same-style pairs of eSSPR (Alibaba.com, 2302.05093): the public evaluation file, as products and labels.

A row is a trigger and a recalled product, each with its title and a link to its picture, and a label: 1 is the same
style. Columns: cate_lv1_name, cate_name, trigger_id, tirgger_title (as the release spells it) or trigger_title,
recall_id, recall_title, trigger_img, recall_img, label.

`write` turns it into a feed that `prepare` reads, which fetches and freezes the pictures, and a file of judgements that
`evaluation/judged_pairs.py` measures. Invariant: rows in = rows judged + rows refused, by reason.
"""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ecommerce_vl.data.formats.row import BadRow
from ecommerce_vl.data.record import CATEGORY_SEPARATOR
from ecommerce_vl.data.values import as_text
from ecommerce_vl.errors import UserError

TRIGGER_TITLES = ("trigger_title", "tirgger_title")
NEEDED = ("cate_lv1_name", "cate_name", "trigger_id", "recall_id", "recall_title", "trigger_img", "recall_img", "label")
FEED, JUDGEMENTS = "products.jsonl", "judgements.jsonl"


@dataclasses.dataclass(frozen=True)
class Judged:
    """Args:
    products: id -> row of a feed: id, title, image_link, product_type.
    judgements: (trigger id, recalled id, whether they are of one style), as they come, without repetitions.
    refused: reason -> rows.
    """

    products: dict[str, dict[str, str]]
    judgements: list[tuple[str, str, bool]]
    refused: dict[str, int]

    def counts(self) -> dict[str, Any]:
        """What to state beside every number: rows, pairs, positives, triggers, products, links, categories."""
        paths = {product["product_type"] for product in self.products.values()}
        return {
            "judged": len(self.judgements),
            "positives": sum(label for *_, label in self.judgements),
            "triggers": len({trigger for trigger, *_ in self.judgements}),
            "products": len(self.products),
            "with_link": sum(bool(product["image_link"]) for product in self.products.values()),
            "industries": len({path.split(CATEGORY_SEPARATOR)[0] for path in paths}),
            "categories": len(paths),
            "refused": self.refused,
        }


def read_pairs(rows: Iterable[Mapping[str, Any] | BadRow], *, name: str) -> Judged:
    """Products and judgements of the rows of a file, as `feed.read_rows` gives them.

    The first title and link of an id count. A pair that comes again with another label is refused.

    Args:
      name: of the file, for errors.

    Errors: UserError for a file without the columns, or without one positive pair.
    """
    products: dict[str, dict[str, str]] = {}
    labels: dict[tuple[str, str], bool] = {}
    refused: Counter[str] = Counter()
    for row in rows:
        if isinstance(row, BadRow):
            refused[row.reason] += 1
            continue
        _check_columns(row, name)
        text = {key: as_text(value) for key, value in row.items()}
        trigger, recall, label = text["trigger_id"], text["recall_id"], _label(text["label"])
        if not trigger or not recall:
            refused["no_id"] += 1
        elif trigger == recall:
            refused["one_product"] += 1
        elif label is None:
            refused["no_label"] += 1
        elif (trigger, recall) in labels:
            refused["repeated" if labels[trigger, recall] == label else "contradicting"] += 1
        else:
            labels[trigger, recall] = label
            path = CATEGORY_SEPARATOR.join(filter(None, (text["cate_lv1_name"], text["cate_name"])))
            title = next((text[column] for column in TRIGGER_TITLES if text.get(column)), "")
            for key, own, link in ((trigger, title, "trigger_img"), (recall, text["recall_title"], "recall_img")):
                product = {"id": key, "title": own, "image_link": text[link], "product_type": path}
                products.setdefault(key, product)
    if not any(labels.values()):
        raise UserError(f"{name} holds no pair with label 1, refused were {dict(refused)}; expected annotated pairs")
    judgements = [(trigger, recall, label) for (trigger, recall), label in labels.items()]
    return Judged(products, judgements, dict(sorted(refused.items())))


def write(judged: Judged, folder: Path) -> None:
    """Writes products.jsonl, the feed, and judgements.jsonl: {"trigger", "recall", "label"} a line."""
    folder.mkdir(parents=True, exist_ok=True)
    dump = lambda row: json.dumps(row, ensure_ascii=False) + "\n"
    names = ("trigger", "recall", "label")
    judgements = (dict(zip(names, judgement, strict=True)) for judgement in judged.judgements)
    for file, rows in ((FEED, judged.products.values()), (JUDGEMENTS, judgements)):
        (folder / file).write_text("".join(map(dump, rows)), encoding="utf-8")


def _check_columns(row: Mapping[str, Any], name: str) -> None:
    missing = [column for column in NEEDED if column not in row]
    if not any(column in row for column in TRIGGER_TITLES):
        missing.append(" or ".join(TRIGGER_TITLES))
    if missing:
        found = ", ".join(row)
        raise UserError(f"{name} has no column {missing[0]}, found {found}; expected the eSSPR evaluation file")


def _label(text: str) -> bool | None:
    return {"1": True, "1.0": True, "0": False, "0.0": False}.get(text)
