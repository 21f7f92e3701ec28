"""Every row of a feed is in the shards or among the rejects, whatever is in the feed, and the same feed gives the same
bytes. Real files in a temporary folder; real shop data where ECOMMERCE_VL_DATA names them."""

import gzip
import io
import json
import os
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from configs.prepare import get_config
from ecommerce_vl.data import preparation
from ecommerce_vl.data.feed import explain, feed_sources
from ecommerce_vl.data.images import MAX_PIXELS
from ecommerce_vl.data.preparation import (
    WORK,
    is_prepared,
    parse_columns,
    prepare_feed,
    validate,
)
from ecommerce_vl.data.prepared import read_summary
from ecommerce_vl.data.shards import open_split, parse
from ecommerce_vl.data.split import MAX_SHARED
from ecommerce_vl.errors import UserError


def jpeg(shade: int = 0, size=(80, 80)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, (shade, 100, 200)).save(buffer, "JPEG")
    return buffer.getvalue()


def prepare(feed: Path, out: Path, arm: str = "raw", **settings) -> dict:
    """Without cleaning, so that titles of one letter and pictures of one colour pass."""
    config = get_config(arm)
    config.update_from_flattened_dict(settings)
    return prepare_feed(str(feed), out, config=config.to_dict(), progress=lambda label: lambda done, total: None)


def write_lines(file: Path, rows: list) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
    file.write_bytes(b"\n".join(lines))
    return file


def table(out: Path, name: str) -> list[dict]:
    return pq.read_table(out / name).to_pylist()


def products(out: Path) -> dict[str, dict]:
    """id -> record, over all splits."""
    names = [split for split, rows in read_summary(out)["splits"].items() if rows]
    records = (parse(data) for split in names for data in open_split(out, split=split))
    return {record["id"]: record for record in records}


def assert_accounts(out: Path, summary: dict) -> None:
    """Rows in = rows out + rejects, and every file tells the same numbers."""
    rejects, repairs, index = (table(out, f"{name}.parquet") for name in ("rejects", "repairs", "index"))
    assert summary["rows_in"] == summary["rows_out"] + len(rejects)
    assert Counter(row["reason"] for row in rejects) == summary["rejects"]
    assert Counter(row["reason"] for row in repairs) == summary["repairs"]
    assert len({row["row"] for row in rejects}) == len(rejects)
    assert len(index) == summary["rows_out"] == sum(summary["splits"].values())
    assert {row["id"] for row in index} == set(products(out))
    assert not {row["row"] for row in rejects} & {row["row"] for row in repairs}
    assert sum(row["num_images"] for row in index) == summary["images"]
    assert json.loads((out / "prepare.json").read_text()) == summary
    assert not (out / WORK).exists()


