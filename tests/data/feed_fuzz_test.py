"""Thousands of mutated rows of every format: each comes out once, as a product or with a reason, and none raises."""

import io
import json
import random
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecommerce_vl.data.feed import BadRow, feed_sources, read_rows
from ecommerce_vl.data.record import decode_attribute, encode_attribute, to_product

ROWS = 2500
ABSURD = (
    *(
        b"\x00",
        b"\xff\xfe",
        b"\xed\xa0\x80",
        b"\xc3",
        b"\x1b[2J",
        b"&nbsp;",
        b"]]&gt;",
        b"\\",
        b"{",
        b"}}",
        b"NaN",
        b"-",
    ),
    *(
        b"9" * 5000,
        b"x" * 100_000,
        b"[" * 3000,
        b"../../etc/passwd",
        b"http://10.0.0.1/a",
        b"<script>",
        b"\xe2\x80\xae",
    ),
)
PRODUCT = {"id": "1", "title": "Größe M", "price": "19.99", "category": "A > B", "image": "a.jpg", "color": "red"}


def mutated(data: bytes, draw: random.Random, *, without: bytes) -> bytes:
    """A few bytes changed, removed, doubled or put in, none of them of those that part rows."""
    for _ in range(draw.randint(1, 3)):
        start = draw.randrange(len(data) + 1)
        kind = draw.choice((0, 1, 1, 1, 2, 3))
        if kind == 0:
            piece = draw.choice(ABSURD)
            data = data[:start] + piece + data[start:]
        elif kind == 1:
            byte = draw.randrange(256) if draw.random() < 0.2 else draw.randrange(32, 127)
            data = data[:start] + bytes([byte]) + data[start + 1 :]
        elif kind == 2:
            data = data[:start] + data[start + draw.randint(1, 10) :]
        else:
            data = data[:start] + data[start : start + 20] + data[start:]
    return bytes(byte for byte in data if byte not in without) or b"x"


def json_lines(draw: random.Random) -> bytes:
    row = json.dumps({**PRODUCT, "attributes": {"fit": ["slim"], "n": 1}, "images": ["a", {"path": "b"}]}).encode()
    return b"\n".join(mutated(row, draw, without=b"\n\r \t\x0b\x0c") for _ in range(ROWS))


def delimited(draw: random.Random, mark: str) -> bytes:
    header, row = (mark.join(cells).encode() for cells in (PRODUCT, PRODUCT.values()))
    rows = [mutated(row, draw, without=b'\n\r"') for _ in range(ROWS)]
    return b"\n".join([header, *(row if row.strip() else b"x" for row in rows)])


def shopify(draw: random.Random) -> bytes:
    header = b"Handle,Title,Vendor,Option1 Name,Option1 Value,Variant SKU,Image Src"
    row = b"shirt,Shirt,Acme,Size,M,SH-M,https://cdn/a.jpg"
    # Every line has a price column of its own, which is not mutated, so that each is a variant.
    lines = [mutated(row, draw, without=b'\n\r"') + b",5" for _ in range(ROWS)]
    return b"\n".join([header + b",Variant Price", *lines])


def merchant_xml(draw: random.Random) -> bytes:
    row = "".join(f"<g:{name}>{value.replace('>', '')}</g:{name}>" for name, value in PRODUCT.items()).encode()
    items = []
    for _ in range(ROWS):
        inner = mutated(row, draw, without=b"")
        # A tag of an item, a comment or CDATA that a mutation makes would part the rows elsewhere; none is as short.
        items.append(b"<item>" + inner.replace(b"<!", b"<") + b"</item>")
    return b'<rss xmlns:g="http://base.google.com/ns/1.0"><channel>' + b"\n".join(items) + b"</channel></rss>"


def webdataset(draw: random.Random) -> bytes:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        for number in range(ROWS):
            for suffix, content in (("json", json.dumps(PRODUCT).encode()), ("jpg", b"\xff\xd8picture")):
                content = mutated(content, draw, without=b"")
                info = tarfile.TarInfo(f"{number:05d}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return data.getvalue()


def parquet(draw: random.Random) -> bytes:
    columns = {
        name: pa.array([mutated(value.encode(), draw, without=b"") for _ in range(ROWS)]).view(pa.string())
        for name, value in PRODUCT.items()
    }
    data = io.BytesIO()
    pq.write_table(pa.table(columns), data)
    return data.getvalue()


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("f.jsonl", json_lines),
        ("f.csv", lambda draw: delimited(draw, ",")),
        ("f.tsv", lambda draw: delimited(draw, "\t")),
        ("shopify.csv", shopify),
        ("f.xml", merchant_xml),
        ("f.tar", webdataset),
        ("f.parquet", parquet),
    ],
)
def test_rows_in_are_products_and_bad_rows(tmp_path, name, write):
    draw = random.Random(name)
    (tmp_path / name).write_bytes(write(draw))
    products = bad = 0
    for number, row in enumerate(read_rows(*feed_sources(str(tmp_path / name)))):
        if isinstance(row, BadRow):
            bad += 1
            assert row.reason.isidentifier()
            assert row.detail
            continue
        product = to_product(row, row_number=number, columns={})
        products += 1
        for field, text in product.text.items():
            text.encode()  # raises for half of a surrogate pair
            assert len(text) <= 5000 or field in ("id", "item_group_id")  # which are never cut, but refused later
        for value in product.attributes.values():
            assert decode_attribute(*encode_attribute(value)) == value
    assert products + bad == ROWS
    assert products and bad
