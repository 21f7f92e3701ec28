"""Every row of every format comes out once, as it was written or as a `BadRow`; damaged files are named."""

import gzip
import json
import os
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecommerce_vl.data import feed as feeds
from ecommerce_vl.data.feed import (
    BadRow,
    FeedSource,
    columns_of,
    estimated_rows,
    explain,
    feed_sources,
    read_rows,
    source_digest,
)
from ecommerce_vl.data.formats import json_lines
from ecommerce_vl.data.images import ImageDefect
from ecommerce_vl.data.links import LinkPolicy, read_link
from ecommerce_vl.errors import UserError

ROWS = [{"id": "1", "title": "Größe M"}, {"id": "2", "title": "赤い靴"}]


def source(file: Path) -> FeedSource:
    (found,) = feed_sources(str(file))
    return found


def rows_of(folder, name: str, content: bytes | str) -> list:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_rows(source(file)))


def reasons(rows: list) -> list[str]:
    return [row.reason if isinstance(row, BadRow) else "" for row in rows]


def test_json_lines_plain_and_gzipped(tmp_path):
    text = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode()
    for name, content in (("f.jsonl", text), ("f.ndjson", b"\xef\xbb\xbf" + text), ("f.jsonl.gz", gzip.compress(text))):
        assert rows_of(tmp_path, name, content) == ROWS


def test_a_json_file_may_be_one_array(tmp_path):
    assert rows_of(tmp_path, "f.json", json.dumps(ROWS, indent=1)) == ROWS
    assert reasons(rows_of(tmp_path, "f.json", "[{}, 3]")) == ["", "invalid_json"]
    with pytest.raises(UserError, match="begins as a JSON array"):
        rows_of(tmp_path, "f.json", '[{"id": "1"}, {')


@pytest.mark.parametrize(
    "text", ["[]", " [ ] \n", '[{"a": 1},\n {"b": [1, {"c": "]"}]} ]', "[1, 22, 333]", '[{}, "x", null]']
)
def test_every_cut_of_an_array_gives_the_same_rows(tmp_path, monkeypatch, text):
    expected = [row if isinstance(row, dict) else "invalid_json" for row in json.loads(text)]
    for size in range(1, len(text) + 2):
        monkeypatch.setattr(json_lines, "CHARACTERS_PER_READ", size)
        assert [row if isinstance(row, dict) else row.reason for row in rows_of(tmp_path, "f.json", text)] == expected


@pytest.mark.parametrize(
    "text", ["[", "[{}", "[{},", "[{},]", "[{} {}]", "[{}]]", "[{}] x", '[{"a": }]', "[" * 100_000]
)
def test_arrays_that_are_none(tmp_path, text):
    with pytest.raises(UserError, match="begins as a JSON array but is none"):
        rows_of(tmp_path, "f.json", text)


def test_memory_does_not_grow_with_an_array(tmp_path):
    peaks = []
    for length in (1_000, 4_000):
        file = tmp_path / f"{length}.json"
        file.write_text(json.dumps([{"id": str(number), "title": "x" * 500} for number in range(length)]))
        tracemalloc.start()
        assert sum(1 for _ in read_rows(source(file))) == length
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]


def test_broken_json_lines_cost_only_themselves(tmp_path):
    lines = [
        b'{"id": "1"}',
        b'{"id": ',
        b"[1]",
        b'{"t": "Gr\xf6\xdfe"}',
        b'{"n": ' + b"9" * 5000 + b"}",
        b"",
        b'{"a":1}',
    ]
    lines.insert(1, b'{"a":' * 100_000)
    assert reasons(rows_of(tmp_path, "f.jsonl", b"\n".join(lines))) == [
        *("", "invalid_json", "invalid_json", "invalid_json", "invalid_encoding", "invalid_json", "")
    ]


@pytest.mark.parametrize(("name", "mark"), [("f.csv", ","), ("f.tsv", "\t"), ("f.txt", "\t"), ("f.csv", ";")])
def test_delimited_text(tmp_path, name, mark):
    text = mark.join(("id", "title")) + "".join(f"\r\n{row['id']}{mark}{row['title']}" for row in ROWS) + "\r\n\r\n"
    assert rows_of(tmp_path, name, "\ufeff" + text) == ROWS
    assert rows_of(tmp_path, f"{name}.gz", gzip.compress(text.encode())) == ROWS


