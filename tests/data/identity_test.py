"""Same product, duplicate and variant from keys, titles and hashes."""

import dataclasses
import hashlib
import random
from itertools import combinations

import duckdb
import pyarrow as pa
import pytest

from ecommerce_vl.data.identity import LISTING_FIELDS, RESTRICTED_PREFIXES, IdentitySettings, relate
from ecommerce_vl.data.near_duplicates import title_bands

ALL = IdentitySettings()
GTIN, OTHER_GTIN = "4006381333931", "5901234123457"
PICTURE = bytes(range(32))
NEAR = bytes([0xFF, 0xFE]) + PICTURE[2:]  # 16 bits away
FAR = bytes(255 - value for value in PICTURE)
TITLE = "Acme stoneware mug with lid, dishwasher safe, 350 ml"
NEARLY = "Acme stoneware mug with lid, dishwasher safe, 350 ml."


def table(rows):
    """Listings as a table; a row's `image` is its hash."""
    columns = {name: pa.array([row.get(name, "") for row in rows], pa.string()) for name in LISTING_FIELDS}
    titles = [row.get("title", "") for row in rows]
    digests = [int.from_bytes(hashlib.sha256(title.encode()).digest()[:8], "big") for title in titles]
    columns["row"] = pa.array([row.get("row", place) for place, row in enumerate(rows)], pa.int64())
    columns["title_hash"] = pa.array(digests, pa.uint64())
    columns["image_hash"] = pa.array([row.get("image") for row in rows], pa.binary())
    columns["title_bands"] = pa.array([title_bands(title) for title in titles], pa.list_(pa.uint64()))
    return pa.table(columns)


def related(rows, **switches):
    """({(a, b): (relation, reason)}, counters, ignored keys) of listings."""
    with duckdb.connect(config={"threads": 1}) as connection:
        connection.register("listings", table(rows))
        counters = relate(connection, settings=dataclasses.replace(ALL, **switches))
        found = connection.execute("FROM relations").fetchall()
        ignored = connection.execute("FROM ignored_keys").fetchall()
    assert all(a < b for a, b, *_ in found)
    assert len({pair[:2] for pair in found}) == len(found)
    return {(a, b): (relation, reason) for a, b, relation, reason, _ in found}, counters, ignored


def products(relations):
    """Sets of rows that chains of `same_product` or `duplicate_listing` join."""
    sets = []
    for pair in [set(pair) for pair, (relation, _) in relations.items() if relation != "variant"]:
        touching = [one for one in sets if one & pair]
        sets = [one for one in sets if not one & pair] + [pair.union(*touching)]
    return sorted(map(sorted, sets))


def gtin_of(payload):
    return payload + str(-sum(int(digit) * (3, 1)[place % 2] for place, digit in enumerate(payload[::-1])) % 10)


def valid_gtin(text):
    """Whether a string is a GTIN-8, -12, -13 or -14 with a correct check digit that is not reserved or a filler."""
    if not (text.isascii() and text.isdigit()) or len(text) not in (8, 12, 13, 14) or len(set(text)) == 1:
        return False
    payload, check = text[:-1], int(text[-1])
    weighted = sum(int(digit) * (3 if place % 2 == 0 else 1) for place, digit in enumerate(reversed(payload)))
    return check == -weighted % 10 and not text.zfill(14)[1:].startswith(RESTRICTED_PREFIXES)


@pytest.mark.parametrize(
    "gtin, valid",
    [
        ("4006381333931", True),
        ("4006381333932", False),
        ("00000000000000", False),
        (gtin_of("036000291452"[:11]), True),
        (gtin_of("210000000001"), False),
        (gtin_of("020000000001"), False),
        (gtin_of("990000000001"), False),
        (gtin_of("1400638133393"), True),
        ("40063813339", False),
        ("40063-8133393", False),
        ("٤٠٠٦٣٨١٣٣٣٩٣١", False),
        ("", False),
    ],
)
def test_valid_gtin(gtin, valid):
    assert valid_gtin(gtin) is valid
    assert related([{"gtin": gtin}])[1]["invalid_gtins"] == (gtin != "" and not valid)


