"""WebDataset: tar files in which the files of one sample follow each other, named alike up to the first point.

`000012.json` gives the columns, `000012.jpg` a picture, `000012.txt` the title where the columns have none; the name
is the id where they have none. Source: the WebDataset format description, naming of samples.
"""

from __future__ import annotations

import itertools
import json
import tarfile
from collections.abc import Iterator
from typing import Any

from ecommerce_vl.data.formats.files import open_file
from ecommerce_vl.data.formats.row import BadRow, Row
from ecommerce_vl.data.record import canonical_name

PICTURES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff")
TEXTS = ("txt", "text", "caption")
MAX_MEMBER = 1 << 26  # bytes of one file


def read(path: str) -> Iterator[Row]:
    """The samples of a shard, in order, read as a stream.

    Errors: TarError if the shard is damaged.
    """
    with open_file(path) as stream, tarfile.open(fileobj=stream, mode="r|") as shard:
        files = ((*_key(member.name), *_content(shard, member)) for member in shard if member.isfile())
        for key, sample in itertools.groupby(files, key=lambda file: file[0]):
            yield _row(key, [(suffix, data, defect) for _, suffix, data, defect in sample])


def count_rows(path: str) -> int | None:
    return None  # a tar file has no index


def _key(name: str) -> tuple[str, str]:
    """(name of the sample, suffix) of a file; points in folders are no suffix."""
    folder, slash, file = name.rpartition("/")
    stem, _, suffix = file.partition(".")
    return f"{folder}{slash}{stem}".removeprefix("./"), suffix.lower()


def _content(shard: tarfile.TarFile, member: tarfile.TarInfo) -> tuple[bytes, str]:
    """(bytes, what is wrong) of a file, read while the stream stands at it."""
    if member.size > MAX_MEMBER:
        return b"", f"{member.name} has {member.size} bytes, limit {MAX_MEMBER}"
    return shard.extractfile(member).read(), ""


def _row(key: str, files: list[tuple[str, bytes, str]]) -> Row:
    row: dict[str, Any] = {}
    pictures: list[bytes] = []
    for suffix, data, defect in files:
        kind = suffix.rpartition(".")[2]
        if defect:
            return BadRow("sample_too_large", defect)
        if kind in PICTURES:
            pictures.append(data)
            continue
        try:
            value = json.loads(data.decode("utf-8-sig")) if kind == "json" else data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            if kind == "json" or kind in TEXTS:
                return BadRow("invalid_encoding", f"{key}.{suffix} is not UTF-8 at byte {error.start}")
            continue  # arrays, sound: nothing that a product has
        except (ValueError, RecursionError) as error:
            return BadRow("invalid_json", f"{key}.{suffix}: {error}")
        if kind == "json" and not isinstance(value, dict):
            return BadRow("invalid_json", f"{key}.{suffix} is not an object: {str(value)[:60]!r}")
        if kind == "json":
            row.update(value)
        else:
            row.setdefault("title" if kind in TEXTS and not _has(row, "title") else suffix or "file", value.strip())
    if not _has(row, "id"):
        row["id"] = key
    if pictures:
        linked = {name: row.pop(name) for name in list(row) if canonical_name(name) == "image_link"}
        # The bytes are the pictures; where they came from stays an attribute.
        row |= {"image_link": pictures} | {f"source of {name}": value for name, value in linked.items()}
    return row


def _has(row: dict[str, Any], field: str) -> bool:
    return any(canonical_name(name) == field for name in row)