@pytest.fixture
def shop(tmp_path) -> Path:
    """A feed folder in which every way to be refused or mended occurs once."""
    folder = tmp_path / "feed"
    (folder / "img").mkdir(parents=True)
    (tmp_path / "secret.jpg").write_bytes(jpeg())
    (folder / "img" / "good.jpg").write_bytes(jpeg())
    (folder / "img" / "a,b.jpg").write_bytes(jpeg())
    (folder / "img" / "page.jpg").write_bytes(b"<html>404</html>")
    (folder / "img" / "cut.jpg").write_bytes(jpeg(size=(200, 200))[:700])
    (folder / "img" / "small.jpg").write_bytes(jpeg(size=(63, 80)))
    bomb = io.BytesIO()
    Image.new("1", (20_000, 10_000)).save(bomb, "PNG")
    (folder / "img" / "bomb.png").write_bytes(bomb.getvalue())
    write_lines(
        folder / "products.jsonl",
        [
            {"id": "good", "title": "shirt", "images": ["img/good.jpg"], "fit": "slim"},
            {"id": "good", "title": "again"},
            {"title": "no id"},
            b'{"id": "broken", ',
            b'{"id": "latin", "title": "Gr\xf6\xdfe"}',
            {"id": "x" * 201, "title": "long id"},
            {"id": "odd split", "title": "t", "split": "holdout"},
            {"id": "nothing"},
            {"id": "only a page", "images": ["img/page.jpg"]},
            {"id": "no title", "images": ["img/good.jpg"]},
            {"id": "comma", "title": "t", "image_link": "img/a%2Cb.jpg"},
            {"id": "page", "title": "t", "images": ["img/page.jpg", "img/good.jpg"]},
            {"id": "cut", "title": "t", "images": ["img/cut.jpg"]},
            {"id": "small", "title": "t", "images": ["img/small.jpg"]},
            {"id": "bomb", "title": "t", "images": ["img/bomb.png"]},
            {"id": "gone", "title": "t", "images": ["img/none.jpg"]},
            {"id": "nul", "title": "t", "images": ["img/\x00.jpg"]},
            {"id": "folder", "title": "t", "images": ["img"]},
            {"id": "long name", "title": "t", "images": ["n" * 5000]},
            {"id": "escape", "title": "t", "images": ["../secret.jpg"]},
            {"id": "absolute", "title": "t", "images": [str(tmp_path / "secret.jpg")]},
            {"id": "url", "title": "t", "images": ["https://example.com/a.jpg"]},
            {"id": "novel", "title": "word " * 1000},
            {"id": "half", "title": "half \ud83d", "half \ud83d": "\ud83d"},
        ],
    )
    return folder


def test_every_row_of_a_bad_feed_is_accounted_for(shop, tmp_path):
    out = tmp_path / "out"
    summary = prepare(shop, out, **{"images.min_side": 64})
    assert_accounts(out, summary)
    assert summary["rejects"] == {
        "duplicate_id": 1,
        "id_too_long": 1,
        "invalid_encoding": 1,
        "invalid_json": 1,
        "missing_id": 1,
        "no_image_and_no_title": 1,
        "not_an_image": 1,
        "unknown_split": 1,
    }
    assert summary["repairs"] == {
        "image_not_fetched": 1,
        "image_outside_feed": 2,
        "image_too_large": 1,
        "image_too_small": 1,
        "missing_image_file": 4,
        "not_an_image": 1,
        "title_cut": 1,
        "truncated_image": 1,
    }
    found = products(out)
    assert {name for name, record in found.items() if len(record["images"])} == {"good", "no title", "comma", "page"}
    assert bytes(found["good"]["images"][0]) == jpeg()
    assert found["good"]["attributes"] == {"fit": "slim"}
    assert found["half"]["title"] == "half \ufffd"


def test_two_preparations_are_byte_identical(shop, tmp_path):
    for name in ("a", "b"):
        prepare(shop, tmp_path / name)
    files = sorted(file.name for file in (tmp_path / "a").iterdir())
    assert files == sorted(file.name for file in (tmp_path / "b").iterdir())
    assert any("array_record" in name for name in files)
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


ROWS = [
    {"id": "123", "title": "red, shirt\nnew", "product_type": "A > B", "gtin": "4006381333931", "fit": "slim"},
    {"id": "456", "title": "Größe", "product_type": "A > C", "gtin": "", "fit": ""},
]


def write_feed(folder: Path, kind: str) -> Path:
    (folder / "a.jpg").write_bytes(jpeg())
    rows = [row | {"image_link": "a.jpg"} for row in ROWS]
    file = folder / f"feed.{kind}"
    if kind == "jsonl":
        return write_lines(file, rows)
    if kind == "jsonl.gz":
        file.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    elif kind in ("csv", "tsv"):
        mark = "," if kind == "csv" else "\t"
        cells = [[name.replace("_", " ") for name in rows[0]], *(list(row.values()) for row in rows)]
        file.write_text("\n".join(mark.join(f'"{cell}"' for cell in line) for line in cells), encoding="utf-8-sig")
    else:
        pictures = {
            "bytes.parquet": [jpeg(), jpeg()],
            "struct.parquet": [{"bytes": jpeg(), "path": "x"}, {"bytes": None, "path": "a.jpg"}],
            "list.parquet": [[{"bytes": jpeg(), "path": None}], [{"bytes": jpeg(), "path": None}]],
        }[kind]
        # Integers, and floats with a gap, as pandas writes them.
        numbers = {"id": [123, 456], "gtin": [4006381333931.0, None]}
        columns = {name: [row[name] for row in ROWS] for name in ROWS[0]} | numbers | {"image": pictures}
        pq.write_table(pa.table(columns), file)
    return file


