"""The product record: its fields, the names that other systems give them, and how a feed row becomes one.

Canonical names follow Google Merchant Center. Invariants: a missing value is the empty string (or an empty list),
never "N/A"; `adult` is yes, no or unknown, and missing means unknown; whatever a feed carries beyond these fields is
kept under `attributes`, with the type that the feed gave it. Nothing a row may hold raises an error here.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

from ecommerce_vl.data.values import CATEGORY_SEPARATOR as CATEGORY_SEPARATOR
from ecommerce_vl.data.values import LONE_SURROGATES as LONE_SURROGATES
from ecommerce_vl.data.values import Attribute, as_attribute, as_category, as_images, as_text, is_missing
from ecommerce_vl.data.values import decode_attribute as decode_attribute
from ecommerce_vl.data.values import encode_attribute as encode_attribute

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
    "google_product_category": ("google_category", "google_shopping_category"),
    "multipack": ("multi_pack",),
    "is_bundle": ("isbundle",),
    "timestamp": ("created_at", "first_seen", "date", "date_added", "created", "published_at", "listed_at"),
}
TEXT_FIELDS = tuple(name for name in ALIASES if name not in ("image_link", "additional_image_link"))
CANONICAL_OF = {alias: name for name, aliases in ALIASES.items() for alias in (name, *aliases)}
SPLITS = ("train", "validation", "test")
SPLIT_ALIASES = {"val": "validation", "valid": "validation", "dev": "validation", "training": "train"}
MAX_IMAGES = 11  # one main picture and ten more, as in Merchant Center
LIST_FIELDS = ("image_link", "additional_image_link")
# What nested attributes may fill. A book's attribute "language" is no locale, and "split" no side of ours, so ids,
# texts, splits, times and pictures are taken from the row's own columns alone.
NESTED_FIELDS = frozenset(
    ("brand", "gtin", "mpn", "color", "size", "material", "pattern", "gender", "age_group", "adult", "condition")
) | frozenset(("product_type", "google_product_category", "multipack", "is_bundle"))
DETAIL_COLUMNS = ("product_detail", "additional_property", "additionalproperty")  # (section, name, value) of a product
DETAIL_NAMES = (("attribute_name", "name"), ("attribute_value", "value"))
# Characters kept. Merchant Center allows 150 and 5,000; no encoder reads more than these of a title or an attribute.
MAX_LENGTHS = {"title": 1_000, "description": 5_000}
MAX_OTHER_LENGTH = 1_000
MAX_NAME_LENGTH = 200  # of an attribute
MAX_ATTRIBUTES = 500
ANSWERS = {"yes": "yes", "true": "yes", "1": "yes", "no": "no", "false": "no", "0": "no"}


@dataclasses.dataclass
class Product:
    """One listing, as text; the pictures are links until `data/images.py` turns them into bytes.

    Args:
      text: canonical field -> string, "" where missing; `product_type` is a path "A > B > C".
      images: links in order, the main picture first: paths, URLs, or encoded bytes.
      attributes: whatever else the feed says, name -> value; `encode_attribute` writes it as two strings.
      row: number of the feed row, from 0, over all files of the feed.
      repairs: (reason, detail) of what was cut to the limits above.
    """

    text: dict[str, str]
    images: list[str | bytes]
    attributes: dict[str, Attribute]
    row: int
    repairs: list[tuple[str, str]] = dataclasses.field(default_factory=list)

    def __getattr__(self, name: str) -> str:
        if name in TEXT_FIELDS:
            return self.text.get(name, "")
        raise AttributeError(name)


def nested_attributes(row: Mapping[str, Any]) -> dict[str, Any]:
    """What lies under `attributes` and `product_detail`, name -> value.

    The first is a mapping, or a list of {"name", "value"} or of (name, value), as Parquet has maps. The second is
    Merchant Center's (section, name, value): a mapping or a list of these, triples, or "section:name:value,...".
    Anything else is left to be an attribute of the column's name.
    """
    found: dict[str, Any] = {}
    for column, value in row.items():
        for name, item in _pairs(column, value):
            found[f"{column}: {name}" if name in found else name] = item
    return found


def own_columns(row: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """(column, value) of a row but what `nested_attributes` takes apart."""
    return [(column, value) for column, value in row.items() if not _pairs(column, value)]


def _pairs(column: str, value: Any) -> list[tuple[str, Any]]:
    if column == "attributes":
        return _attribute_pairs(value)
    return _detail_pairs(value) if _plain(column) in DETAIL_COLUMNS else []


def _attribute_pairs(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping):
        return [(str(name), item) for name, item in value.items()]
    pairs = []
    for item in value if isinstance(value, (list, tuple)) else ():
        if isinstance(item, Mapping) and {"name", "value"} <= set(item):
            pairs.append((as_text(item["name"]), item["value"]))
        elif isinstance(item, (list, tuple)) and len(item) == 2 and isinstance(item[0], str):
            pairs.append((item[0], item[1]))
        else:
            return []
    return pairs


def _detail_pairs(value: Any) -> list[tuple[str, Any]]:
    """The details of a product; of several with one name, the later ones are called "section: name"."""
    items = [value] if isinstance(value, Mapping) else value
    if isinstance(value, str):
        items = [part.split(":", 2) for part in value.split(",")]
    found: dict[str, Any] = {}
    for item in items if isinstance(items, (list, tuple)) else ():
        if isinstance(item, str):
            item = item.split(":", 2)
        if isinstance(item, Mapping):
            plain = {_plain(str(name)): inner for name, inner in item.items()}
            name, inner = (next((plain[key] for key in keys if key in plain), None) for keys in DETAIL_NAMES)
            section = plain.get("section_name")
        elif isinstance(item, (list, tuple)) and len(item) == 3:
            section, name, inner = item
        else:
            return []
        section, name = as_text(section), as_text(name)
        if not name:
            return []
        found[f"{section}: {name}" if name in found else name] = inner
    return list(found.items())


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
        elif not is_missing(value):
            given[name] = (column, value)
    values = {name: value for name, (_, value) in given.items()}
    text = {name: as_text(values.get(name)) for name in TEXT_FIELDS}
    # Google's category is coarser, and may be a number; where a shop has none of its own it tells kinds apart.
    text["product_type"] = as_category(values.get("product_type") or values.get("google_product_category"))
    text["adult"] = ANSWERS.get(text["adult"].lower(), "unknown")
    text["is_bundle"] = ANSWERS.get(text["is_bundle"].lower(), "")
    text["split"] = SPLIT_ALIASES.get(text["split"].lower(), text["split"].lower())
    images = list(dict.fromkeys(as_images(values.get("image_link")) + as_images(values.get("additional_image_link"))))
    attributes, cuts = _attributes(others)
    repairs = [*_cut(text), *cuts]
    if len(images) > MAX_IMAGES:
        repairs.append(("images_cut", f"{len(images)} pictures, limit {MAX_IMAGES}"))
    return Product(text=text, images=images[:MAX_IMAGES], attributes=attributes, row=row_number, repairs=repairs)


def _columns(row: Mapping[str, Any], columns: Mapping[str, str]) -> list[tuple[str, Any, str | None]]:
    """(column, value, field that it fills) of a row, in the order of preference for the field."""
    found = []
    for is_nested, pairs in ((False, own_columns(row)), (True, nested_attributes(row).items())):
        fields = [(column, value, field_of(column, nested=is_nested, columns=columns)) for column, value in pairs]
        found += sorted(fields, key=_rank)
    return found


def _rank(column: tuple[str, Any, str | None]) -> int:
    """Place of a column among the names of its field; the user's own mapping comes with no other."""
    names = (column[2], *ALIASES.get(column[2], ()))
    plain = _plain(column[0])
    return names.index(plain) if plain in names else 0


