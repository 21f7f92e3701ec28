"""Merchant Center RSS and Atom: every item a row, a broken item a bad row, flat memory, no entities."""

import gzip
import tracemalloc

import pytest

from ecommerce_vl.data.feed import BadRow, estimated_rows, feed_sources, read_rows
from ecommerce_vl.data.formats import merchant_xml
from ecommerce_vl.data.record import to_product
from ecommerce_vl.errors import UserError

RSS = """<?xml version="1.0"{encoding}?>
<rss xmlns:g="http://base.google.com/ns/1.0" version="2.0"><channel><title>Shop</title>
<!-- <item>no item</item> -->{items}</channel>
</rss>
"""
ITEM = """<item><g:id>{id}</g:id><title>Größe &amp; <![CDATA[<item>M</item>]]></title><g:brand>Acme</g:brand></item>"""


def source(folder, content: str | bytes, name: str = "feed.xml"):
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    (found,) = feed_sources(str(folder / name))
    return found


def rss(*items: str, encoding: str = "") -> str:
    return RSS.format(items="\n".join(items), encoding=encoding)


def reasons(rows: list) -> list[str]:
    return [row.reason if isinstance(row, BadRow) else "" for row in rows]


def test_rss_plain_and_gzipped(tmp_path):
    text = rss(ITEM.format(id=1), ITEM.format(id=2))
    expected = [{"id": str(n), "title": "Größe & <item>M</item>", "brand": "Acme"} for n in (1, 2)]
    assert list(read_rows(source(tmp_path, text))) == expected
    assert list(read_rows(source(tmp_path, gzip.compress(text.encode()), "feed.xml.gz"))) == expected
    assert estimated_rows(source(tmp_path, text)) is None


@pytest.mark.parametrize("encoding", ["iso-8859-1", "utf-16", "utf-8-sig"])
def test_other_encodings(tmp_path, encoding):
    declared = "" if encoding == "utf-8-sig" else f' encoding="{encoding}"'
    (row,) = read_rows(source(tmp_path, rss(ITEM.format(id=1), encoding=declared).encode(encoding)))
    assert row["title"].startswith("Größe")


def test_atom_and_fields_of_both_namespaces(tmp_path):
    text = (
        '<feed xmlns="http://www.w3.org/2005/Atom" xmlns:x="http://base.google.com/ns/1.0"><id>tag:feed</id>'
        '<entry><id>tag:1</id><x:id>1</x:id><title>Shirt</title><x:title>Shirt</x:title><link href="https://s/1"/>'
        '<summary type="xhtml"><div>Soft <b>linen</b> shirt</div></summary></entry><entry/></feed>'
    )
    first, second = read_rows(source(tmp_path, text))
    assert first == {
        "id": "1",
        "title": "Shirt",
        "feed_id": "tag:1",
        "link": "https://s/1",
        "description": "Soft linen shirt",
    }
    assert second == {}


def test_repeated_and_nested_elements_reach_the_product(tmp_path):
    item = (
        "<item><g:id>1</g:id><g:image_link>a.jpg</g:image_link>"
        "<g:additional_image_link>b.jpg</g:additional_image_link><g:additional_image_link>c,1.jpg</g:additional_image_link>"
        "<g:product_type>A &gt; B</g:product_type><g:product_type>C &gt; D</g:product_type>"
        "<g:product_detail><g:section_name>General</g:section_name><g:attribute_name>Fit</g:attribute_name>"
        "<g:attribute_value>slim</g:attribute_value></g:product_detail>"
        "<g:product_detail><g:attribute_name>Material</g:attribute_name><g:attribute_value>linen</g:attribute_value>"
        "</g:product_detail><g:product_highlight>Cool</g:product_highlight><g:product_highlight>Light</g:product_highlight>"
        "<g:shipping><g:country>DE</g:country><g:price>5 EUR</g:price></g:shipping></item>"
    )
    (row,) = read_rows(source(tmp_path, rss(item)))
    product = to_product(row, row_number=0, columns={})
    assert product.images == ["a.jpg", "b.jpg", "c,1.jpg"]
    assert (product.product_type, product.material) == ("A > B", "linen")
    assert product.attributes == {
        "other_product_type": "C > D",
        "Fit": "slim",
        "product_highlight": ["Cool", "Light"],
        "shipping": "country=DE, price=5 EUR",
    }


def test_broken_items_cost_only_themselves(tmp_path):
    deep = "<item>" + "<a>" * 50 + "</a>" * 50 + "</item>"
    items = ["<item><g:id>1</item>", "<item>&nbsp;</item>", deep, "<item><g:id>4</g:id>", ITEM.format(id=5)]
    assert reasons(list(read_rows(source(tmp_path, rss(*items))))) == [*["invalid_xml"] * 4, ""]
    bad = rss("<item><g:id>Gr??e</g:id></item>", ITEM.format(id=2)).encode().replace(b"Gr??e", b"Gr\xf6\xdfe")
    assert reasons(list(read_rows(source(tmp_path, bad)))) == ["invalid_encoding", ""]


def test_items_longer_than_the_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(merchant_xml, "MAX_ITEM", 300_000)
    long = "<item><g:id>1</g:id><title>" + "x" * 500_000 + "</title></item>"
    rows = list(read_rows(source(tmp_path, rss(ITEM.format(id=0), long, ITEM.format(id=2)))))
    assert reasons(rows) == ["", "invalid_xml", ""]
    with pytest.raises(UserError, match="has no <item> or <entry>"):
        list(read_rows(source(tmp_path, "<rss>" + " " * 500_000)))


@pytest.mark.parametrize(
    "doctype",
    ['<!DOCTYPE r [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>', '<!DOCTYPE r [<!ENTITY f SYSTEM "file:///x">]>'],
)
def test_entities_are_refused(tmp_path, doctype):
    text = rss("<item><g:id>&a;</g:id></item>").replace("<rss", doctype + "<rss")
    with pytest.raises(UserError, match="declares XML entities"):
        list(read_rows(source(tmp_path, text)))


def test_files_that_are_cut_or_none_are_named(tmp_path):
    text = rss(*(ITEM.format(id=number) for number in range(20)))
    for content in (
        text[: len(text) - 8],
        text[: len(text) // 2],
        "",
        "id,title\n1,a",
        '<?xml version="1.0" encoding="x"?>',
    ):
        with pytest.raises(UserError, match="feed.xml"):
            list(read_rows(source(tmp_path, content)))
    assert list(read_rows(source(tmp_path, rss()))) == []


def test_every_cut_of_the_stream_gives_the_same_rows(tmp_path, monkeypatch):
    found = source(tmp_path, rss(*(ITEM.format(id=number) for number in range(5)), "<item/>"))
    expected = list(read_rows(found))
    for size in range(1, 120):
        monkeypatch.setattr(merchant_xml, "CHARACTERS_PER_READ", size)
        assert list(read_rows(found)) == expected


def test_memory_does_not_grow_with_the_feed(tmp_path, monkeypatch):
    monkeypatch.setattr(merchant_xml, "CHARACTERS_PER_READ", 4096)
    peaks = []
    for num_items in (500, 2000):
        found = source(tmp_path, rss(*(ITEM.format(id=number) for number in range(num_items))))
        tracemalloc.start()
        assert sum(1 for _ in read_rows(found)) == num_items
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
