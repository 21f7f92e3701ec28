"""The loader: a pure function of (seed, step), for any number of processes, workers and restarts."""

import dataclasses

import numpy as np
import pytest

from ecommerce_vl.data.batches import ToExample, training_batches
from ecommerce_vl.data.images import Augment, ImagePipeline
from ecommerce_vl.data.prepared import PreparedData
from ecommerce_vl.data.sampling import keys_of, natural_order, training_order
from ecommerce_vl.data.text import TextTemplate
from ecommerce_vl.data.tokenizer import train_tokenizer
from ecommerce_vl.errors import UserError

BATCH = 16


@pytest.fixture(scope="module")
def records(sample_data):
    return PreparedData(sample_data).records("train", pairs_only=True)


@pytest.fixture(scope="module")
def to_example(records):
    titles = [records[row]["title"] for row in range(len(records))]
    return ToExample(
        image=ImagePipeline(size=32, mean=(0.5,) * 3, std=(0.25,) * 3),
        augment=Augment(crop_scale=(0.5, 1.0), crop_ratio=1.3, mirror=0.5, light=0.2),
        template=TextTemplate(fields=("category", "color"), field_dropout=0.5, word_dropout=0.1),
        tokenizer=train_tokenizer(titles, vocab_size=400, max_length=16),
    )


def batches(records, to_example, steps, *, seed=0, num_workers=0, order=None, **options):
    order = natural_order(len(records), seed=seed) if order is None else order
    options |= {"batch_size": BATCH, "seed": seed, "steps": steps, "num_workers": num_workers}
    return list(training_batches(records, to_example, order=order, **options))


@pytest.fixture(scope="module")
def weighted(sample_data, records):
    keys = keys_of(PreparedData(sample_data).rows("train"), records.positions)
    return training_order(keys, batch_size=BATCH, seed=0, catalog_pairs=0.25, category_power=0.7)


def assert_same(one, other):
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        for name in a:
            np.testing.assert_array_equal(a[name], b[name], err_msg=name)


def test_the_batch_is_the_documented_tree(records, to_example):
    (batch,) = batches(records, to_example, range(1))
    assert {name: (rows.shape, str(rows.dtype)) for name, rows in batch.items()} == {
        "image": ((BATCH, 32, 32, 3), "uint8"),
        "text_ids": ((BATCH, 16), "int32"),
        "text_mask": ((BATCH, 16), "bool"),
        "has_image": ((BATCH,), "bool"),
        "has_text": ((BATCH,), "bool"),
        "valid": ((BATCH,), "bool"),
        "matched": ((BATCH,), "bool"),
        "hard_mismatch": ((BATCH,), "bool"),
        "product_key": ((BATCH,), "int32"),
        "catalog_key": ((BATCH,), "int32"),
        "group_key": ((BATCH,), "int32"),
        "category_key": ((BATCH,), "int32"),
    }
    assert batch["has_image"].all() and batch["has_text"].all() and batch["valid"].all()


@pytest.mark.parametrize("is_weighted", [False, True])
def test_a_restart_in_the_middle_sees_the_same_batches(records, to_example, weighted, is_weighted):
    order = weighted if is_weighted else None
    whole = batches(records, to_example, range(30), order=order)
    assert_same(whole[17:], batches(records, to_example, range(17, 30), order=order))


@pytest.mark.parametrize("is_weighted", [False, True])
def test_processes_together_see_the_batch_of_one(records, to_example, weighted, is_weighted):
    order = weighted if is_weighted else None
    one = batches(records, to_example, range(3), order=order)
    parts = [batches(records, to_example, range(3), order=order, process_index=p, process_count=4) for p in range(4)]
    for step in range(3):
        for name in one[step]:
            together = np.stack([part[step][name] for part in parts], axis=1).reshape(one[step][name].shape)
            np.testing.assert_array_equal(together, one[step][name])


@pytest.mark.slow
def test_worker_processes_change_nothing(records, to_example, weighted):
    dropping = dataclasses.replace(to_example, image_dropout=0.3, text_dropout=0.3)
    in_threads = batches(records, dropping, range(9), order=weighted)
    assert_same(in_threads, batches(records, dropping, range(9), order=weighted, num_workers=2))


def test_pairs_of_one_catalog_come_first(records, to_example, weighted):
    for batch in batches(records, to_example, range(8), order=weighted):
        first, second = batch["catalog_key"][:4:2], batch["catalog_key"][1:4:2]
        assert (first >= 0).all()
        np.testing.assert_array_equal(first, second)
        assert (batch["product_key"][:4:2] != batch["product_key"][1:4:2]).all()


