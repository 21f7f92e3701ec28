"""Pairs as a source: which pairs there are, their order, and batches whose sides do not know of each other."""

import pickle

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ecommerce_vl.data import item_pairs
from ecommerce_vl.data.batches import ToExample, training_batches
from ecommerce_vl.data.images import Augment, ImagePipeline
from ecommerce_vl.data.item_pairs import ItemPairs, PairOrder, _sharing, styles
from ecommerce_vl.data.prepared import PreparedData
from ecommerce_vl.data.sources import open_source
from ecommerce_vl.data.text import TextTemplate
from ecommerce_vl.data.tokenizer import train_tokenizer
from ecommerce_vl.errors import UserError

OPTIONS = {
    "source": "item_pairs",
    "pairs": "group",
    "relations": ("same_style", "same_product", "variant"),
    "max_partners": 10,
    "pair_weight": "loss",
    "same_category_fraction": 0.25,
    "drop_lowest": 0.0,
    "min_agreement": -1.0,
}


@pytest.fixture(scope="module")
def data(sample_data):
    return PreparedData(sample_data)


@pytest.fixture(scope="module")
def to_example():
    tokenizer = train_tokenizer(["red cotton dress", "blue bag"], vocab_size=300, max_length=8)
    return ToExample(
        image=ImagePipeline(size=16, mean=(0.5,) * 3, std=(0.25,) * 3),
        augment=Augment(crop_scale=(0.5, 1.0), crop_ratio=1.1, mirror=0.5, light=0.1),
        template=TextTemplate(fields=(), field_dropout=0.0, word_dropout=0.3),
        tokenizer=tokenizer,
    )


@pytest.mark.parametrize("kind", ["catalog", "group"])
def test_pairs_of_ids_are_all_ordered_pairs_of_train_listings_that_share_one(data, kind):
    source = open_source(data, OPTIONS | {"pairs": kind, "max_partners": 100})
    rows = data.rows("train")
    keys, ids = rows[f"{kind}_key"], rows["id"]
    expected = {
        (ids[i], ids[j])
        for i in range(len(ids))
        for j in range(len(ids))
        if i != j and keys[i] >= 0 and keys[i] == keys[j]
    }
    found = [(ids[i], ids[j]) for i, j in zip(source.items.left_P, source.items.right_P, strict=True)]
    assert len(found) == len(set(found)) and set(found) == expected
    pair = source.items[3]
    assert (pair["left"]["id"], pair["right"]["id"], pair["weight"]) == (*found[3], 1.0)


def test_partners_are_limited_evenly():
    left, right = _sharing(np.array([5, 5, -1, 5, 5, 7, -1, 5, 7]), max_partners=2)
    assert (
        np.bincount(left, minlength=9).tolist()
        == np.bincount(right, minlength=9).tolist()
        == [2, 2, 0, 2, 2, 1, 0, 2, 1]
    )
    assert (left != right).all()


def test_pairs_that_others_connect_are_of_one_style_unless_they_connect_too_many(monkeypatch):
    left, right = np.array([0, 2, 5, 6, 8]), np.array([1, 1, 4, 2, 9])
    style = styles(left, right, num_rows=10)
    assert len({style[0], style[1], style[3]}) == 1 and len(set(style)) == 3 and style.dtype == np.int32
    monkeypatch.setattr(item_pairs, "MAX_STYLE", 3)
    assert styles(left, right, num_rows=10)[[0, 1, 3]].tolist() == [-1, -2, -4]


def write_pairs(folder, data, rows):
    """item_pairs.parquet of (trigger row, recall row, relation, weight) of the index."""
    index = data.index
    ids, splits = index["id"].to_pylist(), index["split"].to_pylist()
    trigger, recall, relation, weight = zip(*rows, strict=True)
    columns = {
        "trigger_id": [ids[row] for row in trigger],
        "recall_id": [ids[row] for row in recall],
        "trigger_row": pa.array(trigger, pa.int64()),
        "recall_row": pa.array(recall, pa.int64()),
        "relation": list(relation),
        "weight": pa.array(weight, pa.float64()),
        "split": [splits[row] for row in trigger],
    }
    pq.write_table(pa.table(columns), folder / "item_pairs.parquet")


@pytest.fixture
def mined(data, tmp_path):
    """The sample with four mined pairs, one of them of the test split; products lie where they lie."""
    splits = np.array(data.index["split"].to_pylist())
    train, test = np.flatnonzero(splits == "train"), np.flatnonzero(splits == "test")
    for file in data.folder.iterdir():
        if file.name != "item_pairs.parquet":
            (tmp_path / file.name).symlink_to(file)
    rows = [
        (train[0], train[7], "same_style", 1.0),
        (train[9], train[3], "variant", 2.0),
        (test[0], test[1], "same_style", 1.0),
        (train[30], train[31], "same_style", 0.5),
    ]
    write_pairs(tmp_path, data, [(int(a), int(b), *rest) for a, b, *rest in rows])
    return PreparedData(tmp_path), rows


def test_mined_pairs_of_the_train_split_keep_direction_and_weight(mined):
    data, rows = mined
    ids = data.index["id"].to_pylist()
    found = [open_source(data, OPTIONS | {"pairs": "clicks"}).items[pair] for pair in range(3)]
    expected = [(ids[a], ids[b], weight) for a, b, _, weight in (rows[0], rows[1], rows[3])]
    assert [(pair["left"]["id"], pair["right"]["id"], pair["weight"]) for pair in found] == expected
    style = open_source(data, OPTIONS | {"pairs": "clicks", "relations": ("same_style",)})
    assert len(style.items) == 2 and "same_style; 4 pairs in all splits" in style.description
    assert style.digest != open_source(data, OPTIONS | {"pairs": "clicks"}).digest


