"""Feeds: files of product rows in the formats that shops export, read as a stream of rows.

JSON lines, Parquet, CSV and TSV, plain or gzipped. Invariant: every row of every file comes out once, either as a
mapping or as a `BadRow` with a reason; nothing is dropped here.
"""

from __future__ import annotations

import csv
import dataclasses
import glob
import gzip
import io
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ecommerce_vl.errors import UserError

SUFFIXES = (".jsonl", ".ndjson", ".json", ".parquet", ".csv", ".tsv", ".txt")
PREFERRED_STEMS = ("products", "feed")  # of a folder that also holds logs and judgements


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
    """All rows of one feed file, in order."""
    kind = _format(file)
    if kind == "parquet":
        yield from _read_parquet(file)
    elif kind in ("csv", "tsv"):
        yield from _read_delimited(file)
    else:
        yield from _read_json_lines(file)


def columns_of(file: Path, *, num_rows: int = 100) -> list[str]:
    """Column names seen in the first rows of a file, in order of appearance."""
    seen: dict[str, None] = {}
    for number, row in enumerate(read_rows(file)):
        if number >= num_rows:
            break
        if isinstance(row, Mapping):
            nested = row.get("attributes")
            seen.update(dict.fromkeys(row))
            seen.update(dict.fromkeys(nested if isinstance(nested, Mapping) else ()))
    return list(seen)


def _format(file: Path) -> str | None:
    suffix = Path(file.name.removesuffix(".gz")).suffix.lower()
    return {".ndjson": "jsonl", ".json": "jsonl", ".txt": "tsv"}.get(suffix, suffix[1:]) if suffix in SUFFIXES else None


def _open(file: Path) -> io.BufferedIOBase:
    return gzip.open(file, "rb") if file.suffix == ".gz" else open(file, "rb")


def _read_json_lines(file: Path) -> Iterator[Mapping[str, Any] | BadRow]:
    with _open(file) as stream:
        for line in stream:
            if not line.strip():
                continue
            try:
                row = json.loads(line.decode("utf-8-sig"))
            except UnicodeDecodeError as error:
                yield BadRow("invalid_encoding", f"not UTF-8 at byte {error.start}: {line[:60]!r}")
            except (json.JSONDecodeError, RecursionError) as error:
                yield BadRow("invalid_json", f"{error}: {line[:60]!r}")
            else:
                yield row if isinstance(row, Mapping) else BadRow("invalid_json", f"not an object: {line[:60]!r}")


def _read_delimited(file: Path) -> Iterator[Mapping[str, Any] | BadRow]:
    # A cell may hold a whole description; the default limit of 128 KiB would stop the reader in the middle.
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    with io.TextIOWrapper(_open(file), encoding="utf-8-sig", errors="surrogateescape", newline="") as stream:
        first = stream.readline()
        delimiter = "\t" if first.count("\t") >= max(1, first.count(",")) else ("," if "," in first else ";")
        stream.seek(0)
        for row in csv.DictReader(stream, delimiter=delimiter):
            cells = [cell for cell in row.values() if isinstance(cell, str)]
            if any("\udc80" <= letter <= "\udcff" for cell in cells for letter in cell):
                yield BadRow("invalid_encoding", f"not UTF-8: {ascii(cells)[:60]}")
            elif None in row or None in row.values():
                yield BadRow("wrong_number_of_columns", f"{ascii(cells)[:60]}")
            else:
                yield row


def _read_parquet(file: Path) -> Iterator[Mapping[str, Any]]:
    with pq.ParquetFile(file) as table:
        for batch in table.iter_batches(batch_size=1024):
            yield from batch.to_pylist()
