"""A catalog and a log small enough to count by hand, in the form of every schema."""

from __future__ import annotations

import json

import pyarrow as pa
import pyarrow.parquet as pq

# id, title, category, seller, split; p5 is p1 again, p6 is listed in another category, p7 is a test product.
PRODUCTS = [
    ("p1", "Red canvas shoe", "Shop > Shoes", "a", "train"),
    ("p2", "Red leather shoe", "Shop > Shoes", "b", "train"),
    ("p3", "Blue canvas shoe", "Shop > Shoes", "a", "train"),
    ("p4", "Red mug", "Shop > Mugs", "b", "train"),
    ("p5", "Red canvas shoe", "Shop > Shoes", "b", "train"),
    ("p6", "Red shoe box", "", "b", "train"),
    ("p7", "Red suede shoe", "Shop > Shoes", "c", "test"),
]
START_S = 1_767_600_000


def write_index(folder, products=PRODUCTS):
    """Writes index.parquet as prepare does; equal titles have equal hashes of title and picture."""
    titles = [product[1] for product in products]
    number = list(range(len(products)))
    unknown = [-1 - row for row in number]
    columns = {
        "id": [product[0] for product in products],
        "split": [product[4] for product in products],
        "position": number,
        "product_key": number,
        "catalog_key": unknown,
        "group_key": unknown,
        "category_key": unknown,
        "category": [product[2] for product in products],
        "title": titles,
        "seller_id": [product[3] for product in products],
        "image_hash": [f"{titles.index(title):064x}" for title in titles],
        "title_hash": pa.array([2**64 - 1 - titles.index(title) for title in titles], pa.uint64()),
        "component": number,
    }
    folder.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), folder / "index.parquet")
    return folder


def iso(second):
    minutes, seconds = divmod(second, 60)
    return f"2026-01-05T{8 + minutes // 60:02d}:{minutes % 60:02d}:{seconds:02d}Z"


def write_lines(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return str(file)


def query(number, text, session, second, **more):
    return {
        "query_id": f"q{number}",
        "user_query": text,
        "client_id": f"client{session}",
        "session_id": f"session{session}",
        "timestamp": iso(second),
    } | more


def event(action, product, number, session, second, rank=None, **more):
    attributes = {"object": {"object_id": product}} | ({"position": {"ordinal": rank}} if rank is not None else {})
    return {
        "action_name": action,
        "query_id": f"q{number}",
        "client_id": f"client{session}",
        "session_id": f"session{session}",
        "timestamp": iso(second),
        "event_attributes": attributes,
    } | more


def golden():
    """Queries and events of three sessions: red shoe asked in each (q1 to q3), mug in one (q4)."""
    queries = [
        query(1, "Red  SHOE", 1, 0),
        query(2, "red shoe", 2, 100),
        query(3, "red shoe", 3, 200),
        query(4, "mug", 3, 300),
    ]
    events = []
    for number, second in ((1, 0), (2, 100), (3, 200)):
        shown = ("p1", "p2", "p3", "p4", "p5", "p6", "p7")
        events += [event("impression", p, number, number, second + 1, rank) for rank, p in enumerate(shown, 1)]
    # p1 and p2 are clicked in sessions 1 and 2; p1 and p3 in 1 only; p5 is p1 again; p4 is a mug, p6 has no category.
    clicked = {1: ("p1", "p2", "p3", "p4", "p5", "p6", "p7"), 2: ("p1", "p2", "p5", "p7"), 3: ("p2",)}
    ranks = {f"p{rank}": rank for rank in range(1, 8)}
    for number, products in clicked.items():
        second = 100 * (number - 1) + 10
        events += [event("click", p, number, number, second + ranks[p], ranks[p]) for p in products]
    events += [
        event("view", "p2", 1, 1, 20, 2),  # the click again under another name
        event("add_to_cart", "p2", 1, 1, 30),
        event("purchase", "p2", 1, 1, 40),
        event("click", "p4", 4, 3, 310, 1),
        event("hover", "p4", 4, 3, 311, 1),  # no action that we know
        event("click", "p99", 4, 3, 312, 2),  # no product of ours
        event("click", None, 4, 3, 313, 2),
        event("click", "p1", 4, 3, 0, 2) | {"timestamp": "yesterday"},
        event("click", "p1", 4, 3, 0, 2) | {"session_id": None, "client_id": None},
        "{broken",
    ]
    return queries, events


def ten_events():
    """(session, query, second, product, action, rank) that every schema can hold."""
    return [
        ("1", "red shoe", 10, "p1", "impression", 1),
        ("1", "red shoe", 10, "p2", "impression", 2),
        ("1", "red shoe", 12, "p2", "click", 2),
        ("1", "red shoe", 20, "p2", "cart", 2),
        ("1", "red shoe", 30, "p2", "purchase", 2),
        ("2", "mug", 50, "p4", "impression", 1),
        ("2", "mug", 51, "p4", "click", 1),
        ("2", "red mug", 70, "p4", "impression", 3),
        ("2", "red mug", 75, "p4", "click", 3),
        ("2", "red mug", 76, "p1", "click", 4),
    ]
