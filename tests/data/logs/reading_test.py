"""Every schema ends in the same internal rows."""

from __future__ import annotations

import csv
from pathlib import Path

import duckdb
import ibis
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from golden_log import PRODUCTS, START_S, event, iso, query, ten_events, write_lines

from ecommerce_vl.data.logs import events as steps
from ecommerce_vl.data.logs import sessions
from ecommerce_vl.data.logs.reading import read_logs
from ecommerce_vl.data.logs.settings import Settings
from ecommerce_vl.data.logs.words import as_query, content_words
from ecommerce_vl.errors import UserError

GOLDEN = Path(__file__).parent / "golden"
NAMES = {"impression": "view_item_list", "click": "select_item", "cart": "add_to_cart", "purchase": "purchase"}


def internal(clicks, queries=None, **settings):
    """(query, second, product, action, rank) of every usable row, sorted."""
    settings = Settings(**settings)
    connection = ibis.duckdb.connect()
    read_logs(connection.con, str(clicks), queries and str(queries), settings)
    texts = [row[0] for row in connection.con.execute("SELECT DISTINCT text FROM searches").fetchall() if row[0]]
    known = [as_query(text) for text in texts]
    text_table = ibis.memtable(
        {"text": texts, "query_key": [q.key for q in known], "private": [q.private for q in known]},
        schema={"text": "string", "query_key": "int64", "private": "bool"},
    )
    products = ibis.memtable({"id": [product[0] for product in PRODUCTS], "product": list(range(len(PRODUCTS)))})
    rows = steps.resolve(
        connection.table("events"),
        connection.table("searches"),
        text_table,
        products,
        ordinal_base=settings.ordinal_base,
    )
    name = {q.key: q.text for q in known}
    found = connection.to_pyarrow(rows.filter(rows.reason.isnull())).to_pylist()
    return sorted(
        (
            name.get(row["query_key"], ""),
            row["ts_ms"] // 1000 - START_S,
            PRODUCTS[row["product"]][0],
            row["action"],
            row["rank"],
        )
        for row in found
    )


EXPECTED = sorted((text, second, product, action, rank) for _, text, second, product, action, rank in ten_events())


def ubi(folder, base=1):
    asked = {}
    for session, text, second, *_ in ten_events():
        asked.setdefault((session, text), second - 1)
    numbers = {key: number for number, key in enumerate(asked)}
    queries = [query(numbers[key], key[1], key[0], second) for key, second in asked.items()]
    rows = [
        event(
            {"cart": "add_to_cart"}.get(action, action),
            product,
            numbers[session, text],
            session,
            second,
            rank - 1 + base,
        )
        for session, text, second, product, action, rank in ten_events()
    ]
    if base == 0:  # something at the top, or nobody could tell that positions begin at 0
        assert min(row["event_attributes"]["position"]["ordinal"] for row in rows) == 0
    return write_lines(folder / "clicks.jsonl", rows), write_lines(folder / "queries.jsonl", queries)


@pytest.mark.parametrize("base", [0, 1])
def test_positions_from_0_and_from_1_give_equal_ranks(tmp_path, base):
    assert internal(*ubi(tmp_path, base)) == EXPECTED


def test_a_given_base_is_taken(tmp_path):
    assert [row[4] for row in internal(*ubi(tmp_path), ordinal_base="0")] == [row[4] + 1 for row in EXPECTED]


def test_ubi_in_parquet_is_read_like_ubi_in_json(tmp_path):
    clicks, queries = ubi(tmp_path)
    for file in (clicks, queries):
        duckdb.execute(f"COPY (FROM read_json('{file}')) TO '{file[:-6]}.parquet'")
    assert internal(tmp_path / "clicks.parquet", tmp_path / "queries.parquet") == EXPECTED


def ga4_rows():
    rows, asked = [], set()
    for session, text, second, product, action, rank in ten_events():
        head = {
            "user_pseudo_id": f"u{session}",
            "event_params": [{"key": "ga_session_id", "value": {"int_value": 7}}],
        }
        if (session, text) not in asked:
            asked.add((session, text))
            term = {"key": "search_term", "value": {"string_value": text}}
            search = {"event_name": "view_search_results", "event_timestamp": (START_S + second - 1) * 1_000_000}
            rows.append(head | search | {"event_params": [*head["event_params"], term]})
        item = {"item_id": product, "item_list_index": str(rank), "item_list_id": "search"}
        moment = {"event_name": NAMES[action], "event_timestamp": (START_S + second) * 1_000_000}
        rows.append(head | moment | {"items": [item]})
    return rows


