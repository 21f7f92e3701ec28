"""CSV and TSV, read so that a broken record costs only itself; a Shopify export goes on to `shopify.py`."""

from __future__ import annotations

import collections
import csv
import io
from collections.abc import Iterator

from ecommerce_vl.data.formats import shopify
from ecommerce_vl.data.formats.files import count_lines, open_file
from ecommerce_vl.data.formats.row import BadRow, Row
from ecommerce_vl.data.values import LONE_SURROGATES

DELIMITERS = ("\t", ",", ";", "|")
MAX_CELL_LINES = 1000  # of one record; more mean a quotation mark that is never closed


def read(path: str) -> Iterator[Row]:
    """The rows of a file whose first line names the columns."""
    # A cell may hold a whole description; the default limit of 128 KiB would stop the reader in the middle.
    csv.field_size_limit(2**31 - 1)
    with io.TextIOWrapper(open_file(path), encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        first = stream.readline()
        delimiter = max(DELIMITERS, key=first.count)
        stream.seek(0)
        records = _records(stream, delimiter)
        # A header in another encoding still names columns; its rows say what is wrong.
        header = [name.encode("utf-8", "replace").decode() for name in next(records, [])]
        rows = (_row(header, cells) for cells in records)
        yield from shopify.products(rows) if shopify.is_export(header) else rows


def count_rows(path: str) -> int | None:
    """Lines but the header; more than there are rows where cells hold several lines."""
    lines = count_lines(path)
    return lines and lines - 1


def _row(header: list[str], cells: list[str]) -> Row:
    if any(map(LONE_SURROGATES.search, cells)):
        return BadRow("invalid_encoding", f"not UTF-8: {ascii(cells)[:60]}")
    if len(cells) != len(header):
        return BadRow("wrong_number_of_columns", f"{len(cells)}, the header has {len(header)}: {ascii(cells)[:60]}")
    return dict(zip(header, cells, strict=True))


class _Lines:
    """Lines of a file that can be given back, counted since the last `start`."""

    def __init__(self, stream: io.TextIOBase):
        self._stream, self._waiting, self.taken = stream, collections.deque(), []

    def __iter__(self):
        return self

    def __next__(self) -> str:
        if len(self.taken) >= MAX_CELL_LINES:
            raise StopIteration
        line = self._waiting.popleft() if self._waiting else next(self._stream)
        self.taken.append(line)
        return line

    def give_back(self, lines: list[str]) -> None:
        self._waiting.extendleft(reversed(lines))


def _records(stream: io.TextIOBase, delimiter: str) -> Iterator[list[str]]:
    """The cells of every record; empty lines are none.

    A quotation mark opened and never closed, as in `"5 inch nail`, would make one cell of all rows until the next
    mark, and lose them without a word. Such a line is read by itself, its marks as plain letters.
    """
    lines = _Lines(stream)
    num_columns = None
    while True:
        lines.taken = []
        try:
            # Strict: anything but a delimiter after a closing mark is an error, and so is an end inside of a cell.
            cells = next(csv.reader(lines, delimiter=delimiter, strict=True), None)
        except csv.Error:
            cells = []
        if cells is None:
            return
        plausible = cells and num_columns in (None, len(cells))
        if not plausible and any(line.strip() for line in lines.taken[:1]) and (not cells or len(lines.taken) > 1):
            lines.give_back(lines.taken[1:])
            cells = lines.taken[0].rstrip("\r\n").split(delimiter)
        if cells:
            num_columns = num_columns or len(cells)
            yield cells
