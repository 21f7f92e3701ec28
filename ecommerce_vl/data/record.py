"""The product record: its fields, the names that other systems give them, and how a feed row becomes one.

Canonical names follow Google Merchant Center. Invariants: a missing value is the empty string (or an empty list),
never "N/A"; `adult` is yes, no or unknown, and missing means unknown; whatever a feed carries beyond these fields is
kept under `attributes`.
"""

from __future__ import annotations

import dataclasses
import functools
import html
import re
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
CATEGORY_MARKS = (">", "\u203a", "\u00bb", "|", " / ")  # what feeds put between levels; the first one found counts
SPLITS = ("train", "validation", "test")
SPLIT_ALIASES = {"val": "validation", "valid": "validation", "dev": "validation", "training": "train"}
MAX_IMAGES = 11  # one main picture and ten more, as in Merchant Center
LIST_FIELDS = ("image_link", "additional_image_link")
# What nested attributes may fill. A book's attribute "language" is no locale, and "split" no side of ours, so ids,
# texts, splits and pictures are taken from the row's own columns alone.
NESTED_FIELDS = frozenset(
    ("brand", "gtin", "mpn", "color", "size", "material", "pattern", "gender", "age_group", "adult", "condition")
)
# Characters kept. Merchant Center allows 150 and 5,000; no encoder reads more than these of a title or an attribute.
MAX_LENGTHS = {"title": 1_000, "description": 5_000}
MAX_OTHER_LENGTH = 1_000
MAX_DEPTH = 8  # of lists and mappings inside one value; what lies deeper is no product data
# Control characters, the byte order mark, and halves of surrogate pairs, which no UTF-8 file can hold.
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ufeff]+")
LONE_SURROGATES = re.compile("[\ud800-\udfff]")


@dataclasses.dataclass
class Product:
    """One listing, as text; the pictures are links until `data/images.py` turns them into bytes.

    Args:
      text: canonical field -> string, "" where missing; `product_type` is a path "A > B > C".
      images: links in order, the main picture first: paths, URLs, or encoded bytes.
      attributes: whatever else the feed says, name -> string.
      row: number of the feed row, from 0, over all files of the feed.
      repairs: (reason, detail) of what was cut to the limits above.
    """

    text: dict[str, str]
    images: list[str | bytes]
    attributes: dict[str, str]
    row: int
    repairs: list[tuple[str, str]] = dataclasses.field(default_factory=list)

    def __getattr__(self, name: str) -> str:
        if name in TEXT_FIELDS:
            return self.text.get(name, "")
        raise AttributeError(name)


def as_text(value: Any, *, depth: int = 0) -> str:
    """A feed value as one clean line; lists are joined by commas, missing words become the empty string.

    Bytes are text only if they are UTF-8; a picture in a column of another name is none.
    """
    if value is None or depth > MAX_DEPTH:
        return ""
    if isinstance(value, (list, tuple)):
        return ", ".join(filter(None, (as_text(item, depth=depth + 1) for item in value)))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return _float_text(value)
    if isinstance(value, Mapping):
        items = ((key, as_text(item, depth=depth + 1)) for key, item in value.items())
        return ", ".join(f"{key}={text}" for key, text in items if text)
    if isinstance(value, (bytes, bytearray)):
        try:
            value = bytes(value).decode()
        except UnicodeDecodeError:
            return ""
    text = str(value)
    if not text.isprintable():  # nearly every value is, and the patterns cost more than the test
        text = UNPRINTABLE.sub(" ", LONE_SURROGATES.sub("\ufffd", text))
    text = " ".join(text.split())
    return "" if text.lower() in MISSING_WORDS else text


def as_category(value: Any) -> str:
    """A category path "A > B > C" from a list of names, or from a string with one of `CATEGORY_MARKS` between them.

    Of a list of several whole paths, the first is taken.
    """
    if isinstance(value, (list, tuple)):
        names = [html.unescape(as_text(name)) for name in value]
        whole = next((name for name in names if CATEGORY_MARKS[0] in name), None)
        if whole:
            return as_category(whole)
    else:
        text = html.unescape(as_text(value))
        # A leading slash makes it a path; inside, "Tops/Tees" may be one name.
        mark = "/" if text.startswith("/") else next((mark for mark in CATEGORY_MARKS if mark in text), ">")
        names = text.split(mark)
    return CATEGORY_SEPARATOR.join(filter(None, (as_text(name) for name in names)))


def as_images(value: Any, *, depth: int = 0) -> list[str | bytes]:
    """Links or encoded bytes from a string, a comma separated string, bytes, {"bytes", "path"}, or a list of these."""
    if value is None or depth > MAX_DEPTH:
        return []
    if isinstance(value, (bytes, bytearray)):
        return [bytes(value)] if value else []
    if isinstance(value, Mapping):
        inner = value.get("bytes") or value.get("path") or value.get("url")
        return as_images([inner], depth=depth + 1)
    if isinstance(value, (list, tuple)):
        # An item of a list is one link, commas and all.
        links = [[_link(item)] if isinstance(item, str) else as_images(item, depth=depth + 1) for item in value]
        return [link for several in links for link in several if link]
    # Merchant Center separates several links by commas; a comma inside one link comes percent-encoded.
    return [link for link in map(_link, str(value).split(",")) if link]


