"""The figures of the report, by SQL over the tables of a prepared folder; nothing here reads a picture.

Invariants: no table is held in Python, only counts and a few chosen rows; which rows are chosen depends on the tables
and the seed alone.
"""

from __future__ import annotations

import contextlib
import itertools
import tempfile
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb

from ecommerce_vl.data.identity import REASONS
from ecommerce_vl.data.memory import LIMIT
from ecommerce_vl.data.record import SPLITS
from ecommerce_vl.errors import UserError

# index.parquet is the view `products`; `index` is a word of SQL.
VIEWS = {"index": "products"} | {
    name: name for name in ("rejects", "repairs", "relations", "leaks", "conflicts", "placeholders")
}
MAX_REASONS = 30  # shown of rejects and of repairs; the others are only counted
MAX_CATEGORIES = 1000  # paths in the tree, the largest ones
WORDS_SHOWN, CHARACTERS_SHOWN, PICTURES_SHOWN = 30, 15, 10  # last bars of histograms, which hold all above
ID_REASONS = ("missing_id", "id_too_long", "unknown_split", "duplicate_id")
POPULATION = ("products", "with_image", "with_title", "pairs", "sellers", "known", "known_rows", "labelled")
PAIR = "a || ':' || b"

Rows = list[dict[str, Any]]


