"""A feed row becomes the product that a reader of the row would expect, whatever names and types it comes in."""

import copy
import decimal
import json
import pickle

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecommerce_vl.data.record import (
    MAX_ATTRIBUTES,
    MAX_IMAGES,
    Product,
    as_category,
    as_images,
    as_text,
    decode_attribute,
    encode_attribute,
    to_product,
)
from ecommerce_vl.data.values import UNPRINTABLE
from ecommerce_vl.errors import UserError


def product(row: dict, columns: dict | None = None) -> Product:
    return to_product(row, row_number=0, columns=columns or {})


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, ""),
        (" two\n\twords ", "two words"),
        ("N/A", ""),
        ("a\x00b\x07c\ufeff", "a b c"),
        ("half \ud83d pair", "half \ufffd pair"),
        (123, "123"),
        (123.0, "123"),
        (4006381333931.0, "4006381333931"),  # what pandas makes of a gtin column with one gap
        (123456789.0, "123456789"),
        (19.99, "19.99"),
        (1234567.89, "1234567.89"),
        (float("nan"), ""),
        (float("inf"), ""),
        (True, "yes"),
        (["S", None, "M"], "S, M"),
        ({"a": 1, "b": None}, "a=1"),
        (b"caf\xc3\xa9", "café"),
        (b"\xff\xd8\xff\xe0", ""),
    ],
)
def test_text_of_a_value(value, expected):
    assert as_text(value) == expected


@pytest.mark.parametrize(
    "value",
    [
        "A > B > C",
        "A>B>C",
        "A >> B >> C",
        "A | B | C",
        "A / B / C",
        "/A/B/C",
        "A › B › C",
        "A » B » C",
        "A &gt; B &gt; C",
        ["A", "B", "C"],
        ["A > B > C", "X > Y"],
        ["A", None, "B", "", "C"],
    ],
)
def test_categories_of_any_separator(value):
    assert as_category(value) == "A > B > C"


@pytest.mark.parametrize(
    "cell",
    [
        "A > B; A > C",
        "A > B | X > Y",
        "A > B, A > C",
        '"A > B","X > Y"',
        "A > B\nX > Y",
        "A &gt; B; X &gt; Y",
        ["A > B", "X > Y"],
    ],
)
def test_of_several_paths_in_a_cell_the_first(cell):
    assert as_category(cell) == "A > B"


@pytest.mark.parametrize("whole", ["Electronics > Print, Copy, Scan & Fax > Printers", "A > B | C", "A, B > A, C > D"])
def test_commas_and_bars_inside_of_names_stay(whole):
    assert as_category(whole) == whole


def test_a_name_with_a_slash_or_comma_stays_whole():
    assert as_category("Clothing, Shoes & Jewelry > Tops/Tees") == "Clothing, Shoes & Jewelry > Tops/Tees"


def test_images_of_any_shape():
    assert as_images("a.jpg, b.jpg ,") == ["a.jpg", "b.jpg"]
    assert as_images(["a,1.jpg", {"bytes": b"x", "path": "n.jpg"}, {"bytes": None, "path": "c,2.jpg"}, None]) == [
        "a,1.jpg",
        b"x",
        "c,2.jpg",
    ]
    assert as_images(b"x") == [b"x"]
    assert as_images(float("nan")) == as_images("") == as_images(b"") == as_images([[]]) == []


def test_aliases_and_merchant_center_names():
    for row in (
        {"sku": "7", "name": "shirt", "category": ["A", "B"], "images": ["a.jpg"], "lang": "de", "group_id": "g"},
        {"g:ID": "7", "Product Title": "shirt", "product type": "A > B", "image link": "a.jpg", "Language": "de"}
        | {"item group id": "g"},
    ):
        found = product(row)
        assert (found.id, found.title, found.product_type, found.locale) == ("7", "shirt", "A > B", "de")
        assert (found.item_group_id, found.images, found.attributes) == ("g", ["a.jpg"], {})


def test_the_canonical_column_wins_wherever_it_stands():
    assert product({"sku": "S", "id": "I"}).id == product({"id": "I", "sku": "S"}).id == "I"
    assert product({"sku": "S", "id": "I"}).attributes == {"sku": "S"}
    assert product({"id": "n/a", "sku": "S"}).id == "S"


def test_the_users_mapping_wins_over_aliases():
    found = product({"id": "1", "title": "short", "long name": "long"}, {"title": "long name"})
    assert found.title == "long"
    assert found.attributes == {"title": "short"}


