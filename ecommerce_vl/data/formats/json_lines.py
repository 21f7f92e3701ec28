"""JSON: one object a line, or a file that is one array, read item by item so that memory does not grow with it."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from typing import Any

from ecommerce_vl.data.formats.files import count_lines, open_file
from ecommerce_vl.data.formats.row import BadRow, Row
from ecommerce_vl.errors import UserError

CHARACTERS_PER_READ = 1 << 16
SPACE = " \t\r\n"


def read(path: str) -> Iterator[Row]:
    """The rows of a file with one object a line; a broken line costs only itself."""
    with open_file(path) as stream:
        for line in stream:
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig"))
            except UnicodeDecodeError as error:
                yield BadRow("invalid_encoding", f"not UTF-8 at byte {error.start}: {line[:60]!r}")
            except (ValueError, RecursionError) as error:  # ValueError: no JSON, or a number of thousands of digits
                yield BadRow("invalid_json", f"{error}: {line[:60]!r}")
            else:
                yield _row(row)


def read_array_or_lines(path: str) -> Iterator[Row]:
    """The rows of a `.json` file, which may be one array or hold an object a line.

    Errors: UserError if it begins as an array and is none.
    """
    with open_file(path) as stream:
        is_array = stream.read(64).decode("utf-8-sig", "replace").lstrip().startswith("[")
    if not is_array:
        yield from read(path)
        return
    with io.TextIOWrapper(open_file(path), encoding="utf-8-sig", newline="") as stream:
        number = 0
        try:
            for item in _items(stream):
                yield _row(item)
                number += 1
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"--feed: {path} begins as a JSON array but is none, at item {number}: {error}; "
                "mend it, or write one object a line, so that a broken row costs only itself"
            ) from error


def count_rows(path: str) -> int | None:
    return count_lines(path)


def _row(value: Any) -> Row:
    return value if isinstance(value, Mapping) else BadRow("invalid_json", f"not an object: {str(value)[:60]!r}")


def _items(stream: io.TextIOBase) -> Iterator[Any]:
    """The items of an array.

    Errors: ValueError, RecursionError.
    """
    decoder = json.JSONDecoder()
    text, position = stream.read(CHARACTERS_PER_READ), 0

    def more() -> bool:
        """Reads as much again as is waiting, so that a long item is parsed a few times only."""
        nonlocal text, position
        new = stream.read(max(CHARACTERS_PER_READ, len(text) - position))
        if new:
            text, position = text[position:] + new, 0
        return bool(new)

    def mark() -> str:
        """The next character that is no space, which is passed over."""
        nonlocal position
        while True:
            while position < len(text) and text[position] in SPACE:
                position += 1
            if position < len(text):
                position += 1
                return text[position - 1]
            if not more():
                raise ValueError("it ends before the array does")

    mark()  # the bracket
    found = mark()
    while found != "]":
        position -= 1
        while True:
            try:
                item, end = decoder.raw_decode(text, position)
                if end < len(text) or not more():  # a number may go on in what is not read yet
                    break
            except ValueError:
                if not more():
                    raise
        yield item
        position = end
        found = mark()
        if found == ",":
            found = mark()
            if found == "]":
                raise ValueError("a comma before the end of the array")
        elif found != "]":
            raise ValueError(f"found {found!r} between two items")
    if text[position:].strip() or stream.read().strip():
        raise ValueError("something follows the end of the array")