def test_csv_cells_with_newlines_marks_and_great_length(tmp_path):
    rows = rows_of(tmp_path, "f.csv", 'id,title\n1,"two\nlines, one ""cell"""\n2,' + "x" * 300_000 + "\n")
    assert [row["title"][:20] for row in rows] == ['two\nlines, one "cell', "x" * 20]


def test_an_unclosed_quotation_mark_swallows_no_rows(tmp_path):
    rows = rows_of(
        tmp_path, "f.csv", 'id,title,n\n1,"5 inch nail,3\n2,7" nail,4\n3,"Great" nail,5\n4,"open,6\n5,last,7'
    )
    assert [(row["id"], row["n"]) for row in rows] == [("1", "3"), ("2", "4"), ("3", "5"), ("4", "6"), ("5", "7")]
    many = 'id,title\n0,"open\n' + "".join(f"{row},t\n" for row in range(1, 3000))
    assert [row["id"] for row in rows_of(tmp_path, "f.csv", many)] == [str(row) for row in range(3000)]


def test_csv_rows_that_do_not_fit_and_wrong_encodings(tmp_path):
    content = b"id,title,gr\xf6\xdfe\n1,a\n2,a,b,c\n3,Gr\xf6\xdfe,x\n4,nul\x00,x\n"
    rows = rows_of(tmp_path, "f.csv", content)
    assert reasons(rows) == ["wrong_number_of_columns", "wrong_number_of_columns", "invalid_encoding", ""]
    assert rows[3] == {"id": "4", "title": "nul\x00", "gr??e": "x"}


def test_parquet_with_pictures_maps_and_integers(tmp_path):
    table = pa.table(
        {
            "id": [1, 2],
            "image": [{"bytes": b"\xff\xd8", "path": "a.jpg"}, None],
            "attributes": pa.array([[("fit", "slim")], []], pa.map_(pa.string(), pa.string())),
        }
    )
    pq.write_table(table, tmp_path / "f.parquet")
    rows = list(read_rows(source(tmp_path / "f.parquet")))
    assert [row["id"] for row in rows] == [1, 2]
    assert rows[0]["image"]["bytes"] == b"\xff\xd8"
    assert columns_of(source(tmp_path / "f.parquet")) == [
        ("id", False),
        ("image", False),
        ("fit", True),
        ("attributes", False),
    ]


def test_parquet_holds_a_few_rows_of_a_file_of_pictures(tmp_path):
    """By default the library keeps all that it has read until the file is closed, and a catalog is one file."""
    pictures = np.random.default_rng(0).bytes(32 << 20)
    column = [pictures[at : at + 32_768] for at in range(0, len(pictures), 32_768)]
    pq.write_table(pa.table({"image": column}), tmp_path / "f.parquet", row_group_size=64)
    rows = read_rows(source(tmp_path / "f.parquet"))
    tracemalloc.start()
    try:
        num_rows = sum(1 for _ in rows)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert num_rows == len(column) and peak < 12 << 20, f"{peak >> 20} MB of 32 MB"


def test_parquet_text_of_another_encoding_costs_one_row(tmp_path):
    text = pa.array([b"good", b"Gr\xf6\xdfe", b"good"]).view(pa.string())
    pq.write_table(pa.table({"id": ["1", "2", "3"], "title": text}), tmp_path / "f.parquet")
    assert reasons(list(read_rows(source(tmp_path / "f.parquet")))) == ["", "invalid_encoding", ""]