@pytest.mark.parametrize("kind", ["jsonl", "jsonl.gz", "csv", "tsv", "bytes.parquet", "struct.parquet", "list.parquet"])
def test_every_format_gives_the_same_products(tmp_path, kind):
    out = tmp_path / "out"
    summary = prepare(write_feed(tmp_path, kind), out)
    assert_accounts(out, summary)
    assert (summary["rejects"], summary["repairs"]) == ({}, {})
    found = products(out)
    for row in ROWS:
        record = found[row["id"]]
        assert {name: record[name] for name in ("title", "product_type", "gtin")} == {
            name: " ".join(row[name].split()) for name in ("title", "product_type", "gtin")
        }
        assert [bytes(image) for image in record["images"]] == [jpeg()]
        assert record["attributes"] == ({"fit": row["fit"]} if row["fit"] else {})


def test_keys_are_equal_for_equal_ids_and_unique_for_unknown_ones(tmp_path):
    rows = [{"id": str(row), "title": "t", "catalog_id": name} for row, name in enumerate(["b", "a", "", "b", None])]
    prepare(write_lines(tmp_path / "f.jsonl", rows), tmp_path / "out")
    index = {row["id"]: row for row in table(tmp_path / "out", "index.parquet")}
    assert [index[str(row)]["catalog_key"] >= 0 for row in range(5)] == [True, True, False, True, False]
    assert index["0"]["catalog_key"] == index["3"]["catalog_key"] != index["1"]["catalog_key"]
    for key in ("catalog_key", "group_key", "category_key"):
        unknown = [row[key] for row in index.values() if row[key] < 0]
        assert len(set(unknown)) == len(unknown)
    assert sorted(row["product_key"] for row in index.values()) == list(range(5))
    for name, record in products(tmp_path / "out").items():
        assert {key: int(record[key]) for key in ("product_key", "catalog_key")} == {
            key: index[name][key] for key in ("product_key", "catalog_key")
        }


def test_a_gtin_with_its_brand_is_the_same_product_where_there_is_no_catalog_id(tmp_path):
    gtin = {"title": "t", "gtin": "4006381333931", "brand": "Stabilo"}
    rows = [gtin, gtin | {"brand": "STABILO"}, gtin | {"brand": "", "title": "x"}]
    rows.append(gtin | {"gtin": "4006381333932", "title": "y"})
    rows = [{"id": str(number)} | row for number, row in enumerate(rows)]
    prepare(write_lines(tmp_path / "f.jsonl", rows), tmp_path / "out")
    key = {row["id"]: row["catalog_key"] for row in table(tmp_path / "out", "index.parquet")}
    assert key["0"] == key["1"] >= 0
    assert key["2"] < 0 and key["3"] < 0


