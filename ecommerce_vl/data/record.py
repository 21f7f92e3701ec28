"""The product record: its fields, the names that other systems give them, and how a feed row becomes one.

Canonical names follow Google Merchant Center. Invariants: a missing value is the empty string (or an empty list),
never "N/A"; `adult` is yes, no or unknown, and missing means unknown; whatever a feed carries beyond these fields is
kept under `attributes`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

# What a column may also be called: schema.org, Shopify, ESCI, ABO, WANDS and the exports seen in the field.
ALIASES = {
    "id": ("product_id", "item_id", "sku", "variant_id"),
    "item_group_id": ("group_id", "product_group_id", "productgroupid", "parent_sku"),
    "catalog_id": ("catalog",),
    "title": ("name", "product_title", "item_name", "product_name"),
    "description": ("body_html", "product_description"),
    "brand": ("vendor", "product_brand", "manufacturer"),
    "product_type": ("category", "category_path", "product_class", "category_hierarchy", "node"),
    "gtin": ("ean", "barcode", "upc", "isbn", "gtin13"),
    "mpn": (),
    "color": ("colour", "basecolour", "base_colour", "product_color", "product_colour"),
    "size": (),
    "material": (),
    "pattern": (),
    "gender": (),
    "age_group": (),
    "adult": ("has_adult_consideration",),
    "locale": ("lang", "language", "in_language", "product_locale"),
    "seller_id": ("seller", "merchant", "merchant_id"),
    "price": (),
    "availability": (),
    "condition": (),
    "link": ("url",),
    "split": (),
    "image_link": ("image", "images", "image_url", "main_image", "main_image_id"),
    "additional_image_link": ("additional_images", "other_image_id"),
}
TEXT_FIELDS = tuple(name for name in ALIASES if name not in ("image_link", "additional_image_link"))
CANONICAL_OF = {alias: name for name, aliases in ALIASES.items() for alias in (name, *aliases)}
MISSING_WORDS = frozenset({"", "n/a", "na", "null", "none", "nan", "-"})
CATEGORY_SEPARATOR = " > "
SPLITS = ("train", "validation", "test")
SPLIT_ALIASES = {"val": "validation", "valid": "validation", "dev": "validation", "training": "train"}
MAX_IMAGES = 11  # one main picture and ten more, as in Merchant Center
LIST_FIELDS = ("image_link", "additional_image_link")


@dataclasses.dataclass
class Product:
    """One listing, as text; the pictures are links until `data/images.py` turns them into bytes.

    Args:
      text: canonical field -> string, "" where missing; `product_type` is a path "A > B > C".
      images: links in order, the main picture first: paths, URLs, or encoded bytes.
      attributes: whatever else the feed says, name -> string.
      row: number of the feed row, from 0, over all files of the feed.
    """

    text: dict[str, str]
    images: list[str | bytes]
    attributes: dict[str, str]
    row: int

    def __getattr__(self, name: str) -> str:
        if name in TEXT_FIELDS:
            return self.text.get(name, "")
        raise AttributeError(name)


def as_text(value: Any) -> str:
    """A feed value as one clean line; lists are joined by commas, missing words become the empty string."""
    if value is None:
        return ""
    if isinstance(value, (list, tuple)):
        return ", ".join(filter(None, (as_text(item) for item in value)))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "" if value != value else f"{value:g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={as_text(item)}" for key, item in value.items())
    text = " ".join(str(value).split())
    return "" if text.lower() in MISSING_WORDS else text


def as_category(value: Any) -> str:
    """A category path "A > B > C" from a list of names, or from a string separated by ">", "|" or "/"."""
    if isinstance(value, (list, tuple)):
        names = [as_text(name) for name in value]
    else:
        text = as_text(value)
        separator = next((mark for mark in (">", "|", " / ") if mark in text), ">")
        names = [as_text(name) for name in text.split(separator)]
    return CATEGORY_SEPARATOR.join(filter(None, names))


def as_images(value: Any) -> list[str | bytes]:
    """Links or encoded bytes from a string, a comma separated string, bytes, {"bytes", "path"}, or a list of these."""
    if value is None:
        return []
    if isinstance(value, (bytes, bytearray)):
        return [bytes(value)] if value else []
    if isinstance(value, Mapping):
        return as_images(value.get("bytes") or value.get("path") or value.get("url"))
    if isinstance(value, (list, tuple)):
        return [image for item in value for image in as_images(item)]
    # Merchant Center separates several links by commas; a comma inside one link comes percent-encoded.
    return [link for link in (as_text(part) for part in str(value).split(",")) if link]


def canonical_name(column: str) -> str | None:
    """The canonical field that a column name stands for, or None if it is an attribute."""
    return CANONICAL_OF.get(column.strip().lower().replace(" ", "_").removeprefix("g:"))


def to_product(row: Mapping[str, Any], *, row_number: int, columns: Mapping[str, str]) -> Product:
    """Maps one feed row to a product.

    Args:
      row: column name -> value, as the file has it.
      row_number: from 0.
      columns: the user's own mapping, canonical name -> column; it wins over the aliases.
    """
    chosen = {column: name for name, column in columns.items()}
    given: dict[str, Any] = {}
    attributes: dict[str, str] = {}
    nested = row.get("attributes") if isinstance(row.get("attributes"), Mapping) else {}
    # The row's own columns come first, then what lies under `attributes`; the first non-empty value of a field wins.
    for column, value in [*((key, item) for key, item in row.items() if item is not nested), *nested.items()]:
        name = chosen.get(column) or canonical_name(column)
        if name in chosen.values() and column not in chosen:
            name = None
        if name is None or (given.get(name) not in (None, "", [])):
            if text := as_text(value):
                attributes[column] = text
        elif value not in (None, "", []):
            given[name] = value
    text = {name: as_text(given.get(name)) for name in TEXT_FIELDS}
    text["product_type"] = as_category(given.get("product_type"))
    text["adult"] = {"yes": "yes", "true": "yes", "1": "yes", "no": "no", "false": "no", "0": "no"}.get(
        text["adult"].lower(), "unknown"
    )
    text["split"] = SPLIT_ALIASES.get(text["split"].lower(), text["split"].lower())
    images = as_images(given.get("image_link")) + as_images(given.get("additional_image_link"))
    return Product(text=text, images=list(dict.fromkeys(images))[:MAX_IMAGES], attributes=attributes, row=row_number)
