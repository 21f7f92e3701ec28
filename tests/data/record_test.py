"""A feed row becomes the product that a reader of the row would expect, whatever names and types it comes in."""

import copy
import json
import pickle

import pytest

from ecommerce_vl.data.record import MAX_IMAGES, Product, as_category, as_images, as_text, to_product


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


@pytest.mark.parametrize("value", ["slim", 5, ["slim", "cotton"], None])
def test_attributes_that_are_no_mapping(value):
    assert product({"id": "1", "attributes": value}).attributes.get("attributes", "") == as_text(value)


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
