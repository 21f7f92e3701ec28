"""How near test products have something in train, by a seed model: what the relations of the split did not see.

A share of near twins far above that of a split by rows says that the split did nothing; one near it, that what keeps
products together is not in the feed.
"""

from __future__ import annotations

import duckdb
import numpy as np
import pyarrow.compute as pc

from ecommerce_vl.data.seed_model.vectors import ROWS, matrix


def nearest_in_train(
    connection: duckdb.DuckDBPyConnection, *, min_cosine: float, samples: int, seed: int
) -> dict[str, float]:
    """Shares of products whose nearest one has at least `min_cosine`: of test products in train, and, as if the split
    were by rows, of as many products of all splits among all others. Up to `samples` test products are drawn.

    Returns: `test`, how many were drawn, and `test_share`, `row_share`, 0 where there is none.
    """
    with connection.cursor() as cursor:
        # By a digest of the id, so that the same products are drawn whatever the order of the files.
        draw = lambda where, most: cursor.sql(
            f"SELECT id, product FROM vectors WHERE {where} ORDER BY md5(id || ' {seed}') LIMIT {most}"
        ).to_arrow_table()
        drawn = {"test": draw("split = 'test'", samples)}
        drawn["rows"] = draw("true", drawn["test"].num_rows)
        vectors = {name: matrix(table["product"]) for name, table in drawn.items()}
        nearest = {name: np.full(table.num_rows, -2.0, np.float32) for name, table in drawn.items()}
        for batch in cursor.sql("SELECT id, split, product FROM vectors").to_arrow_reader(ROWS):
            block = matrix(batch["product"])
            among = {
                "test": pc.equal(batch["split"], "train"),
                "rows": pc.invert(pc.is_in(batch["id"], value_set=drawn["rows"]["id"].combine_chunks())),
            }
            for name, wanted in among.items():
                chosen = wanted.to_numpy(zero_copy_only=False)
                if chosen.any() and len(nearest[name]):
                    cosine = (vectors[name] @ block[chosen].T).max(axis=1)
                    nearest[name] = np.maximum(nearest[name], cosine)
    # Rounded, so that no share depends on a machine.
    near = {name: np.round(cosine.astype(np.float64), 6) >= min_cosine for name, cosine in nearest.items()}
    share = lambda name: round(float(near[name].mean()), 6) if len(near[name]) else 0.0
    return {"test": len(near["test"]), "test_share": share("test"), "row_share": share("rows")}