def test_ga4_is_read_with_queries_attached_to_the_last_search(tmp_path):
    assert internal(write_lines(tmp_path / "ga4.jsonl", ga4_rows())) == EXPECTED


def test_ga4_events_of_another_list_or_much_later_belong_to_no_query(tmp_path):
    rows = ga4_rows()
    other = dict(rows[3], items=[{"item_id": "p3", "item_list_index": "1", "item_list_id": "related"}])
    late = dict(rows[3], event_timestamp=(START_S + 5000) * 1_000_000, items=[{"item_id": "p3"}])
    found = internal(write_lines(tmp_path / "ga4.jsonl", [*rows, other, late]))
    assert [row[0] for row in found if row[2] == "p3"] == ["", ""]


def test_one_ga4_row_of_several_items_is_several_rows(tmp_path):
    engine = duckdb.connect()
    row = dict(ga4_rows()[1], items=[{"item_id": "p1"}, {"item_id": "p2"}, {"item_id": "p3"}])
    file = write_lines(tmp_path / "ga4.jsonl", [row, {"event_name": "page_view", "event_timestamp": 1}])
    counts = read_logs(engine, file, None, Settings())["clicks"]
    assert (counts["rows_in"], counts["expanded"], counts["rows_out"]) == (2, 2, 4)


def test_the_retail_api_is_read_with_searches_that_show_products():
    """Session 1 has tokens, session 2 neither token nor session: its events take the last search of the visitor."""
    without_ranks = {(*row[:4], row[4] if row[3] == "impression" else None) for row in EXPECTED}
    more = {
        ("red shoe", 30, "p3", "purchase", None),
        ("", 40, "p6", "click", None),  # of a recommendation
        ("", 5400, "p5", "click", None),  # more than half an hour after the search
    }
    assert set(internal(GOLDEN / "retail.jsonl")) == without_ranks | more
    engine = duckdb.connect()
    counts = read_logs(engine, str(GOLDEN / "retail.jsonl"), None, Settings())["clicks"]
    assert (counts["schema"], counts["rows_in"], counts["expanded"], counts["rows_out"]) == ("retail", 13, 2, 15)
    reasons = engine.execute("SELECT reason, count(*) FROM events WHERE reason <> '' GROUP BY 1 ORDER BY 1").fetchall()
    assert reasons == [("search", 1), ("unknown_action", 1)]
    asked = engine.execute("SELECT text FROM searches WHERE reason IS NULL ORDER BY ts_ms").fetchall()
    assert [text for (text,) in asked] == ["red shoe", "mug", "red mug", "green hat"]


def test_searches_of_the_retail_api_may_have_a_file_of_their_own(tmp_path):
    lines = (GOLDEN / "retail.jsonl").read_text().splitlines()
    split = {True: [], False: []}
    for line in lines:
        split['"search"' in line].append(line)
    clicks, queries = write_lines(tmp_path / "c.jsonl", split[False]), write_lines(tmp_path / "q.jsonl", split[True])
    assert internal(clicks, queries) == internal(GOLDEN / "retail.jsonl")


def test_coveo_is_read_with_queries_known_by_their_vectors():
    found = internal(GOLDEN / "coveo_browsing.csv", GOLDEN / "coveo_search.csv")
    names = dict.fromkeys(row[0] for row in sorted(found, key=lambda row: row[1]) if row[0])  # in order of time
    assert len(names) == 3 and all(name.startswith("vector ") for name in names)
    text = dict(zip(names, ("red shoe", "mug", "red mug"), strict=True)) | {"": ""}
    rows = {(text[row[0]], *row[1:]) for row in found}
    # Where a product was clicked in the list its place is known; of what browsing tells, it is not.
    without_ranks = {(*row[:4], row[4] if row[3] == "impression" else None) for row in EXPECTED}
    assert rows == without_ranks | {("red shoe", 10, "p2", "click", 2), ("", 80, "p3", "click", None)}


@pytest.mark.parametrize("format", ["csv", "parquet", "jsonl"])
def test_plain_columns_by_mapping(tmp_path, format):
    names = ("sid", "q", "when", "article", "what", "place")
    rows = [
        dict(zip(names, (session, text, (START_S + second) * 1000, product, action, rank), strict=True))
        for session, text, second, product, action, rank in ten_events()
    ]
    file = tmp_path / f"log.{format}"
    if format == "csv":
        with open(file, "w", newline="") as stream:
            writer = csv.DictWriter(stream, names)
            writer.writeheader()
            writer.writerows(rows)
    elif format == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), file)
    else:
        write_lines(file, rows)
    columns = "session=sid,query=q,time=when,product=article,action=what,ordinal=place"
    assert internal(file, columns=columns) == EXPECTED