def test_a_key_on_too_many_rows_is_unknown_for_splits_and_for_labels(tmp_path):
    gtin = {"gtin": "4006381333931", "brand": "Stabilo"}
    rows = [{"id": f"c{row}", "title": "t", "catalog_id": "default"} for row in range(MAX_SHARED + 1)]
    rows += [{"id": f"g{row}", "title": "t", "item_group_id": "default"} for row in range(MAX_SHARED + 2)]
    rows += [{"id": f"n{row}", "title": "t"} | gtin for row in range(MAX_SHARED + 3)]
    rows += [{"id": f"k{row}", "title": "t", "catalog_id": "own", "item_group_id": "own"} for row in range(MAX_SHARED)]
    summary = prepare(write_lines(tmp_path / "f.jsonl", rows), tmp_path / "out")
    assert summary["ignored_keys"] == {
        "catalog_id": MAX_SHARED + 1,
        "gtin": MAX_SHARED + 3,
        "item_group": MAX_SHARED + 2,
    }
    assert summary["split"]["leaking"] == 0
    index = table(tmp_path / "out", "index.parquet")
    kept = [row for row in index if row["id"].startswith("k")]
    assert len({(row["split"], row["catalog_key"], row["group_key"]) for row in kept}) == 1
    assert kept[0]["catalog_key"] >= 0 and kept[0]["group_key"] >= 0
    others = [row for row in index if not row["id"].startswith("k")]
    assert all(row["catalog_key"] < 0 and row["group_key"] < 0 for row in others)


def test_the_request_names_the_version_of_the_format(tmp_path, monkeypatch):
    feed = write_lines(tmp_path / "f.jsonl", [{"id": "1", "title": "t"}])
    before = preparation.request_digest(feed_sources(str(feed)), {})
    assert preparation.request_digest(feed_sources(str(feed)), {}) == before
    monkeypatch.setattr(preparation, "FORMAT_VERSION", preparation.FORMAT_VERSION + 1)
    assert preparation.request_digest(feed_sources(str(feed)), {}) != before


def test_a_folder_is_prepared_or_another_or_a_users_own(tmp_path):
    sources = feed_sources(str(write_lines(tmp_path / "f.jsonl", [{"id": "1", "title": "t"}])))
    config = get_config().to_dict()
    assert not is_prepared(tmp_path, sources, config, overwrite=False)
    summary = tmp_path / "prepare.json"
    summary.write_text(json.dumps({"request": preparation.request_digest(sources, config)}))
    assert is_prepared(tmp_path, sources, config, overwrite=False)
    assert not is_prepared(tmp_path, sources, config, overwrite=True)
    with pytest.raises(UserError, match="holds another feed or other settings"):
        is_prepared(tmp_path, sources, config | {"rows_per_shard": 7}, overwrite=False)
    assert not is_prepared(tmp_path, sources, config | {"rows_per_shard": 7}, overwrite=True)
    summary.write_text("{}")
    for overwrite in (False, True):
        with pytest.raises(UserError, match="no summary of a preparation"):
            is_prepared(tmp_path, sources, config, overwrite=overwrite)


def test_own_splits_are_honoured_and_groups_stay_together(tmp_path):
    rows = [{"id": f"own{row}", "title": "t", "split": name} for row, name in enumerate(["train", "val", "test"])]
    rows += [{"id": f"g{row}", "title": "t", "item_group_id": f"group {row // 3}"} for row in range(120)]
    summary = prepare(write_lines(tmp_path / "f.jsonl", rows), tmp_path / "out", **{"rows_per_shard": 10})
    index = table(tmp_path / "out", "index.parquet")
    split = {row["id"]: row["split"] for row in index}
    assert [split[f"own{row}"] for row in range(3)] == ["train", "validation", "test"]
    assert all(len({split[f"g{row + n}"] for n in range(3)}) == 1 for row in range(0, 120, 3))
    assert (summary["split"]["given"], summary["split"]["leaking"]) == (3, 0)
    # The index finds every record at its place, over several shards.
    sources = {name: open_split(tmp_path / "out", split=name) for name in set(split.values())}
    assert all(parse(sources[row["split"]][row["position"]])["id"] == row["id"] for row in index)


