"""Query pairs: what an item carries, where they come from, and that nothing held out gets in."""

import json
import pickle
from collections import Counter

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecommerce_vl.data.batches import ToExample, training_batches
from ecommerce_vl.data.derived_queries import MAX_PRODUCTS, derived_queries
from ecommerce_vl.data.images import Augment, ImagePipeline
from ecommerce_vl.data.prepared import PreparedData
from ecommerce_vl.data.product_ids import NO_ID, id_row
from ecommerce_vl.data.query_pairs import NO_KEY, QueryPairs
from ecommerce_vl.data.sources import open_source
from ecommerce_vl.data.text import TextTemplate
from ecommerce_vl.data.tokenizer import train_tokenizer
from ecommerce_vl.errors import UserError
from ecommerce_vl.losses import candidates

OPTIONS = {"source": "query_pairs", "queries": "", "query_power": 0.5, "known": 4, "keywords": 3, "rows": "all"}
OPTIONS |= {"drop_lowest": 0.0, "min_agreement": -1.0}
BATCH = 8


@pytest.fixture(scope="module")
def prepared(sample_data, tmp_path_factory):
    """The sample with pairs of four queries, of which one is held out and one is of a held-out product."""
    folder = tmp_path_factory.mktemp("pairs")
    for file in sample_data.iterdir():
        if file.is_file():
            (folder / file.name).symlink_to(file)
    index = pq.read_table(folder / "index.parquet").to_pydict()
    rows = [i for i, split in enumerate(index["split"]) if split == "train" and index["num_images"][i]]
    held = next(i for i, split in enumerate(index["split"]) if split == "test")
    title = index["title"][rows[0]].lower()
    pairs = [("ball", row, 91.0 if row == rows[5] else 1.0, 2, "train") for row in rows[:6]]
    pairs += [(title, rows[0], 3.0, 50, "train"), (title, rows[7], 1.0, 50, "train")]
    pairs += [("lost", held, 1.0, 1, "train"), ("later", rows[0], 1.0, 1, "test")]
    names = ("query_key", "query", "product_id", "weight", "clicks", "split")
    table = [
        (len(query), query, index["id"][row], weight, clicks, split) for query, row, weight, clicks, split in pairs
    ]
    pq.write_table(pa.table(dict(zip(names, zip(*table, strict=True), strict=True))), folder / "query_pairs.parquet")
    return PreparedData(folder), [index["product_key"][row] for row in rows], title


@pytest.fixture(scope="module")
def to_example(prepared):
    data, _, _ = prepared
    records = data.records("train")
    tokenizer = train_tokenizer([records[row]["title"] for row in range(40)], vocab_size=400, max_length=16)
    return ToExample(
        image=ImagePipeline(size=32, mean=(0.5,) * 3, std=(0.25,) * 3),
        augment=Augment(crop_scale=(0.5, 1.0), crop_ratio=1.3, mirror=0.5, light=0.2),
        template=TextTemplate(fields=(), field_dropout=0.0),
        tokenizer=tokenizer,
        query_tokenizer=tokenizer.of_length(6),
    )


def batches(source, to_example, steps, **options):
    options |= {"order": source.order(batch_size=BATCH, seed=0), "batch_size": BATCH, "seed": 0, "num_workers": 0}
    return list(training_batches(source.items, source.to_batch(to_example), steps=steps, **options))


def test_items_are_of_training_pairs_with_what_is_known_of_their_query(prepared):
    data, keys, title = prepared
    source = open_source(data, OPTIONS)
    items = [source.items[i] for i in range(len(source.items))]
    assert Counter(item["query"] for item in items) == {"ball": 6, title: 2}
    of_title = [item for item in items if item["query"] == title]
    assert [item["known"].tolist() for item in of_title] == [[keys[0], keys[7]]] * 2  # by falling weight
    assert [float(item["weight"]) for item in of_title] == [1.5, 0.5]
    # Against the mean of the query, (91 + 5) / 6 = 16, and within 0.2 and 5.
    assert [float(item["weight"]) for item in items if item["query"] == "ball"] == pytest.approx([5.0] + [0.2] * 5)
    assert all(len(item["known"]) == 4 for item in items if item["query"] == "ball")
    assert {item["product"]["product_key"] for item in of_title} == {keys[0], keys[7]}
    assert (of_title[0]["keywords"] != NO_KEY).all()  # its words stand in the clicked title
    assert NO_KEY == candidates.NO_KEY
    assert "8 pairs of 2 queries" in source.description and "1 of no train product" in source.description


def test_what_the_log_knows_beside_the_pairs_is_no_negative_either(prepared, tmp_path):
    data, keys, title = prepared
    for file in data.folder.iterdir():
        (tmp_path / file.name).symlink_to(file)
    table = pq.read_table(tmp_path / "query_pairs.parquet")
    number = {text: key for text, key in zip(*(table[n].to_pylist() for n in ("query", "query_key")), strict=True)}
    rows = [(number[title], keys[3], 1.0), (number[title], keys[4], 2.0), (number[title], keys[0], 9.0)]
    rows += [(number["ball"], keys[9], 5.0), (12_345, keys[5], 5.0)]
    names = ("query_key", "product_row", "weight")
    known = pa.table(dict(zip(names, zip(*rows, strict=True), strict=True)))
    pq.write_table(known, tmp_path / "query_known.parquet")
    source = open_source(PreparedData(tmp_path), OPTIONS)
    found = {item["query"]: item["known"].tolist() for item in (source.items[i] for i in range(8))}
    assert found[title] == [keys[0], keys[7], keys[4], keys[3]], "its pairs first, the others by their weight"
    assert len(found["ball"]) == 4 and keys[9] not in found["ball"], "no more than data.known"
    assert source.digest != open_source(data, OPTIONS).digest


