"""Exported vectors as this room reads them: SQL over the parts, joined with the index of the prepared products."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
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
WORK = ".seed_model.partial"  # folder of what the engine does not hold in memory, and of unfinished tables


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
    """A connection with the view `vectors`: the columns of index.parquet, and `product`, `image`, `text` FLOAT[].

    While it is open there is a folder `WORK` in the data.
    """
    quoted = lambda path: "'" + str(path).replace("'", "''") + "'"
    files = ", ".join(quoted(file) for file in seed.files)
    views = ", ".join(f"{column} AS {view}" for view, column in seed.columns.items())
    work = data / WORK
    shutil.rmtree(work, ignore_errors=True)  # of a job that was killed
    work.mkdir()
    try:
        with disk_errors(data), duckdb.connect() as connection:
            connection.execute(f"SET memory_limit = '{memory_limit}'")
            connection.execute(f"SET temp_directory = {quoted(work / 'spill')}")
            connection.execute("SET enable_progress_bar = false")
            # Left to itself the engine makes its hash table of the vectors, and spills it; the index is far smaller.
            connection.execute("SET disabled_optimizers = 'join_order,build_side_probe_side'")
            connection.execute(f"""
                CREATE VIEW vectors AS SELECT * FROM (SELECT product_id AS id, {views} FROM read_parquet([{files}]))
                JOIN read_parquet({quoted(data / "index.parquet")}) USING (id)
            """)
            yield connection
    finally:
        shutil.rmtree(work, ignore_errors=True)


def matrix(column: pa.Array | pa.ChunkedArray) -> np.ndarray:
    """(N,D) float32 of a column of N lists, none of them null; (0,0) of none."""
    column = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    values = column.flatten().to_numpy(zero_copy_only=False)
    return values.reshape(len(column), -1) if len(column) else np.empty((0, 0), np.float32)
