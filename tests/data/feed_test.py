"""Every row of every format comes out once, as it was written or as a `BadRow`; damaged files are named."""

import gzip
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecommerce_vl.data.feed import BadRow, columns_of, feed_files, read_rows
from ecommerce_vl.errors import UserError

ROWS = [{"id": "1", "title": "Größe M"}, {"id": "2", "title": "赤い靴"}]


def rows_of(folder, name: str, content: bytes | str) -> list:
    file = folder / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return list(read_rows(file))


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
    rows = list(read_rows(tmp_path / "f.parquet"))
    assert [row["id"] for row in rows] == [1, 2]
    assert rows[0]["image"]["bytes"] == b"\xff\xd8"
    assert columns_of(tmp_path / "f.parquet") == [("id", False), ("image", False), ("fit", True), ("attributes", False)]


def test_parquet_text_of_another_encoding_costs_one_row(tmp_path):
    text = pa.array([b"good", b"Gr\xf6\xdfe", b"good"]).view(pa.string())
    pq.write_table(pa.table({"id": ["1", "2", "3"], "title": text}), tmp_path / "f.parquet")
    assert reasons(list(read_rows(tmp_path / "f.parquet"))) == ["", "invalid_encoding", ""]


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


def test_feed_files_of_folders_globs_and_lists(tmp_path):
    for name in ("b.csv", "a.jsonl.gz", "notes.md"):
        (tmp_path / name).write_bytes(b"")
    assert [file.name for file in feed_files(str(tmp_path))] == ["a.jsonl.gz", "b.csv"]
    assert [file.name for file in feed_files(f"{tmp_path}/*.csv, {tmp_path}/a.jsonl.gz")] == ["b.csv", "a.jsonl.gz"]
    (tmp_path / "products.jsonl").write_bytes(b"")
    assert [file.name for file in feed_files(str(tmp_path))] == ["products.jsonl"]


@pytest.mark.parametrize(
    ("feed", "message"), [("nowhere", "no product feed at"), ("notes.md", "suffix"), (" ", "empty")]
)
def test_feeds_that_are_none(tmp_path, monkeypatch, feed, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.md").write_bytes(b"")
    with pytest.raises(UserError, match=message):
        feed_files(feed)
