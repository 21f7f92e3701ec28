"""Exported vectors as this room reads them: SQL over the parts, joined with the index of the prepared products."""

from __future__ import annotations

import contextlib
import dataclasses
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

from ecommerce_vl.data.disk import disk_errors
from ecommerce_vl.data.prepared import SUMMARY
from ecommerce_vl.errors import UserError

ROWS = 8192  # read at a time


@dataclasses.dataclass(frozen=True)
class SeedVectors:
    """The files of an export.

    Args:
      files: Parquet parts.
      columns: view ("product", "image", "text") -> its column; a product that lacks the view has null there.
      fingerprint: of the data that was embedded.
      space_id: of the vectors.
      trained_on: {"fingerprint", "fraction"} of what the model learnt from; None for a published model.
    """

    files: Sequence[Path]
    columns: Mapping[str, str]
    fingerprint: str
    space_id: str
    trained_on: Mapping[str, Any] | None

    def require_data(self, folder: Path, fingerprint: str) -> None:
        """Checks that the products of a folder were embedded.

        Errors: UserError that names both fingerprints.
        """
        if self.fingerprint != fingerprint:
            raise UserError(
                f"--vectors are of other data (fingerprint {self.fingerprint[:12]}); {folder / SUMMARY} says "
                f"{fingerprint[:12]}: export --data={folder} again"
            )


@contextlib.contextmanager
def open_vectors(data: Path, seed: SeedVectors, *, memory_limit: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection with the view `vectors`: the columns of index.parquet, and `product`, `image`, `text` FLOAT[]."""
    quoted = lambda path: "'" + str(path).replace("'", "''") + "'"
    files = ", ".join(quoted(file) for file in seed.files)
    views = ", ".join(f"{column} AS {view}" for view, column in seed.columns.items())
    with (
        disk_errors(data),
        tempfile.TemporaryDirectory(dir=data, prefix=".seed_model.") as spill,
        duckdb.connect() as connection,
    ):
        connection.execute(f"SET memory_limit = '{memory_limit}'")
        connection.execute(f"SET temp_directory = {quoted(spill)}")
        connection.execute("SET enable_progress_bar = false")
        connection.execute(f"""
            CREATE VIEW vectors AS SELECT * FROM read_parquet({quoted(data / "index.parquet")})
            JOIN (SELECT product_id AS id, {views} FROM read_parquet([{files}])) USING (id)
        """)
        yield connection


def matrix(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """(N,D) float32 of a column of N lists, none of them null."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    return column.flatten().to_numpy(zero_copy_only=False).reshape(len(column), -1)
