"""Events as later steps see them: products and queries by number, ranks from 1, and a reason where unusable.

Pure functions from expressions to expressions; `reason` is null for a row that goes on.
"""

from __future__ import annotations

import ibis
from ibis.expr.types import Table


def resolve(events: Table, searches: Table, queries: Table, products: Table, *, ordinal_base: str) -> Table:
    """Joins what the log refers to.

    Args:
      events, searches: see `reading`.
      queries: text: string; query_key: int64; private: bool; one row a distinct text.
      products: id: string; product: int64; one row a product.
      ordinal_base: auto, 0 or 1; see `ranked`.

    Returns:
      session, client, ts_ms, query_key (null: none), product, rank (null: none), listed, zoned, made_session, action,
      reason, unknown_query: the event names a query that the log does not have; before_query: it is older than the
      query that it names, so that clocks differ.
    """
    asked = searches.filter(searches.reason.isnull()).select("search", "text")
    asked = asked.join(queries.filter(~queries.private), "text").select("search", "query_key")
    used = searches.filter(searches.reason.isnull()).select(known="search", asked_ms="ts_ms")
    rows = ranked(events, ordinal_base)
    rows = rows.left_join(products.select(known_id="id", product_row="product"), [("product", "known_id")])
    rows = rows.left_join(asked.rename(asked_search="search"), [("search", "asked_search")])
    rows = rows.left_join(used, [("search", "known")])
    return rows.select(
        *("session", "client", "ts_ms", "query_key", "action", "rank", "listed", "zoned", "made_session"),
        product="product_row",
        reason=ibis.coalesce(rows.reason, ibis.ifelse(rows.product_row.isnull(), "unknown_product", ibis.null(str))),
        unknown_query=rows.search.notnull() & rows.known.isnull(),
        before_query=(rows.ts_ms < rows.asked_ms).fill_null(False),
    )


def ranked(events: Table, ordinal_base: str) -> Table:
    """Ranks that begin at 1: the base of positions is given, or 0 where an application has a position 0.

    A `place` in a list of the query begins at 1 already.
    """
    if ordinal_base != "auto":
        rank = events["rank"] - int(ordinal_base) + 1
        return events.mutate(rank=ibis.coalesce(events.place, rank))
    named = events.mutate(application=events.application.fill_null(""))
    least = named.group_by("application").agg(base=named.rank.min())
    rows = named.left_join(least.rename(of="application"), [("application", "of")])
    rank = ibis.ifelse(rows.base == 0, rows["rank"] + 1, rows["rank"])
    return rows.mutate(rank=ibis.coalesce(rows.place, rank)).drop("base", "of")


def asked(searches: Table, queries: Table) -> Table:
    """Searches with text that may be used: session, client, ts_ms, query_key, listed."""
    rows = searches.filter(searches.reason.isnull())
    rows = rows.join(queries.filter(~queries.private), "text")
    return rows.select("session", "client", "ts_ms", "query_key", "listed")


def search_reasons(searches: Table, queries: Table) -> Table:
    """Every search with the reason why it cannot be used."""
    rows = searches.left_join(queries.select("text", "private"), "text")
    private = ibis.ifelse(rows.private.fill_null(False), "private", ibis.null(str))
    return rows.select(reason=ibis.coalesce(rows.reason, private))