@pytest.mark.parametrize(
    "attributes",
    [
        {"baseColour": "red", "fit": "slim"},
        [{"name": "baseColour", "value": "red"}, {"name": "fit", "value": "slim"}],
        [("baseColour", "red"), ("fit", "slim")],  # a Parquet map
    ],
)
def test_nested_attributes_fill_fields_or_stay_attributes(attributes):
    found = product({"id": "1", "attributes": attributes})
    assert (found.color, found.attributes) == ("red", {"fit": "slim"})


def test_nested_attributes_are_no_identity():
    nested = {"id": "x", "catalog": "2019 winter", "language": "English", "split": "AC", "name": "n", "images": "i.jpg"}
    found = product({"attributes": nested})
    assert not any((found.id, found.catalog_id, found.locale, found.split, found.title, found.images))
    assert found.attributes == nested


def test_own_columns_win_over_nested_ones():
    found = product({"attributes": {"color": "blue", "fit": "slim"}, "colour": "red", "fit": "wide"})
    assert (found.color, found.attributes["color"], found.attributes["fit"]) == ("red", "blue", "wide")


@pytest.mark.parametrize(
    ("value", "expected"), [("slim", "slim"), (5, 5.0), (["slim", "cotton"], ["slim", "cotton"]), (None, None)]
)
def test_attributes_that_are_no_mapping(value, expected):
    assert product({"id": "1", "attributes": value}).attributes.get("attributes") == expected


def test_adult_and_split_words():
    assert [product({"adult": word}).adult for word in ("yes", True, "FALSE", 0, "", None, "maybe")] == [
        *("yes", "yes", "no", "no", "unknown", "unknown", "unknown")
    ]
    assert [product({"split": word}).split for word in ("val", "Dev", "TRAIN", "test")] == [
        *("validation", "validation", "train", "test")
    ]


def test_long_values_are_cut_and_reported():
    found = product({"id": "1", "title": "ab " * 400_000, "description": "x" * 6000, "note": "y" * 2000})
    assert (len(found.title), len(found.description), len(found.attributes["note"])) == (1000, 5000, 1000)
    assert sorted(reason for reason, _ in found.repairs) == ["attribute_cut", "description_cut", "title_cut"]
    assert product({"id": "1", "title": "x" * 1000}).repairs == []


def test_too_many_images_are_cut_and_reported():
    found = product({"image_link": "0.jpg", "additional_image_link": [f"{number}.jpg" for number in range(20)]})
    assert len(found.images) == MAX_IMAGES
    assert found.images[0] == "0.jpg"
    assert [reason for reason, _ in found.repairs] == ["images_cut"]


def test_deep_values_are_no_recursion():
    for deep in (json.loads('{"a":' * 400 + "1" + "}" * 400), json.loads("[" * 400 + "1" + "]" * 400)):
        for name in ("title", "category", "images", "attributes", "other"):
            product({"id": "1", name: deep})


def test_products_can_be_copied_and_pickled():
    found = product({"id": "1", "title": "shirt", "images": ["a.jpg"], "fit": "slim"})
    assert pickle.loads(pickle.dumps(found)) == copy.deepcopy(found) == copy.copy(found) == found
    with pytest.raises(AttributeError):
        _ = found.no_such_field


@pytest.mark.parametrize(
    ("value", "expected", "encoded"),
    [
        (1.5, 1.5, ("number", "1.5")),
        (7, 7.0, ("number", "7")),
        (decimal.Decimal("2.50"), 2.5, ("number", "2.5")),
        (2**60, str(2**60), ("text", str(2**60))),  # a code: a float would change it
        (True, True, ("boolean", "true")),
        (False, False, ("boolean", "false")),
        (["S", None, 4, "N/A"], ["S", "4"], ("list", '["S", "4"]')),
        (["Größe, M"], ["Größe, M"], ("list", '["Größe, M"]')),
        ("007", "007", ("text", "007")),  # CSV has no numbers
        ({"w": 1, "h": 2}, "w=1, h=2", ("text", "w=1, h=2")),
    ],
)
def test_attributes_keep_their_type(value, expected, encoded):
    found = product({"x": value, "attributes": {"y": value}}).attributes
    assert found == {"x": expected, "y": expected}
    assert [type(each) for each in found.values()] == [type(expected)] * 2
    assert encode_attribute(found["x"]) == encoded
    assert decode_attribute(*encoded) == expected


@pytest.mark.parametrize("missing", [None, "", "N/A", [], [None, ""], {}, float("nan"), float("inf"), b"\xff\xfe"])
def test_missing_attributes_are_none(missing):
    assert product({"x": missing}).attributes == {}


