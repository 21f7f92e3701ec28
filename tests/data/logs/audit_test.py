"""The page of mined pairs: harmless whatever the titles say, complete, and made of the sample catalog's own logs."""

from __future__ import annotations

import re
import shutil

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecommerce_vl.data.logs import audit
from ecommerce_vl.data.logs.mining import mine_logs
from ecommerce_vl.errors import UserError

HOSTILE = "<script>alert(1)</script> & bag"


@pytest.fixture(scope="module")
def mined(sample_data, tmp_path_factory):
    """The prepared sample with pairs of its own logs; columns that an older index lacks are added."""
    data = tmp_path_factory.mktemp("audit") / "data"
    shutil.copytree(sample_data, data)
    index = pq.read_table(data / "index.parquet")
    rows = index.num_rows
    for name, values in {
        "category": pa.array(["A > B"] * rows),
        "title": pa.array(["bag"] * rows),
        "seller_id": pa.array([f"s{row % 3}" for row in range(rows)]),
        "image_hash": pa.array([""] * rows),
        "title_hash": pa.array([0] * rows, pa.uint64()),
    }.items():
        if name not in index.column_names:
            index = index.append_column(name, values)
    pq.write_table(index, data / "index.parquet")
    feed = sample_data / "feed"
    config = {"min_clients": 1, "min_pair_support": 1, "min_query_support": 1, "min_pair_rel": 0, "min_query_words": 0}
    summary = mine_logs(data, clicks=str(feed / "clicks.jsonl"), queries=str(feed / "queries.jsonl"), config=config)
    return data, summary


def test_the_sample_logs_are_read_out_of_the_box(mined):
    _, summary = mined
    assert summary["sources"]["clicks"]["schema"] == summary["sources"]["queries"]["schema"] == "ubi"
    assert set(summary["stages"]["events"]["dropped"]) <= {"unknown_product"}  # what prepare left out
    assert summary["stages"]["item_caps"]["rows_out"] > 50 and summary["stages"]["query_caps"]["rows_out"] > 50


def test_a_title_with_a_script_is_harmless_and_adult_pictures_are_blurred(mined, tmp_path, monkeypatch):
    data, _ = mined
    read = audit.Records.__getitem__
    hostile = lambda self, row: read(self, row) | {"title": HOSTILE, "adult": "yes"}
    monkeypatch.setattr(audit.Records, "__getitem__", hostile)
    page = audit.write_audit(data, tmp_path / "pairs.html", pairs=5).read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; bag" in page and "<script" not in page
    pictures = re.findall(r'<span class="picture( adult)?"><img', page)
    assert len(pictures) > 10 and all(pictures)
    assert not re.findall(r'(?:src|href)="(?!data:)', page) and "http://" not in page and "https://" not in page


def test_the_page_shows_pairs_with_reasons_and_is_the_same_every_time(mined, tmp_path):
    data, _ = mined
    page = audit.write_audit(data, pairs=7).read_text()
    assert page.count('class="pair"') == 14
    assert "clicked under one query" in page and "affinity" in page
    assert page == audit.write_audit(data, tmp_path / "again.html", pairs=7).read_text()
    assert page != audit.write_audit(data, tmp_path / "other.html", pairs=7, seed=1).read_text()


def test_without_logs_the_page_says_what_to_do(tmp_path):
    with pytest.raises(UserError, match="--clicks"):
        audit.write_audit(tmp_path)