def test_the_batch_is_the_documented_tree_and_the_same_for_all_processes(prepared, to_example):
    source = QueryPairs(prepared[0], OPTIONS)
    source.items = pickle.loads(pickle.dumps(source.items))
    (batch,) = batches(source, to_example, range(1))
    assert set(batch) == {"query", "product", "weight", "known", "valid"}
    shapes = {name: (rows.shape, str(rows.dtype)) for name, rows in batch["query"].items()}
    assert shapes == {
        "text_ids": ((BATCH, 6), "int32"),
        "text_mask": ((BATCH, 6), "bool"),
        "query_key": ((BATCH,), "int32"),
        "keywords": ((BATCH, 3), "int32"),
    }
    assert batch["product"]["image"].shape == (BATCH, 32, 32, 3) and "valid" not in batch["product"]
    assert batch["known"].shape == (BATCH, 4) and batch["weight"].dtype == np.float32 and batch["valid"].all()
    parts = [batches(source, to_example, range(1), process_index=p, process_count=2)[0] for p in range(2)]
    for rows, one, other in zip(
        *([*b["query"].values(), b["known"], b["weight"], b["product"]["image"]] for b in (batch, *parts)), strict=True
    ):
        np.testing.assert_array_equal(rows, np.stack([one, other], axis=1).reshape(rows.shape))


def test_rows_of_ids_follow_the_ids_and_not_their_order(prepared, to_example):
    source = QueryPairs(prepared[0], OPTIONS | {"id_rows": 1000})
    (batch,) = batches(source, to_example, range(1))
    ids = {item["product"]["product_key"]: item["product"]["id"] for item in (source.items[i] for i in range(8))}
    found = batch["product"]["id_row"]
    assert found.dtype == np.int32 and found.min() >= 0 and found.max() < 1000
    assert found.tolist() == [id_row(ids[key], num_rows=1000) for key in batch["product"]["product_key"]]
    assert len(set(found)) == len(set(batch["product"]["product_key"]))
    assert id_row("", num_rows=9) == NO_ID < 0


def test_queries_are_drawn_by_the_root_of_their_clicks(prepared):
    source = QueryPairs(prepared[0], OPTIONS)
    order = source.order(batch_size=BATCH, seed=0)
    drawn = Counter(source.items.queries[source.items.query_P[order[at]]].as_py() for at in range(800))
    wanted = 100**0.5 / (100**0.5 + 12**0.5)
    assert drawn[prepared[2]] / 800 == pytest.approx(wanted, abs=0.01)


def test_a_file_of_queries(prepared, tmp_path):
    data, _, _ = prepared
    record = data.records("train")[0]
    file = tmp_path / "queries.jsonl"
    file.write_text(json.dumps({"query": "Red  Shoe", "product_ids": [record["id"], "unknown"]}) + "\n")
    source = QueryPairs(data, OPTIONS | {"queries": str(file)})
    assert [item["query"] for item in source.items] == ["red shoe"]
    lines = [{"query": "shoe", "relevance": {record["id"]: 2, data.records("train")[1]["id"]: 0}}]
    lines.append({"query": "nothing found", "grades": {}})
    file.write_text("\n".join(map(json.dumps, lines)))
    assert len(QueryPairs(data, OPTIONS | {"queries": str(file)}).items) == 1
    file.write_text('{"query": "shoe"}')
    with pytest.raises(UserError, match=r"queries.jsonl, line 1: KeyError.*expected .*product_ids"):
        QueryPairs(data, OPTIONS | {"queries": str(file)})
    with pytest.raises(UserError, match="No such file"):
        QueryPairs(data, OPTIONS | {"queries": str(tmp_path / "none")})


def test_derived_queries_lead_to_products_that_they_describe(prepared):
    records = prepared[0].records("train")
    pairs = list(derived_queries(records))
    assert pairs == list(derived_queries(records))
    by_id = {record["id"]: record for record in (records[row] for row in range(len(records)))}
    for query, name, _, _ in pairs:
        record = by_id[name]
        said = " ".join(
            record[field] for field in ("title", "gender", "color", "brand", "material", "pattern", "product_type")
        )
        assert all(word in said.lower() for word in query.split()), (query, said)
    assert max(Counter(query for query, *_ in pairs).values()) <= MAX_PRODUCTS
    assert len(QueryPairs(prepared[0], OPTIONS | {"queries": "derived"}).items) == len(pairs)


def test_what_is_missing_is_named(sample_data, prepared, tmp_path):
    with pytest.raises(UserError, match=r"query_pairs.parquet is missing; prepare it with --clicks"):
        QueryPairs(PreparedData(sample_data), OPTIONS)
    file = tmp_path / "queries.jsonl"
    file.write_text('{"query": "shoe", "product_ids": ["unknown"]}')
    with pytest.raises(UserError, match="none of the 1 query pairs of .* is of a training product"):
        QueryPairs(prepared[0], OPTIONS | {"queries": str(file)})
    with pytest.raises(ValueError, match="^data.query_power is 2; expected 0 to 1"):
        QueryPairs(prepared[0], OPTIONS | {"query_power": 2})
    with pytest.raises(ValueError, match="^data.known is -1; expected at least 0"):
        QueryPairs(prepared[0], OPTIONS | {"known": -1})