@settings(deadline=None, max_examples=200)
@given(st.one_of(st.text(), st.floats(allow_nan=False), st.booleans(), st.lists(st.text())))
def test_attributes_survive_encoding(value):
    kind, text = encode_attribute(value)
    assert decode_attribute(kind, text) == value
    assert type(decode_attribute(kind, text)) is type(value)


@pytest.mark.parametrize("pair", [("colour", "x"), ("number", "x"), ("boolean", "1"), ("list", "[1"), ("list", "3")])
def test_attributes_that_were_never_encoded(pair):
    with pytest.raises(UserError, match="has the type"):
        decode_attribute(*pair)


def test_limits_of_attributes_are_reported():
    found = product({"list": ["x" * 600, "y" * 600, "z"], "n" * 300: "v"})
    assert [len(item) for item in found.attributes["list"]] == [600, 400]
    assert found.attributes["n" * 200] == "v"
    assert [reason for reason, _ in found.repairs] == ["attribute_cut", "attribute_cut"]
    many = product({"attributes": {f"a{number}": number for number in range(MAX_ATTRIBUTES + 1)}})
    assert (len(many.attributes), [reason for reason, _ in many.repairs]) == (MAX_ATTRIBUTES, ["attributes_cut"])


def test_nested_categories_fill_what_the_row_lacks():
    for name in ("product_type", "category"):
        assert product({"attributes": {name: ["A", "B"]}}).product_type == "A > B"
        both = product({"product_type": "X > Y", "attributes": {name: "A > B"}})
        assert (both.product_type, both.attributes[name]) == ("X > Y", "A > B")


def test_pack_bundle_taxonomy_and_time():
    row = {"multipack": 6, "is_bundle": True, "google category": 1604, "created_at": "2024-05-01T10:00:00Z"}
    found = product({f"g:{name}": value for name, value in row.items()})
    assert (found.multipack, found.is_bundle, found.google_product_category) == ("6", "yes", "1604")
    assert (found.timestamp, found.attributes) == ("2024-05-01T10:00:00Z", {})
    assert found.product_type == "1604"  # until the shop has one of its own
    own = product({"google_product_category": "Apparel > Shoes", "product_type": "Boots"})
    assert (own.product_type, own.google_product_category) == ("Boots", "Apparel > Shoes")
    assert product({"date": 1714557600000}).timestamp == "1714557600000"
    assert [product({"is_bundle": word}).is_bundle for word in ("no", 0, None, "maybe")] == ["no", "no", "", ""]
    assert product({"attributes": {"date": "1999"}}).timestamp == ""  # of a book, not of the listing


@pytest.mark.parametrize(
    "details",
    [
        [
            {"section_name": "General", "attribute_name": "Fit", "attribute_value": "slim"},
            {"name": "Color", "value": "red"},
        ],
        [("General", "Fit", "slim"), ("Look", "Color", "red")],
        ["General:Fit:slim", ":Color:red"],
        "General:Fit:slim,Look:Color:red",
    ],
)
def test_details_become_attributes(details):
    found = product({"product_detail": details})
    assert (found.color, found.attributes) == ("red", {"Fit": "slim"})


def test_details_of_one_name_and_of_no_form():
    found = product(
        {"product_detail": [("Front", "Pocket", "1"), ("Back", "Pocket", "2")], "attributes": {"Pocket": 3}}
    )
    assert sorted(found.attributes) == ["Back: Pocket", "Pocket", "attributes: Pocket"]
    assert product({"product_detail": "soft, warm"}).attributes == {"product_detail": "soft, warm"}
    assert product({"product_highlight": ["soft", "warm"]}).attributes == {"product_highlight": ["soft", "warm"]}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20) | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(["id", "title", "category", "images", "attributes", "product_detail", "adult", "date", "x"])


@settings(deadline=None, max_examples=200)
@given(st.dictionaries(NAMES | st.text(max_size=5), JSON, max_size=6))
def test_no_value_raises(row):
    found = product(row)
    for text in found.text.values():
        text.encode()  # raises for half of a surrogate pair
        assert not UNPRINTABLE.search(text)
    for value in found.attributes.values():
        assert decode_attribute(*encode_attribute(value)) == value


def test_absurd_values_do_not_raise():
    deep: object = "x"
    for _ in range(5000):
        deep = [{"a": deep}]
    long = "A > " * 300_000
    for value in (deep, 10**5000, long, '"' * 1_000_000, ";>" * 500_000, ", A >" * 200_000):
        for name in ("id", "title", "category", "images", "attributes", "product_detail", "x"):
            product({name: value})
