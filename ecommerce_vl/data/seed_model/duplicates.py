"""Semantic duplicates: products of one leaf category whose vectors are nearly equal. Reported, never dropped.

As SemDeDup looks for them: within k-means clusters, which bounds the work; a pair that a cluster's border parts is not
found, and neither is one across blocks of `MAX_ROWS` products, of which a very large leaf is made.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ecommerce_vl.data.seed_model.vectors import ROWS, matrix

FILE = "semantic_duplicates.parquet"
MAX_ROWS = 100_000  # of a leaf in memory at once
CLUSTER = 1_000  # products of a cluster, about; a leaf of twice as many is not parted
SCORES = 4_000_000  # compared at a time: equal vectors are of one cluster, however many
SCHEMA = pa.schema(
    [
        ("id_a", pa.string()),
        ("id_b", pa.string()),
        ("cosine", pa.float32()),
        ("relation", pa.string()),
        ("split_a", pa.string()),
        ("split_b", pa.string()),
        ("category", pa.string()),
    ]
)
COLUMNS = ("id", "split", "catalog_key", "group_key")


def write_duplicates(
    connection: duckdb.DuckDBPyConnection, file: Path, *, min_cosine: float, max_partners: int, seed: int
) -> dict[str, int]:
    """Writes the pairs, of each product its `max_partners` nearest; returns counts by relation, and of `blocks`.

    A leaf is one block, or, of more than `MAX_ROWS` products, several, across which nothing is compared. A pair's
    `relation` is what was known of it: same_product, variant, or "" for news.
    """
    counts = {"blocks": 0, "pairs": 0, "products": 0, "same_product": 0, "variant": 0, "new": 0}
    with pq.ParquetWriter(file, SCHEMA) as writer:
        for category, rows in _leaves(connection):
            vectors = matrix(rows["product"])
            clusters = _clusters(vectors, seed=seed)
            pairs = np.concatenate([_alike(vectors, members, min_cosine, max_partners) for members in clusters])
            found = _described(rows, vectors, *pairs.T, category=category)
            writer.write_table(found)
            counts["blocks"] += 1
            counts["pairs"] += len(pairs)
            counts["products"] += len(np.unique(pairs))
            for relation in found["relation"].to_pylist():
                counts[relation or "new"] += 1
    return counts


def _described(
    rows: pa.Table, vectors_NxD: np.ndarray, left: np.ndarray, right: np.ndarray, *, category: str
) -> pa.Table:
    """A table of `SCHEMA` of pairs of rows."""
    known = {name: rows[name].to_numpy(zero_copy_only=False) for name in COLUMNS}
    same, variant = (
        (known[key][left] >= 0) & (known[key][left] == known[key][right]) for key in ("catalog_key", "group_key")
    )
    columns = {
        "cosine": _cosines(vectors_NxD, left, right).astype(np.float32),
        "relation": np.select([same, variant], ["same_product", "variant"], ""),
        "category": np.full(len(left), category, object),
    }
    for side, chosen in (("a", left), ("b", right)):
        columns |= {f"{name}_{side}": known[name][chosen] for name in ("id", "split")}
    return pa.table({field.name: pa.array(columns[field.name], field.type) for field in SCHEMA}, schema=SCHEMA)


def _leaves(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[str, pa.Table]]:
    """(category, its rows in order of ids), at most `MAX_ROWS` at once."""
    query = f"SELECT category, {', '.join(COLUMNS)}, product FROM vectors ORDER BY category, id"
    with connection.cursor() as cursor:
        kept: list[pa.RecordBatch] = []
        for batch in cursor.sql(query).to_arrow_reader(min(ROWS, MAX_ROWS)):
            names = batch["category"].to_numpy(zero_copy_only=False)
            cuts = np.flatnonzero(names[1:] != names[:-1]) + 1
            for start, stop in itertools.pairwise([0, *cuts.tolist(), len(names)]):
                is_other = kept and kept[-1]["category"][0].as_py() != names[start]
                if kept and (is_other or sum(map(len, kept)) + stop - start > MAX_ROWS):
                    yield kept[0]["category"][0].as_py(), pa.Table.from_batches(kept)
                    kept = []
                kept.append(batch.slice(start, stop - start))
        if kept:
            yield kept[0]["category"][0].as_py(), pa.Table.from_batches(kept)


def _clusters(vectors_NxD: np.ndarray, *, seed: int) -> Iterator[np.ndarray]:
    """Rows of each cluster; small sets are one."""
    count = len(vectors_NxD)
    if count <= 2 * CLUSTER:
        yield np.arange(count)
        return
    from sklearn.cluster import MiniBatchKMeans

    number = -(-count // CLUSTER)
    label_N = MiniBatchKMeans(number, random_state=seed, n_init=1, batch_size=8 * CLUSTER).fit_predict(vectors_NxD)
    yield from np.split(np.argsort(label_N, kind="stable"), np.cumsum(np.bincount(label_N))[:-1])


def _alike(vectors_NxD: np.ndarray, rows: np.ndarray, min_cosine: float, most: int) -> np.ndarray:
    """(P,2) pairs i < j of these rows with at least this cosine, of each row its `most` nearest, sorted."""
    found = [np.empty((0, 2), np.int64)]
    length = max(1, SCORES // max(1, len(rows)))
    for start in range(0, len(rows), length):
        some = rows[start : start + length]
        cosine = vectors_NxD[some] @ vectors_NxD[rows].T
        cosine[some[:, None] == rows] = -2.0
        # A little below, then as written: rounded, so that no pair depends on a machine.
        one, other = np.nonzero(cosine >= min_cosine - 1e-5)
        exact = _cosines(vectors_NxD, some[one], rows[other])
        one, other, exact = (column[exact >= min_cosine] for column in (one, other, exact))
        order = np.lexsort((other, -exact, one))
        one, other = one[order], other[order]
        place = np.arange(len(one)) - np.searchsorted(one, one)
        found.append(np.stack([some[one], rows[other]], axis=1)[place < most])
    return np.unique(np.sort(np.concatenate(found), axis=1), axis=0)


def _cosines(vectors_NxD: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """float64 (P,) to six digits, of pairs of rows."""
    cosines = [
        np.einsum("pd,pd->p", vectors_NxD[left[span]], vectors_NxD[right[span]], dtype=np.float64)
        for span in (slice(start, start + CLUSTER) for start in range(0, len(left), CLUSTER))
    ]
    return np.round(np.concatenate([np.empty(0), *cosines]), 6)
