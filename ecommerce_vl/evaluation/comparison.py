"""Two evaluations beside each other: differences of the same queries, with paired intervals.

The value of every query is kept in `per_query.parquet` beside metrics.json, so two evaluations are compared without
embedding anything again. The invariant: a difference is over the queries that both have, paired by id, and correlated
queries are drawn together; a metric that only one of them has is not compared.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ecommerce_vl.errors import UserError
from ecommerce_vl.evaluation import bootstrap
from ecommerce_vl.evaluation.results import Results
from ecommerce_vl.files import whole_file

FILE = "per_query.parquet"
_SCHEMA = pa.schema(
    [
        ("key", pa.dictionary(pa.int32(), pa.string())),  # task/setting/…/metric
        ("id", pa.dictionary(pa.int32(), pa.string())),  # of the product or query that asks
        ("group", pa.int32()),  # equal for correlated queries
        ("value", pa.float64()),
    ]
)


def save(folder: str | Path, results: Results) -> Path:
    """Writes the values of every query of `results.per_query` to FOLDER/per_query.parquet, one row each.

    Queries of a task are the products at its "rows", or have "ids" and "groups" of their own where no product asks.
    """
    path, components = Path(folder) / FILE, results.products.components()
    with whole_file(path) as partial, pq.ParquetWriter(partial, _SCHEMA, compression="zstd") as writer:
        for prefix, values in sorted(results.per_query.items()):
            rows = np.asarray(values["rows"], int)
            ids = values["ids"].tolist() if "ids" in values else [results.products.ids[row] for row in rows]
            groups = values["groups"] if "groups" in values else components[rows]
            for name in sorted(set(values) - {"rows", "ids", "groups"}):
                columns = [
                    pa.array([f"{prefix}/{name}"] * len(ids)).dictionary_encode(),
                    pa.array(ids, pa.string()).dictionary_encode(),
                    pa.array(groups, pa.int32()),
                    pa.array(np.asarray(values[name], np.float64)),
                ]
                writer.write_table(pa.table(columns, schema=_SCHEMA))
    return path


def compare(first: str | Path, second: str | Path, *, seed: int = 0) -> dict[str, dict]:
    """Key -> {first, second, difference, low, high, n}: second minus first, with its 95 % paired bootstrap interval.

    first, second: folders that `save` wrote to. `n` queries are in both and have a value in both; groups are those of
    the first. An interval without 0 is a difference that other queries of the same kind would show too.

    Errors: UserError where a folder has no values, or the two share no query of any metric.
    """
    left, right = _load(Path(first)), _load(Path(second))
    compared = {}
    for key in sorted(set(left) & set(right)):
        (ids, groups, values), (other_ids, _, other_values) = left[key], right[key]
        _, here, there = np.intersect1d(ids, other_ids, assume_unique=True, return_indices=True)
        pairs = np.stack([values[here], other_values[there]])
        kept = np.isfinite(pairs).all(axis=0)
        if not kept.any():
            continue
        before, after = pairs[:, kept]
        found = bootstrap.mean_intervals({key: after - before}, groups=groups[here][kept], seed=seed)[key]
        compared[key] = {
            "first": float(before.mean()),
            "second": float(after.mean()),
            "difference": found.value,
            "low": found.low,
            "high": found.high,
            "n": found.n,
        }
    if not compared:
        raise UserError(
            f"{first} and {second} share no query of any metric; compare evaluations of the same data and split"
        )
    return compared


def _load(folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Key -> ids, groups and values of its queries."""
    path = folder / FILE
    if not path.is_file():
        raise UserError(
            f"there is no {FILE} in {folder}; evaluate again: python -m ecommerce_vl.evaluate --out={folder}"
        )
    loaded = pq.read_table(path, schema=_SCHEMA)
    keys = loaded["key"].to_numpy(zero_copy_only=False).astype(str)
    ids = loaded["id"].to_numpy(zero_copy_only=False).astype(str)
    groups, values = loaded["group"].to_numpy(), loaded["value"].to_numpy()
    order = np.argsort(keys, kind="stable")
    names, starts = np.unique(keys[order], return_index=True)
    parts = zip(names, np.split(order, starts[1:]), strict=True) if len(names) else ()
    return {str(name): (ids[part], groups[part], values[part]) for name, part in parts}
