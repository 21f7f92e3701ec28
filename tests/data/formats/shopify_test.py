"""A Shopify export becomes one row a variant, each with what its product's first line says, and no line is lost."""

import csv
import io

from ecommerce_vl.data.feed import BadRow, feed_sources, read_rows
from ecommerce_vl.data.formats import shopify
from ecommerce_vl.data.record import to_product

HEADER = [
    *("Handle", "Title", "Body (HTML)", "Vendor", "Product Category", "Type", "Tags", "Published"),
    *("Option1 Name", "Option1 Value", "Option2 Name", "Option2 Value", "Variant SKU", "Variant Price"),
    *("Variant Barcode", "Image Src", "Image Position", "Image Alt Text", "Variant Image", "Status"),
]


def lines(*rows: dict) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, HEADER)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


SHIRT = [
    {
        "Handle": "shirt",
        "Title": "Linen shirt",
        "Body (HTML)": "<p>Cool,\nlight</p>",
        "Vendor": "Acme",
        "Type": "Shirts",
    }
    | {"Tags": "summer, linen", "Option1 Name": "Size", "Option1 Value": "S", "Option2 Name": "Color"}
    | {"Option2 Value": "Red", "Variant SKU": "SH-S-R", "Variant Price": "20.00", "Variant Barcode": "'4006381333931"}
    | {"Image Src": "https://cdn/2.jpg", "Image Position": "2", "Status": "active"},
    {"Handle": "shirt", "Option1 Value": "M", "Option2 Value": "Blue", "Variant Price": "21.00"}
    | {"Image Src": "https://cdn/1.jpg", "Image Position": "1", "Variant Image": "https://cdn/blue.jpg"},
    {"Handle": "shirt", "Image Src": "https://cdn/3.jpg", "Image Position": "3"},
]
MUG = [
    {"Handle": "mug", "Title": "Mug", "Product Category": "Home > Kitchen", "Option1 Name": "Title"}
    | {"Option1 Value": "Default Title", "Variant Price": "5"}
]


def rows_of(tmp_path, text: str) -> list:
    (tmp_path / "products_export.csv").write_text(text, encoding="utf-8")
    return list(read_rows(*feed_sources(str(tmp_path / "products_export.csv"))))


def test_variants_inherit_and_keep_their_own(tmp_path):
    small, medium, mug = (to_product(row, row_number=0, columns={}) for row in rows_of(tmp_path, lines(*SHIRT, *MUG)))
    assert (small.id, medium.id, mug.id) == ("SH-S-R", "shirt/M/Blue", "mug")
    assert small.item_group_id == medium.item_group_id == "shirt"
    for product in (small, medium):
        assert (product.title, product.brand, product.product_type) == ("Linen shirt", "Acme", "Shirts")
        assert product.description == "<p>Cool, light</p>"
        assert (product.attributes["tags"], product.attributes["Status"]) == (["summer", "linen"], "active")
    assert (small.size, small.color, small.gtin, small.price) == ("S", "Red", "4006381333931", "20.00")
    assert (medium.size, medium.color, medium.gtin, medium.price) == ("M", "Blue", "", "21.00")
    in_order = [f"https://cdn/{number}.jpg" for number in (1, 2, 3)]
    assert small.images == in_order
    assert medium.images == ["https://cdn/blue.jpg", *in_order]
    assert (mug.product_type, mug.title, mug.images) == ("Home > Kitchen", "Mug", [])
    assert "Title" not in mug.attributes


def test_lines_are_rows_bad_rows_or_pictures(tmp_path):
    others = [{"Handle": "mug"}, {"Title": "no handle"}, {"Handle": "mug", "Image Src": "https://cdn/m.jpg"}]
    text = lines(*SHIRT, *MUG, *others) + "too,few\n"
    rows = rows_of(tmp_path, text)
    reasons = [row.reason for row in rows if isinstance(row, BadRow)]
    assert sorted(reasons) == ["empty_line", "missing_handle", "wrong_number_of_columns"]
    pictures = 2  # the third line of the shirt, the last of the mug
    assert len(SHIRT) + len(MUG) + len(others) + 1 == len(rows) + pictures
    assert rows[-2]["image_link"] == ["https://cdn/m.jpg"]


def test_a_product_beyond_the_limit_keeps_its_title(tmp_path, monkeypatch):
    monkeypatch.setattr(shopify, "MAX_LINES", 2)
    more = [{"Handle": "shirt", "Option1 Value": size, "Variant SKU": size} for size in ("L", "XL", "XXL")]
    rows = rows_of(tmp_path, lines(*SHIRT, *more))
    assert [row["id"] for row in rows] == ["SH-S-R", "shirt/M/Blue", "L", "XL", "XXL"]
    assert {row["title"] for row in rows} == {"Linen shirt"}
    assert rows[-1]["attributes"] == {"Size": "XXL"}


def test_the_newer_template_and_options_named_like_fields(tmp_path):
    text = (
        "Title,URL handle,Description,Vendor,SKU,Barcode,Option1 name,Option1 value,Product image URL\n"
        "Poster,poster,Nice,Acme,P1,123,Title,Sunrise,https://cdn/p.jpg\n"
    )
    (row,) = rows_of(tmp_path, text)
    product = to_product(row, row_number=0, columns={})
    assert (product.id, product.title, product.gtin, product.images) == ("P1", "Poster", "123", ["https://cdn/p.jpg"])
    assert product.attributes == {"Title": "Sunrise"}


def test_other_tables_are_no_export():
    assert shopify.is_export(HEADER)
    assert not shopify.is_export(["id", "Title", "Vendor"])
    assert not shopify.is_export(["Handle", "Name"])
