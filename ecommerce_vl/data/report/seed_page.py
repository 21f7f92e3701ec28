"""`write_seed_page`: what a seed model found in prepared data, for a person to look at before leaving anything out.

Invariants: as of the data report (`page.py`).
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import duckdb

from ecommerce_vl.data.memory import LIMIT
from ecommerce_vl.data.report import cards, tables
from ecommerce_vl.data.report.page import SEED_PAGE, environment
from ecommerce_vl.data.seed_model import agreement, duplicates
from ecommerce_vl.data.seed_model.findings import SUMMARY
from ecommerce_vl.errors import UserError
from ecommerce_vl.files import write_text

LOWEST = 0.05  # share of a category that the page calls low, and advises to leave out
CATEGORIES = 15  # in the table, the largest ones
HIGHEST = 8  # products that agree most, for comparison


def write_seed_page(data: Path, *, max_cases: int = 24, memory_limit: str = LIMIT) -> Path:
    """Writes `seed_model.html` into a prepared folder, whole or not at all; returns the file.

    Args:
      data: with the tables of `seed_model/findings.py`.
      max_cases: products, and pairs, that a section shows at most.

    Errors: UserError if there are no findings.
    """
    if not (data / SUMMARY).exists():
        raise UserError(f"{data} has no {SUMMARY}; run prepare with --vectors=VECTORS first")
    summary = json.loads((data / SUMMARY).read_text(encoding="utf-8"))
    with tables.open_tables(data, memory_limit=memory_limit) as connection:
        for file, view in ((agreement.FILE, "agreement"), (duplicates.FILE, "alike")):
            path = str(data / file).replace("'", "''")
            connection.execute(f"CREATE VIEW {view} AS SELECT * FROM read_parquet('{path}')")
        lowest = _ranked(connection, f"WHERE rank < {LOWEST} ORDER BY cosine, id LIMIT {max_cases}")
        highest = _ranked(connection, f"ORDER BY cosine DESC, id LIMIT {HIGHEST}")
        pairs = tables.rows_of(
            connection,
            f"SELECT * FROM alike WHERE relation = '' ORDER BY cosine DESC, id_a, id_b LIMIT {max_cases}",
        )
        shown = [case["id"] for case in (*lowest, *highest)]
        known = cards.read_cards(connection, data, [*shown, *(pair[s] for pair in pairs for s in ("id_a", "id_b"))])
        by_category = tables.rows_of(
            connection,
            f"""
            SELECT category, count(*) AS products, quantile_cont(cosine, [0.05, 0.5, 0.95]) AS cosines,
                count(*) FILTER (rank < {LOWEST}) AS low
            FROM agreement JOIN products USING (id) GROUP BY category
            ORDER BY products DESC, category LIMIT {CATEGORIES}
            """,
        )
    noted = lambda case: dataclasses.replace(known[case["id"]], note=f"cosine {case['cosine']:.3f}")
    page = (
        environment()
        .get_template("seed_page.html")
        .render(
            found=summary,
            lowest=[noted(case) for case in lowest],
            highest=[noted(case) for case in highest],
            pairs=[pair | {"left": known[pair["id_a"]], "right": known[pair["id_b"]]} for pair in pairs],
            categories=by_category,
            low=LOWEST,
        )
    )
    write_text(data / SEED_PAGE, page)
    return data / SEED_PAGE


def _ranked(connection: duckdb.DuckDBPyConnection, which: str) -> tables.Rows:
    return tables.rows_of(connection, f"SELECT id, cosine FROM agreement {which}")
