"""Components never cross splits, unrelated products move nobody, and a gtin is evidence only if it is a real one."""

import random

import pytest

from ecommerce_vl.data import split
from ecommerce_vl.data.record import to_product
from ecommerce_vl.data.split import MAX_SHARED, assign_splits, identity_keys, product_identity, valid_gtin, void_keys

FRACTIONS = (0.6, 0.2, 0.2)


def components(keys_of_row: list) -> list[int]:
    return split.components(keys_of_row, void=void_keys(keys_of_row))


@pytest.mark.parametrize("gtin", ["4006381333931", "96385074", "036000291452", "04006381333931"])
def test_valid_gtins(gtin):
    assert valid_gtin(gtin)


@pytest.mark.parametrize(
    "gtin",
    [
        "4006381333932",  # one digit changed
        "400638133393",
        "0000000000000",
        "2000000000008",  # restricted: for use inside one shop
        "9800000000007",  # coupon
        "400638133393X",
        "400638133393²",  # a digit to str.isdigit, not to int
        "",
    ],
)
def test_invalid_gtins(gtin):
    assert not valid_gtin(gtin)


def test_identity_needs_gtin_and_brand_to_agree():
    rows = [
        {"id": "1", "gtin": "4006381333931", "brand": "Stabilo"},
        {"id": "2", "ean": "04006381333931", "brand": "STABILO"},
        {"id": "3", "gtin": "4006381333931", "brand": "Other"},
        {"id": "4", "gtin": "4006381333932", "brand": "Stabilo"},
    ]
    keys = [identity_keys(to_product(row, row_number=0, columns={})) for row in rows]
    assert components(keys) == [0, 0, 2, 3]


def test_the_product_itself_is_its_catalog_id_or_a_gtin_with_its_brand():
    gtin = {"gtin": "4006381333931", "brand": "Stabilo"}
    rows = [gtin, gtin | {"catalog_id": "c"}, gtin | {"brand": ""}, gtin | {"gtin": "4006381333932"}, {"brand": "x"}]
    identities = [product_identity(to_product(row, row_number=0, columns={})) for row in rows]
    assert identities == [("gtin", "04006381333931 stabilo"), ("catalog_id", "c"), None, None, None]


def test_components_are_transitive_and_ignore_keys_of_everybody():
    assert components([[("a", "x")], [("b", "y")], [("b", "y"), ("a", "x")], []]) == [0, 0, 0, 3]
    shared = [[("catalog_id", "default")]] * (MAX_SHARED + 1)
    assert components(shared) == list(range(MAX_SHARED + 1))
    assert components(shared[1:]) == [0] * MAX_SHARED
    # The same kind of value under another kind of key joins nothing.
    assert components([[("catalog_id", "7")], [("item_group_id", "7")]]) == [0, 1]


def assignment(keys: dict[str, list], seed: int = 0) -> dict[str, str]:
    ids = list(keys)
    splits, _ = assign_splits(ids, [""] * len(ids), components(list(keys.values())), fractions=FRACTIONS, seed=seed)
    return dict(zip(ids, splits, strict=True))


def test_no_component_crosses_and_unrelated_products_move_nobody():
    rng = random.Random(0)
    keys = {f"p{row}": [("item_group_id", f"g{rng.randrange(300)}")] for row in range(1000)}
    before = assignment(keys)
    sides: dict[str, set] = {}
    for name, side in before.items():
        sides.setdefault(keys[name][0][1], set()).add(side)
    assert all(len(side) == 1 for side in sides.values())
    assert 0.5 < sum(side == "train" for side in before.values()) / 1000 < 0.7

    more = {f"a{row}": [("item_group_id", f"new{row}")] for row in range(500)}
    shuffled = dict(rng.sample(list({**more, **keys}.items()), 1500))
    after = assignment(shuffled)
    assert {name: after[name] for name in before} == before
    assert assignment(keys, seed=1) != before


def test_the_feeds_own_split_wins_row_by_row_and_tears_are_counted():
    splits, counts = assign_splits(["a", "b", "c"], ["test", "train", ""], [0, 0, 2], fractions=(1.0, 0.0, 0.0), seed=0)
    assert splits == ["test", "train", "train"]
    assert counts == {"given": 2, "leaking": 2}


def test_a_row_without_a_split_follows_its_component_where_that_agrees():
    given = ["test", "", "test", "validation", "train", "", ""]
    component = [0, 0, 0, 3, 3, 3, 6]
    splits, counts = assign_splits(list("abcdefg"), given, component, fractions=(1.0, 0.0, 0.0), seed=0)
    assert splits == ["test", "test", "test", "validation", "train", "train", "train"]
    assert counts == {"given": 4, "leaking": 3}
