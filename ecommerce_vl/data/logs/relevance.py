"""How well a product fits a query, by words; and how well two products fit, by a seed model's vectors."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import ibis
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from ibis.expr.types import Table

from ecommerce_vl.data.seed_model.vectors import SeedVectors, matrix

VIEWS = ("text", "image")
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
    """Vectors of pictures and titles from the files of an export, kept on disk in product order."""

    def __init__(self, seed: SeedVectors, row_of_id: dict[str, int], folder: Path):
        self._matrices: dict[str, np.memmap] = {}
        self._row_of_key = {key: row for row, key in enumerate(sorted(row_of_id.values()))}
        names = ["product_id", *(seed.columns[view] for view in VIEWS)]
        for file in seed.files:
            for batch in pq.ParquetFile(file, pre_buffer=False).iter_batches(4096, columns=names):
                rows = [self._row_of_key.get(row_of_id.get(name)) for name in batch.column(0).to_pylist()]
                known = np.array([row is not None for row in rows])
                for view in VIEWS:
                    column = batch.column(seed.columns[view])
                    there = known & column.is_valid().to_numpy(zero_copy_only=False)
                    if not there.any():
                        continue
                    vectors = matrix(column.filter(pa.array(there)))
                    if view not in self._matrices:
                        shape = (len(row_of_id), vectors.shape[1])
                        self._matrices[view] = np.memmap(folder / f"{view}.f32", np.float32, "w+", shape=shape)
                    self._matrices[view][[rows[row] for row in np.flatnonzero(there)]] = vectors

    def cosines(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """For batches of (a, b): batches of `COSINES`; null where a product has no vector."""
        for batch in batches:
            rows = [
                np.array([self._row_of_key[key] for key in batch.column(side).to_pylist()], np.int64)
                for side in ("a", "b")
            ]
            columns = [batch.column("a"), batch.column("b")]
            for view in VIEWS:
                vectors = self._matrices.get(view, np.zeros((len(self._row_of_key), 1), np.float32))
                left, right = vectors[rows[0]], vectors[rows[1]]
                # A row of zeros is a product without a vector. Rounded, so that no threshold depends on a machine.
                known = left.any(1) & right.any(1)
                cosines = np.round((left.astype(np.float64) * right).sum(1), 6)
                columns.append(pa.array(cosines, mask=~known))
            yield pa.RecordBatch.from_arrays(columns, schema=COSINES)