def test_damaged_files_are_named(tmp_path):
    whole = gzip.compress(b'{"id": "1"}\n' * 10_000)
    for name, content in (
        ("cut.jsonl.gz", whole[: len(whole) // 2]),
        ("flat.jsonl.gz", b'{"id": "1"}'),
        ("flipped.csv.gz", whole[:20] + b"\xff\xff\xff" + whole[23:]),
        ("text.parquet", b"id,title"),
        ("empty.parquet", b""),
    ):
        with pytest.raises(UserError, match=f"{name} cannot be read beyond row"):
            rows_of(tmp_path, name, content)


def test_feed_sources_of_folders_globs_and_lists(tmp_path):
    for name in ("b.csv", "a.jsonl.gz", "notes.md"):
        (tmp_path / name).write_bytes(b"")
    assert [Path(file.path).name for file in feed_sources(str(tmp_path))] == ["a.jsonl.gz", "b.csv"]
    assert [Path(file.path).name for file in feed_sources(f"{tmp_path}/*.csv, {tmp_path}/a.jsonl.gz")] == [
        "b.csv",
        "a.jsonl.gz",
    ]
    (tmp_path / "products.jsonl").write_bytes(b"")
    assert [Path(file.path).name for file in feed_sources(str(tmp_path))] == ["products.jsonl"]


@pytest.mark.parametrize(
    ("feed", "message"), [("nowhere", "no product feed at"), ("notes.md", "suffix"), (" ", "empty")]
)
def test_feeds_that_are_none(tmp_path, monkeypatch, feed, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.md").write_bytes(b"")
    with pytest.raises(UserError, match=message):
        feed_sources(feed)


def test_braces_and_commas_in_names(tmp_path):
    for name in ("p-8.csv", "p-9.csv", "p-10.csv", "a.tsv", "b.tsv"):
        (tmp_path / name).write_bytes(b"")
    names = [Path(found.path).name for found in feed_sources(f"{tmp_path}/p-{{8..10}}.csv,{tmp_path}/{{b,a}}.tsv")]
    assert names == ["p-8.csv", "p-9.csv", "p-10.csv", "b.tsv", "a.tsv"]
    with pytest.raises(UserError, match="p-11.csv"):
        feed_sources(f"{tmp_path}/p-{{10..11}}.csv")


def test_tars_beside_a_feed_are_pictures(tmp_path):
    (tmp_path / "photos.tar").write_bytes(b"")
    assert [found.format for found in feed_sources(str(tmp_path))] == ["tar"]
    (tmp_path / "list.csv").write_bytes(b"")
    assert [found.format for found in feed_sources(str(tmp_path))] == ["csv"]


def test_sources_are_plain_values(tmp_path):
    found = source_of(tmp_path, "f.csv", "id\n1\n")
    assert found == FeedSource(
        name=str(tmp_path / "f.csv"), format="csv", path=str(tmp_path / "f.csv"), root=str(tmp_path)
    )
    assert pickle.loads(pickle.dumps(found)) == found


def source_of(folder, name: str, content: str | bytes) -> FeedSource:
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return source(folder / name)


def test_estimates(tmp_path):
    pq.write_table(pa.table({"id": list(range(70))}), tmp_path / "f.parquet")
    assert estimated_rows(source(tmp_path / "f.parquet")) == 70
    assert estimated_rows(source_of(tmp_path, "f.jsonl", "{}\n{}\n{}")) == 3
    assert estimated_rows(source_of(tmp_path, "f.csv", "id\n1\n2\n")) == 2
    assert estimated_rows(source_of(tmp_path, "e.csv", "")) == 0
    assert estimated_rows(source_of(tmp_path, "f.json", "[]")) is None
    assert estimated_rows(source_of(tmp_path, "g.jsonl.gz", gzip.compress(b"{}"))) is None
    assert estimated_rows(source_of(tmp_path, "damaged.parquet", "x")) is None


def test_digests_are_of_the_content(tmp_path):
    first = source_digest(source_of(tmp_path, "a.csv", "id\n1\n"))
    os.utime(tmp_path / "a.csv", (1, 1))
    assert source_digest(source(tmp_path / "a.csv")) == first == source_digest(source_of(tmp_path, "b.csv", "id\n1\n"))
    assert source_digest(source_of(tmp_path, "a.csv", "id\n2\n")) != first


def test_explain_shows_the_mapping_at_work(tmp_path):
    rows = [
        {"sku": "7", "name": " two  words", "category": ["A", "B"], "photo": "a.jpg", "attributes": {"Colour": "red"}},
        {"sku": "8", "name": "N/A", "price": 1.5, "weight": 2, "long": "x" * 500, "data": "a\tb"},
        {"id": "I", "sku": "9", "name": "three"},
    ]
    found = explain([source_of(tmp_path, "f.jsonl", "\n".join(map(json.dumps, rows)))], {"image_link": "photo"}, 2)
    table = {
        entry["column"]: (entry["becomes"], [tuple(value.values()) for value in entry["values"]]) for entry in found
    }
    assert table == {
        "sku": ("id", [("7", "7"), ("8", "8")]),
        "name": ("title", [(" two  words", "two words"), ("three", "three")]),
        "category": ("product_type", [("[A, B]", "A > B")]),
        "photo": ("image_link", [("a.jpg", "[a.jpg]")]),
        "attributes.Colour": ("color", [("red", "red")]),
        "price": ("price", [("1.5", "1.5")]),
        "weight": ("attribute", [("2", "2.0")]),
        "long": ("attribute", [("x" * 77 + "...", "x" * 77 + "...")]),
        "data": ("attribute", [("a\\tb", "a b")]),
        "id": ("id", [("I", "I")]),
    }
    # In the third row `id` wins, so `sku` is an attribute there.
    assert explain([source(tmp_path / "f.jsonl")], {}, 3)[0]["values"][2] == {"before": "9", "after": "9"}


def test_explain_of_broken_rows_and_nothing(tmp_path):
    assert explain([source_of(tmp_path, "f.jsonl", '[1]\n{"id": ')], {}) == []


@pytest.fixture
def bucket(monkeypatch):
    """The bucket s3://shop in memory, under the same layer that reaches a real one."""
    import fsspec
    from etils.epath import backend
    from fsspec.implementations.memory import MemoryFileSystem

    class Bucket(MemoryFileSystem):
        store, pseudo_dirs = {}, [""]
        protocol = "s3"

        @classmethod
        def _strip_protocol(cls, path):
            return MemoryFileSystem._strip_protocol(path.removeprefix("s3://"))

    files = Bucket()
    monkeypatch.setattr(backend.fsspec_backend, "_get_filesystem", lambda name: files)
    monkeypatch.setattr(fsspec, "filesystem", lambda name, **_: files)
    return files


def test_feeds_and_pictures_in_a_bucket(bucket):
    table = pa.table({"id": ["1", "2"]})
    with bucket.open("s3://shop/feed/b.parquet", "wb") as stream:
        pq.write_table(table, stream)
    bucket.pipe("s3://shop/feed/a.jsonl.gz", gzip.compress(b'{"id": "0"}\n'))
    bucket.pipe("s3://shop/feed/images/a.jpg", b"picture")
    bucket.pipe("s3://shop/other.jpg", b"other")
    for feed in ("s3://shop/feed", "s3://shop/feed/*.{jsonl.gz,parquet}", "s3://shop/feed/{a.jsonl.gz,b.parquet}"):
        sources = feed_sources(feed)
        assert [found.root for found in sources] == ["s3://shop/feed"] * 2
        assert [row["id"] for found in sources for row in read_rows(found)] == ["0", "1", "2"]
    assert [estimated_rows(found) for found in sources] == [None, 2]
    before = source_digest(sources[0])
    assert source_digest(sources[0]) == before
    bucket.pipe("s3://shop/feed/a.jsonl.gz", gzip.compress(b'{"id": "0000"}\n'))
    assert source_digest(sources[0]) != before
    policy = LinkPolicy(max_bytes=7)
    for link in ("images/a.jpg", "./images/a.jpg", "s3://shop/feed/images/a.jpg"):
        assert read_link(link, root=sources[0].root, policy=policy) == b"picture"
    assert read_link("s3://shop/other.jpg", root=sources[0].root, policy=policy) == b"other"
    for link, own, reason in (
        ("../other.jpg", policy, "image_outside_feed"),
        ("/other.jpg", policy, "image_outside_feed"),
        ("none.jpg", policy, "missing_image_file"),
        ("images/a.jpg", LinkPolicy(max_bytes=6), "image_too_many_bytes"),
        ("s3://foreign/a.jpg", policy, "image_not_fetched"),
        ("s3://foreign/a.jpg", LinkPolicy(fetch=True), "image_host_forbidden"),
        ("s3://foreign/a.jpg", LinkPolicy(fetch=True, allowed_hosts=("foreign",)), "missing_image_file"),
    ):
        with pytest.raises(ImageDefect) as caught:
            read_link(link, root=sources[0].root, policy=own)
        assert caught.value.reason == reason


def test_buckets_that_cannot_be_read_are_named(bucket, monkeypatch):
    with pytest.raises(UserError, match="no product feed at 's3://shop/none"):
        feed_sources("s3://shop/none.csv")
    bucket.pipe("s3://shop/f.csv", b"id\n1\n")
    (found,) = feed_sources("s3://shop/f.csv")

    def refuse(path, mode):
        raise RuntimeError("no credentials")

    monkeypatch.setattr(bucket, "open", refuse)
    with pytest.raises(UserError, match=r"s3://shop/f.csv .*no credentials.*ecommerce_vl\[s3\]"):
        list(read_rows(found))


def test_every_format_that_is_known_can_be_read():
    assert set(feeds.FORMAT_OF.values()) | {"tfds"} == set(feeds.FORMATS)
