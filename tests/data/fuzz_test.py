"""Thousands of damaged rows and pictures: each is in the shards or among the rejects, and nothing crashes."""

import io
import json
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from configs.prepare import get_config
from ecommerce_vl.data.preparation import prepare_feed
from ecommerce_vl.data.prepared import PreparedData

TEXTS = [
    "",
    None,
    "N/A",
    "\x00",
    "\ud800",
    "é" * 3000,
    "<script>alert(1)</script>",
    "\u2028",
    "²",
    "blue " + "a" * 1_000_000,
]
LINKS = [
    "../outside.jpg",
    "/etc/passwd",
    "http://169.254.169.254/a.jpg",
    "https://x.y/z.jpg",
    "file:///etc/passwd",
    "good/\x00",
]
VALUES = [
    *TEXTS[:-1],
    *LINKS,
    0,
    -1.5,
    True,
    [],
    {},
    [[]],
    10**30,
    1e300,
    {"bytes": None},
    {"path": "good.jpg"},
    ["good.jpg", "b"],
]
NAMES = [
    "id",
    "sku",
    "title",
    "name",
    "images",
    "image_link",
    "attributes",
    "category",
    "split",
    "gtin",
    "catalog_id",
    "brand",
]


@pytest.mark.parametrize("num_rows", [1_000, pytest.param(10_000, marks=pytest.mark.slow)])
def test_every_mutated_row_is_accounted_for(tmp_path, num_rows):
    rng = random.Random(0)
    feed, out = tmp_path / "feed", tmp_path / "out"
    write_pictures(feed, rng)
    (feed / "products.jsonl").write_bytes(b"\n".join(line(row, rng) for row in range(num_rows)))
    config = get_config()
    config.memory_limit = "1GB"
    progress = lambda label: lambda done, total: None
    summary = prepare_feed(str(feed), out, config=config.to_dict(), progress=progress)

    rejects = pq.read_table(out / "rejects.parquet", columns=["row", "reason"]).to_pylist()
    index = pq.read_table(out / "index.parquet", columns=["id", "split", "position"]).to_pylist()
    assert summary["rows_in"] == len(index) + len(rejects) >= num_rows  # a mutation may cut a line in two
    assert len({row["row"] for row in rejects}) == len(rejects)
    assert Counter(row["reason"] for row in rejects) == summary["rejects"]
    assert len(index) > num_rows / 2
    assert {"missing_id", "duplicate_id", "invalid_json", "invalid_encoding", "unknown_split"} <= set(
        summary["rejects"]
    )
    wanted = {
        "image_outside_feed",
        "image_not_fetched",
        "image_too_large",
        "not_an_image",
        "truncated_image",
        "title_cut",
    }
    assert wanted <= set(summary["repairs"])
    for split, rows in summary["splits"].items():
        records = PreparedData(out).records(split)
        assert len(records) == rows
        for record in (records[row] for row in range(0, rows, 7)):
            assert record["id"] and (record["title"] or record["images"])
            assert all(Image.open(io.BytesIO(data)).format == "JPEG" for data in record["images"])


def write_pictures(feed: Path, rng: random.Random) -> None:
    """`good.jpg`, fifty mutations of it and of a PNG, and a decompression bomb."""
    feed.mkdir()
    tiles = np.random.default_rng(0).integers(0, 255, (20, 20, 3), dtype=np.uint8)
    originals = []
    for kind in ("JPEG", "PNG"):
        buffer = io.BytesIO()
        Image.fromarray(tiles).resize((200, 160)).save(buffer, kind)
        originals.append(buffer.getvalue())
    (feed / "good.jpg").write_bytes(originals[0])
    for number in range(50):
        data = bytearray(originals[number % 2])
        for _ in range(rng.randrange(1, 6)):
            data[rng.randrange(rng.choice([40, 400, len(data)]))] = rng.randrange(256)
        (feed / f"bad{number}.jpg").write_bytes(data[: rng.choice([len(data), len(data) // 2, 30])])
    buffer = io.BytesIO()
    Image.new("1", (20_000, 10_000)).save(buffer, "PNG")
    (feed / "bomb.png").write_bytes(buffer.getvalue())


def line(number: int, rng: random.Random) -> bytes:
    pictures = ["good.jpg", f"bad{rng.randrange(50)}.jpg", rng.choice(LINKS), "none.jpg"]
    row = {
        "id": f"p{number}",
        "title": f"blue shirt {number}",
        "images": ["bomb.png" if number % 200 == 3 else rng.choice(pictures)],
        "fit": "slim",
    }
    for _ in range(rng.randrange(4)):
        row[rng.choice(NAMES)] = rng.choice(VALUES)
    if number % 250 == 1:
        row["title"] = TEXTS[-1]
    if number % 100 == 0:
        row["id"] = "p7"
    if number % 333 == 0:
        row["attributes"] = nested(60)
    data = bytearray(json.dumps(row, ensure_ascii=rng.random() < 0.5).encode("utf-8", "surrogatepass"))
    if rng.random() < 0.15:
        for _ in range(rng.randrange(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
    return bytes(data)


def nested(depth: int) -> dict:
    return {"a": nested(depth - 1)} if depth else {"b": [1, [2, [3]]]}
