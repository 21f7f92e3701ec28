"""Amounts of memory as the SQL engine reads them."""

from __future__ import annotations

from typing import Any

import duckdb

LIMIT = "2GB"  # of an engine, unless a caller says another; what does not fit goes to disk


def is_memory(limit: Any) -> bool:
    """Whether the engine takes this, such as "2GB", for an amount of memory."""
    try:
        duckdb.connect(config={"memory_limit": limit}).close()
    except (duckdb.Error, TypeError):
        return False
    return True
