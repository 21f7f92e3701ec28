"""Feeds: files of product rows in the formats that shops export, read as a stream of rows.

JSON, CSV and TSV (Shopify's too), Merchant Center XML, plain or gzipped; Parquet; WebDataset tars; TFDS data sets; on
this machine or in a bucket. Invariant: every row of every source comes out once, either as a mapping or as a `BadRow`
with a reason; nothing is dropped here. A file that is damaged as a whole stops the job: where its rows begin and end
is not known.
"""

from __future__ import annotations

import dataclasses
import glob
import itertools
import re
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from etils import epath

from ecommerce_vl.data.formats import (
    delimited,
    files,
    json_lines,
    merchant_xml,
    parquet,
    tfds_dataset,
    webdataset,
)
from ecommerce_vl.data.formats.row import BadRow as BadRow
from ecommerce_vl.data.formats.row import Row
from ecommerce_vl.data.record import (
    LIST_FIELDS,
    Product,
    field_of,
    nested_attributes,
    own_columns,
    to_product,
)
from ecommerce_vl.data.values import as_text, is_missing
from ecommerce_vl.errors import UserError


class Format(NamedTuple):
    """How files of a format are found, read and counted.

    Args:
      suffixes: of its files, which may have `.gz` behind them.
      read: path -> rows.
      count: path -> number of rows, where it is known without reading them.
    """

    suffixes: tuple[str, ...]
    read: Callable[[str], Iterator[Row]]
    count: Callable[[str], int] | None = None


FORMATS = {
    "jsonl": Format((".jsonl", ".ndjson"), json_lines.read, json_lines.count_rows),
    "json": Format((".json",), json_lines.read_array_or_lines),
    "parquet": Format((".parquet",), parquet.read, parquet.count_rows),
    "csv": Format((".csv",), delimited.read, delimited.count_rows),
    "tsv": Format((".tsv", ".txt"), delimited.read, delimited.count_rows),
    "xml": Format((".xml",), merchant_xml.read),
    "tar": Format((".tar",), webdataset.read),
    "tfds": Format((), tfds_dataset.read, tfds_dataset.count_rows),
}
FORMAT_OF = {suffix: name for name, one in FORMATS.items() for suffix in one.suffixes}
TFDS = "tfds:"
PREFERRED_STEMS = ("products", "feed")  # of a folder that also holds logs and judgements
SHOWN = 80  # characters of a value in `explain`


@dataclasses.dataclass(frozen=True)
class FeedSource:
    """One file, or one split of a TFDS data set.

    Args:
      name: as it is shown to people.
      format: one of `FORMATS`.
      path: of the file; for TFDS "NAME:SPLIT".
      root: folder or bucket prefix that relative image links are relative to; "" where there is none.
    """

    name: str
    format: str
    path: str
    root: str


def feed_sources(feed: str) -> list[FeedSource]:
    """The sources that `--feed` names: a file, a folder, a glob, `tfds:NAME[:SPLIT]`, or several of these with commas.

    Of a folder, `products.*` and `feed.*` are taken where they exist, else all files of a known format, tars only where
    there is nothing else, since they may be pictures. `{000..012}` and `{a,b}` are written out.

    Errors: UserError if something named does not exist, or holds no file of a known format.
    """
    sources: list[FeedSource] = []
    # A comma inside of braces belongs to the name.
    for name in filter(None, (part.strip() for part in re.split(r",(?![^{}]*\})", feed))):
        if name.startswith(TFDS):
            requests = tfds_dataset.splits(name.removeprefix(TFDS))
            sources += [FeedSource(name=TFDS + request, format="tfds", path=request, root="") for request in requests]
        else:
            sources += [_source(path) for path in _files(name)]
    if not sources:
        raise UserError("--feed is empty; expected a file, a folder or sample:2000")
    return sources


def read_rows(source: FeedSource) -> Iterator[Row]:
    """All rows of one source, in order.

    Errors: UserError if it is damaged as a whole.
    """
    number = 0
    try:
        for row in FORMATS[source.format].read(source.path):
            yield row
            number += 1
    except UserError:
        raise
    except Exception as error:
        # What the client of a bucket and TFDS raise is of no common kind; of a file's own, only damage is expected.
        foreign = source.format == "tfds" or files.is_remote(source.path)
        damage = (EOFError, OSError, UnicodeError, zlib.error, tarfile.TarError, pa.ArrowException)
        of_the_disk = isinstance(error, OSError) and error.errno
        if not foreign and (of_the_disk or not isinstance(error, damage)):
            raise
        reason = str(error).partition("\n")[0].rstrip(".") or type(error).__name__
        raise UserError(
            f"--feed: {source.name} cannot be read beyond row {number}: {reason}; the file is damaged or cut short, "
            "or not of the format that its name says. Export or copy it again."
        ) from error


def columns_of(source: FeedSource, *, num_rows: int = 100) -> list[tuple[str, bool]]:
    """(name, whether it is nested, see `nested_attributes`) of the first rows' columns, in order of appearance."""
    seen: dict[tuple[str, bool], None] = {}
    for row in _first_rows(source, num_rows):
        seen.update(dict.fromkeys((column, nested) for column, nested, _ in _cells(row)))
    return list(seen)


def estimated_rows(source: FeedSource) -> int | None:
    """The number of rows where it is cheap to know: exact for Parquet and TFDS, by lines for text; else None.

    Errors: UserError if the source is damaged as a whole.
    """
    count = FORMATS[source.format].count
    try:
        return count(source.path) if count else None
    except (OSError, pa.ArrowException):
        return None  # reading it will say what is wrong, and where


