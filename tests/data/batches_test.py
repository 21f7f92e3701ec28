"""The loader: a pure function of (seed, step), for any number of processes, workers and restarts."""

import dataclasses

import numpy as np
import pytest

from ecommerce_vl.data.batches import ToExample, training_batches
from ecommerce_vl.data.images import Augment, ImagePipeline
from ecommerce_vl.data.prepared import PreparedData
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


def batches(records, to_example, steps, **options):
    return list(
        training_batches(
            records,
            to_example,
            batch_size=BATCH,
            seed=options.pop("seed", 0),
            steps=steps,
            num_workers=options.pop("num_workers", 0),
            **options,
        )
    )


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
        "product_key": ((BATCH,), "int32"),
        "catalog_key": ((BATCH,), "int32"),
        "group_key": ((BATCH,), "int32"),
        "category_key": ((BATCH,), "int32"),
    }
    assert batch["has_image"].all() and batch["has_text"].all() and batch["valid"].all()


def test_a_restart_in_the_middle_sees_the_same_batches(records, to_example):
    whole = batches(records, to_example, range(30))
    assert_same(whole[17:], batches(records, to_example, range(17, 30)))


def test_processes_together_see_the_batch_of_one(records, to_example):
    one = batches(records, to_example, range(3))
    parts = [batches(records, to_example, range(3), process_index=p, process_count=4) for p in range(4)]
    for step in range(3):
        together = np.stack([part[step]["image"] for part in parts], axis=1).reshape(one[step]["image"].shape)
        np.testing.assert_array_equal(together, one[step]["image"])


@pytest.mark.slow
def test_worker_processes_change_nothing(records, to_example):
    assert_same(batches(records, to_example, range(9)), batches(records, to_example, range(9), num_workers=2))


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
