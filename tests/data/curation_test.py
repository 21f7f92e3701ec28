"""What becomes of every row: copies, catalogs, placeholder pictures and cleaned text, on small feeds with pictures."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from configs.prepare import get_config
from ecommerce_vl.data.preparation import prepare_feed
from ecommerce_vl.data.prepared import PreparedData


def photograph(seed: int, size=(120, 90), **options) -> bytes:
    """Sharp patches of colour, one picture for a seed, at any size."""
    tiles = np.random.default_rng(seed).integers(0, 255, (16, 16, 3), dtype=np.uint8)
    large = Image.fromarray(tiles).resize((480, 360), Image.Resampling.NEAREST)
    buffer = io.BytesIO()
    large.resize(size, Image.Resampling.BICUBIC).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def prepare(tmp_path: Path, rows: list[dict], arm: str = "clean", **settings) -> tuple[dict, Path]:
    """Rows name their pictures under `pictures` as bytes, which become files beside the feed."""
    folder, out = tmp_path / "feed", tmp_path / "out"
    folder.mkdir(exist_ok=True)
    lines = []
    for number, row in enumerate(rows):
        pictures = row.get("pictures", [])
        for place, data in enumerate(pictures):
            (folder / f"{number}-{place}.jpg").write_bytes(data)
        links = {"images": [f"{number}-{place}.jpg" for place in range(len(pictures))]} if pictures else {}
        lines.append(json.dumps({k: v for k, v in row.items() if k != "pictures"} | links))
    (folder / "feed.jsonl").write_text("\n".join(lines))
    config = get_config(arm)
    config.update_from_flattened_dict(settings)
    progress = lambda label: lambda done, total: None
    return prepare_feed(str(folder / "feed.jsonl"), out, config=config.to_dict(), progress=progress), out


def table(out: Path, name: str) -> dict[str, dict]:
    return {row["id"]: row for row in pq.read_table(out / f"{name}.parquet").to_pylist()}


def listing(name: str, seed: int, **fields) -> dict:
    title = f"Vento leather ankle boot model number {seed}"
    return {"id": name, "title": title, "product_type": "Shoes > Boots", "pictures": [photograph(seed)], **fields}


def test_one_copy_stays_within_a_seller_and_sellers_share_a_catalog_id(tmp_path):
    again = photograph(1, size=(180, 135), quality=70)
    summary, out = prepare(
        tmp_path,
        [
            listing("first", 1, seller_id="a"),
            listing("copy", 1, seller_id="a"),
            listing("another photograph", 1, seller_id="b", pictures=[again]),
            listing("another product", 2, seller_id="b"),
        ],
    )
    rejects, index = table(out, "rejects"), table(out, "index")
    assert set(rejects) == {"copy"} and summary["rejects"] == {"exact_duplicate": 1}
    assert rejects["copy"]["detail"] == "a copy of first" and rejects["copy"]["picture"] == photograph(1)
    assert index["first"]["catalog_key"] == index["another photograph"]["catalog_key"] >= 0
    assert index["another product"]["catalog_key"] < 0
    assert index["first"]["split"] == index["another photograph"]["split"]
    names = [record["catalog_id"] for split in ("train", "validation", "test") for record in all_records(out, split)]
    assert sorted(names) == ["", "same:another photograph", "same:another photograph"]


def all_records(out: Path, split: str) -> list[dict]:
    records = PreparedData(out).records(split) if PreparedData(out).summary["splits"][split] else []
    return [records[row] for row in range(len(records))]


def test_the_raw_arm_keeps_copies_as_listings_of_one_product(tmp_path):
    summary, out = prepare(tmp_path, [listing("first", 1), listing("copy", 1)], "raw")
    index = table(out, "index")
    assert summary["rejects"] == {}
    assert index["first"]["catalog_key"] == index["copy"]["catalog_key"] >= 0


def test_a_relation_of_a_dropped_copy_is_kept_by_the_copy_that_stays(tmp_path):
    gtin = {"gtin": "4006381333931", "brand": "Vento"}
    _, out = prepare(
        tmp_path,
        [
            listing("kept", 1, seller_id="a", title="Vento ankle boot of brown leather"),
            listing("dropped", 1, seller_id="a", title="Vento ankle boot of brown leather", **gtin),
            listing("elsewhere", 7, seller_id="b", title="Vento boot, brown leather, new", **gtin),
        ],
    )
    index = table(out, "index")
    assert set(index) == {"kept", "elsewhere"}
    assert index["kept"]["catalog_key"] == index["elsewhere"]["catalog_key"] >= 0


def test_placeholders_go_and_their_products_stay(tmp_path):
    banner = photograph(99)
    rows = [listing(f"p{row}", row, pictures=[banner, photograph(row)] if row % 2 else [banner]) for row in range(12)]
    rows.append({"id": "only a banner", "title": "", "pictures": [banner]})
    # Variants of one item share a picture with good reason.
    rows += [listing(f"v{row}", 50 + row, pictures=[photograph(77)], item_group_id="g") for row in range(12)]
    summary, out = prepare(tmp_path, rows, **{"images.placeholder_share": 0.05})
    index = table(out, "index")
    assert summary["placeholders"] == 1
    assert [index[f"p{row}"]["num_images"] for row in range(12)] == [row % 2 for row in range(12)]
    assert all(index[f"v{row}"]["num_images"] == 1 for row in range(12))
    assert summary["rejects"] == {"placeholder_image": 1} and summary["repairs"] == {"placeholder_image": 12}
    shown = pq.read_table(out / "placeholders.parquet").to_pylist()
    assert [(row["titles"], row["picture"]) for row in shown] == [(12, banner)]
    assert index["p1"]["image_hash"] != index["p0"]["image_hash"] == ""
    off, _ = prepare(tmp_path, rows, **{"images.placeholder_share": 0.0})
    assert off["placeholders"] == 0 and off["repairs"] == {}


def test_a_whole_shop_may_be_for_adults(tmp_path):
    rows = [
        listing(f"{seller}-{said}", number, seller_id=seller, **({"adult": said} if said else {}))
        for number, (seller, said) in enumerate((s, a) for s in ("night", "day") for a in ("", "no", "yes"))
    ]
    summary, out = prepare(tmp_path, rows, adult_sellers=("night",))
    data = PreparedData(out)
    found = {one["id"]: one["adult"] for split in ("train", "validation", "test") for one in data.records(split)}
    assert found == {
        "night-": "yes", "night-no": "no", "night-yes": "yes", "day-": "unknown", "day-no": "no", "day-yes": "yes"
    }  # fmt: skip
    assert summary["repairs"] == {"adult_by_seller": 1}


def test_cleaning_is_counted_and_the_raw_arm_changes_nothing(tmp_path):
    noisy = {"id": "1", "title": "<b>Ｒed</b> shirt [FREE SHIPPING]!!!!", "seller_id": "a"}
    blank = {"id": "2", "title": "plain sheet", "pictures": [photograph(0, quality=5)[:0] or white(), white(900, 100)]}
    word = {"id": "3", "title": "shirt", "pictures": [photograph(3)]}
    summary, out = prepare(tmp_path, [noisy, blank, word])
    index = table(out, "index")
    assert index["1"]["title"] == "Red shirt !"
    assert {"html", "nfkc", "promotions", "punctuation"} <= set(summary["cleaned"])
    assert summary["repairs"] == {"image_blank": 1, "image_extreme_aspect": 1, "title_without_words": 1}
    assert not index["3"]["has_text"] and index["2"]["num_images"] == 0
    repairs = pq.read_table(out / "repairs.parquet").to_pylist()
    assert all((row["picture"] is not None) == (row["id"] == "2") for row in repairs)

    summary, out = prepare(tmp_path, [noisy, blank, word], "raw")
    index = table(out, "index")
    assert index["1"]["title"] == noisy["title"] and index["3"]["title"] == "shirt"
    assert (summary["cleaned"], summary["repairs"], summary["images"]) == ({}, {}, 3)


def white(*size: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size or (100, 100), "white").save(buffer, "JPEG")
    return buffer.getvalue()


def test_one_gtin_in_two_categories_is_a_conflict(tmp_path):
    gtin = {"gtin": "4006381333931"}
    rows = [listing("a", 1, **gtin), listing("b", 2, **gtin, product_type="Toys"), listing("c", 3, product_type="Toys")]
    _, out = prepare(tmp_path, rows)
    (conflict,) = pq.read_table(out / "conflicts.parquet").to_pylist()
    assert conflict == {
        "gtin": gtin["gtin"],
        "listings": 2,
        "ids": ["a", "b"],
        "categories": ["Shoes > Boots", "Toys"],
    }


def test_a_row_is_refused_for_what_it_lost_and_not_for_what_was_cut(tmp_path):
    long = {"title": "", "care": "wash " * 1_000}
    rows = [listing("kept", 1), {"id": "bare", **long}, {"id": "broken", **long, "pictures": [b"no picture"]}]
    _, out = prepare(tmp_path, rows)
    reasons = {name: row["reason"] for name, row in table(out, "rejects").items()}
    assert reasons == {"bare": "no_image_and_no_title", "broken": "not_an_image"}


@pytest.mark.parametrize("by", ["2026-05-01T10:00:00Z", "1767225600", "1767225600000000"])
def test_timestamps_of_either_form_split_by_time(tmp_path, by):
    later = by.replace("2026-05", "2026-06").replace("17672256", "17680000")
    rows = [{"id": f"p{row}", "title": f"shirt {row}", "timestamp": by if row < 8 else later} for row in range(10)]
    _, out = prepare(tmp_path, rows, **{"split.by": "time"})
    index = table(out, "index")
    assert {index[f"p{row}"]["split"] for row in range(8)} == {"train"}
    assert [index[f"p{row}"]["split"] for row in (8, 9)] == ["validation", "test"]
