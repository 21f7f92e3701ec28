"""The click model: a readable log, the same for a seed, with the biases it is documented to have."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest

from ecommerce_vl.data.logs.click_model import ClickModel, simulate
from ecommerce_vl.data.logs.mining import mine_logs
from ecommerce_vl.errors import UserError

COLUMNS = ("id", "title", "category", "catalog_key", "group_key")


@pytest.fixture(scope="module")
def columns(sample_data):
    return pq.read_table(sample_data / "index.parquet", columns=list(COLUMNS)).to_pydict()


@pytest.fixture(scope="module")
def log(columns):
    return list(simulate(columns, ClickModel(sessions=1500)))


def test_the_same_seed_gives_the_same_log(columns, log):
    assert list(simulate(columns, ClickModel(sessions=1500))) == log
    assert list(simulate(columns, ClickModel(sessions=20, seed=1))) != log[:20]


def test_clicks_fall_with_rank_and_follow_the_relation(columns, log):
    row_of = {name: row for row, name in enumerate(columns["id"])}
    places, right = [], []
    for query, events in log:
        hits = query["query_response_hit_ids"]
        assert len(hits) == 20 and len(set(hits)) == 20
        for event in events:
            attributes = event["event_attributes"]
            place = attributes["position"]["ordinal"]
            assert hits[place - 1] == attributes["object"]["object_id"]
            places.append(place)
        clicked = [row_of[event["event_attributes"]["object"]["object_id"]] for event in events]
        for one in clicked:
            for other in clicked:
                if one < other:
                    right.append(columns["group_key"][one] == columns["group_key"][other])
    counts = np.bincount(places, minlength=21)[1:]
    assert counts[:5].sum() > 2 * counts[10:15].sum() > 0
    # Clicked together is a noisy sign: far from sure, far above the share among all pairs of products.
    groups = np.array(columns["group_key"])
    base = ((groups[:, None] == groups) & ~np.eye(len(groups), dtype=bool)).mean()
    assert 10 * base < np.mean(right) < 0.95


def test_the_log_is_one_that_can_be_mined(sample_data, log, tmp_path):
    (tmp_path / "index.parquet").symlink_to(sample_data / "index.parquet")
    events = [event for _, events in log for event in events]
    for name, rows in (("clicks", events), ("queries", [query for query, _ in log])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    summary = mine_logs(tmp_path, clicks=str(tmp_path / "clicks.jsonl"), queries=str(tmp_path / "queries.jsonl"))
    stage = summary["stages"]["events"]  # clicks, and the hits of queries as what was shown
    assert stage["rows_in"] == stage["rows_out"] == len(events) + 20 * len(log)
    assert pq.read_table(tmp_path / "item_pairs.parquet").num_rows > 20


def test_products_without_titles():
    columns = {"id": ["a"], "title": [""], "category": [""], "catalog_key": [-1], "group_key": [-1]}
    with pytest.raises(UserError, match="no product has a title"):
        next(simulate(columns, ClickModel()))