def test_the_check_of_gtins_is_that_of_gs1():
    draw = random.Random(0)
    gtins = [gtin_of("".join(draw.choices("0123459", k=draw.choice((7, 11, 12, 13, 9))))) for _ in range(500)]
    gtins += [gtin[:-1] + draw.choice("0123456789") for gtin in gtins] + ["1" * 8, "x" * 13, "12 45678", "9" * 40]
    counters = related([{"gtin": gtin} for gtin in gtins])[1]
    assert counters["invalid_gtins"] == sum(not valid_gtin(gtin) for gtin in gtins)
    assert 0 < counters["invalid_gtins"] < len(gtins)


def test_a_gtin_needs_agreeing_brands_or_titles():
    rows = [
        {"gtin": GTIN, "brand": "Acme", "title": "Mug"},
        {"gtin": "0" + GTIN, "brand": "ACME!", "title": "Cup of tea"},  # the same number as a GTIN-14
        {"gtin": GTIN, "brand": "Mugs Ltd", "title": "Blue mug"},
        {"gtin": GTIN, "brand": "", "title": "Garden chair"},
        {"gtin": GTIN, "brand": "Generic", "title": "Rope"},
        {"gtin": GTIN, "brand": "generic", "title": "Battery"},
        {"gtin": GTIN[:-1] + "2", "brand": "Acme", "title": "Mug"},
    ]
    relations, counters, _ = related(rows)
    assert relations == {(0, 1): ("same_product", "gtin"), (0, 2): ("same_product", "gtin")}
    assert counters["refused_gtins"] == 3
    assert counters["invalid_gtins"] == 1
    assert products(related(rows, gtin_agreement=False)[0]) == [[0, 1, 2, 3, 4, 5]]


@pytest.mark.parametrize(
    "other",
    [{"title": "Mug pack of 3"}, {"title": "2x Mug"}, {"title": "Mug 6 pk"}, {"multipack": "3"}, {"is_bundle": "yes"}],
)
def test_a_gtin_needs_agreeing_packs(other):
    rows = [{"gtin": GTIN, "brand": "Acme", "title": "Mug"}]
    rows.append(rows[0] | other)
    assert related(rows)[0] == {}
    assert products(related(rows, gtin_pack=False)[0]) == [[0, 1]]
    assert products(related([rows[1], rows[1] | {"seller_id": "b"}])[0]) == [[0, 1]]


@pytest.mark.parametrize(
    "key, kind",
    [
        ({"gtin": GTIN, "brand": "Acme"}, "gtin"),
        ({"catalog_id": "c"}, "catalog_id"),
        ({"brand": "Acme", "mpn": "M-1234"}, "brand_mpn"),
        ({"item_group_id": "g"}, "item_group"),
    ],
)
def test_a_key_on_201_listings_is_ignored_and_reported(key, kind):
    few, counters, ignored = related([key] * 200)
    assert len(few) == 199 and not ignored
    many, counters, ignored = related([key] * 201)
    assert many == {}
    assert [(row[0], row[2]) for row in ignored] == [(kind, 201)]
    assert (counters["ignored_keys"], counters["ignored_key_rows"]) == (1, 201)


def test_colours_of_one_item_group_are_never_one_product():
    """The shop gives all colours one gtin and one part number, and another seller's listing would chain them."""
    key = {"gtin": GTIN, "brand": "Acme", "mpn": "M-1234", "title": TITLE, "image": PICTURE}
    rows = [
        key | {"item_group_id": "g", "color": "Red"},
        key | {"item_group_id": "g", "color": "Blue"},
        key | {"seller_id": "b", "color": "blue"},
        key | {"seller_id": "c"},
    ]
    relations, counters, _ = related(rows)
    assert relations[0, 1] == ("variant", "item_group")
    assert products(relations) == [[1, 2]]
    assert counters["variant_conflicts"] > 0
    named = related([row | {"catalog_id": "c"} for row in rows])[0]
    assert products(named) == [[0, 1, 2, 3]]  # the feed's own catalog id says so


