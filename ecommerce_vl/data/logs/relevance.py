"""How well a product fits a query, by words; and how well two products fit, by a seed model's vectors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ibis.expr.types import Table

from ecommerce_vl.errors import UserError

COSINES = pa.schema([("a", pa.int64()), ("b", pa.int64()), ("title_cos", pa.float64()), ("image_cos", pa.float64())])


def lexical(pairs: Table, query_words: Table, products: Table) -> Table:
    """Counts a query's content words in a title (what query relevance is without a model).

    Args:
      pairs: query_key, product; distinct.
      query_words: query_key, word; distinct.
      products: product, words: the title's content words with a space before, between and after.

    Returns:
      query_key, product, hits: of the query's `size` content words; a query without words is not in it.
    """
    titles = products.select("product", "words")
    rows = pairs.join(query_words, "query_key").join(titles, "product")
    hit = rows.words.contains(ibis.literal(" ").concat(rows.word).concat(" ")).cast("int64")
    rows = rows.select("query_key", "product", hit=hit)
    return rows.group_by("query_key", "product").agg(hits=rows.hit.sum(), size=rows.count())


class Vectors:
    """Vectors of a Parquet file (id, image_vector, text_vector: lists of floats), kept on disk in product order.

    Errors: UserError for missing columns and vectors of several lengths.
    """

    def __init__(self, file: Path, row_of_id: dict[str, int], folder: Path):
        table = pq.ParquetFile(file, pre_buffer=False)  # which would keep all that was read
        missing = [name for name in ("id", "image_vector", "text_vector") if name not in table.schema_arrow.names]
        if missing:
            raise UserError(
                f"--config.logs.vectors={file} has no column {missing[0]}; expected id, image_vector, text_vector"
            )
        self._matrices: dict[str, np.memmap] = {}
        self._row_of_key = {key: row for row, key in enumerate(sorted(row_of_id.values()))}
        for batch in table.iter_batches(4096, columns=["id", "image_vector", "text_vector"]):
            ids = batch.column(0).to_pylist()
            for name in ("image_vector", "text_vector"):
                for product, values in zip(ids, batch.column(name).to_pylist(), strict=True):
                    if product not in row_of_id or not values:
                        continue
                    vector = np.asarray(values, np.float32)
                    if name not in self._matrices:
                        shape = (len(row_of_id), len(vector))
                        self._matrices[name] = np.memmap(folder / f"{name}.f32", np.float32, "w+", shape=shape)
                    if vector.shape != self._matrices[name].shape[1:]:
                        raise UserError(
                            f"--config.logs.vectors={file}: {name} of {product!r} has {len(vector)} numbers; expected "
                            f"{self._matrices[name].shape[1]} as in the first row"
                        )
                    self._matrices[name][self._row_of_key[row_of_id[product]]] = vector / max(
                        float(np.linalg.norm(vector)), 1e-12
                    )

    def cosines(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """For batches of (a, b): batches of `COSINES`; null where a product has no vector."""
        for batch in batches:
            rows = [
                np.array([self._row_of_key[key] for key in batch.column(side).to_pylist()], np.int64)
                for side in ("a", "b")
            ]
            columns = [batch.column("a"), batch.column("b")]
            for name in ("text_vector", "image_vector"):
                matrix = self._matrices.get(name, np.zeros((len(self._row_of_key), 1), np.float32))
                left, right = matrix[rows[0]], matrix[rows[1]]
                # A row of zeros is a product without a vector. Rounded, so that no threshold depends on a machine.
                known = left.any(1) & right.any(1)
                cosines = np.round((left.astype(np.float64) * right).sum(1), 6)
                columns.append(pa.array(cosines, mask=~known))
            yield pa.RecordBatch.from_arrays(columns, schema=COSINES)
