"""Parquet, read a few rows at a time."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.parquet as pq

from ecommerce_vl.data.formats.files import open_file
from ecommerce_vl.data.formats.row import BadRow, Row

ROWS_PER_READ = 64  # rows may hold pictures of megabytes
READ_BYTES = 1 << 20  # of a column at a time, so that a row group of pictures is not held, however large it is


def read(path: str) -> Iterator[Row]:
    # With its default, `pre_buffer`, the library keeps all that it has read of a file until it is closed.
    with open_file(path) as stream, pq.ParquetFile(stream, pre_buffer=False, buffer_size=READ_BYTES) as table:
        for batch in table.iter_batches(batch_size=ROWS_PER_READ):
            try:
                yield from batch.to_pylist()
            except (UnicodeDecodeError, ValueError, OverflowError):  # in one of the rows: each by itself
                for row in range(batch.num_rows):
                    yield _row(batch.slice(row, 1))


def count_rows(path: str) -> int | None:
    with open_file(path) as stream, pq.ParquetFile(stream) as table:
        return table.metadata.num_rows


def _row(batch: pa.RecordBatch) -> Row:
    try:
        return batch.to_pylist()[0]
    except UnicodeDecodeError as error:
        return BadRow("invalid_encoding", f"not UTF-8: {error.object[:60]!r}")
    except (ValueError, OverflowError) as error:  # a date beyond the year 9999
        return BadRow("invalid_value", str(error)[:200])