def test_attributes_are_compared_within_a_language():
    key = {"gtin": GTIN, "brand": "Acme", "title": TITLE, "item_group_id": "g"}
    rows = [key | {"color": "red", "locale": "en"}, key | {"color": "rot", "locale": "de"}]
    assert products(related(rows)[0]) == [[0, 1]]
    assert products(related([row | {"locale": "en"} for row in rows])[0]) == []


def test_an_item_group_gives_variants_and_nothing_else():
    rows = [{"item_group_id": "g", "size": size} for size in ("S", "M", "")]
    with duckdb.connect() as connection:
        connection.register("listings", table(rows))
        relate(connection, settings=ALL)
        found = connection.execute("FROM relations").fetchall()
    assert found == [(0, 1, "variant", "item_group", 1.0), (0, 2, "variant", "item_group", 0.0)]


def test_a_part_number_of_a_style_joins_equal_products_only():
    style = {"brand": "Acme", "mpn": "ST-100"}
    rows = [style | {"color": color} for color in ("red", "blue", "red", "blue", "")]
    assert products(related(rows)[0]) == [[0, 2], [1, 3]]
    same = [style | {"color": color} for color in ("red", "", "Red")]
    assert products(related(same)[0]) == [[0, 1, 2]]
    assert related([{"brand": "Acme", "mpn": "1"}] * 2)[0] == {}
    assert related([{"brand": "", "mpn": "ST-100"}] * 2)[0] == {}


def test_exact_duplicates():
    copy = {"title": TITLE, "image": PICTURE}
    rows = [
        copy | {"seller_id": "a"},
        copy | {"seller_id": "b"},
        copy | {"seller_id": "a"},
        copy | {"seller_id": "b"},
        copy | {"seller_id": "a", "color": "red"},
        copy | {"seller_id": "a", "locale": "de"},
        copy | {"seller_id": "a", "image": FAR},
        copy | {"seller_id": "a", "image": None},
        copy | {"seller_id": "a", "image": None},
    ]
    assert related(rows, near_duplicates=False)[0] == {
        (0, 1): ("same_product", "exact_duplicate"),
        (0, 2): ("duplicate_listing", "exact_duplicate"),
        (1, 3): ("duplicate_listing", "exact_duplicate"),
    }
    assert related([copy, copy])[0] == {(0, 1): ("duplicate_listing", "exact_duplicate")}  # no seller: one seller


@pytest.mark.parametrize(
    "other, relation",
    [
        ({}, "duplicate_listing"),
        ({"seller_id": "b"}, "same_product"),
        ({"seller_id": "b", "image": FAR}, None),
        ({"image": None}, None),
        ({"title": "Acme porcelain cup with lid, dishwasher safe, 350 ml"}, None),
        ({"title": TITLE.replace("350", "450")}, None),
        ({"title": NEARLY + " 2 pk"}, None),
        ({"color": "blue"}, None),
        ({"multipack": "6"}, None),
        ({"is_bundle": "true"}, None),
        ({"gtin": OTHER_GTIN}, None),
        ({"locale": "de"}, None),
    ],
)
def test_near_duplicates(other, relation):
    first = {"title": TITLE, "image": PICTURE, "seller_id": "a", "color": "red", "multipack": "1", "gtin": GTIN}
    rows = [first, first | {"title": NEARLY, "image": NEAR, "color": ""} | other]
    expected = {(0, 1): (relation, "near_duplicate")} if relation else {}
    assert related(rows, gtins=False)[0] == expected
    assert related(rows, gtins=False, near_duplicates=False)[0] == {}


