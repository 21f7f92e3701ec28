"""What a single value of a feed means, whatever type it comes in: a line of text, a category, pictures, an attribute.

Invariants: a missing value is the empty string or list; no value raises an error; a text has no control characters
and is valid in any UTF-8 file.
"""

from __future__ import annotations

import decimal
import html
import json
import re
from collections.abc import Mapping
from typing import Any

from ecommerce_vl.errors import UserError

Attribute = str | float | bool | list[str]

MISSING_WORDS = frozenset({"", "n/a", "na", "null", "none", "nan", "-"})
CATEGORY_SEPARATOR = " > "
CATEGORY_MARKS = (">", "\u203a", "\u00bb", "|", " / ")  # what feeds put between levels; the first one found counts
# "A > B; A > C": several paths in one cell. A comma also stands inside names, so it must be followed by the same root.
PATH_ENDS = re.compile(r'"\s*,\s*"|[;|\n](?=[^;|\n]*>)')
MAX_ROOT_LENGTH = 200  # characters of the first name of a category path
MAX_DEPTH = 8  # of lists and mappings inside one value; what lies deeper is no product data
# Control characters, the byte order mark, and halves of surrogate pairs, which no UTF-8 file can hold.
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\ufeff]+")
LONE_SURROGATES = re.compile("[\ud800-\udfff]")
MAX_EXACT_INTEGER = 2**53  # of a float; greater whole numbers are codes and stay text


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
        items = ((as_text(key), as_text(item, depth=depth + 1)) for key, item in value.items())
        return ", ".join(f"{key}={text}" for key, text in items if text)
    if isinstance(value, (bytes, bytearray)):
        try:
            value = bytes(value).decode()
        except UnicodeDecodeError:
            return ""
    try:
        text = str(value)
    except ValueError:  # an integer of more than 4,300 digits
        return ""
    if not text.isprintable():  # nearly every value is, and the patterns cost more than the test
        text = UNPRINTABLE.sub(" ", LONE_SURROGATES.sub("\ufffd", text))
    text = " ".join(text.split())
    return "" if text.lower() in MISSING_WORDS else text


def as_attribute(value: Any) -> Attribute:
    """A feed value with its type: numbers, booleans and lists keep it, all else is one line of text; "" is missing."""
    if isinstance(value, bool):
        return value
    if isinstance(value, decimal.Decimal) and value.is_finite():
        value = float(value)
    if isinstance(value, (int, float)) and abs(value) <= MAX_EXACT_INTEGER:  # not so for NaN
        return float(value)
    if isinstance(value, (list, tuple)):
        return [text for text in (as_text(item, depth=1) for item in value) if text] or ""
    return as_text(value)


def encode_attribute(value: Attribute) -> tuple[str, str]:
    """(type, text) of an attribute, as the shards hold it; the type is text, number, boolean or list (JSON)."""
    if isinstance(value, bool):
        return "boolean", "true" if value else "false"
    if isinstance(value, (int, float)):
        return "number", str(int(value)) if float(value).is_integer() else repr(float(value))
    if isinstance(value, list):
        return "list", json.dumps(value, ensure_ascii=False)
    return "text", value


def decode_attribute(kind: str, text: str) -> Attribute:
    """The attribute that `encode_attribute` wrote.

    Errors: UserError for a type or text that it never writes.
    """
    try:
        if kind == "text":
            return text
        value = {"number": float, "boolean": json.loads, "list": json.loads}[kind](text)
        if isinstance(value, {"number": float, "boolean": bool, "list": list}[kind]):
            return value
    except (KeyError, ValueError, RecursionError):
        pass
    raise UserError(
        f"the attribute {text[:60]!r} has the type {kind!r}; expected a value of text, number, boolean or list. "
        "Prepare the feed again."
    )


def as_category(value: Any) -> str:
    """A category path "A > B > C" from a list of names, or from a string with one of `CATEGORY_MARKS` between them.

    Of several whole paths, in a list or in one cell, the first is taken.
    """
    if isinstance(value, (list, tuple)):
        names = [html.unescape(as_text(name)) for name in value]
        whole = next((name for name in names if CATEGORY_MARKS[0] in name), None)
        if whole:
            return as_category(whole)
    else:
        text = html.unescape(value) if isinstance(value, str) else as_text(value)
        text = as_text(_first_path(text))
        # A leading slash makes it a path; inside, "Tops/Tees" may be one name.
        mark = "/" if text.startswith("/") else next((mark for mark in CATEGORY_MARKS if mark in text), ">")
        names = text.split(mark)
    return CATEGORY_SEPARATOR.join(filter(None, (as_text(name) for name in names)))


def _first_path(text: str) -> str:
    """The first of several paths "A > B" in one cell, parted by a semicolon, bar, line end, or comma and the same root.

    Quoted paths are parted by commas alone.
    """
    if CATEGORY_MARKS[0] not in text:
        return text
    first = next(part for part in PATH_ENDS.split(text) if part.strip(' "\n;|'))
    root = first.partition(CATEGORY_MARKS[0])[0].strip()
    again = re.search(rf",\s*{re.escape(root)}\s*>", first) if 0 < len(root) <= MAX_ROOT_LENGTH else None
    first = first[: again.start()] if again else first
    return first.strip().strip('"')


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
    text = value if isinstance(value, str) else as_text(value)
    return [link for link in map(_link, text.split(",")) if link]


def is_missing(value: Any) -> bool:
    """Whether a value of a feed says nothing: empty, or a word such as "n/a"."""
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
