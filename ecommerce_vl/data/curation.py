"""Curation: what becomes of every row, decided by SQL over the parts, in bounded memory.

In order: duplicate ids, placeholder pictures, products without picture and title, relations, copies within a seller,
catalog ids, splits, places in the shards. Invariants: a row has a place or is among the rejects, with a reason; equal
parts and settings give equal tables; no table is held in Python. What was decided is written down by `ledger.py`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import duckdb

from ecommerce_vl.data.components import label_components
from ecommerce_vl.data.disk import disk_errors
from ecommerce_vl.data.identity import LISTING_FIELDS, IdentitySettings, relate
from ecommerce_vl.data.ledger import write_ledger
from ecommerce_vl.data.split import SplitSettings, assign_splits, split_settings
from ecommerce_vl.data.times import milliseconds


@dataclasses.dataclass(frozen=True)
class CurationSettings:
    """What is decided by; see `configs/prepare.py`.

    Args:
      rows_per_shard: of the final shards.
      placeholder_share: share of all different pictures, the most frequent ones, that may be placeholders.
      placeholder_min_titles: different titles under one picture that make it a placeholder.
      drop_copies: whether one of several copies of a listing within a seller is kept.
      memory_limit: of the SQL engine, such as "4GB"; beyond it spills to disk.
    """

    rows_per_shard: int
    placeholder_share: float
    placeholder_min_titles: int
    drop_copies: bool
    memory_limit: str
    identity: IdentitySettings
    split: SplitSettings

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> CurationSettings:
        """The settings that a config gives."""
        identity = dict(config["identity"])
        return cls(
            rows_per_shard=config["rows_per_shard"],
            placeholder_share=config["images"]["placeholder_share"],
            placeholder_min_titles=config["images"]["placeholder_min_titles"],
            drop_copies=identity.pop("drop_copies"),
            memory_limit=config["memory_limit"],
            identity=IdentitySettings(**identity),
            split=split_settings(config["split"]),
        )


def curate(parts: Path, folder: Path, settings: CurationSettings) -> dict[str, Any]:
    """Decides about every row of the parts and writes the decisions into a folder, see `write_ledger`.

    Returns: counters, of the steps and of the ledger.
    """
    folder.mkdir(parents=True, exist_ok=True)
    database = folder / "curation.duckdb"
    database.unlink(missing_ok=True)
    with disk_errors(folder), duckdb.connect(database) as connection:
        sql = connection.execute
        sql(f"SET memory_limit = '{settings.memory_limit}'")
        sql(f"SET temp_directory = '{folder / 'spill'}'")
        sql("SET preserve_insertion_order = false")  # every order that matters is written out
        sql("SET enable_progress_bar = false")
        sql("SET TimeZone = 'UTC'")
        sql(f"CREATE VIEW parts AS FROM read_parquet('{parts}/part-*.parquet')")
        counters: dict[str, Any] = {}
        _read_parts(connection)
        _refuse_duplicate_ids(connection)
        counters["placeholders"] = _find_placeholders(connection, settings)
        _refuse_empty(connection)
        _list(connection)
        counters["relations"] = relate(connection, settings=settings.identity)
        counters["copies"] = _refuse_copies(connection, drop=settings.drop_copies)
        counters["catalogs"] = _name_catalogs(connection)
        _read_given(connection)
        counters["split"] = assign_splits(connection, settings.split)
        _place(connection, settings.rows_per_shard)
        counters |= write_ledger(connection, folder)
    database.unlink()
    return counters


def _read_parts(connection: duckdb.DuckDBPyConnection) -> None:
    """Creates `feed`, the parts without their pictures, and `rejects` of what was refused on the way in.

    The first thing that a row lost is noted for `_refuse_empty`; what was only cut to a limit is still there.
    """
    connection.execute(f"""
        CREATE TABLE feed AS
        SELECT row, {", ".join(LISTING_FIELDS)}, split, "timestamp", title_hash, title_bands, image_hashes,
            lost.reason AS first_reason, lost.detail AS first_detail, reject, reject_detail
        FROM (SELECT *, list_filter(repairs, lambda defect: NOT ends_with(defect.reason, '_cut'))[1] AS lost FROM parts)
    """)
    connection.execute("""
        CREATE TABLE rejects AS SELECT row, id, reject AS reason, reject_detail AS detail FROM feed WHERE reject <> ''
    """)
    connection.execute("DELETE FROM feed WHERE reject <> ''")


def _refuse(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    """Moves the rows of a query (row, reason, detail) from `feed` to `rejects`; returns their number."""
    connection.execute(f"CREATE OR REPLACE TEMP TABLE refused AS {query}")
    connection.execute("INSERT INTO rejects SELECT row, id, reason, detail FROM refused JOIN feed USING (row)")
    return connection.execute("DELETE FROM feed WHERE row IN (SELECT row FROM refused)").fetchone()[0]


def _refuse_duplicate_ids(connection: duckdb.DuckDBPyConnection) -> None:
    _refuse(
        connection,
        """
        SELECT row, 'duplicate_id' AS reason, 'an earlier row has the id ' || id AS detail
        FROM (SELECT row, id, row_number() OVER (PARTITION BY id ORDER BY row) AS nth FROM feed) WHERE nth > 1
        """,
    )


def _find_placeholders(connection: duckdb.DuckDBPyConnection, settings: CurationSettings) -> int:
    """Creates `placeholders(hash, titles)`: banners, logos and "no image" pictures, found by their frequency.

    Variants of one item group share a picture with good reason, so they count as one title.
    """
    sql = connection.execute
    sql(f"""
        CREATE TABLE placeholders AS
        WITH counted AS (
            SELECT hash, count(DISTINCT coalesce(nullif(item_group_id, ''), title_hash::VARCHAR)) AS titles FROM (
                SELECT unnest(image_hashes) AS hash, item_group_id, title_hash FROM feed
            ) GROUP BY hash
        )
        SELECT hash, titles FROM (
            SELECT *, row_number() OVER (ORDER BY titles DESC, hash) AS place, count(*) OVER () AS hashes FROM counted
        ) WHERE titles >= {settings.placeholder_min_titles} AND place <= ceil({settings.placeholder_share} * hashes)
    """)
    sql("""
        CREATE TABLE cleared AS
        SELECT row, list_filter(image_hashes, lambda hash: NOT list_contains(bad.hashes, hash)) AS kept
        FROM feed, (SELECT coalesce(list(hash), []) AS hashes FROM placeholders) bad
    """)
    return sql("SELECT count(*) FROM placeholders").fetchone()[0]


def _refuse_empty(connection: duckdb.DuckDBPyConnection) -> None:
    """Refuses what has neither picture nor title, by the first thing that it lost on the way, if it lost any."""
    _refuse(
        connection,
        """
        SELECT row, CASE WHEN first_reason IS NOT NULL THEN first_reason
            WHEN len(image_hashes) > 0 THEN 'placeholder_image' ELSE 'no_image_and_no_title' END AS reason,
            coalesce(first_detail, '') AS detail
        FROM feed JOIN cleared USING (row) WHERE title = '' AND coalesce(len(kept), 0) = 0
        """,
    )


def _list(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(f"""
        CREATE TABLE listings AS
        SELECT row, {", ".join(LISTING_FIELDS)}, title_hash, kept[1] AS image_hash, title_bands
        FROM feed JOIN cleared USING (row)
    """)


def _refuse_copies(connection: duckdb.DuckDBPyConnection, *, drop: bool) -> int:
    """Of the copies of a listing within a seller, the first row stays; what it is related to stays related to it.

    Moves their relations to `copies_of`, which is empty without `drop`: then all copies stay, related as they are.
    """
    sql = connection.execute
    sql(f"CREATE TABLE copies_of AS FROM relations WHERE relation = 'duplicate_listing' AND {drop}")
    label_components(connection, edges="copies_of", labels="copy_labels")
    refused = _refuse(
        connection,
        """
        SELECT row, coalesce(reason, 'near_duplicate') AS reason, 'a copy of ' || first.id AS detail
        FROM copy_labels JOIN (SELECT row AS component, id FROM feed) first USING (component)
        LEFT JOIN (SELECT b AS row, min(reason) AS reason FROM copies_of GROUP BY b) USING (row)
        WHERE row <> component
        """,
    )
    sql("DELETE FROM listings WHERE row NOT IN (SELECT row FROM feed)")
    sql("""
        CREATE OR REPLACE TABLE relations AS
        SELECT DISTINCT least(x, y) AS a, greatest(x, y) AS b, relation, reason, detail FROM (
            SELECT coalesce(left_copy.component, a) AS x, coalesce(right_copy.component, b) AS y, relation, reason,
                detail
            FROM (FROM relations ANTI JOIN copies_of USING (a, b))
            LEFT JOIN copy_labels left_copy ON left_copy.row = a LEFT JOIN copy_labels right_copy ON right_copy.row = b
        ) WHERE x <> y
    """)
    return refused


def _name_catalogs(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """Creates `catalogs(row, catalog_id, known)`: same-product components get one id, the feed's where it has one.

    A component that joins several of the feed's ids keeps each row's own name in the record but one key; such
    conflicts are counted, for a person to look at.
    """
    sql = connection.execute
    sql("CREATE OR REPLACE TEMP VIEW same AS SELECT a, b FROM relations WHERE relation <> 'variant'")
    label_components(connection, edges="same", labels="same_labels")
    sql("""
        CREATE TABLE catalogs AS
        WITH void AS (SELECT value FROM ignored_keys WHERE kind = 'catalog_id'),
        named AS (
            SELECT row, id, coalesce(component, row) AS component, component IS NOT NULL AS joined,
                CASE WHEN catalog_id IN (SELECT value FROM void) THEN '' ELSE catalog_id END AS own
            FROM listings LEFT JOIN same_labels USING (row)
        ),
        component_name AS (
            SELECT component, coalesce(min(nullif(own, '')), 'same:' || min(id)) AS name,
                count(DISTINCT nullif(own, '')) AS ids FROM named GROUP BY component
        )
        SELECT row, CASE WHEN own <> '' THEN own WHEN joined THEN name ELSE '' END AS catalog_id,
            CASE WHEN own <> '' OR joined THEN name END AS known, ids
        FROM named JOIN component_name USING (component)
    """)
    named, conflicts = sql("""
        SELECT count(DISTINCT known), count(DISTINCT known) FILTER (ids > 1) FROM catalogs
    """).fetchone()
    return {"catalogs": named, "conflicts": conflicts}


def _read_given(connection: duckdb.DuckDBPyConnection) -> None:
    connection.execute(f"""
        CREATE TABLE given AS SELECT row, split AS side, {milliseconds('"timestamp"')} AS time FROM feed
    """)


def _place(connection: duckdb.DuckDBPyConnection, rows_per_shard: int) -> None:
    """Creates `places`: the place and the keys of every row; unknown keys are negative and all different."""
    known_group = (
        "item_group_id <> '' AND item_group_id NOT IN (SELECT value FROM ignored_keys WHERE kind = 'item_group')"
    )
    connection.execute(f"""
        CREATE TABLE places AS
        WITH numbered AS (
            SELECT row, id, side AS split, component, catalogs.catalog_id, known, title, title_hash, image_hash, locale,
                seller_id, product_type, CASE WHEN {known_group} THEN item_group_id END AS item_group,
                coalesce(len(kept), 0) AS num_images,
                row_number() OVER (ORDER BY row) - 1 AS product_key,
                row_number() OVER (PARTITION BY side ORDER BY row) - 1 AS position
            FROM listings JOIN catalogs USING (row) JOIN sides USING (row) JOIN cleared USING (row)
        ),
        catalog_keys AS (SELECT known, row_number() OVER (ORDER BY known) - 1 AS key FROM
            (SELECT DISTINCT known FROM numbered WHERE known IS NOT NULL)),
        group_keys AS (SELECT item_group, row_number() OVER (ORDER BY item_group) - 1 AS key FROM
            (SELECT DISTINCT item_group FROM numbered WHERE item_group IS NOT NULL)),
        category_keys AS (SELECT product_type, row_number() OVER (ORDER BY product_type) - 1 AS key FROM
            (SELECT DISTINCT product_type FROM numbered WHERE product_type <> ''))
        SELECT numbered.*, position // {rows_per_shard} AS shard,
            coalesce(catalog_keys.key, -product_key - 1) AS catalog_key,
            coalesce(group_keys.key, -product_key - 1) AS group_key,
            coalesce(category_keys.key, -product_key - 1) AS category_key
        FROM numbered LEFT JOIN catalog_keys USING (known) LEFT JOIN group_keys USING (item_group)
        LEFT JOIN category_keys USING (product_type)
    """)
