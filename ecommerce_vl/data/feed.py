"""Feeds: files of product rows in the formats that shops export, read as a stream of rows.

JSON lines (or one JSON array), CSV and TSV, plain or gzipped, and Parquet. Invariant: every row of every file comes
out once, either as a mapping or as a `BadRow` with a reason; nothing is dropped here. A file that is damaged as a
whole stops the job: where its rows begin and end is not known.
"""

from __future__ import annotations

import collections
import csv
import dataclasses
import glob
import gzip
import io
import itertools
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ecommerce_vl.data.record import LONE_SURROGATES, nested_attributes
from ecommerce_vl.errors import UserError

SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet", ".csv", ".tsv", ".txt")
PREFERRED_STEMS = ("products", "feed")  # of a folder that also holds logs and judgements
DELIMITERS = ("\t", ",", ";", "|")
MAX_CELL_LINES = 1000  # of one record of a CSV file; more mean a quotation mark that is never closed
ROWS_PER_READ = 64  # of Parquet at a time; rows may hold pictures of megabytes


@dataclasses.dataclass(frozen=True)
class BadRow:
    """A row that cannot be read; `detail` shows what was found."""

    reason: str
    detail: str


def feed_files(feed: str) -> list[Path]:
    """The files that `--feed` names: a file, a folder, a glob, or several of these separated by commas.

    Of a folder, `products.*` and `feed.*` are taken where they exist, else all files of a known format.

    Errors: UserError if something named does not exist, or holds no file of a known format.
    """
    files: list[Path] = []
    for name in filter(None, (part.strip() for part in feed.split(","))):
        path = Path(name)
        if path.is_dir():
            inside = [file for file in sorted(path.iterdir()) if _format(file)]
            found = [file for file in inside if file.name.split(".")[0] in PREFERRED_STEMS] or inside
        elif path.is_file():
            found = [path]
        else:
            found = [Path(match) for match in sorted(glob.glob(name))]
        if not found:
            raise UserError(
                f"--feed: no product feed at {name!r}; expected a file or folder with {', '.join(SUFFIXES)} "
                "(also .gz), or sample:2000. Check the path."
            )
        for file in found:
            if not _format(file):
                raise UserError(
                    f"--feed: {file} has the suffix {file.suffix!r}; expected one of {', '.join(SUFFIXES)} (also .gz)"
                )
        files += found
    if not files:
        raise UserError("--feed is empty; expected a file, a folder or sample:2000")
    return files


def read_rows(file: Path) -> Iterator[Mapping[str, Any] | BadRow]:
    """All rows of one feed file, in order.

    Errors: UserError if the file is damaged as a whole.
    """
    read = {"parquet": _read_parquet, "csv": _read_delimited, "tsv": _read_delimited}.get(
        _format(file), _read_json_lines
    )
    number = 0
    try:
        for row in read(file):
            number += 1
            yield row
    except (EOFError, OSError, zlib.error, pa.ArrowException) as error:
        if isinstance(error, OSError) and error.errno:
            raise  # of the disk, not of what the file holds
        reason = str(error).partition("\n")[0].rstrip(".")
        raise UserError(
            f"--feed: {file} cannot be read beyond row {number}: {reason}; the file is damaged or cut short, "
            "or not of the format that its name says. Export or copy it again."
        ) from error


def columns_of(file: Path, *, num_rows: int = 100) -> list[tuple[str, bool]]:
    """(name, whether it lies under `attributes`) of the columns in the first rows of a file, in order of appearance."""
    seen: dict[tuple[str, bool], None] = {}
    for row in itertools.islice(read_rows(file), num_rows):
        if isinstance(row, Mapping):
            nested = nested_attributes(row)
            seen.update(dict.fromkeys((column, False) for column in row if column != "attributes" or not nested))
            seen.update(dict.fromkeys((column, True) for column in nested))
    return list(seen)


def _format(file: Path) -> str | None:
    suffix = Path(file.name.removesuffix(".gz")).suffix.lower()
    return {".ndjson": "jsonl", ".txt": "tsv"}.get(suffix, suffix[1:]) if suffix in SUFFIXES else None


def _open(file: Path) -> io.BufferedIOBase:
    return gzip.open(file, "rb") if file.suffix == ".gz" else open(file, "rb")


def _read_json_lines(file: Path) -> Iterator[Mapping[str, Any] | BadRow]:
    array = _json_array(file) if _format(file) == "json" else None
    if array is not None:
        for row in array:
            yield row if isinstance(row, Mapping) else BadRow("invalid_json", f"not an object: {str(row)[:60]!r}")
        return
    with _open(file) as stream:
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
                yield row if isinstance(row, Mapping) else BadRow("invalid_json", f"not an object: {line[:60]!r}")


def _json_array(file: Path) -> list | None:
    """The items of a file that is one JSON array, or None if it holds an object a line."""
    with _open(file) as stream:
        if not stream.read(64).decode("utf-8-sig", "replace").lstrip().startswith("["):
            return None
        stream.seek(0)
        try:
            return json.loads(stream.read().decode("utf-8-sig"))
        except (ValueError, RecursionError) as error:
            raise UserError(
                f"--feed: {file} begins as a JSON array but is none: {error}; "
                "mend it, or write one object a line, so that a broken row costs only itself"
            ) from error


def _read_delimited(file: Path) -> Iterator[Mapping[str, Any] | BadRow]:
    # A cell may hold a whole description; the default limit of 128 KiB would stop the reader in the middle.
    csv.field_size_limit(2**31 - 1)
    with io.TextIOWrapper(_open(file), encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        first = stream.readline()
        delimiter = max(DELIMITERS, key=first.count)
        stream.seek(0)
        records = _records(stream, delimiter)
        # A header in another encoding still names columns; its rows say what is wrong.
        header = [name.encode("utf-8", "replace").decode() for name in next(records, [])]
        for cells in records:
            if any(map(LONE_SURROGATES.search, cells)):
                yield BadRow("invalid_encoding", f"not UTF-8: {ascii(cells)[:60]}")
            elif len(cells) != len(header):
                yield BadRow(
                    "wrong_number_of_columns", f"{len(cells)}, the header has {len(header)}: {ascii(cells)[:60]}"
                )
            else:
                yield dict(zip(header, cells, strict=True))


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


def _read_parquet(file: Path) -> Iterator[Mapping[str, Any] | BadRow]:
    with pq.ParquetFile(file) as table:
        for batch in table.iter_batches(batch_size=ROWS_PER_READ):
            try:
                yield from batch.to_pylist()
            except UnicodeDecodeError:  # in one of the rows: each by itself
                for row in range(batch.num_rows):
                    yield _parquet_row(batch.slice(row, 1))


def _parquet_row(batch: pa.RecordBatch) -> Mapping[str, Any] | BadRow:
    try:
        return batch.to_pylist()[0]
    except UnicodeDecodeError as error:
        return BadRow("invalid_encoding", f"not UTF-8: {error.object[:60]!r}")
