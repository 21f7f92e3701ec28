"""The ledger of a curation: what was decided about every row, counted and written down.

Tables of a few columns for the next stage and the report, with some pictures of what is not in the shards, for people
to look at. Invariant: the same decisions give the same bytes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from ecommerce_vl.data.record import SPLITS

ROWS_PER_GROUP = 8192
PICTURES_PER_REASON = 50  # of what is refused, for people to look at


def write_ledger(connection: duckdb.DuckDBPyConnection, folder: Path) -> dict[str, Any]:
    """Writes the tables that outlive a curation into a folder; returns its counters.

    Writes `places.parquet` (one line a kept row: place, keys, synthetic catalog id), `placeholders.parquet`,
    `conflicts.parquet`, `index.parquet`, `rejects.parquet`, `repairs.parquet`, `relations.parquet`, `leaks.parquet`.

    Args:
      connection: with the tables of `curation.curate`.
    """
    _list_repairs(connection)
    _show(connection)
    _export_all(connection, folder)
    return _count(connection)


def _list_repairs(connection: duckdb.DuckDBPyConnection) -> None:
    """Creates `repairs(row, id, place, reason, detail, picture)`: what kept rows lost, with pictures of a few."""
    connection.execute(f"""
        CREATE TABLE repairs AS
        WITH lost AS (
            SELECT row, generate_subscripts(repairs, 1) AS place, unnest(repairs) AS defect FROM parts
            UNION ALL
            SELECT row, 0, {{'reason': 'placeholder_image', 'detail': (len(image_hashes) - len(kept)) || ' of '
                || len(image_hashes) || ' pictures', 'picture': NULL::BLOB}}
            FROM feed JOIN cleared USING (row) WHERE len(kept) < len(image_hashes)
        ),
        numbered AS (
            SELECT row, id, place, defect.reason, defect.detail, defect.picture, row_number() OVER (
                PARTITION BY defect.reason, defect.picture IS NULL ORDER BY row, defect.detail, place) AS nth
            FROM lost JOIN places USING (row)
        )
        SELECT row, id, place, reason, detail, CASE WHEN nth <= {PICTURES_PER_REASON} THEN picture END AS picture
        FROM numbered
    """)


def _show(connection: duckdb.DuckDBPyConnection) -> None:
    """Creates `shown_rejects` and `shown_placeholders`: pictures of what is not in the shards, a few a reason.

    The rows are named in the query, so that the engine reads the groups that they are in and no other pictures.
    """
    sql = connection.execute
    chosen = sql(f"""
        SELECT row FROM (SELECT row, row_number() OVER (PARTITION BY reason ORDER BY row) AS nth FROM rejects)
        WHERE nth <= {PICTURES_PER_REASON} ORDER BY row
    """).fetchall()
    first = sql("""
        SELECT min(row) FROM (SELECT row, unnest(image_hashes) AS hash FROM feed) JOIN placeholders USING (hash)
        GROUP BY hash ORDER BY 1
    """).fetchall()
    listed = lambda rows: ", ".join(str(row) for (row,) in rows) or "-1"
    sql(f"""
        CREATE TABLE shown_rejects AS SELECT row, title, adult, coalesce(images[1], repairs[1].picture) AS picture
        FROM parts WHERE row IN ({listed(chosen)})
    """)
    sql(f"""
        CREATE TABLE shown_placeholders AS
        SELECT hash, arg_min(picture, row) AS picture, arg_min(adult, row) AS adult FROM (
            SELECT row, adult, unnest(image_hashes) AS hash, unnest(images) AS picture
            FROM parts WHERE row IN ({listed(first)})
        ) GROUP BY hash
    """)


def _export_all(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    export = lambda name, query: _write_query(connection, query, folder / f"{name}.parquet")
    export(
        "places",
        "SELECT row, split, shard, position, product_key, catalog_key, group_key, category_key, catalog_id, num_images"
        " FROM places ORDER BY split, position",
    )
    export(
        "placeholders",
        "SELECT hash, titles, adult, picture FROM placeholders LEFT JOIN shown_placeholders USING (hash)"
        " ORDER BY titles DESC, hash",
    )
    export(
        "conflicts",
        "SELECT gtin, count(*) AS listings, list(id ORDER BY row)[:10] AS ids,"
        " list(DISTINCT product_type ORDER BY product_type) AS categories FROM listings"
        " WHERE gtin <> '' AND product_type <> '' GROUP BY gtin HAVING count(DISTINCT product_type) > 1"
        " ORDER BY listings DESC, gtin",
    )
    export(
        "index",
        "SELECT id, split, position, product_key, catalog_key, group_key, category_key, num_images,"
        " title <> '' AS has_text, product_type AS category, title, seller_id, locale,"
        " coalesce(lower(hex(image_hash)), '') AS image_hash, title_hash, component FROM places ORDER BY row",
    )
    export(
        "rejects",
        "SELECT row, id, reason, detail, title, adult, picture FROM rejects LEFT JOIN shown_rejects USING (row)"
        " ORDER BY row",
    )
    export("repairs", "SELECT row, id, reason, detail, picture FROM repairs ORDER BY row, reason, detail, place")
    names = "(SELECT row, id FROM feed UNION ALL SELECT row, id FROM rejects)"
    export(
        "relations",
        "SELECT a, left_name.id AS id_a, b, right_name.id AS id_b, relation, reason, detail"
        " FROM (FROM relations UNION ALL FROM copies_of)"
        f" JOIN {names} left_name ON left_name.row = a JOIN {names} right_name ON right_name.row = b"
        " ORDER BY a, b, relation, reason",
    )
    export(
        "leaks",
        "SELECT a, left_name.id AS id_a, b, right_name.id AS id_b, reason, side_a, side_b FROM leaks"
        " JOIN feed left_name ON left_name.row = a JOIN feed right_name ON right_name.row = b ORDER BY a, b, reason",
    )


def _write_query(connection: duckdb.DuckDBPyConnection, query: str, file: Path) -> None:
    """Streams the rows of an ordered query into a Parquet file.

    Through Arrow, whose bytes depend on the rows alone; the engine's own writer cuts groups by thread.
    """
    with connection.cursor() as cursor:
        reader = cursor.sql(query).to_arrow_reader(ROWS_PER_GROUP)
        with pq.ParquetWriter(file, reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch, row_group_size=ROWS_PER_GROUP)


def _count(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    sql = connection.execute
    splits = dict(sql("SELECT split, count(*) FROM places GROUP BY split").fetchall())
    keys = ("rows_out", "with_image", "with_title", "images", "categories")
    totals = sql("""
        SELECT count(*), count(*) FILTER (num_images > 0), count(*) FILTER (title <> ''),
            coalesce(sum(num_images), 0)::BIGINT, count(DISTINCT nullif(product_type, '')) FROM places
    """).fetchone()
    ignored = sql("SELECT kind, sum(rows)::BIGINT FROM ignored_keys GROUP BY kind ORDER BY kind").fetchall()
    rejects = sql("SELECT reason, count(*) FROM rejects GROUP BY reason ORDER BY reason").fetchall()
    repairs = sql("SELECT reason, count(*) FROM repairs GROUP BY reason ORDER BY reason").fetchall()
    cleaned = sql("""
        SELECT rule, count(*) FROM (SELECT row, unnest(cleaned) AS rule FROM parts) JOIN places USING (row)
        GROUP BY rule ORDER BY rule
    """).fetchall()
    return {
        **dict(zip(keys, totals, strict=True)),
        "splits": {name: splits.get(name, 0) for name in SPLITS},
        "ignored_keys": dict(ignored),
        "rejects": dict(rejects),
        "repairs": dict(repairs),
        "cleaned": dict(cleaned),
    }
