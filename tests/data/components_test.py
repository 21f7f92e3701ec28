"""Components in SQL equal those of scipy, whatever the shape of the graph."""

import random

import duckdb
import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ecommerce_vl.data.components import label_components

GRAPHS = {
    "chain": [(row, row + 1) for row in range(200)],
    "backward chain": [(row + 1, row) for row in range(200)],
    "star": [(7, row) for row in range(100) if row != 7],
    "loops and repeats": [(3, 3), (1, 2), (2, 1), (1, 2)],
    "random": [tuple(random.Random(0).sample(range(300), 2)) for _ in range(1)]
    + [(rng.randrange(300), rng.randrange(300)) for rng in [random.Random(1)] for _ in range(140)],
}


@pytest.mark.parametrize("name", GRAPHS)
def test_components_are_named_by_their_least_row(name):
    edges = GRAPHS[name]
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE edges (a BIGINT, b BIGINT)")
        connection.executemany("INSERT INTO edges VALUES (?, ?)", edges)
        rounds = label_components(connection, edges="edges", labels="labels")
        found = dict(connection.execute("SELECT row, component FROM labels").fetchall())
        tables = connection.execute("SELECT table_name FROM duckdb_tables() ORDER BY 1").fetchall()
    num_rows = 1 + max(max(edge) for edge in edges)
    a, b = np.array(edges).T
    _, labels = connected_components(
        coo_array((np.ones(len(edges)), (a, b)), shape=(num_rows, num_rows)), directed=False
    )
    least = {label: min(np.flatnonzero(labels == label)) for label in set(labels)}
    touched = {row for edge in edges for row in edge if edge[0] != edge[1]}
    assert found == {row: least[labels[row]] for row in touched}
    assert rounds <= 12
    assert tables == [("edges",), ("labels",)]


def test_no_edges_give_no_labels():
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE edges (a BIGINT, b BIGINT)")
        label_components(connection, edges="edges", labels="labels")
        assert connection.execute("SELECT count(*) FROM labels").fetchone() == (0,)
