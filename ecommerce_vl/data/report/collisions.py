"""How often a batch holds two rows that a contrastive loss would wrongly push apart.

In a batch of B rows drawn uniformly from N without replacement, any two places hold any two rows with equal
probability. With n_k rows of key k, a row meets on average (B - 1) sum_k n_k (n_k - 1) / (N (N - 1)) other rows of its
own key, exactly.
"""

from __future__ import annotations

from typing import Any

import duckdb

BATCHES = (1024, 4096, 32768)
POSITIVE, MEANT, FALSE = "positives, where it knows identities", "negatives, and meant to be", "false negatives"
# (name, column that must be equal, condition under which it is known, what such rows are to the loss)
KINDS = (
    ("the same known product", "catalog_key", "catalog_key >= 0", POSITIVE),
    ("a variant of one item group", "group_key", "group_key >= 0", MEANT),
    ("of an equal title, and not known to be the same product", "title_hash", "has_text", FALSE),
    ("of an equal picture, and not known to be the same product", "image_hash", "image_hash <> ''", FALSE),
)


def expected_collisions(connection: duckdb.DuckDBPyConnection, *, split: str = "train") -> list[dict[str, Any]]:
    """Rows of the batch that are alike to a row, on average, for every kind of likeness and batch size.

    Args:
      connection: with `products`, see `open_tables`.

    Returns: `name`, `to_loss` (what they are to it), `expected` [float | None for each of
      `BATCHES`]: None where the split has fewer rows than the batch.
    """
    (num_rows,) = connection.execute("SELECT count(*) FROM products WHERE split = ?", [split]).fetchone()
    found = []
    for name, key, condition, to_loss in KINDS:
        pairs = _ordered_pairs(connection, key, condition, split)
        if to_loss != POSITIVE:  # of which those of one product are known to the loss
            pairs -= _ordered_pairs(connection, f"{key}, catalog_key", f"{condition} AND catalog_key >= 0", split)
        expected = [expected_partners(pairs, num_rows=num_rows, batch=batch) for batch in BATCHES]
        found.append({"name": name, "to_loss": to_loss, "expected": expected})
    return found


def expected_partners(ordered_pairs: int, *, num_rows: int, batch: int) -> float | None:
    """(B - 1) P / (N (N - 1)), where P counts the ordered pairs of alike rows; None if B exceeds N."""
    if batch > num_rows or num_rows < 2:
        return None
    return (batch - 1) * ordered_pairs / (num_rows * (num_rows - 1))


def _ordered_pairs(connection: duckdb.DuckDBPyConnection, key: str, condition: str, split: str) -> int:
    """The sum of n (n - 1) over the groups of equal key."""
    return connection.execute(
        f"SELECT coalesce(sum(n * (n - 1)), 0)::BIGINT FROM (SELECT count(*)::HUGEINT AS n FROM products "
        f"WHERE split = ? AND {condition} GROUP BY {key})",
        [split],
    ).fetchone()[0]