def test_a_new_preparation_replaces_the_old_one(tmp_path):
    feed = write_lines(tmp_path / "f.jsonl", [{"id": str(row), "title": "t"} for row in range(50)])
    first = prepare(feed, tmp_path / "out", rows_per_shard=5)
    second = prepare(write_lines(feed, [{"id": "1", "title": "t"}]), tmp_path / "out")
    assert (first["rows_out"], second["rows_out"]) == (50, 1)
    assert len(list((tmp_path / "out").glob("*.array_record-*"))) == 1
    assert_accounts(tmp_path / "out", second)


def test_a_failed_preparation_leaves_the_old_one_whole(tmp_path):
    feed = write_lines(tmp_path / "f.jsonl", [{"id": "1", "title": "t"}])
    summary = prepare(feed, tmp_path / "out")
    with pytest.raises(UserError):
        prepare(write_lines(feed, [{"title": "no id"}]), tmp_path / "out")
    assert_accounts(tmp_path / "out", summary)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "no rows at all"),
        ([b"broken", {"title": "t"}], "found 1 invalid_json, 1 missing_id; expected rows"),
        ([{"id": "1"}, {"id": "2", "images": ["none.jpg"]}], "1 missing_image_file, 1 no_image_and_no_title"),
    ],
)
def test_a_feed_without_a_product_is_an_error(tmp_path, rows, message):
    with pytest.raises(UserError, match=message):
        prepare(write_lines(tmp_path / "f.jsonl", rows), tmp_path / "out")
    assert not (tmp_path / "out" / "prepare.json").exists()


def test_the_users_columns_are_checked_and_explained(tmp_path):
    feed = write_lines(tmp_path / "f.jsonl", [{"no": "1", "words": "t", "title": "x", "attributes": {"id": "y"}}])
    columns = parse_columns("id=no, title=words", feed_sources(str(feed)))
    assert columns == {"id": "no", "title": "words"}
    explained = {line["column"]: line["becomes"] for line in explain(feed_sources(str(feed)), columns)}
    assert explained == {"no": "id", "words": "title", "title": "attribute", "attributes.id": "attribute"}
    with pytest.raises(UserError, match="expected FIELD=COLUMN where FIELD is one of id, item_group_id"):
        parse_columns("headline=words", feed_sources(str(feed)))
    with pytest.raises(UserError, match="'wrds', which is not in the feed; found id, no, title, words"):
        parse_columns("title=wrds", feed_sources(str(feed)))


def test_settings_out_of_range_are_all_named():
    config = get_config()
    assert config.images.max_pixels == MAX_PIXELS
    validate(config.to_dict())
    config.rows_per_shard, config.images.quality, config.split.fractions = 0, 101, (0.5, 0.1, 0.1)
    config.memory_limit = "lots"
    with pytest.raises(
        UserError,
        match=r"rows_per_shard is 0.*memory_limit is 'lots', expected a size.*quality is 101.*fractions is \(0.5",
    ):
        validate(config.to_dict())
    logs = get_config()
    logs.logs.eta = -1.0
    with pytest.raises(UserError, match="config.logs.eta=-1.0; expected a number of at least 0"):
        validate(logs.to_dict())


def test_a_foreign_summary_is_not_taken_for_ours(tmp_path):
    assert read_summary(tmp_path) is None
    (tmp_path / "prepare.json").write_text("[]")
    with pytest.raises(UserError, match="is no summary of a preparation"):
        read_summary(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "magento_luma",
        pytest.param("chorus_icecat", marks=pytest.mark.slow),
        pytest.param("myntra", marks=pytest.mark.slow),
    ],
)
def test_real_catalogs(tmp_path, name):
    root = os.environ.get("ECOMMERCE_VL_DATA")
    if not root or not (Path(root) / name).is_dir():
        pytest.skip(f"ECOMMERCE_VL_DATA names no folder with {name}/; real product data are not part of the repository")
    summary = prepare(Path(root) / name, tmp_path / "out")
    assert_accounts(tmp_path / "out", summary)
    assert summary["rows_out"] / summary["rows_in"] > 0.99
    assert summary["with_title"] / summary["rows_out"] > 0.95
