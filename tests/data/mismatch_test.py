"""Mismatched rows: how many, with whom, and the same for every process, thread and restart."""

import numpy as np
import pytest

from ecommerce_vl.data.batches import ToExample, training_batches
from ecommerce_vl.data.images import Augment, ImagePipeline
from ecommerce_vl.data.mismatch import COLUMNS, MismatchedOrder, MixedRecords, draw_partners
from ecommerce_vl.data.prepared import PreparedData
from ecommerce_vl.data.sampling import natural_order
from ecommerce_vl.data.sources import open_source
from ecommerce_vl.data.text import TextTemplate
from ecommerce_vl.data.tokenizer import train_tokenizer

OPTIONS = {
    "source": "products", "rows": "pairs", "catalog_pairs": 0.0, "category_power": 1.0, "mismatch": 0.5,
    "mismatch_same_category": 0.5,
    "same_category_fraction": 0.0,
    "fraction": 1.0,
    "drop_lowest": 0.0,
    "min_agreement": -1.0,
}  # fmt: skip
BATCH = 16


def keys_of(num, *, categories, seed=0, **changes):
    rng = np.random.default_rng(seed)
    return {
        "product_key": rng.integers(0, num // 2, num),
        "catalog_key": rng.integers(0, num // 4, num),
        "category_key": rng.integers(0, categories, num),
        "has_image": np.ones(num, bool),
        "has_text": np.ones(num, bool),
    } | changes


def test_shares_and_partners():
    num = 40_000
    keys = keys_of(num, categories=500)
    partner, image, hard = draw_partners(keys, rng=np.random.default_rng(1), share=0.5, same_category=0.5)
    swapped = partner != np.arange(num)
    assert abs(swapped.mean() - 0.5) < 0.01
    assert abs(image[swapped].mean() - 0.5) < 0.015 and not image[~swapped].any()
    # A category has 80 rows, so all find one in it; of those drawn anywhere one in 500 lies in it by chance.
    assert abs(hard[swapped].mean() - (0.5 + 0.5 / 500)) < 0.015 and not hard[~swapped].any()
    for name in ("product_key", "catalog_key"):
        assert (keys[name][swapped] != keys[name][partner[swapped]]).all()
    np.testing.assert_array_equal(hard[swapped], (keys["category_key"][partner] == keys["category_key"])[swapped])
    # Partners are drawn evenly: no row serves many.
    assert np.bincount(partner[swapped]).max() <= 8


def test_alone_in_its_category_a_row_takes_any_other():
    keys = keys_of(64, categories=1, product_key=np.arange(64), catalog_key=-1 - np.arange(64))
    for category in (np.arange(64), np.full(64, -3)):  # all different, and all unknown
        partner, _, hard = draw_partners(
            keys | {"category_key": category}, rng=np.random.default_rng(0), share=1.0, same_category=1.0
        )
        assert (partner != np.arange(64)).all() and not hard.any()


def test_a_batch_of_one_product_stays_matched():
    keys = keys_of(32, categories=1, product_key=np.full(32, 5))
    partner, image, hard = draw_partners(keys, rng=np.random.default_rng(0), share=1.0, same_category=0.5)
    np.testing.assert_array_equal(partner, np.arange(32))
    assert not image.any() and not hard.any()


def test_only_what_is_there_is_given_and_replaced():
    has_image, has_text = np.arange(200) % 3 != 0, np.arange(200) % 3 != 1
    keys = keys_of(200, categories=4, product_key=np.arange(200), has_image=has_image, has_text=has_text)
    keys["catalog_key"] = -1 - np.arange(200)
    partner, image, _ = draw_partners(keys, rng=np.random.default_rng(0), share=1.0, same_category=0.5)
    swapped = partner != np.arange(200)
    np.testing.assert_array_equal(swapped, has_image & has_text)
    assert has_image[partner[swapped & image]].all() and has_text[partner[swapped & ~image]].all()


@pytest.fixture(scope="module")
def data(sample_data):
    return PreparedData(sample_data)


@pytest.fixture(scope="module")
def to_example(data):
    records = data.records("train")
    return ToExample(
        image=ImagePipeline(size=16, mean=(0.5,) * 3, std=(0.25,) * 3),
        augment=Augment(crop_scale=(1.0, 1.0), crop_ratio=1.0, mirror=0.0, light=0.0),
        template=TextTemplate(fields=("color",), field_dropout=0.0),
        tokenizer=train_tokenizer([records[row]["title"] for row in range(50)], vocab_size=400, max_length=12),
    )


def read(source, to_example, steps, **options):
    order = source.order(batch_size=BATCH, seed=3)
    options = {"batch_size": BATCH, "seed": 3, "num_workers": 0} | options
    return list(training_batches(source.items, to_example, order=order, steps=steps, **options))


def test_a_mismatched_row_is_its_own_but_for_one_part_of_another(data, to_example):
    source, plain = open_source(data, OPTIONS), open_source(data, OPTIONS | {"mismatch": 0.0})
    own, mixed = read(plain, to_example, range(6)), read(source, to_example, range(6))
    order, records = source.order(batch_size=BATCH, seed=3), data.records("train", pairs_only=True)
    counts = {"image": 0, "text": 0}
    for step, (a, b) in enumerate(zip(own, mixed, strict=True)):
        assert a["matched"].all() and not a["hard_mismatch"].any()
        for name in ("product_key", "catalog_key", "group_key", "category_key"):
            np.testing.assert_array_equal(a[name], b[name])
        for row in range(BATCH):
            at = order[step * BATCH + row]
            assert b["matched"][row] == (at.image_row == at.text_row)
            other = records[at.image_row if at.text_row == at.row else at.text_row]
            same_leaf = other["category_key"] == b["category_key"][row] >= 0
            assert b["hard_mismatch"][row] == (same_leaf and not b["matched"][row])
            differs = {"image": (a["image"][row] != b["image"][row]).any()}
            differs["text"] = (a["text_ids"][row] != b["text_ids"][row]).any()
            if b["matched"][row]:
                assert not any(differs.values())
                continue
            changed = "text" if at.image_row == at.row else "image"
            counts[changed] += 1
            assert not differs["text" if changed == "image" else "image"]
            assert other["product_key"] != b["product_key"][row]
            if changed == "text":
                np.testing.assert_array_equal(
                    b["text_ids"][row], to_example.tokenizer([to_example.template.enriched(other)])[0][0]
                )
            # Its partner is of this very batch.
            assert other["product_key"] in a["product_key"]
    assert min(counts.values()) > 10


def test_processes_and_restarts_see_the_same_mismatches(data, to_example):
    source = open_source(data, OPTIONS)
    one = read(source, to_example, range(4))
    parts = [read(source, to_example, range(4), process_index=p, process_count=4) for p in range(4)]
    later = read(source, to_example, range(2, 4))
    for step in range(4):
        for name in one[step]:
            together = np.stack([part[step][name] for part in parts], axis=1).reshape(one[step][name].shape)
            np.testing.assert_array_equal(together, one[step][name])
            if step >= 2:
                np.testing.assert_array_equal(later[step - 2][name], one[step][name])


@pytest.mark.slow
def test_worker_processes_change_nothing(data, to_example):
    source = open_source(data, OPTIONS)
    for a, b in zip(*(read(source, to_example, range(5), num_workers=n) for n in (0, 2)), strict=True):
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def test_steps_may_be_asked_for_in_any_order():
    keys = keys_of(300, categories=5)
    make = lambda: MismatchedOrder(
        natural_order(300, seed=0), keys, batch_size=10, seed=0, share=0.5, same_category=0.5
    )
    forth, back = make(), make()
    positions = range(120)
    assert [forth[at] for at in positions] == [back[at] for at in reversed(positions)][::-1]
    assert set(COLUMNS) <= set(keys) and len(MixedRecords([{}] * 7)) == 7


@pytest.mark.parametrize("name", ["mismatch", "mismatch_same_category"])
def test_an_impossible_share_is_named(data, name):
    with pytest.raises(ValueError, match=rf"^data.{name} is 1.5; expected 0 to 1"):
        open_source(data, OPTIONS | {name: 1.5}).order(batch_size=BATCH, seed=0)
