"""What users hand to an encoder, as its arguments: products as mappings in the words of feeds, and lists of texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def inputs_of(records: Sequence[Mapping[str, Any]]) -> dict[str, list]:
    """The main pictures, the titles and the ids of records, empty where there is none."""
    check_list(records, of="products")
    return {
        "images": [main_picture(record) for record in records],
        "texts": [record.get("title") or "" for record in records],
        "product_ids": [record.get("id") or "" for record in records],
    }


def main_picture(record: Mapping[str, Any]) -> Any:
    for name in ("images", "image", "image_link"):
        picture = record.get(name)
        if isinstance(picture, (list, tuple)):
            picture = picture[0] if picture else None
        if picture is not None and not (isinstance(picture, (str, bytes)) and not picture):
            return picture
    return None


def check_list(things: Any, *, of: str = "texts") -> None:
    """Errors: TypeError for one thing in place of a list of them, and for products that are no mappings."""
    single = isinstance(things, (str, bytes, Mapping))
    if single or (of == "products" and len(things) and not isinstance(things[0], Mapping)):
        expected = '["red dress"]' if of == "texts" else '[{"title": "Red dress", "image": "dress.jpg"}]'
        found = f"{type(things).__name__} {str(things)[:40]!r}"
        raise TypeError(f"found {found}; expected a list of {of}, such as {expected}")
