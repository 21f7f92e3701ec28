"""Log files -> two flat tables, `searches` and `events`, in a DuckDB connection.

Here the schemas end, and here ids of sessions and clients end: both become 62-bit hashes, and no later step or output
sees them. (Two ids of 20 million share a hash with a probability of 1 in 20 thousand.) All later steps are portable
expressions over:

  searches  search, session, client: int64; ts_ms: int64; text: string; listed: bool; reason: string
  events    search, session, client: int64; ts_ms: int64; product, action, application: string; rank, place: int64;
            listed, zoned, made_session: bool; reason: string

`rank` is a position as the log has it, which may begin at 0; `place` one in a list of the query, from 1. `reason` is
why a row cannot be used, null if it can.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ecommerce_vl.data.logs.settings import Settings
from ecommerce_vl.data.logs.sources import EVENT_FIELDS, SEARCH_FIELDS, Log, _literal, open_log
from ecommerce_vl.data.times import milliseconds

if TYPE_CHECKING:
    import duckdb

EVENTS, SEARCHES = "events", "searches"
_ZONE = r"\d:\d{2}(:\d{2}([.,]\d+)?)? ?(Z|z|UTC|GMT|[+-]\d{2}(:?\d{2})?)$"
_PARAMS = '[{"key":"VARCHAR","value":{"string_value":"VARCHAR","int_value":"VARCHAR","double_value":"VARCHAR"}}]'  # GA4
_GA4_ITEMS = '[{"item_id":"VARCHAR","item_list_index":"VARCHAR","item_list_id":"VARCHAR","item_list_name":"VARCHAR"}]'
_RETAIL_ITEMS = '[{"product":{"id":"VARCHAR"}}]'
# Of the schemas in which searches lie between the events: which event is one.
_SEARCH_EVENTS = {"ga4": "view_search_results", "retail": "search"}


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
    source = open_log(engine, clicks, **opening, flag="clicks")
    counts = {"clicks": _facts(source)}
    searches = None
    if queries:
        searches = open_log(engine, queries, **opening, flag="queries")
        counts["queries"] = _facts(searches)
    engine.execute(f"CREATE OR REPLACE TABLE raw_events AS {_events_sql(source, settings)}")
    counts["clicks"]["rows_in"] = _count(engine, "SELECT count(*) FROM raw_events WHERE item <= 1")
    counts["clicks"]["rows_out"] = _count(engine, "SELECT count(*) FROM raw_events")
    counts["clicks"]["expanded"] = counts["clicks"]["rows_out"] - counts["clicks"]["rows_in"]
    _make_searches(engine, source, searches, settings)
    if searches:
        counts["queries"]["rows_in"] = _count(engine, f"SELECT count(*) FROM {SEARCHES}")
    inline = "query" in source.paths and source.schema not in _SEARCH_EVENTS
    attach = not inline and ("query_id" not in source.paths or source.schema in _SEARCH_EVENTS)
    search = "CASE WHEN query IS NULL THEN NULL ELSE " + _hashed("session, query") + " END" if inline else "search"
    if inline and "query_id" in source.paths:
        search = f"coalesce(search, {search})"
    known = "session, client, ts_ms, product, action, application, rank, place, listed, zoned, made_session, reason"
    if attach:
        engine.execute(f"CREATE OR REPLACE TABLE {EVENTS} AS {_attached_sql(known, settings)}")
    else:
        engine.execute(f"CREATE OR REPLACE TABLE {EVENTS} AS SELECT {search} AS search, {known} FROM raw_events")
    lists = {"clicked": "click"} | ({"hits": "impression"} if _wants_hits(engine, settings) else {})
    lists = {name: action for name, action in lists.items() if searches and name in searches.paths}
    if lists:
        counts["clicks"]["hits"] = _add_lists(engine, searches, lists, settings)
    engine.execute("DROP TABLE raw_events")
    return counts


def _facts(source: Log) -> dict:
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


def _events_sql(source: Log, settings: Settings) -> str:
    rows = source.select(EVENT_FIELDS)
    if source.schema == "ga4":
        params = f"TRY(from_json(params, {_literal(_PARAMS)}))"
        param = lambda name, kind: f"list_filter({params}, lambda p: p.key = '{name}')[1].value.{kind}_value"
        rows = _one_row_a_product(
            f"SELECT * REPLACE (client || ' ' || {param('ga_session_id', 'int')} AS session, "
            f"{param('search_term', 'string')} AS query) FROM ({rows})",
            _GA4_ITEMS,
            product="it.item_id",
            ordinal="it.item_list_index",
            list="coalesce(it.item_list_id, it.item_list_name)",
        )
    elif source.schema == "retail":
        # A search shows its products in order; with other events their order means nothing.
        place = "CASE WHEN lower(action) = 'search' THEN item END"
        rows = _one_row_a_product(rows, _RETAIL_ITEMS, product="it.product.id", ordinal=place, list="list")
    else:
        rows = f"SELECT *, 1 AS item FROM ({rows})"
    names = ({"search": "impression"} if source.schema == "retail" else {}) | settings.action_names
    action = f"map_extract_value(MAP {_map(names)}, lower(action))" if "action" in source.paths else "'click'"
    is_search, query = "false", "query"
    if source.schema in _SEARCH_EVENTS:
        is_search = f"coalesce(lower(action) = '{_SEARCH_EVENTS[source.schema]}', false)"
        query = f"CASE WHEN {is_search} THEN query END"
    ts_ms = milliseconds("time")
    return (
        f"SELECT CASE WHEN query_id IS NOT NULL THEN {_hashed('query_id')} END AS search, "
        f"{_ids('session', 'coalesce(client, user_)', settings)}, {ts_ms} AS ts_ms, {query} AS query, "
        f"product, {action} AS action, application, list, item, {is_search} AS is_search, "
        "session IS NULL AS made_session, "
        'TRY_CAST(ordinal AS BIGINT) + coalesce(TRY_CAST("offset" AS BIGINT), 0) AS rank, NULL::BIGINT AS place, '
        f"coalesce(TRY_CAST(time AS DOUBLE) IS NOT NULL OR regexp_matches(time, {_literal(_ZONE)}), false) AS zoned, "
        f"CASE WHEN malformed THEN 'malformed' WHEN {is_search} AND ({action} IS NULL OR product IS NULL) THEN "
        f"'search' WHEN {action} IS NULL THEN 'unknown_action' WHEN product IS NULL THEN 'no_product' WHEN session IS "
        f"NULL AND coalesce(client, user_) IS NULL THEN 'no_session' WHEN {ts_ms} IS NULL THEN 'bad_time' END "
        f'AS reason FROM (SELECT * RENAME ("user" AS user_) FROM ({rows}))'
    )


def _one_row_a_product(rows: str, items: str, *, product: str, ordinal: str, list: str) -> str:
    """One row for every product `it` of the list, with its place `item`, from 1; without products it stays one row."""
    parsed = f"coalesce(TRY(from_json(items, {_literal(items)})), [])"
    return (
        f"SELECT * REPLACE ({product} AS product, {ordinal} AS ordinal, {list} AS list) FROM (SELECT * EXCLUDE "
        "(items), unnest(CASE WHEN len(parsed) > 0 THEN parsed ELSE [NULL] END) AS it, unnest(range(1, "
        f"greatest(len(parsed), 1) + 1)) AS item FROM (SELECT *, {parsed} AS parsed FROM ({rows})))"
    )


def _make_searches(engine, clicks: Log, queries: Log | None, settings: Settings) -> None:
    """Queries have a table of their own, or lie between the events, or beside each event."""
    reason = (
        "CASE WHEN malformed THEN 'malformed' WHEN query IS NULL THEN 'no_text' WHEN ts_ms IS NULL THEN 'bad_time' "
        "WHEN place > 1 THEN 'repeated_id' END AS reason"
    )
    if queries and queries.schema not in _SEARCH_EVENTS:
        rows = _searches_sql(queries, settings)
    elif queries or clicks.schema in _SEARCH_EVENTS:
        table = "raw_searches" if queries else "raw_events"
        if queries:
            engine.execute(f"CREATE OR REPLACE TABLE raw_searches AS {_events_sql(queries, settings)}")
            # What the searches of a file of their own showed.
            engine.execute("INSERT INTO raw_events BY NAME FROM raw_searches WHERE is_search AND reason IS NULL")
        made = _hashed("'q', session, ts_ms, query")
        rows = (
            f"SELECT coalesce(search, {made}) AS search, session, client, listed, ts_ms, query, false AS malformed "
            f"FROM {table} WHERE is_search AND item <= 1"
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


def _searches_sql(queries: Log, settings: Settings) -> str:
    """The rows of a file of queries: search, session, client, listed, ts_ms, query, malformed, application, lists."""
    rows = queries.select(SEARCH_FIELDS)
    if queries.schema == "coveo":
        # A query is known by its vector only, so that gets a name, of letters lest it pass for somebody's number.
        # Lists are written as Python writes them.
        name = "'vector ' || translate(md5(query), '0123456789', 'ghijklmnop')"
        lists = ", ".join(f"replace({field}, '''', '\"') AS {field}" for field in ("hits", "clicked"))
        rows = f"SELECT * REPLACE ({name} AS query, {lists}) FROM ({rows})"
    made = _hashed("'q', session, client, time, query")
    return (
        f"SELECT CASE WHEN query_id IS NOT NULL THEN {_hashed('query_id')} ELSE {made} END AS search, "
        f"{_ids('session', 'coalesce(client, user_)', settings)}, {milliseconds('time')} AS ts_ms, query, malformed, "
        f'application, hits, clicked FROM (SELECT * RENAME ("user" AS user_) FROM ({rows}))'
    )


def _attached_sql(known: str, settings: Settings) -> str:
    """Events without a query id take the last search of their session, while it is recent and shows the same list."""
    last = (
        f"SELECT session, ts_ms, min(search) AS found FROM {SEARCHES} WHERE reason IS NULL AND session IS NOT NULL "
        "GROUP BY session, ts_ms"
    )
    joined = (
        f"SELECT e.*, CASE WHEN e.ts_ms - s.ts_ms <= {settings.attach_s * 1000} THEN s.found END AS found "
        f"FROM raw_events e ASOF LEFT JOIN ({last}) s ON e.session = s.session AND e.ts_ms >= s.ts_ms"
    )
    columns = ", ".join(f"j.{column.strip()}" for column in known.split(","))
    return (
        f"WITH j AS MATERIALIZED ({joined}), shown AS (SELECT found, arg_min(list, (ts_ms, list)) AS shown FROM j "
        "WHERE list IS NOT NULL GROUP BY found) SELECT CASE WHEN j.search IS NOT NULL THEN j.search WHEN j.list IS "
        f"NULL OR j.list = shown.shown THEN j.found END AS search, {columns} FROM j LEFT JOIN shown ON "
        "j.found = shown.found"
    )


def _wants_hits(engine, settings: Settings) -> bool:
    if settings.exposure == "auto":
        return _count(engine, f"SELECT count(*) FROM {EVENTS} WHERE action = 'impression'") == 0
    return settings.exposure == "hits"


def _add_lists(engine, queries: Log, lists: dict[str, str], settings: Settings) -> int:
    """Adds the products in lists of the queries as events: {list: action}; returns their number.

    What a query returned is its impressions, for a log that has none; what was clicked in it are clicks. They belong to
    the session that went on to act under the query, where one did: a query may name its client alone, as UBI's do.
    """
    before = _count(engine, f"SELECT count(*) FROM {EVENTS}")
    engine.execute(f"""
        CREATE OR REPLACE TABLE acting AS
        SELECT search, arg_min(session, (ts_ms, session)) AS session, arg_min(client, (ts_ms, session)) AS client
        FROM {EVENTS} WHERE search IS NOT NULL AND session IS NOT NULL AND ts_ms IS NOT NULL GROUP BY search
    """)
    ids = ", ".join(f"TRY(from_json({name}, '[\"VARCHAR\"]')) AS {name}" for name in ("hits", "clicked"))
    for name, action in lists.items():
        engine.execute(f"""
            INSERT INTO {EVENTS} BY NAME
            SELECT search, coalesce(acting.session, list.session) AS session, coalesce(acting.client, list.client) AS
                client, ts_ms, product, '{action}' AS action, application,
                nullif(list_position(hits, product), 0) AS place, listed, true AS zoned, false AS made_session,
                CASE WHEN product IS NULL THEN 'no_product'
                    WHEN coalesce(acting.session, list.session) IS NULL THEN 'no_session'
                    WHEN ts_ms IS NULL THEN 'bad_time' END AS reason
            FROM (
                SELECT *, unnest({name}) AS product
                FROM (SELECT * REPLACE ({ids}) FROM ({_searches_sql(queries, settings)})) WHERE len({name}) > 0
            ) list LEFT JOIN acting USING (search)
        """)
    engine.execute("DROP TABLE acting")
    return _count(engine, f"SELECT count(*) FROM {EVENTS}") - before


def _map(names: dict[str, str]) -> str:
    return "{" + ", ".join(f"{_literal(name)}: {_literal(action)}" for name, action in sorted(names.items())) + "}"
