"""Train, validation and test without leakage: whole connected components go to one side.

Products are joined by every relation of `identity.py`, and besides by equal titles of at least five words and by
equal pictures in one leaf category: what is alike must not be on both sides, even where it is not known to be the
same. Invariants: adding unrelated products moves nobody in a split by hash; a feed's own split is honoured row by row,
rows without one follow the rest of their component, and the pairs that the feed tears apart are listed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import duckdb

from ecommerce_vl.data.cleaning import SIGNS
from ecommerce_vl.data.components import label_components
from ecommerce_vl.data.record import SPLITS

MAX_SHARED = 200  # a key on more products than this is a shop-wide default, not an identity
MIN_TITLE_WORDS = 5
MIN_LARGE = 200  # rows; a component that is no larger is never cut, however small the catalog
# The weakest first: an over-large component is cut by removing edges of these kinds, in this order.
WEAK = ("equal_title", "equal_picture", "item_group")


@dataclasses.dataclass(frozen=True)
class SplitSettings:
    """How sides are assigned.

    Args:
      fractions: of train, validation and test; they add up to 1.
      seed: of the assignment by hash.
      by: "hash", or "time": the components that end first are train, the last are test; needs `timestamp`.
      keep_given: whether the feed's own `split` column is honoured.
      max_component: share of all rows above which a component is cut, see `WEAK`.
    """

    fractions: tuple[float, float, float]
    seed: int
    by: str
    keep_given: bool
    max_component: float


def _num_words(text: str) -> str:
    """SQL: what blanks separate in a column, and each sign of a script that has no blanks."""
    others = f"string_split(regexp_replace({text}, '[{SIGNS}]', ' ', 'g'), ' ')"
    signs = f"len(regexp_extract_all({text}, '[{SIGNS}]'))"
    return f"len(list_filter({others}, lambda part: part <> '')) + {signs}"


def assign_splits(connection: duckdb.DuckDBPyConnection, settings: SplitSettings) -> dict[str, Any]:
    """Creates `sides(row, component, side)` of every row of `listings` and `leaks(a, b, reason, side_a, side_b)`.

    Needs the tables `listings` and `relations` of `identity.relate`, and `given(row, side, time)`.

    Returns: counters {"given", "leaking", "cut_edges", "largest_component"}.
    """
    sql = connection.execute
    sql("""
        CREATE OR REPLACE TABLE edges AS
        SELECT a, b, CASE WHEN relation = 'variant' THEN 'item_group' ELSE reason END AS reason FROM relations
    """)
    # A star per key: its least row with every other.
    for reason, key, condition in (
        (WEAK[0], "title_hash", f"{_num_words('title')} >= {MIN_TITLE_WORDS}"),
        (WEAK[1], "(image_hash, product_type)", "image_hash IS NOT NULL"),
    ):
        sql(f"""
            INSERT INTO edges
            SELECT a, row AS b, '{reason}' FROM (
                SELECT row, min(row) OVER shared AS a, count(*) OVER shared AS n
                FROM listings WHERE {condition} WINDOW shared AS (PARTITION BY {key})
            ) WHERE n <= {MAX_SHARED} AND a < row
        """)
    counters = _components_of_bearable_size(connection, settings.max_component)
    sql("""
        CREATE OR REPLACE TEMP TABLE placed AS
        SELECT row, id, coalesce(component, row) AS component, given.side AS given, given.time
        FROM listings LEFT JOIN labels USING (row) JOIN given USING (row)
    """)
    own = "given" if settings.keep_given else "''"
    sql(f"""
        CREATE OR REPLACE TEMP TABLE drawn AS
        SELECT component, {_drawn(settings)} AS side, agreed FROM (
            SELECT component, min(id) AS least_id, max(time) AS ends, count(*) AS size,
                CASE WHEN count(DISTINCT nullif({own}, '')) = 1 THEN min(nullif({own}, '')) ELSE '' END AS agreed
            FROM placed GROUP BY component
        )
    """)
    sql(f"""
        CREATE OR REPLACE TABLE sides AS
        SELECT row, component, CASE WHEN {own} <> '' THEN {own} WHEN agreed <> '' THEN agreed ELSE side END AS side
        FROM placed JOIN drawn USING (component)
    """)
    sql("""
        CREATE OR REPLACE TABLE leaks AS
        SELECT a, b, reason, left_side.side AS side_a, right_side.side AS side_b FROM edges
        JOIN sides left_side ON left_side.row = a JOIN sides right_side ON right_side.row = b
        WHERE left_side.side <> right_side.side
    """)
    given, leaking = sql(f"""
        SELECT (SELECT count(*) FROM placed WHERE {own} <> ''), (
            SELECT coalesce(sum(size), 0) FROM (
                SELECT count(*) AS size FROM sides GROUP BY component HAVING count(DISTINCT side) > 1))
    """).fetchone()
    return {"given": given, "leaking": int(leaking), **counters}


def _components_of_bearable_size(connection: duckdb.DuckDBPyConnection, max_share: float) -> dict[str, int]:
    """Creates `labels`; removes weak edges from components that hold too much of the catalog to lie on one side."""
    sql = connection.execute
    (num_rows,) = sql("SELECT count(*) FROM listings").fetchone()
    bound = max(MIN_LARGE, int(max_share * num_rows))
    cut = 0
    for weakest in (*WEAK, None):
        label_components(connection, edges="edges", labels="labels")
        sql(f"CREATE OR REPLACE TEMP TABLE large AS SELECT component FROM labels GROUP BY 1 HAVING count(*) > {bound}")
        if weakest is None or not sql("SELECT count(*) FROM large").fetchone()[0]:
            break
        cut += sql(f"""
            DELETE FROM edges WHERE reason = '{weakest}'
            AND a IN (SELECT row FROM labels WHERE component IN (SELECT component FROM large))
        """).fetchone()[0]
    (largest,) = sql("SELECT coalesce(max(n), 1) FROM (SELECT count(*) AS n FROM labels GROUP BY component)").fetchone()
    return {"cut_edges": cut, "largest_component": largest}


def _drawn(settings: SplitSettings) -> str:
    """SQL of the side that a component gets, from its least id or from when its last listing appeared."""
    train, validation, _ = settings.fractions
    if settings.by == "time":
        # Rows before it over all rows, so that the shares count products, not components.
        place = (
            "(sum(size) OVER (ORDER BY ends NULLS FIRST, least_id ROWS UNBOUNDED PRECEDING) - size) / sum(size) OVER ()"
        )
    else:
        # 60 bits of the digest as a number in [0, 1).
        place = f"('0x' || substr(sha256('{settings.seed}:' || least_id), 1, 15))::BIGINT / {2**60}.0"
    sides = [f"'{side}'" for side in SPLITS]
    return (
        f"CASE WHEN {place} < {train} THEN {sides[0]} WHEN {place} < {train + validation} "
        f"THEN {sides[1]} ELSE {sides[2]} END"
    )


def split_settings(config: Mapping[str, Any]) -> SplitSettings:
    """The settings that `config.split` gives."""
    return SplitSettings(**{**config, "fractions": tuple(config["fractions"])})