def source_digest(source: FeedSource) -> str:
    """Digest of what a source holds; see `files.content_digest` and `tfds_dataset.digest`.

    Errors: OSError; UserError if a bucket or data set cannot be reached.
    """
    return tfds_dataset.digest(source.path) if source.format == "tfds" else files.content_digest(source.path)


def explain(sources: Iterable[FeedSource], columns: Mapping[str, str], num_rows: int = 3) -> list[dict[str, Any]]:
    """What every column of a feed becomes, and its first values before and after.

    Args:
      columns: the user's own mapping, canonical name -> column.
      num_rows: values of each column.

    Returns:
      One mapping a column, in order of appearance: `column` (nested ones as `attributes.name`), `becomes` (a canonical
      field, or "attribute"), and `values`, a list of {"before", "after"} from the first rows where it is not missing.
    """
    found: dict[str, dict[str, Any]] = {}
    for source in sources:
        for number, row in enumerate(_first_rows(source, 100)):
            product = to_product(row, row_number=number, columns=columns)
            for column, nested, value in _cells(row):
                # Names in a wrong encoding would break the terminal and prepare.json.
                shown = f"{'attributes.' if nested else ''}{column}".encode("utf-8", "replace").decode()
                field = field_of(column, nested=nested, columns=columns)
                entry = found.setdefault(shown, {"column": shown, "becomes": field or "attribute", "values": []})
                if len(entry["values"]) < num_rows and not is_missing(value):
                    after = _after(product, column, field)
                    entry["values"].append({"before": shorten(value), "after": shorten(after)})
    return list(found.values())


def shorten(value: Any) -> str:
    """A value as one line of at most `SHOWN` characters; of bytes, their number."""
    if isinstance(value, (bytes, bytearray)):
        return f"{len(value)} bytes"
    if isinstance(value, Mapping):
        value = ", ".join(f"{name}={shorten(item)}" for name, item in itertools.islice(value.items(), 10))
    if isinstance(value, (list, tuple)):
        value = "[" + ", ".join(map(shorten, value[:10])) + (", ...]" if len(value) > 10 else "]")
    if isinstance(value, str):  # what cannot be seen is written out, since it may be what is wrong
        value = value[: SHOWN + 1]
        value = value if value.isprintable() else repr(value)[1:-1]
    try:
        text = "" if value is None else str(value)
    except ValueError:  # an integer of more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def _after(product: Product, column: str, field: str | None) -> Any:
    """What a product has of a column: a field that another column filled leaves it among the attributes."""
    attribute = product.attributes.get(as_text(column))
    if attribute is not None or field is None:
        return attribute
    return product.images if field in LIST_FIELDS else product.text[field]


def _first_rows(source: FeedSource, num_rows: int) -> Iterator[Mapping[str, Any]]:
    return (row for row in itertools.islice(read_rows(source), num_rows) if isinstance(row, Mapping))


def _cells(row: Mapping[str, Any]) -> Iterator[tuple[str, bool, Any]]:
    """(column, whether it is nested, value)."""
    yield from ((column, False, value) for column, value in own_columns(row))
    yield from ((column, True, value) for column, value in nested_attributes(row).items())


def _files(name: str) -> list[str]:
    """The files of a known format that one part of `--feed` names.

    Errors: UserError.
    """
    matches = {one: _matches(one) for one in _written_out(name)}
    missing = next((one for one, paths in matches.items() if not paths), None)
    if missing is not None:
        raise UserError(
            f"--feed: no product feed at {missing!r}; expected a file or folder with {', '.join(FORMAT_OF)} "
            "(also .gz), tfds:NAME, or sample:2000. Check the path."
        )
    found = list(itertools.chain.from_iterable(matches.values()))
    for path in found:
        if not _format(path):
            known = f"{', '.join(FORMAT_OF)} (also .gz)"
            raise UserError(f"--feed: {path} has the suffix {Path(path).suffix!r}; expected one of {known}")
    return found


def _matches(name: str) -> list[str]:
    if files.is_remote(name):
        return _remote_matches(name)
    path = Path(name)
    if path.is_dir():
        return _of_folder([str(file) for file in sorted(path.iterdir())])
    return [name] if path.is_file() else sorted(glob.glob(name, recursive=True))


def _remote_matches(name: str) -> list[str]:
    if not any(mark in name for mark in "*?["):
        with files.remote_errors(name):
            path = epath.Path(name)
            if path.is_dir():
                return _of_folder(sorted(map(str, path.iterdir())))
            return [name] if path.exists() else []
    scheme, _, rest = name.partition("://")
    bucket, _, pattern = rest.partition("/")
    with files.remote_errors(name):
        return sorted(map(str, epath.Path(f"{scheme}://{bucket}").glob(pattern)))


def _of_folder(inside: list[str]) -> list[str]:
    known = [path for path in inside if _format(path)]
    preferred = [path for path in known if Path(path).name.split(".")[0] in PREFERRED_STEMS]
    return preferred or [path for path in known if _format(path) != "tar"] or known


def _written_out(name: str) -> list[str]:
    """A name with its braces written out: {000..012} keeps the zeros, {a,b} is a choice."""
    match = re.search(r"\{(?:(\d+)\.\.(\d+)|([^{}]*,[^{}]*))\}", name)
    if not match:
        return [name]
    first, last, choice = match.groups()
    inner = choice.split(",") if choice else [f"{n:0{len(first)}d}" for n in range(int(first), int(last) + 1)]
    return [f"{name[: match.start()]}{one}{tail}" for one in inner for tail in _written_out(name[match.end() :])]


def _format(path: str) -> str | None:
    return FORMAT_OF.get(Path(path.removesuffix(".gz")).suffix.lower())


def _source(path: str) -> FeedSource:
    return FeedSource(name=path, format=_format(path), path=path, root=files.parent(path))
