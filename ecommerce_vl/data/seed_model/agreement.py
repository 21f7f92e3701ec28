"""Pair quality: how well the picture and the title of a training product agree (LAION's filter, by category).

A seller's wrong picture teaches that unlike things are alike. A seed model's cosine of picture and title tells, and its
level differs by category, so products are ranked within their own. Invariants: only train products are ranked, and
none by a model that was trained on it; shards stay as they are, since training decides what it leaves out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ecommerce_vl.data.fraction import in_fraction_sql
from ecommerce_vl.data.prepared import PreparedData
from ecommerce_vl.data.record import CATEGORY_SEPARATOR
from ecommerce_vl.data.seed_model.vectors import ROWS, SeedVectors, matrix
from ecommerce_vl.errors import UserError

FILE = "agreement.parquet"
OPTIONS = {"drop_lowest": 0.0, "min_agreement": -1.0}  # of config.data, and what leaves nothing out
TOO_STRICT = "expected a lower config.data.drop_lowest or min_agreement (or a larger fraction)"
LEFT_OUT = "without {:,} whose picture and title agree least"  # in the description of a source


def write_agreement(
    connection: duckdb.DuckDBPyConnection, seed: SeedVectors, file: Path, *, fingerprint: str, min_category: int
) -> dict[str, Any]:
    """Writes id, cosine (of picture and title), `rank` and `among`; returns counts.

    `rank` is the share of the products of `among` that agree less. `among` is the leaf category, or the nearest
    category above it that has `min_category` such products, "" for all.

    Args:
      connection: see `open_vectors`.
      fingerprint: of the data; a model that was trained on the same has seen its fraction.
    """
    sql = connection.execute
    trained_on = seed.trained_on
    same_data = trained_on is not None and trained_on["fingerprint"] == fingerprint
    learnt = in_fraction_sql("component", trained_on["fraction"]) if same_data else "false"
    both = "FROM vectors WHERE split = 'train' AND image IS NOT NULL AND text IS NOT NULL"
    pairs, learnt_from = sql(f"SELECT count(*), count(*) FILTER ({learnt}) {both}").fetchone()
    sql("CREATE TEMP TABLE scored (id VARCHAR, category VARCHAR, cosine DOUBLE)")
    # Not by the engine's own product: DuckDB 2.0.1 refuses lists if a row that was filtered out had none.
    with connection.cursor() as reader:
        for batch in reader.sql(f"SELECT id, category, image, text {both} AND NOT ({learnt})").to_arrow_reader(ROWS):
            cosine = np.einsum("nd,nd->n", matrix(batch["image"]), matrix(batch["text"]), dtype=np.float64)
            rows = batch.select(["id", "category"]).append_column("cosine", pa.array(np.round(cosine, 6)))
            connection.register("batch", rows)
            sql("INSERT INTO scored FROM batch")
    sql(f"""
        CREATE TEMP TABLE above AS  -- each category, what lies above it, and at depth 0 all
        SELECT category, depth, array_to_string(list_slice(names, 1, depth), '{CATEGORY_SEPARATOR}') AS path FROM (
            SELECT category, names, unnest(range(len(names) + 1)) AS depth FROM (
                SELECT DISTINCT category,
                    list_filter(string_split(category, '{CATEGORY_SEPARATOR}'), lambda name: name <> '') AS names
                FROM scored
            )
        )
    """)
    sql(f"""
        CREATE TEMP TABLE own AS
        WITH sizes AS (SELECT path, count(*) AS products FROM scored JOIN above USING (category) GROUP BY path)
        SELECT category, arg_max(path, depth) AS path FROM above JOIN sizes USING (path)
        WHERE products >= {min_category} OR depth = 0 GROUP BY category
    """)
    table = connection.sql("""
        WITH ranked AS (
            SELECT id, cosine, above.path, own.path AS among,
                (row_number() OVER (PARTITION BY above.path ORDER BY cosine, id) - 1)
                    / count(*) OVER (PARTITION BY above.path) AS rank
            FROM scored JOIN above USING (category) JOIN own USING (category)
            WHERE above.path IN (SELECT path FROM own)
        )
        SELECT id, cosine, rank, among FROM ranked WHERE path = among ORDER BY id
    """).to_arrow_reader(ROWS)
    with pq.ParquetWriter(file, table.schema) as writer:
        for batch in table:
            writer.write_batch(batch, row_group_size=ROWS)
    quantiles = sql("SELECT quantile_cont(cosine, [0.01, 0.05, 0.5, 0.95]) FROM scored").fetchone()[0]
    return {
        "pairs": pairs,
        "learnt_from": learnt_from,
        "ranked": pairs - learnt_from,
        "groups": sql("SELECT count(DISTINCT path) FROM own").fetchone()[0],
        "cosine": dict(zip(("p1", "p5", "p50", "p95"), quantiles, strict=True)) if quantiles else {},
    }


def agreeing(data: PreparedData, options: Mapping[str, Any]) -> np.ndarray | None:
    """Bool (N,) of all products in the order of `data.index`: whose picture and title agree enough to learn from.

    Products without a rank (one modality, or learnt from by the seed model) stay. None where nothing is to be left out.

    Args:
      options: `config.data`: `drop_lowest`, a share of each category, and `min_agreement`, a cosine.

    Errors: UserError where no seed model has ranked the products; ValueError that begins with the key of the config.
    """
    for name, (least, most) in {"drop_lowest": (0.0, 1.0), "min_agreement": (-1.0, 1.0)}.items():
        if not least <= options[name] <= most:
            raise ValueError(f"data.{name} is {options[name]}; expected {least:g} to {most:g}")
    if all(options[name] == value for name, value in OPTIONS.items()):
        return None
    file = data.folder / FILE
    if not file.exists():
        off = " ".join(f"--config.data.{name}={value:g}" for name, value in OPTIONS.items())
        raise UserError(
            f"{file} is missing: no seed model has ranked the pairs of picture and title; export the vectors of one "
            f"and run prepare with --vectors=VECTORS, or leave nothing out: {off}"
        )
    table = pq.read_table(file, columns=["id", "cosine", "rank"])
    if table.num_rows == 0:
        raise UserError(
            f"{file} ranks no product: its model has learnt from all of them, or none has a picture and a title; train "
            "a seed model with --config.data.fraction=0.1, export its vectors, and run prepare with --vectors=VECTORS"
        )
    low = pc.or_(pc.less(table["rank"], options["drop_lowest"]), pc.less(table["cosine"], options["min_agreement"]))
    is_low = pc.is_in(data.index["id"], value_set=table["id"].filter(low).combine_chunks())
    return ~is_low.to_numpy(zero_copy_only=False)
