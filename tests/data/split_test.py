"""Components never cross splits, unrelated products move nobody, and what a feed tears apart is listed."""

import random

import duckdb
import pytest

from ecommerce_vl.data.split import MIN_LARGE, SplitSettings, assign_splits

SETTINGS = {"fractions": (0.6, 0.2, 0.2), "seed": 0, "by": "hash", "keep_given": True, "max_component": 0.01}


def assigned(rows: list[dict], relations=(), **settings) -> tuple[dict[str, str], dict, list]:
    """({id: side}, counters, leaks) of listings given as {id, title, image_hash, product_type, side, time}."""
    with duckdb.connect() as connection:
        connection.execute(
            "CREATE TABLE listings (row BIGINT, id VARCHAR, title VARCHAR, title_hash UBIGINT, image_hash BLOB,"
            " product_type VARCHAR);"
            "CREATE TABLE given (row BIGINT, side VARCHAR, time TIMESTAMP);"
            "CREATE TABLE relations (a BIGINT, b BIGINT, relation VARCHAR, reason VARCHAR, detail DOUBLE)"
        )
        for number, row in enumerate(rows):
            title = row.get("title", "")
            connection.execute(
                "INSERT INTO listings VALUES (?, ?, ?, ?, ?, ?)",
                [number, row["id"], title, hash(title) % 2**64, row.get("image_hash"), row.get("product_type", "A")],
            )
            connection.execute("INSERT INTO given VALUES (?, ?, ?)", [number, row.get("side", ""), row.get("time")])
        for relation in relations:
            connection.execute("INSERT INTO relations VALUES (?, ?, ?, ?, NULL)", list(relation))
        counters = assign_splits(connection, SplitSettings(**{**SETTINGS, **settings}))
        sides = dict(connection.execute("SELECT id, side FROM sides JOIN listings USING (row)").fetchall())
        leaks = connection.execute("SELECT a, b, reason, side_a, side_b FROM leaks ORDER BY a, b").fetchall()
    return sides, counters, leaks


def groups_of(rng: random.Random, count: int, prefix: str) -> tuple[list[dict], list[tuple]]:
    rows = [{"id": f"{prefix}{row}"} for row in range(count)]
    group = [rng.randrange(count // 3) for _ in rows]
    first: dict[int, int] = {}
    relations = []
    for row, number in enumerate(group):
        if number in first:
            relations.append((first[number], row, "variant", "item_group"))
        first.setdefault(number, row)
    return rows, relations


def test_no_component_crosses_and_unrelated_products_move_nobody():
    rows, relations = groups_of(random.Random(0), 300, "p")
    before, counters, leaks = assigned(rows, relations)
    assert all(before[rows[a]["id"]] == before[rows[b]["id"]] for a, b, *_ in relations)
    assert not leaks and counters["leaking"] == 0
    assert 0.5 < sum(side == "train" for side in before.values()) / 300 < 0.7
    after, _, _ = assigned(rows + [{"id": f"new{row}"} for row in range(200)], relations)
    assert {name: after[name] for name in before} == before
    assert assigned(rows, relations, seed=1)[0] != before


@pytest.mark.parametrize(
    ("twin", "joined"),
    [
        ({"title": "a long title of six words"}, True),
        ({"title": "red shirt"}, False),
        ({"title": "棉质连衣裙红色"}, True),  # seven signs, no blank
        ({"title": "红色 dress"}, False),
        ({"image_hash": b"h" * 32}, True),
    ],
)
def test_equal_long_titles_and_equal_pictures_of_a_leaf_stay_together(twin, joined):
    rows = [{"id": f"p{row}"} | twin for row in range(60)]
    sides, _, _ = assigned(rows)
    assert (len(set(sides.values())) == 1) == joined


def test_equal_pictures_of_different_leaves_are_not_joined():
    rows = [{"id": f"p{row}", "image_hash": b"h" * 32, "product_type": str(row)} for row in range(60)]
    assert len(set(assigned(rows)[0].values())) == 3


def test_a_large_component_is_cut_at_its_weakest_relations():
    rows = [{"id": f"p{row}"} for row in range(3 * MIN_LARGE)]
    pairs = [(row, row + 1, "same_product", "gtin") for row in range(0, len(rows), 2)]
    chain = [(row, row + 2, "variant", "item_group") for row in range(0, len(rows) - 2, 2)]
    sides, counters, leaks = assigned(rows, pairs + chain)
    assert counters["cut_edges"] == len(chain) and counters["largest_component"] == 2
    assert len(set(sides.values())) == 3
    assert all(sides[f"p{a}"] == sides[f"p{b}"] for a, b, *_ in pairs)
    assert not leaks  # what was cut is no relation any more


def test_the_feeds_own_split_wins_row_by_row_and_tears_are_listed():
    rows = [
        {"id": "a", "side": "test"},
        {"id": "b", "side": "train"},
        {"id": "c"},
        {"id": "d", "side": "test"},
        {"id": "e"},
    ]
    relations = [(0, 1, "same_product", "gtin"), (3, 4, "variant", "item_group")]
    sides, counters, leaks = assigned(rows, relations, fractions=(1.0, 0.0, 0.0))
    assert sides == {"a": "test", "b": "train", "c": "train", "d": "test", "e": "test"}
    assert (counters["given"], counters["leaking"]) == (3, 2)
    assert leaks == [(0, 1, "gtin", "test", "train")]
    sides, counters, leaks = assigned(rows, relations, fractions=(1.0, 0.0, 0.0), keep_given=False)
    assert set(sides.values()) == {"train"} and (counters["given"], leaks) == (0, [])


def test_by_time_the_newest_components_are_test():
    days = [f"2026-01-{day:02d}" for day in range(1, 11)]
    rows = [{"id": f"p{row}", "time": day} for row, day in enumerate(days)]
    sides, _, _ = assigned(rows, [(0, 9, "same_product", "gtin")], by="time")
    # The first product belongs to the last one, so both are as new as that.
    assert [sides[f"p{row}"] for row in range(10)] == ["test", *["train"] * 6, *["validation"] * 2, "test"]