def _cut(texts: dict[str, str]) -> list[tuple[str, str]]:
    """Cuts what is too long, in place; returns the repairs. An id is never cut: too long a one is refused later."""
    repairs = []
    for name, text in texts.items():
        limit = MAX_LENGTHS.get(name, MAX_OTHER_LENGTH)
        if len(text) > limit and name not in ("id", "item_group_id", "catalog_id"):
            texts[name] = text[:limit].rstrip()
            reason = f"{name}_cut" if name in MAX_LENGTHS else "attribute_cut"
            repairs.append((reason, f"{name} has {len(text)} characters, limit {limit}"))
    return repairs


def _attributes(others: Mapping[str, Any]) -> tuple[dict[str, Attribute], list[tuple[str, str]]]:
    """The attributes of a row within the limits, and the repairs."""
    attributes: dict[str, Attribute] = {}
    repairs = []
    for column, given in others.items():
        name, value = as_text(column), as_attribute(given)
        if not name or value == "":
            continue
        kept = _within(value)
        if len(name) > MAX_NAME_LENGTH or kept != value:
            size = sum(map(len, value)) if isinstance(value, (str, list)) else 0
            limits = f"limits {MAX_NAME_LENGTH} and {MAX_OTHER_LENGTH}"
            repairs.append(("attribute_cut", f"{name[:60]}: name of {len(name)}, value of {size} characters, {limits}"))
        attributes.setdefault(name[:MAX_NAME_LENGTH].rstrip(), kept)
    if len(attributes) > MAX_ATTRIBUTES:
        repairs.append(("attributes_cut", f"{len(attributes)} attributes, limit {MAX_ATTRIBUTES}"))
    return dict(list(attributes.items())[:MAX_ATTRIBUTES]), repairs


def _within(value: Attribute) -> Attribute:
    """An attribute of no more than `MAX_OTHER_LENGTH` characters; of a list, the first items."""
    if isinstance(value, str):
        return value if len(value) <= MAX_OTHER_LENGTH else value[:MAX_OTHER_LENGTH].rstrip()
    if not isinstance(value, list):
        return value
    kept, left = [], MAX_OTHER_LENGTH
    for item in value:
        kept.append(item[:left].rstrip())
        left -= len(item)
        if left <= 0:
            break
    return kept