@contextlib.contextmanager
def open_tables(data: Path, *, memory_limit: str = LIMIT) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection that sees the tables of a prepared folder as views; beyond `memory_limit` it spills to disk.

    Errors: UserError if one is missing.
    """
    missing = [f"{name}.parquet" for name in VIEWS if not (data / f"{name}.parquet").exists()]
    if missing:
        raise UserError(
            f"{data} lacks {', '.join(missing)}, expected what prepare writes; run it again with --overwrite"
        )
    with tempfile.TemporaryDirectory(dir=data, prefix=".report.") as spill, duckdb.connect() as connection:
        connection.execute(f"SET memory_limit = '{memory_limit}'")
        connection.execute(f"SET temp_directory = '{_quoted(spill)}'")
        connection.execute("SET enable_progress_bar = false")
        for name, view in VIEWS.items():
            file = _quoted(str(data / f"{name}.parquet"))
            connection.execute(f"CREATE VIEW {view} AS SELECT * FROM read_parquet('{file}')")
        yield connection


def _quoted(text: str) -> str:
    return text.replace("'", "''")


def rows_of(connection: duckdb.DuckDBPyConnection, query: str, parameters: list | None = None) -> Rows:
    """The rows of a query as dictionaries."""
    result = connection.execute(query, parameters)
    names = [column[0] for column in result.description]
    return [dict(zip(names, row, strict=True)) for row in result.fetchall()]


def _or_null(connection: duckdb.DuckDBPyConnection, view: str, column: str) -> str:
    """SQL of a column that not every version of a table has."""
    known = {row["column_name"] for row in rows_of(connection, f"DESCRIBE {view}")}
    return column if column in known else f"NULL AS {column}"


def _drawn(key: str, seed: int) -> str:
    """SQL to order by, for a draw without replacement that is the same every time."""
    return f"hash({key} || '{int(seed)}'), {key}"


def stages(connection: duckdb.DuckDBPyConnection, summary: Mapping[str, Any]) -> Rows:
    """What every stage refused and let through, from rows in to rows out: `name`, `lost` {reason: rows}, `left`.

    A stage is told by the reason; where a row has no id and that is not the reason, it could not be read at all.
    """
    quoted = lambda names: ", ".join(f"'{name}'" for name in names)
    counted = rows_of(
        connection,
        f"""
        SELECT CASE WHEN reason IN ({quoted(ID_REASONS)}) THEN 'ids' WHEN id = '' THEN 'read'
            WHEN reason IN ({quoted(REASONS)}) THEN 'identity' ELSE 'content' END AS stage, reason, count(*) AS rows
        FROM rejects GROUP BY ALL ORDER BY rows DESC, reason
        """,
    )
    left = summary["rows_in"]
    found = [{"name": "rows in the feed", "lost": {}, "left": left}]
    for stage, name in (
        ("read", "could be read"),
        ("ids", "have an id of their own"),
        ("content", "have a usable picture or title"),
        ("identity", "are no copy of a kept listing"),
    ):
        lost = {row["reason"]: row["rows"] for row in counted if row["stage"] == stage}
        left -= sum(lost.values())
        found.append({"name": name, "lost": lost, "left": left})
    return found


def reason_cases(
    connection: duckdb.DuckDBPyConnection,
    view: str,
    counts: Mapping[str, int],
    *,
    most: int,
    without: Collection[str] = (),
) -> Rows:
    """Examples of `rejects` or `repairs` by reason, the most frequent first, those with a picture before others.

    Args:
      counts: reason -> rows, of the summary.
      most: examples of a reason; `without`: reasons that are shown elsewhere and get none.

    Returns: `reason`, `count`, `cases`: rows of the view.
    """
    title, adult = (_or_null(connection, view, name) for name in ("title", "adult"))
    found = []
    for reason in sorted(counts, key=lambda reason: (-counts[reason], reason))[:MAX_REASONS]:
        cases = reason not in without and rows_of(
            connection,
            f"""
            SELECT row, id, reason, detail, picture, {title}, {adult} FROM {view} WHERE reason = ?
            ORDER BY picture IS NULL, row, detail LIMIT {int(most)}
            """,
            [reason],
        )
        found.append({"reason": reason, "count": counts[reason], "cases": cases or []})
    return found


def relation_counts(connection: duckdb.DuckDBPyConnection) -> Rows:
    """Pairs by `relation` and `reason`."""
    return rows_of(
        connection,
        "SELECT relation, reason, count(*) AS pairs FROM relations GROUP BY ALL ORDER BY relation, pairs DESC, reason",
    )


def seller_pairs(connection: duckdb.DuckDBPyConnection, *, most: int, seed: int) -> Rows:
    """Same-product pairs of every reason in turn, those of two sellers first, and of these the least alike.

    Returns: rows of `relations` and `across`, whether the sellers differ.
    """
    reasons = [row["reason"] for row in relation_counts(connection) if row["relation"] == "same_product"]
    found = []
    for reason in reasons:  # those of two sellers are looked for in a draw, which spares a join of all pairs
        found.append(
            rows_of(
                connection,
                f"""
                WITH drawn AS (
                    SELECT * FROM relations WHERE relation = 'same_product' AND reason = ?
                    ORDER BY {_drawn(PAIR, seed)} LIMIT {50 * int(most)}
                )
                SELECT a, id_a, b, id_b, reason, detail, x.seller_id <> y.seller_id AS across
                FROM drawn JOIN products x ON x.id = id_a JOIN products y ON y.id = id_b
                ORDER BY across DESC, detail, {_drawn(PAIR, seed)} LIMIT {int(most)}
                """,
                [reason],
            )
        )
    return _in_turn(found)[:most]


def copy_pairs(connection: duckdb.DuckDBPyConnection, *, most: int, seed: int) -> Rows:
    """Dropped copies (b) beside a kept listing (a), near ones and exact ones in turn, the least alike first.

    A copy of a copy has no kept listing beside it and is left out.

    Returns: rows of `relations` with the `picture`, `title` and `adult` of the copy, as far as they are known.
    """
    adult = _or_null(connection, "rejects", "adult")
    reasons = [row["reason"] for row in relation_counts(connection) if row["relation"] == "duplicate_listing"]
    return _in_turn(
        [
            rows_of(
                connection,
                f"""
                SELECT a, id_a, b, id_b, relations.reason, relations.detail, picture, title, {adult}
                FROM relations JOIN rejects ON rejects.row = b JOIN (SELECT id AS id_a FROM products) USING (id_a)
                WHERE relation = 'duplicate_listing' AND relations.reason = ? AND rejects.reason = relations.reason
                ORDER BY picture IS NULL, relations.detail, {_drawn(PAIR, seed)} LIMIT {int(most)}
                """,
                [reason],
            )
            for reason in sorted(reasons, reverse=True)
        ]
    )[:most]


def _in_turn(lists: list[Rows]) -> Rows:
    """The first rows of all lists, then the second ones, and so on."""
    return [row for turn in itertools.zip_longest(*lists) for row in turn if row is not None]


def leak_cases(connection: duckdb.DuckDBPyConnection, *, most: int, seed: int) -> tuple[Rows, Rows]:
    """Pairs that the splits tear apart: their counts by `sides` and `reason`, and a draw of them."""
    counts = rows_of(
        connection,
        "SELECT least(side_a, side_b) || ' and ' || greatest(side_a, side_b) AS sides, reason, count(*) AS pairs "
        "FROM leaks GROUP BY ALL ORDER BY pairs DESC, sides, reason",
    )
    drawn = rows_of(
        connection,
        "SELECT a, id_a, b, id_b, reason, side_a, side_b FROM leaks "
        f"ORDER BY {_drawn(PAIR, seed)}, reason LIMIT {int(most)}",
    )
    return counts, drawn


def conflict_cases(connection: duckdb.DuckDBPyConnection, *, most: int) -> tuple[int, Rows]:
    """How many gtins lie in several categories, and those on the most listings."""
    (count,) = connection.execute("SELECT count(*) FROM conflicts").fetchone()
    return count, rows_of(connection, f"SELECT * FROM conflicts ORDER BY listings DESC, gtin LIMIT {int(most)}")


def placeholder_cases(connection: duckdb.DuckDBPyConnection, *, most: int) -> Rows:
    """The placeholder pictures under the most titles."""
    adult = _or_null(connection, "placeholders", "adult")
    return rows_of(
        connection,
        f"SELECT titles, picture, {adult} FROM placeholders ORDER BY titles DESC, hash LIMIT {int(most)}",
    )


def category_counts(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """`paths`: the largest categories with products and pictures; `rest`: categories and products beyond them; ..."""
    sql = connection.execute
    sql("""
        CREATE OR REPLACE TEMP TABLE paths AS
        SELECT category AS path, count(*) AS products, count(*) FILTER (num_images > 0) AS with_image,
            count(*) FILTER (split = 'train') AS train
        FROM products WHERE category <> '' GROUP BY category
    """)
    paths = rows_of(connection, f"SELECT * FROM paths ORDER BY products DESC, path LIMIT {MAX_CATEGORIES}")
    leaves, products, rare, untrained = sql("""
        SELECT count(*), coalesce(sum(products), 0)::BIGINT, count(*) FILTER (train BETWEEN 1 AND 4),
            count(*) FILTER (train = 0) FROM paths
    """).fetchone()
    shown = sum(row["products"] for row in paths)
    return {
        "paths": paths,
        "leaves": leaves,
        "products": products,
        "rare": rare,
        "untrained": untrained,
        "rest": {"categories": leaves - len(paths), "products": products - shown},
    }


def title_lengths(connection: duckdb.DuckDBPyConnection) -> dict[str, Any]:
    """Titles by `words` and by tens of `characters` [(bar, titles)], quantiles of both (5, 50 and 95 %), and the most
    `repeated` titles."""
    counts = {
        name: connection.execute(
            f"SELECT {length} AS length, count(*) FROM products WHERE has_text GROUP BY length ORDER BY length"
        ).fetchall()
        for name, length in (("words", "len(string_split(trim(title), ' '))"), ("characters", "length(title)"))
    }
    return {
        "words": _bars(counts["words"], width=1, last=WORDS_SHOWN),
        "characters": _bars(counts["characters"], width=10, last=CHARACTERS_SHOWN),
        "word_quantiles": [_quantile(counts["words"], share) for share in (0.05, 0.5, 0.95)],
        "character_quantiles": [_quantile(counts["characters"], share) for share in (0.05, 0.5, 0.95)],
        # Counted by hash, so that the titles of millions of groups are never held.
        "repeated": rows_of(
            connection,
            """
            WITH frequent AS (
                SELECT title_hash, count(*) AS n FROM products WHERE has_text GROUP BY title_hash HAVING n > 1
                ORDER BY n DESC, title_hash LIMIT 8
            )
            SELECT arg_min(title, product_key) AS title, any_value(n) AS n
            FROM products JOIN frequent USING (title_hash) WHERE has_text GROUP BY title_hash ORDER BY n DESC, title
            """,
        ),
    }


def _bars(counts: list[tuple[int, int]], *, width: int, last: int) -> list[tuple[int, int]]:
    """Counts by length as bars of `width` lengths; the bar `last` holds all above."""
    bars: dict[int, int] = {}
    for length, n in counts:
        bar = min(length // width, last)
        bars[bar] = bars.get(bar, 0) + n
    return sorted(bars.items())


def _quantile(counts: list[tuple[int, int]], share: float) -> int:
    """The least length that at least this share of the titles do not exceed."""
    left = share * sum(n for _, n in counts)
    for length, n in counts:
        left -= n
        if left <= 0:
            return length
    return 0


def title_sample(connection: duckdb.DuckDBPyConnection, *, most: int, seed: int) -> tuple[list[str], list[str]]:
    """About `most` titles drawn by id, and their locales; all of them where there are fewer."""
    (titles,) = connection.execute("SELECT count(*) FROM products WHERE has_text").fetchone()
    drawn = connection.execute(
        f"SELECT title, locale FROM products WHERE has_text AND hash(id || '{int(seed)}') % ? = 0 ORDER BY product_key",
        [max(1, titles // most)],
    ).fetchall()
    return [title for title, _ in drawn], [locale for _, locale in drawn]


def picture_counts(connection: duckdb.DuckDBPyConnection) -> list[tuple[int, int]]:
    """(pictures, products that have so many); the last stands for all above."""
    counted = dict(
        connection.execute(
            f"SELECT least(num_images, {PICTURES_SHOWN})::BIGINT, count(*) FROM products GROUP BY 1"
        ).fetchall()
    )
    return [(pictures, counted.get(pictures, 0)) for pictures in range(max(counted, default=0) + 1)]


def population(connection: duckdb.DuckDBPyConnection) -> Rows:
    """Products, pictures, titles, sellers and known products of each split, train first."""
    found = rows_of(
        connection,
        """
        SELECT split, count(*) AS products, count(*) FILTER (num_images > 0) AS with_image,
            count(*) FILTER (has_text) AS with_title, count(*) FILTER (has_text AND num_images > 0) AS pairs,
            count(DISTINCT nullif(seller_id, '')) AS sellers, count(DISTINCT catalog_key) FILTER (catalog_key >= 0)
            AS known, count(*) FILTER (catalog_key >= 0) AS known_rows, count(*) FILTER (category <> '') AS labelled
        FROM products GROUP BY split
        """,
    )
    counts = {row["split"]: row for row in found}
    none = dict.fromkeys(POPULATION, 0)
    return [counts.get(split, {"split": split} | none) for split in SPLITS]


def drawn_ids(connection: duckdb.DuckDBPyConnection, *, most: int, seed: int) -> list[str]:
    """A draw of products of train, or of all where train is empty."""
    for condition in ("split = 'train'", "true"):
        query = f"SELECT id FROM products WHERE {condition} ORDER BY {_drawn('id', seed)} LIMIT {int(most)}"
        found = [row[0] for row in connection.execute(query).fetchall()]
        if found:
            break
    return found