def test_languages_are_not_mixed():
    titles = ((TITLE, ""), (NEARLY, ""), (TITLE, "de"), (NEARLY, "de"))
    rows = [{"title": title, "locale": locale, "image": PICTURE} for title, locale in titles]
    assert products(related(rows)[0]) == [[0, 1], [2, 3]]


def test_titles_agree_where_no_brand_is_known():
    rows = [{"gtin": GTIN, "title": "Blue mug"}, {"gtin": GTIN, "title": "Mug, blue"}, {"gtin": GTIN, "title": "Chair"}]
    assert products(related(rows)[0]) == [[0, 1]]
    assert related(rows, min_gtin_jaccard=1.1)[0] == {}


def test_near_duplicate_thresholds_and_caps():
    rows = [{"title": TITLE, "image": PICTURE}, {"title": NEARLY, "image": NEAR}]
    assert related(rows, max_hash_distance=1)[0] == {}
    assert related(rows, min_title_jaccard=0.999)[0] == {}
    many = [{"title": TITLE + "!" * (place % 2), "seller_id": str(place), "image": PICTURE} for place in range(12)]
    relations, counters, _ = related(many, max_bucket_rows=5, exact_duplicates=False)
    assert relations == {} and counters["near_buckets_skipped"] > 0


def test_switches_and_an_empty_table():
    everything = {
        "catalog_id": "c",
        "gtin": GTIN,
        "brand": "Acme",
        "mpn": "M-1234",
        "item_group_id": "g",
        "title": TITLE,
    }
    rows = [everything | {"image": PICTURE, "seller_id": seller} for seller in "ab"]
    switches = {
        "catalog_ids": "catalog_id",
        "gtins": "gtin",
        "brand_mpns": "brand_mpn",
        "exact_duplicates": "exact_duplicate",
        "near_duplicates": "near_duplicate",
        "item_groups": "item_group",
    }
    off = dict.fromkeys(switches, False)
    assert related(rows, **off)[0] == {}
    for switch, reason in switches.items():
        assert [found[1] for found in related(rows, **off | {switch: True})[0].values()] == [reason]
    assert related([])[0] == {}


def test_rows_in_any_order_give_the_same_tables():
    draw = random.Random(1)
    colors = ("", "red", "blue")
    rows = [
        {
            "row": place,
            "seller_id": draw.choice("ab"),
            "gtin": draw.choice(("", GTIN, OTHER_GTIN)),
            "brand": draw.choice(("", "Acme", "Bolt")),
            "mpn": draw.choice(("", "M-1234")),
            "item_group_id": draw.choice(("", "g", "h")),
            "color": draw.choice(colors),
            "title": draw.choice((TITLE, NEARLY, "Chair", "Chair 2 pk")),
            "image": draw.choice((None, PICTURE, NEAR, FAR)),
        }
        for place in range(150)
    ]
    tables = []
    for threads in (1, 4):
        shuffled = draw.sample(rows, len(rows))
        with duckdb.connect(config={"threads": threads}) as connection:
            connection.register("listings", table(shuffled))
            counters = relate(connection, settings=ALL)
            tables.append(
                (counters, *(connection.execute(f"FROM {name}").fetchall() for name in ("relations", "ignored_keys")))
            )
    assert tables[0] == tables[1]
    assert len(tables[0][1]) > 100
    relations = {(a, b): (relation, reason) for a, b, relation, reason, _ in tables[0][1]}
    for one in products(relations):
        for a, b in combinations(one, 2):
            apart = {rows[a]["color"], rows[b]["color"]} == {"red", "blue"}
            assert not (apart and rows[a]["item_group_id"] and rows[a]["item_group_id"] == rows[b]["item_group_id"])


def test_the_connection_is_left_as_it_was():
    with duckdb.connect() as connection:
        connection.register("listings", table([{"title": TITLE}] * 2))
        first = relate(connection, settings=ALL)
        assert relate(connection, settings=ALL) == first
        names = {name for (name,) in connection.execute("SHOW TABLES").fetchall()}
    assert names == {"listings", "relations", "ignored_keys"}
