"""Shopify's product CSV: several lines of one handle make one product, and every variant of it becomes one row.

The first line of a handle carries title, description, vendor, type and tags; the lines after it carry further variants
and further pictures. Accounting: a line with a variant becomes a row, a line that only adds a picture is taken into
the rows of its handle, a line with neither is a `BadRow`; so lines = rows + bad rows + picture lines, and the number of
the feed's rows counts variants. Source: "Using CSV files to import and export products" of Shopify's help.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ecommerce_vl.data.formats.row import BadRow, Row

HANDLES = ("handle", "url handle")
# Shopify's name in lower case -> ours. The older and the newer template differ in a few names.
OF_PRODUCT = {
    "title": "title",
    "body (html)": "description",
    "description": "description",
    "vendor": "brand",
    "type": "product_type",
    "tags": "tags",
    "google shopping / google product category": "google_product_category",
    "google shopping / gender": "gender",
    "google shopping / age group": "age_group",
    "google shopping / condition": "condition",
    "google shopping / mpn": "mpn",
}
OF_VARIANT = {"variant sku": "sku", "sku": "sku", "variant barcode": "gtin", "barcode": "gtin"} | {
    "variant price": "price",
    "price": "price",
}
PICTURE = ("image src", "product image url")
PICTURE_PLACE = "image position"
OWN_PICTURE = ("variant image", "variant image url")
OPTIONS = tuple((f"option{number} name", f"option{number} value") for number in (1, 2, 3))
MARKS_OF_VARIANT = ("variant sku", "sku", "variant price", "price", *(value for _, value in OPTIONS))
NO_OPTION = ("title", "default title")  # what Shopify writes for a product without variants
PRODUCT_CATEGORY = "product category"
CONSUMED = {*HANDLES, *OF_PRODUCT, *OF_VARIANT, *PICTURE, PICTURE_PLACE, *OWN_PICTURE, *itertools.chain(*OPTIONS)}
CONSUMED |= {"image alt text"}
MAX_LINES = 4096  # of one product kept in memory; Shopify allows 2,048 variants


def is_export(header: Sequence[str]) -> bool:
    """Whether these are the columns of a Shopify export."""
    names = {name.strip().lower() for name in header}
    return "title" in names and any(handle in names for handle in HANDLES)


def products(lines: Iterable[Row]) -> Iterator[Row]:
    """One row a variant, in the order of the file; a line that cannot be read comes before the product it is within."""
    handle, group, head = None, [], None
    for line in lines:
        if isinstance(line, BadRow):
            yield line
            continue
        line = {name.strip().lower(): (name, value.strip()) for name, value in line.items()}
        found = _first(line, HANDLES)
        if not found:
            yield BadRow("missing_handle", f"no Handle: {_first(line, ('title', *PICTURE))[:60]!r}")
            continue
        if found != handle or len(group) == MAX_LINES:
            yield from _variants(handle, group, head)
            # A product longer than the limit goes on under its first line.
            handle, group, head = found, [], head if found == handle else line
        group.append(line)
    yield from _variants(handle, group, head)


def _variants(handle: str | None, group: list[dict], head: dict | None) -> Iterator[Row]:
    """The rows of one product.

    Args:
      head: the first line of the handle, which the others inherit from.
    """
    pictured = [line for line in group if _first(line, PICTURE)]
    pictures = [_first(line, PICTURE) for line in sorted(pictured, key=_place)]  # stable: without numbers as they come
    options = [_first(head, (name,)) for name, _ in OPTIONS] if head else []
    for line in group:
        if line is head or _first(line, MARKS_OF_VARIANT):
            yield _variant(handle, line, head, options, pictures)
        elif not _first(line, PICTURE):
            yield BadRow("empty_line", f"{handle[:60]!r} has a line without a variant and without a picture")


def _variant(handle: str, line: dict, head: dict, options: list[str], pictures: list[str]) -> Mapping[str, Any]:
    chosen = {}
    for (name, value), inherited in zip(OPTIONS, options, strict=True):
        name, value = _first(line, (name,)) or inherited, _first(line, (value,))
        if value and (name.lower(), value.lower()) != NO_OPTION:
            chosen[name or f"option {len(chosen) + 1}"] = value
    row: dict[str, Any] = {}
    for column, field in OF_PRODUCT.items():
        row[field] = row.get(field) or _first(line, (column,)) or _first(head, (column,))
    for column, field in OF_VARIANT.items():
        # A leading apostrophe keeps a spreadsheet from reading a code as a number.
        row[field] = row.get(field) or _first(line, (column,)).removeprefix("'")
    category = _first(line, (PRODUCT_CATEGORY,)) or _first(head, (PRODUCT_CATEGORY,))
    row["product_type"] = row["product_type"] or category
    row["tags"] = [tag.strip() for tag in row["tags"].split(",") if tag.strip()]
    own = _first(line, OWN_PICTURE)
    # The attribute "sku" would only repeat the id.
    identity = {"id": row.pop("sku") or "/".join((handle, *chosen.values())), "item_group_id": handle}
    rest = {name: value or _first(head, (plain,)) for plain, (name, value) in line.items() if plain not in CONSUMED}
    # Nested, so that an option called "Title" or "Id" is no title and no id.
    return (
        identity
        | row
        | {"image_link": list(dict.fromkeys([own, *pictures] if own else pictures))}
        | {"attributes": chosen}
        | {name: value for name, value in rest.items() if value and name not in ("attributes", *identity, *row)}
    )


def _first(line: dict, names: Iterable[str]) -> str:
    return next((line[name][1] for name in names if name in line and line[name][1]), "")


def _place(line: dict) -> int:
    place = _first(line, (PICTURE_PLACE,))
    return int(place) if place.isdecimal() and len(place) < 10 else MAX_LINES