def test_what_is_missing_is_named(data, mined):
    with pytest.raises(UserError, match="no click log was mined.*prepare with --clicks"):
        ItemPairs(data, OPTIONS | {"pairs": "clicks"})
    with pytest.raises(UserError, match=r"no pair of train products .*--config.data.pairs=catalog or group"):
        ItemPairs(mined[0], OPTIONS | {"pairs": "clicks", "relations": ("same_product",)})
    for name, value in (("pairs", "click"), ("pair_weight", "none"), ("relations", ("variants",))):
        with pytest.raises(ValueError, match=f"^data.{name} is .*; expected one of"):
            ItemPairs(data, OPTIONS | {name: value})
    table = pq.read_table(mined[0].folder / "item_pairs.parquet")
    ids = table["recall_id"].to_pylist()
    table = table.set_column(1, "recall_id", [[*ids[1:], ids[0]]])
    pq.write_table(table, mined[0].folder / "item_pairs.parquet")
    with pytest.raises(UserError, match="was mined for other products"):
        ItemPairs(mined[0], OPTIONS | {"pairs": "clicks"})


def order_of(category, *, fraction, batch=8, weight=None, seed=0):
    return PairOrder(
        np.asarray(category), weight, batch_size=batch, seed=seed, same_category_fraction=fraction
    )  # fmt: skip


def test_a_share_of_every_batch_is_of_one_category_and_all_pairs_come():
    category = np.repeat(np.arange(5), [22, 18, 20, 21, 19])
    order = order_of(category, fraction=0.5)
    drawn = np.array([[order[step * 8 + place] for place in range(8)] for step in range(25)])
    alike, rest = drawn[:, :4], drawn[:, 4:]
    assert [len(set(category[row])) for row in alike].count(1) >= 20  # the others are where a category ends
    assert max(len(set(category[row])) for row in alike) <= 2
    for part in (alike, rest):  # 25 steps of 4 rows are one pass over 100 pairs
        assert sorted(part.ravel()) == list(range(100))
    again = order_of(category, fraction=0.5)
    assert [again[position] for position in (199, 3, 57)] == [order[position] for position in (199, 3, 57)]
    later = np.array([[order[step * 8 + place] for place in range(4)] for step in range(25, 50)])
    assert {frozenset(row) for row in later} != {frozenset(row) for row in alike}
    other = order_of(category, fraction=0.5, seed=1)
    assert [other[position] for position in range(8)] != [order[position] for position in range(8)]


def test_without_a_share_every_pair_comes_once_an_epoch_or_by_its_weight():
    order = order_of(np.zeros(24), fraction=0.0)
    assert sorted(order[position] for position in range(24)) == list(range(24))
    weighted = order_of(np.zeros(4), fraction=0.0, weight=np.array([1.0, 1.0, 2.0, 4.0], np.float32))
    counts = np.bincount([weighted[position] for position in range(4 * 50)], minlength=4)
    np.testing.assert_allclose(counts / 200, [1 / 8, 1 / 8, 1 / 4, 1 / 2], atol=0.02)


def test_a_share_of_more_pairs_than_there_are():
    order = order_of([0, 0, 1], fraction=1.0)
    assert {order[position] for position in range(16)} == {0, 1, 2}


def test_batches_are_those_of_one_process_on_any_number_and_sides_are_products(data, to_example):
    source = open_source(data, OPTIONS | {"same_category_fraction": 0.5})
    order = source.order(batch_size=8, seed=3)
    read = lambda index, count, steps: list(
        training_batches(
            source.items,
            pickle.loads(pickle.dumps(source.to_batch(to_example))),
            order=order,
            batch_size=8,
            seed=3,
            steps=steps,
            num_workers=0,
            process_index=index,
            process_count=count,
        )
    )
    (whole, later), (first,), (second,) = read(0, 1, range(2)), read(0, 2, range(1)), read(1, 2, range(1))
    for part, share in ((0, first), (1, second)):
        for side in ("left", "right"):
            for name, rows in share[side].items():
                np.testing.assert_array_equal(whole[side][name][part::2], rows)
        np.testing.assert_array_equal(whole["weight"][part::2], share["weight"])
    np.testing.assert_array_equal(read(0, 1, range(1, 2))[0]["left"]["image"], later["left"]["image"])
    assert whole["left"]["image"].shape == (8, 16, 16, 3) and whole["valid"].dtype == bool
    keys = data.rows("train")
    for row in range(8):
        pair = order[row]
        for side, rows in (("left", source.items.left_P), ("right", source.items.right_P)):
            assert whole[side]["product_key"][row] == keys["product_key"][rows[pair]]


def test_one_picture_on_both_sides_is_augmented_twice(data, to_example):
    rows = data.rows("train")
    at = int(np.flatnonzero(rows["num_images"] == 1)[0])
    record = data.records("train")[at]
    source = open_source(data, OPTIONS)
    rng = np.random.default_rng(0)
    pair = {"left": record, "right": record, "weight": 0.5, "style_key": 3}
    batch = source.to_batch(to_example)([(pair, rng)], num_rows=1)
    assert (batch["left"]["image"] != batch["right"]["image"]).any()
    assert (
        batch["style_key"].tolist() == [3] and batch["weight"].tolist() == [0.5] and batch["valid"].tolist() == [True]
    )
