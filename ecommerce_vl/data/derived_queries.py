"""Queries for a catalog without a query log, made of what is written on its products.

They are no shoppers' queries: they teach that attributes and words of titles lead to products, and nothing about taste.
Deterministic, from the products alone. A product gives

    attributes    the sets of `SETS` that it has, as "gender color material leaf", e.g. "men navy blue shirts"
    title         two runs of two or three of its content words, drawn by a hash of its id

Attribute queries of more than `MAX_PRODUCTS` products are too broad to tell products apart, and are left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ecommerce_vl.data.logs.words import content_words, hash64, normalised
from ecommerce_vl.data.record import CATEGORY_SEPARATOR

SETS = (
    ("gender", "color", "category"),
    ("color", "category"),
    ("brand", "category"),
    ("brand", "color", "category"),
    ("material", "category"),
    ("pattern", "category"),
)
RUNS = 2  # of words of the title
MAX_PRODUCTS = 200


def derived_queries(records: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, float, int]]:
    """(query, product id, weight 1, clicks 1) of each product and query that belong together, in order of queries."""
    products_of: dict[str, list[str]] = defaultdict(list)
    for row in range(len(records)):
        record = records[row]
        for query in dict.fromkeys((*_attributes(record), *_runs(record))):
            products_of[query].append(record["id"])
    for query in sorted(products_of):
        if len(products_of[query]) <= MAX_PRODUCTS:
            for name in products_of[query]:
                yield query, name, 1.0, 1


def _attributes(record: Mapping[str, Any]) -> Iterator[str]:
    values = {name: normalised(record[name]) for names in SETS for name in names if name != "category"}
    values["category"] = normalised(record["product_type"].split(CATEGORY_SEPARATOR)[-1])
    for names in SETS:
        if all(values[name] for name in names):
            yield " ".join(values[name] for name in names)


def _runs(record: Mapping[str, Any]) -> Iterator[str]:
    words = content_words(record["title"])
    for run in range(RUNS):
        drawn = hash64(record["id"], seed=run)
        length = min(len(words), 2 + drawn % 2)
        if length >= 2:
            first = drawn // 2 % (len(words) - length + 1)
            yield " ".join(words[first : first + length])
