"""Parquet as the export writes it: whole or not at all, and the same bytes for the same table with the same pyarrow."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from ecommerce_vl.files import sha256, whole_file

ROWS_PER_GROUP = 10_000  # what one reader thread takes at a time


def write_table(file: Path, table: pa.Table) -> str:
    """Writes a Parquet file (zstd); returns the SHA-256 of its bytes, hexadecimal."""
    strings = [field.name for field in table.schema if pa.types.is_string(field.type)]
    with whole_file(file) as partial:
        pq.write_table(table, partial, compression="zstd", row_group_size=ROWS_PER_GROUP, use_dictionary=strings)
    return sha256(file)