def nested_attributes(row: Mapping[str, Any]) -> dict[str, Any]:
    """What lies under `attributes`: a mapping, or a list of {"name", "value"} or of (name, value), as Parquet has maps.

    Anything else is left to be an attribute of that name.
    """
    value = row.get("attributes")
    if isinstance(value, Mapping):
        return {str(name): item for name, item in value.items()}
    pairs: dict[str, Any] = {}
    for item in value if isinstance(value, (list, tuple)) else ():
        if isinstance(item, Mapping) and {"name", "value"} <= set(item):
            pairs[as_text(item["name"])] = item["value"]
        elif isinstance(item, (list, tuple)) and len(item) == 2 and isinstance(item[0], str):
            pairs[item[0]] = item[1]
        else:
            return {}
    return pairs


@functools.lru_cache(maxsize=4096)
def _plain(column: str) -> str:
    return column.strip().lower().replace(" ", "_").removeprefix("g:")


def canonical_name(column: str) -> str | None:
    """The canonical field that a column name stands for, or None if it is an attribute."""
    return CANONICAL_OF.get(_plain(column))


def field_of(column: str, *, nested: bool, columns: Mapping[str, str]) -> str | None:
    """The canonical field that a column of this feed fills, or None if it is an attribute.

    Args:
      column: as the feed has it.
      nested: whether it lies under `attributes`; see `NESTED_FIELDS`.
      columns: the user's own mapping, canonical name -> column; it wins over the aliases.
    """
    for name, own in columns.items():
        if own == column:
            return name
    name = canonical_name(column)
    return None if name in columns or (nested and name not in NESTED_FIELDS) else name


def to_product(row: Mapping[str, Any], *, row_number: int, columns: Mapping[str, str]) -> Product:
    """Maps one feed row to a product.

    Of several columns for one field, the first that is not missing is taken, in the order of `ALIASES` (so `id` before
    `sku`, whichever comes first in the file), the row's own before nested ones; the others are kept as attributes.

    Args:
      row: column name -> value, as the file has it.
      row_number: from 0.
      columns: the user's own mapping, canonical name -> column; it wins over the aliases.
    """
    given: dict[str, tuple[str, Any]] = {}
    others: dict[str, Any] = {}
    for column, value, name in _columns(row, columns):
        if name is None or name in given:
            others.setdefault(column, value)
        elif not _is_missing(value):
            given[name] = (column, value)
    values = {name: value for name, (_, value) in given.items()}
    text = {name: as_text(values.get(name)) for name in TEXT_FIELDS}
    text["product_type"] = as_category(values.get("product_type"))
    text["adult"] = {"yes": "yes", "true": "yes", "1": "yes", "no": "no", "false": "no", "0": "no"}.get(
        text["adult"].lower(), "unknown"
    )
    text["split"] = SPLIT_ALIASES.get(text["split"].lower(), text["split"].lower())
    images = list(dict.fromkeys(as_images(values.get("image_link")) + as_images(values.get("additional_image_link"))))
    named = {as_text(column): as_text(value) for column, value in others.items()}
    attributes = {name: value for name, value in named.items() if name and value}
    repairs = [*_cut(text, MAX_LENGTHS), *_cut(attributes, {})]
    if len(images) > MAX_IMAGES:
        repairs.append(("images_cut", f"{len(images)} pictures, limit {MAX_IMAGES}"))
    return Product(text=text, images=images[:MAX_IMAGES], attributes=attributes, row=row_number, repairs=repairs)


def _columns(row: Mapping[str, Any], columns: Mapping[str, str]) -> list[tuple[str, Any, str | None]]:
    """(column, value, field that it fills) of a row, in the order of preference for the field."""
    nested = nested_attributes(row)
    own = [(column, value) for column, value in row.items() if column != "attributes" or not nested]
    found = []
    for is_nested, pairs in ((False, own), (True, nested.items())):
        fields = [(column, value, field_of(column, nested=is_nested, columns=columns)) for column, value in pairs]
        found += sorted(fields, key=_rank)
    return found


def _rank(column: tuple[str, Any, str | None]) -> int:
    """Place of a column among the names of its field; the user's own mapping comes with no other."""
    names = (column[2], *ALIASES.get(column[2], ()))
    plain = _plain(column[0])
    return names.index(plain) if plain in names else 0


def _cut(texts: dict[str, str], limits: Mapping[str, int]) -> list[tuple[str, str]]:
    """Cuts what is too long, in place; returns the repairs. An id is never cut: too long a one is refused later."""
    repairs = []
    for name, text in texts.items():
        limit = limits.get(name, MAX_OTHER_LENGTH)
        if len(text) > limit and name not in ("id", "item_group_id", "catalog_id"):
            texts[name] = text[:limit].rstrip()
            reason = f"{name}_cut" if name in limits else "attribute_cut"
            repairs.append((reason, f"{name[:60]} has {len(text)} characters, limit {limit}"))
    return repairs


def _is_missing(value: Any) -> bool:
    if isinstance(value, str):
        return value.strip().lower() in MISSING_WORDS
    if isinstance(value, (list, tuple)):
        return all(item is None or item == "" for item in value)
    return value is None or value != value or value in ({}, b"")


def _float_text(value: float) -> str:
    """A number as people write it: tables hold whole ids and gtins as floats as soon as one is missing."""
    if value != value or value in (float("inf"), float("-inf")):
        return ""
    return str(int(value)) if value.is_integer() else f"{value:.12g}"


def _link(value: Any) -> str:
    link = str(value).strip()
    return "" if link.lower() in MISSING_WORDS else link
