"""Files that appear whole or not at all: a killed export leaves nothing half-written under its own name."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

ROWS_PER_GROUP = 10_000  # what one reader thread takes at a time


def write_table(file: Path, table: pa.Table) -> str:
    """Writes a Parquet file (zstd); returns the SHA-256 of its bytes, hexadecimal.

    Invariant: the same table gives the same bytes with the same pyarrow.
    """
    partial = file.with_name(file.name + ".partial")
    strings = [field.name for field in table.schema if pa.types.is_string(field.type)]
    pq.write_table(table, partial, compression="zstd", row_group_size=ROWS_PER_GROUP, use_dictionary=strings)
    digest = sha256(partial)
    partial.replace(file)
    return digest


def write_json(file: Path, content: Any) -> None:
    """Writes indented JSON with a newline at its end."""
    partial = file.with_name(file.name + ".partial")
    partial.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    partial.replace(file)


def sha256(file: Path) -> str:
    """SHA-256 of a file, hexadecimal; "" if it does not exist, which equals no digest."""
    try:
        with open(file, "rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest()
    except FileNotFoundError:
        return ""
