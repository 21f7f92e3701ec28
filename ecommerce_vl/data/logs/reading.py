"""Log files -> two flat tables, `searches` and `events`, in a DuckDB connection.

Here the schemas end, and here ids of sessions and clients end: both become 62-bit hashes, and no later step or output
sees them. (Two ids of 20 million share a hash with a probability of 1 in 20 thousand.) All later steps are portable
expressions over:

  searches  search, session, client: int64; ts_ms: int64; text: string; listed: bool; reason: string
  events    search, session, client: int64; ts_ms: int64; product, action, application: string; rank: int64;
            listed, zoned, made_session: bool; reason: string

`reason` is why a row cannot be used, null if it can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ecommerce_vl.data.logs.settings import Settings
from ecommerce_vl.data.logs.sources import EVENT_FIELDS, SEARCH_FIELDS, Source, _literal, open_source

if TYPE_CHECKING:
    import duckdb

EVENTS, SEARCHES = "events", "searches"
_ZONE = r"\d:\d{2}(:\d{2}([.,]\d+)?)? ?(Z|z|UTC|GMT|[+-]\d{2}(:?\d{2})?)$"
_SESSION_ID = "list_filter({params}, lambda p: p.key = 'ga_session_id')[1].value.int_value"
_PARAMS = '[{"key":"VARCHAR","value":{"string_value":"VARCHAR","int_value":"VARCHAR","double_value":"VARCHAR"}}]'  # GA4
_ITEMS = '[{"item_id":"VARCHAR","item_list_index":"VARCHAR","item_list_id":"VARCHAR","item_list_name":"VARCHAR"}]'


def read_logs(engine: duckdb.DuckDBPyConnection, clicks: str, queries: str | None, settings: Settings) -> dict:
    """Makes the two tables; returns counters.

    Args:
      engine: holds the tables; its limits of memory and threads are the caller's.
      clicks, queries: as the flags of these names; queries may be None where events carry their query.

    Returns:
      {"schema", "files", "bytes", "rows_in", "expanded", "rows_out"} of clicks and queries, where
      rows_in + expanded = rows_out: a row with a list of products becomes one row a product.

    Errors: UserError for files that cannot be read and columns of no schema.
    """
    engine.execute("SET TimeZone = 'UTC'")  # a time without a zone is read as UTC, and counted
    opening = {"schema": settings.schema, "columns": settings.columns}
    source = open_source(engine, clicks, **opening, flag="clicks")
    counts = {"clicks": _facts(source)}
    searches = None
    if queries:
        searches = open_source(engine, queries, **opening, flag="queries")
        counts["queries"] = _facts(searches)
    engine.execute(f"CREATE OR REPLACE TABLE raw_events AS {_events_sql(source, settings)}")
    counts["clicks"]["rows_in"] = _count(engine, "SELECT count(*) FROM raw_events WHERE item <= 1")
    counts["clicks"]["rows_out"] = _count(engine, "SELECT count(*) FROM raw_events")
    counts["clicks"]["expanded"] = counts["clicks"]["rows_out"] - counts["clicks"]["rows_in"]
    _make_searches(engine, source, searches, settings)
    if searches:
        counts["queries"]["rows_in"] = _count(engine, f"SELECT count(*) FROM {SEARCHES}")
    inline = "query" in source.paths
    attach = "query_id" not in source.paths and not inline
    search = "CASE WHEN query IS NULL THEN NULL ELSE " + _hashed("session, query") + " END" if inline else "search"
    if inline and "query_id" in source.paths:
        search = f"coalesce(search, {search})"
    known = "session, client, ts_ms, product, action, application, rank, listed, zoned, made_session, reason"
    if attach:
        engine.execute(f"CREATE OR REPLACE TABLE {EVENTS} AS {_attached_sql(known, settings)}")
    else:
        engine.execute(f"CREATE OR REPLACE TABLE {EVENTS} AS SELECT {search} AS search, {known} FROM raw_events")
    if searches and "hits" in searches.paths and _wants_hits(engine, settings):
        counts["clicks"]["hits"] = _add_hits(engine, searches, settings)
    engine.execute("DROP TABLE raw_events")
    return counts


def _facts(source: Source) -> dict:
    return {"schema": source.schema, "files": len(source.files), "bytes": source.bytes}


def _count(engine, sql: str) -> int:
    return int(engine.execute(sql).fetchone()[0])


def _hashed(columns: str) -> str:
    """A hash that leaves room to add the number of a visit without overflow."""
    return f"CAST(hash({columns}) >> 2 AS BIGINT)"


def _ids(session: str, client: str, settings: Settings) -> str:
    """Columns session (or the client's, to be cut by pauses), client, and whether the client is a listed bot."""
    bots = [bot.strip() for bot in settings.bots.split(",") if bot.strip()]
    listed = f"coalesce(list_contains({_literal(bots)}::VARCHAR[], {client}), false)" if bots else "false"
    by_session, by_client = _hashed("'s', " + session), _hashed("'c', " + client)
    return (
        f"CASE WHEN {session} IS NOT NULL THEN {by_session} WHEN {client} IS NOT NULL THEN {by_client} END AS "
        f"session, CASE WHEN {client} IS NOT NULL THEN {by_client} WHEN {session} IS NOT NULL THEN {by_session} END AS "
        f"client, {listed} AS listed"
    )


def _ts_ms(text: str) -> str:
    """Milliseconds of ISO 8601 text or of a number of seconds, milli-, micro- or nanoseconds."""
    number = f"TRY_CAST({text} AS DOUBLE)"
    whole = f"TRY_CAST({text} AS HUGEINT)"
    return (
        f"CAST(CASE WHEN abs({number}) < 1e11 THEN round({number} * 1000) WHEN abs({number}) < 1e14 THEN {whole} "
        f"WHEN abs({number}) < 1e17 THEN {whole} // 1000 WHEN {number} IS NOT NULL THEN {whole} // 1000000 "
        f"ELSE epoch_ms(TRY_CAST({text} AS TIMESTAMPTZ)) END AS BIGINT)"
    )


def _events_sql(source: Source, settings: Settings) -> str:
    rows = source.select(EVENT_FIELDS)
    if source.schema == "ga4":
        # One row a product; a row without products stays one row, and is counted as such later.
        params = f"TRY(from_json(params, {_literal(_PARAMS)}))"
        session = _SESSION_ID.format(params=params)
        term = f"list_filter({params}, lambda p: p.key = 'search_term')[1].value.string_value"
        rows = (
            "SELECT * REPLACE (it.item_id AS product, it.item_list_index AS ordinal, client || ' ' || session AS "
            "session, coalesce(it.item_list_id, it.item_list_name) AS list) FROM (SELECT * EXCLUDE (items), "
            "unnest(CASE WHEN len(parsed) > 0 THEN parsed ELSE [NULL] END) AS it, "
            "unnest(range(1, greatest(len(parsed), 1) + 1)) AS item FROM (SELECT * REPLACE "
            f"({session} AS session, {term} AS query), coalesce(TRY(from_json(items, {_literal(_ITEMS)})), []) AS "
            f"parsed FROM ({rows})))"
        )
    else:
        rows = f"SELECT *, 1 AS item FROM ({rows})"
    names = settings.action_names
    action = f"map_extract_value(MAP {_map(names)}, lower(action))"
    if "action" not in source.paths:
        action = "'click'"
    product = "product IS NULL"
    is_search = "lower(action) = 'view_search_results'" if source.schema == "ga4" else "false"
    return (
        f"SELECT {_hashed('query_id')} AS search, {_ids('session', 'coalesce(client, user_)', settings)}, "
        f"{_ts_ms('time')} AS ts_ms, {'query' if source.schema != 'ga4' else f'CASE WHEN {is_search} THEN query END'} "
        f"AS query, product, {action} AS action, application, list, item, session IS NULL AS made_session, "
        'coalesce(TRY_CAST(ordinal AS BIGINT) + coalesce(TRY_CAST("offset" AS BIGINT), 0), NULL) AS rank, '
        f"coalesce(TRY_CAST(time AS DOUBLE) IS NOT NULL OR regexp_matches(time, {_literal(_ZONE)}), false) AS zoned, "
        f"CASE WHEN malformed THEN 'malformed' WHEN {is_search} THEN 'search' WHEN {action} IS NULL THEN "
        f"'unknown_action' WHEN {product} THEN 'no_product' WHEN session IS NULL AND coalesce(client, user_) IS NULL "
        f"THEN 'no_session' WHEN {_ts_ms('time')} IS NULL THEN 'bad_time' END AS reason "
        f'FROM (SELECT * RENAME ("user" AS user_) FROM ({rows}))'
    )


def _make_searches(engine, clicks: Source, queries: Source | None, settings: Settings) -> None:
    """Queries have a table of their own, or lie between the events, or beside each event."""
    reason = (
        "CASE WHEN malformed THEN 'malformed' WHEN query IS NULL THEN 'no_text' WHEN ts_ms IS NULL THEN 'bad_time' "
        "WHEN place > 1 THEN 'repeated_id' END AS reason"
    )
    if queries and queries.schema != "ga4":
        made = _hashed("'q', session, client, time, query")
        search = "CASE WHEN query_id IS NOT NULL THEN " + _hashed("query_id") + " END"
        rows = (
            f"SELECT coalesce({search}, {made}) AS search, "
            f"{_ids('session', 'coalesce(client, user_)', settings)}, {_ts_ms('time')} AS ts_ms, query, malformed "
            f'FROM (SELECT * RENAME ("user" AS user_) FROM ({queries.select(SEARCH_FIELDS)}))'
        )
    elif clicks.schema == "ga4" or queries:
        if queries:
            engine.execute(f"CREATE OR REPLACE TABLE raw_searches AS {_events_sql(queries, settings)}")
        made = _hashed("'q', session, ts_ms, query")
        rows = (
            f"SELECT {made} AS search, session, client, listed, ts_ms, query, false "
            f"AS malformed FROM {'raw_searches' if queries else 'raw_events'} WHERE reason = 'search' AND item <= 1"
        )
    elif "query" in clicks.paths:
        rows = (
            f"SELECT {_hashed('session, query')} AS search, session, min(client) AS client, bool_or(listed) AS listed, "
            "min(ts_ms) AS ts_ms, query, false AS malformed FROM raw_events WHERE query IS NOT NULL AND ts_ms IS NOT "
            "NULL GROUP BY session, query"
        )
    else:
        rows = "SELECT search, session, client, listed, ts_ms, query, false AS malformed FROM raw_events WHERE false"
    engine.execute(
        f"CREATE OR REPLACE TABLE {SEARCHES} AS SELECT search, session, client, ts_ms, query AS text, listed, {reason} "
        "FROM (SELECT *, row_number() OVER (PARTITION BY search ORDER BY (query IS NULL), ts_ms NULLS LAST, query, "
        f"session) AS place FROM ({rows}))"
    )
    engine.execute("DROP TABLE IF EXISTS raw_searches")


def _attached_sql(known: str, settings: Settings) -> str:
    """Events without a query id take the last search of their session, while it is recent and shows the same list."""
    last = (
        f"SELECT session, ts_ms, min(search) AS search FROM {SEARCHES} WHERE reason IS NULL AND session IS NOT NULL "
        "GROUP BY session, ts_ms"
    )
    joined = (
        "SELECT e.*, CASE WHEN e.ts_ms - s.ts_ms <= "
        f"{settings.attach_s * 1000} THEN s.search END AS found FROM (SELECT * EXCLUDE (search) FROM raw_events) e "
        f"ASOF LEFT JOIN ({last}) s ON e.session = s.session AND e.ts_ms >= s.ts_ms"
    )
    shown = f"SELECT found, arg_min(list, (ts_ms, list)) AS shown FROM ({joined}) WHERE list IS NOT NULL GROUP BY found"
    columns = ", ".join(f"j.{column.strip()}" for column in known.split(","))
    return (
        f"WITH j AS MATERIALIZED ({joined}), shown AS ({shown.replace(joined, 'SELECT * FROM j')}) SELECT CASE WHEN "
        f"j.list IS NULL OR j.list = shown.shown THEN j.found END AS search, {columns} FROM j LEFT JOIN shown ON "
        "j.found = shown.found"
    )


def _wants_hits(engine, settings: Settings) -> bool:
    if settings.exposure == "auto":
        return _count(engine, f"SELECT count(*) FROM {EVENTS} WHERE action = 'impression'") == 0
    return settings.exposure == "hits"


def _add_hits(engine, queries: Source, settings: Settings) -> int:
    """Adds what queries returned as impressions, for a log that has none; returns their number."""
    rows = queries.select(SEARCH_FIELDS)
    before = _count(engine, f"SELECT count(*) FROM {EVENTS}")
    engine.execute(
        f"INSERT INTO {EVENTS} BY NAME SELECT {_hashed('query_id')} AS search, session, client, ts_ms, hit AS product, "
        "'impression' AS action, application, place AS rank, listed, true AS zoned, false AS made_session, CASE WHEN "
        "hit IS NULL THEN 'no_product' WHEN session IS NULL THEN 'no_session' WHEN ts_ms IS NULL THEN 'bad_time' END "
        "AS reason FROM (SELECT query_id, application, "
        f"{_ids('session', 'coalesce(client, user_)', settings)}, {_ts_ms('time')} AS ts_ms, unnest(ids) AS hit, "
        "unnest(range(1, len(ids) + 1)) AS place FROM (SELECT *, TRY(from_json(hits, '[\"VARCHAR\"]')) AS ids FROM "
        f'(SELECT * RENAME ("user" AS user_) FROM ({rows}))) WHERE len(ids) > 0)'
    )
    return _count(engine, f"SELECT count(*) FROM {EVENTS}") - before


def _map(names: dict[str, str]) -> str:
    return "{" + ", ".join(f"{_literal(name)}: {_literal(action)}" for name, action in sorted(names.items())) + "}"
