"""Times as people and systems write them, in SQL of DuckDB: one expression for feeds and for logs."""

from __future__ import annotations


def milliseconds(text: str) -> str:
    """An expression of the milliseconds since 1970, BIGINT, null where `text` (an expression of strings) is no time.

    ISO 8601, or a number of seconds, milli-, micro- or nanoseconds, told apart by its size. A time without a zone is in
    the zone of the connection.
    """
    number, whole = f"TRY_CAST({text} AS DOUBLE)", f"TRY_CAST({text} AS HUGEINT)"
    return (
        f"TRY(CAST(CASE WHEN abs({number}) < 1e11 THEN round({number} * 1000) WHEN abs({number}) < 1e14 THEN {whole} "
        f"WHEN abs({number}) < 1e17 THEN {whole} // 1000 WHEN {number} IS NOT NULL THEN {whole} // 1000000 "
        f"ELSE epoch_ms(TRY_CAST({text} AS TIMESTAMPTZ)) END AS BIGINT))"
    )