def test_sessions_without_queries_are_read_for_what_they_are(tmp_path):
    rows = [{"session": 1, "aid": "p1", "ts": START_S * 1000, "type": "clicks"}]
    assert internal(write_lines(tmp_path / "otto.jsonl", rows)) == [("", 0, "p1", "click", None)]


def test_what_queries_returned_is_exposure_where_no_impressions_are(tmp_path):
    queries = [query(1, "mug", 1, 0, query_response_hit_ids=["p4", "p1", "p99"])]
    clicks = write_lines(tmp_path / "clicks.jsonl", [event("click", "p1", 1, 1, 5, 2)])
    found = internal(clicks, write_lines(tmp_path / "queries.jsonl", queries))
    assert ("mug", 0, "p4", "impression", 1) in found and len(found) == 3
    assert len(internal(clicks, tmp_path / "queries.jsonl", exposure="events")) == 1


@pytest.mark.parametrize("base", ["auto", "0"])
def test_exposure_of_a_query_that_names_its_client_alone_meets_its_clicks_at_the_same_rank(tmp_path, base):
    """UBI's queries have no session; published samples count positions of events from 0, lists are counted from 1."""
    queries = [query(1, "mug", 1, 0, query_response_hit_ids=["p4", "p1", "p2"]) | {"session_id": None}]
    clicks = [event("click", "p4", 1, 1, 5, 0), event("click", "p2", 1, 1, 6, 2)]
    connection = ibis.duckdb.connect()
    files = [str(write_lines(tmp_path / f"{name}.jsonl", rows)) for name, rows in (("c", clicks), ("q", queries))]
    read_logs(connection.con, *files, Settings())
    events = steps.ranked(connection.table("events"), base)
    events = events.mutate(query_key=events.search)
    found = connection.to_pyarrow(sessions.interactions(events)).to_pylist()
    told = {row["product"]: (row["shown"], row["clicked"], row["rank"]) for row in found}
    assert told == {"p4": (1, 1, 1), "p1": (1, 0, 2), "p2": (1, 1, 3)}
    assert len({row["session"] for row in found}) == 1


@pytest.mark.parametrize(
    ("stamp", "zoned", "second"),
    [
        ("2026-01-05T10:00:00+02:00", True, 0),
        ("2026-01-05T08:00:00", False, 0),
        ("2026-01-05 08:00:07 UTC", True, 7),
        (START_S + 1, True, 1),
        ((START_S + 1) * 1_000_000_000, True, 1),
    ],
)
def test_times_of_every_kind(tmp_path, stamp, zoned, second):
    engine = duckdb.connect()
    read_logs(
        engine,
        write_lines(tmp_path / "c.jsonl", [event("click", "p1", 1, 1, 0) | {"timestamp": stamp}]),
        None,
        Settings(),
    )
    assert engine.execute("SELECT ts_ms, zoned FROM events").fetchall() == [((START_S + second) * 1000, zoned)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("log.txt", "x", "no .jsonl, .parquet or .csv"),
        ("log.parquet", "x", "cannot be read as parquet"),
        ("log.csv", "a,b\n1,2\n", "columns a, b"),
    ],
)
def test_what_is_no_log_is_refused_in_one_sentence(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(UserError, match=message):
        read_logs(duckdb.connect(), str(tmp_path / name), None, Settings())


@pytest.mark.parametrize(
    ("text", "private", "navigational"),
    [
        ("red shoe 42", False, False),
        ("jo@example.org", True, False),
        ("www.example.org shoes", True, False),
        ("+49 170 1234567", True, False),
        ("4006381333931", False, True),
        ("ab-12345", False, True),
        ("iphone 15", False, False),
    ],
)
def test_private_queries_and_ids_are_known(text, private, navigational):
    found = as_query(text)
    assert (found.private, found.navigational) == (private, navigational)


def test_content_words_of_any_script():
    assert content_words("The Ｒｅｄ  Shoe with RED laces") == ["red", "shoe", "laces"]
    assert content_words("红色鞋子") == ["红色", "色鞋", "鞋子"]
    assert content_words("the") == ["the"]
    assert iso(0) == "2026-01-05T08:00:00Z"