def test_a_row_loses_its_picture_or_its_text_but_never_both(records, to_example):
    steps = range(20)
    plain = batches(records, to_example, steps)
    dropped = batches(records, dataclasses.replace(to_example, image_dropout=0.2, text_dropout=0.3), steps)
    has_image = np.concatenate([batch["has_image"] for batch in dropped])
    has_text = np.concatenate([batch["has_text"] for batch in dropped])
    assert (has_image | has_text).all()
    # 320 draws: five standard deviations.
    assert abs((~has_image).mean() - 0.2) < 0.11
    assert abs((~has_text).mean() - 0.3) < 0.13
    for a, b in zip(plain, dropped, strict=True):
        assert b["valid"].all()
        np.testing.assert_array_equal(a["product_key"], b["product_key"])
        assert not b["image"][~b["has_image"]].any() and not b["text_mask"][~b["has_text"]].any()
        assert b["image"][b["has_image"]].any(axis=(1, 2, 3)).all()
    only_pictures = dataclasses.replace(to_example, image_dropout=0.0, text_dropout=1.0)
    assert not any(batch["has_text"].any() for batch in batches(records, only_pictures, range(2)))


def test_the_first_picture_is_read_unless_any_is_asked_for(records, to_example):
    first, second = (records[row]["images"][0] for row in (0, 5))
    several = [{**records[row], "images": [first, second]} for row in range(BATCH)]
    plain = dataclasses.replace(to_example, augment=Augment(crop_scale=(1, 1), crop_ratio=1.0, mirror=0.0, light=0.0))
    (batch,) = batches(several, plain, range(1))
    assert (batch["image"] == batch["image"][:1]).all()
    drawn = np.concatenate([b["image"] for b in batches(several, dataclasses.replace(plain, any_image=True), range(8))])
    share = (drawn == batch["image"][:1]).all(axis=(1, 2, 3)).mean()
    assert abs(share - 0.5) < 0.25  # 128 draws: five standard deviations and more


def test_a_product_with_a_text_alone_keeps_it(records, to_example):
    bare = [{**records[row], "images": []} for row in range(BATCH)]
    (batch,) = batches(bare, dataclasses.replace(to_example, image_dropout=0.5, text_dropout=0.5), range(1))
    assert batch["has_text"].all() and batch["valid"].all() and not batch["has_image"].any()


@pytest.mark.parametrize("dropout", [{"image_dropout": 1.5}, {"text_dropout": -0.1}, {"image_dropout": 0.6}])
def test_impossible_dropout_is_named(to_example, dropout):
    with pytest.raises(ValueError, match=r"^data\.(image|text)_dropout is"):
        dataclasses.replace(to_example, **{"text_dropout": 0.6, **dropout})


def test_every_epoch_is_a_new_order_of_all_products(records, to_example):
    steps = range(3 * len(records) // BATCH)
    keys = np.concatenate([batch["product_key"] for batch in batches(records, to_example, steps)])
    first, second = keys[: len(records)], keys[len(records) : 2 * len(records)]
    assert len(set(first.tolist())) == len(set(second.tolist())) == len(records)
    assert (first != second).any()


def test_another_seed_is_another_order_and_another_view(records, to_example):
    one, other = (batches(records, to_example, range(1), seed=seed)[0] for seed in (0, 1))
    assert (one["product_key"] != other["product_key"]).any()


def test_an_unreadable_picture_keeps_its_place(records, to_example):
    @dataclasses.dataclass
    class Spoiled:
        bad_row: int

        def __len__(self):
            return len(records)

        def __getitem__(self, row):
            record = records[row]
            return record | {"images": [record["images"][0][:200]]} if row == self.bad_row else record

    sound = batches(records, to_example, range(len(records) // BATCH))
    spoiled = batches(Spoiled(5), to_example, range(len(records) // BATCH))
    bad_key = records[5]["product_key"]
    for a, b in zip(sound, spoiled, strict=True):
        np.testing.assert_array_equal(a["product_key"], b["product_key"])
        np.testing.assert_array_equal(b["valid"], b["product_key"] != bad_key)
        assert not b["has_image"][~b["valid"]].any()
    assert sum((~batch["valid"]).sum() for batch in spoiled) == 1


def test_a_folder_that_was_not_prepared_is_named(tmp_path):
    with pytest.raises(UserError, match="prepare.json is missing"):
        PreparedData(tmp_path)


def test_unknown_split(sample_data):
    with pytest.raises(UserError, match="expected one of train, validation, test"):
        PreparedData(sample_data).rows("dev")
