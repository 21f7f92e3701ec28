"""Connected components of a graph that lies in a SQL table, in bounded memory.

Labels are passed along edges and shortened by jumping from label to label, so stars take two rounds and a chain of n a
few times log n. Invariant: a component is named by its least row, whatever the order of the edges.
"""

from __future__ import annotations

import duckdb


def label_components(connection: duckdb.DuckDBPyConnection, *, edges: str, labels: str) -> int:
    """Creates the table `labels(row BIGINT, component BIGINT)` of every row that has an edge.

    Args:
      edges: a table or view with columns a, b (BIGINT); direction and repetition do not matter.
      labels: name of the table; replaced if it exists.

    Returns: the number of rounds.
    """
    sql = connection.execute
    sql("CREATE OR REPLACE TEMP TABLE both_ways AS "
        f"SELECT a, b FROM {edges} WHERE a <> b UNION SELECT b, a FROM {edges} WHERE a <> b")  # fmt: skip
    sql(f"CREATE OR REPLACE TABLE {labels} AS SELECT a AS row, least(a, min(b)) AS component FROM both_ways GROUP BY a")
    rounds = 0
    while True:
        rounds += 1
        sql(f"""
            CREATE OR REPLACE TEMP TABLE reached AS
            SELECT own.row, least(any_value(own.component), min(other.component)) AS component
            FROM {labels} own JOIN both_ways ON both_ways.a = own.row JOIN {labels} other ON other.row = both_ways.b
            GROUP BY own.row
        """)
        sql("""
            CREATE OR REPLACE TEMP TABLE jumped AS
            SELECT near.row, least(near.component, far.component) AS component
            FROM reached near JOIN reached far ON far.row = near.component
        """)
        query = f"SELECT count(*) FROM jumped JOIN {labels} old USING (row) WHERE jumped.component <> old.component"
        (changed,) = sql(query).fetchone()
        sql(f"CREATE OR REPLACE TABLE {labels} AS SELECT row, component FROM jumped")
        if not changed:
            for name in ("both_ways", "reached", "jumped"):
                sql(f"DROP TABLE {name}")
            return rounds
