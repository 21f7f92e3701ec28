"""Tasks on a handful of vectors whose ranks can be counted by hand."""

from dataclasses import replace

import numpy as np
import pytest

from ecommerce_vl.evaluation import retrieval

SETTING = {setting.key: setting for setting in retrieval.SETTINGS}


def measured(products, key, *, vectors=None):
    setting = SETTING[key]
    pool = retrieval.pool(products, setting=setting)
    vectors = vectors or (products.vectors[setting.query_view], products.vectors[setting.document_view])
    ranking = retrieval.rank(
        pool, products=products, setting=setting, query_vectors=vectors[0], document_vectors=vectors[1]
    )
    return retrieval.measure(ranking, pool=pool, setting=setting)


def test_hand_computed_image_to_text(splits):
    """Four products on a circle; c has no text, d no image; a and c are one catalog product."""
    angles = {"image": [0.0, 1.0, 0.1, np.nan], "text": [0.2, 0.05, np.nan, 1.2]}
    vectors = {
        view: np.array([[np.cos(angle), np.sin(angle)] for angle in row], np.float32) for view, row in angles.items()
    }
    four = replace(
        splits["test"].take(range(4)),
        ids=list("abcd"),
        catalog_keys=np.array([1, -1, 1, -1]),
        group_keys=np.full(4, -1),
        vectors=vectors,
    )
    found = measured(four, "image_text/i2t")
    # a: texts b (.05), a (.2): rank 2. b: texts d (1.2), a (.2), b (.05): rank 3.
    # c has no text, but a's is right for it; distances b .05, a .1: rank 2.
    assert found["hit@1"]["value"] == 0.0
    assert found["hit@5"]["value"] == 1.0
    assert found["mrr"]["value"] == pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 3, abs=1e-12)
    assert found["mrr"]["n"] == 3 and found["mrr"]["candidates"] == 3
    assert found["mrr"]["coverage"] == 0.75
    assert found["mrr"]["mean_relevant"] == 1.0
    # d's text asks, but no picture shows d: it leaves.
    assert measured(four, "image_text/t2i")["mrr"]["n"] == 2


def test_hand_computed_same_product(splits):
    """a, b, c are one product and d, e unknown: d and e stay in the gallery and do not ask."""
    angles = np.array([0.0, 0.3, 0.9, 0.1, 0.5])
    five = replace(
        splits["test"].take(range(5)),
        ids=list("abcde"),
        catalog_keys=np.array([3, 3, 3, -1, -1]),
        vectors={"image": np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)},
    )
    found = measured(five, "same_product/image")
    # a: d(.1) b(.3) e(.5) c(.9) -> ranks 2, 4. b: d and e (.2) a(.3) c(.6) -> 3, 4. c: e(.4) b(.6) d(.8) a(.9) -> 2, 4.
    assert found["hit@1"]["value"] == 0.0
    assert found["mrr"]["value"] == pytest.approx((1 / 2 + 1 / 3 + 1 / 2) / 3, abs=1e-12)
    assert found["recall@10"]["value"] == 1.0
    assert found["map_at_r"]["value"] == pytest.approx((1 / 4 + 0 + 1 / 4) / 3, abs=1e-12)
    assert (found["mrr"]["n"], found["mrr"]["candidates"], found["mrr"]["coverage"]) == (3, 4, 0.6)


def test_the_macro_mean_counts_a_product_once_however_many_listings_it_has(splits):
    """Three listings of one product find each other; of two of another, one is right."""
    angles = np.array([0.0, 0.1, 0.2, 1.0, 2.0])
    five = replace(
        splits["test"].take(range(5)),
        ids=list("abcde"),
        catalog_keys=np.array([3, 3, 3, 4, 4]),
        vectors={"image": np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)},
    )
    found = measured(five, "same_product/image")
    # d (1.0) is nearest to c, e (2.0) to d: right after all for e.
    assert found["hit@1"]["value"] == pytest.approx(4 / 5)
    assert found["macro_hit@1"]["value"] == pytest.approx((1 + 1 / 2) / 2) and found["macro_hit@1"]["n"] == 2
    assert "macro_hit@1" not in measured(splits["test"], "image_text/i2t")


def test_same_style_relates_by_group_and_not_by_catalog(splits):
    test = splits["test"]
    assert measured(test, "same_style/product")["hit@1"]["mean_relevant"] == 5.0
    assert measured(test, "same_product/product")["hit@1"]["mean_relevant"] == 1.0


def test_intervals_resample_families_and_not_single_listings(splits):
    """Families answer alike here (all right or all wrong), so ten families are ten observations, not sixty."""
    test = splits["test"]
    family = np.asarray(test.group_keys)
    own = np.eye(60, dtype=np.float32)[test.catalog_keys] * np.where(family % 2, 1, -1)[:, None].astype(np.float32)
    found = measured(test, "image_text/i2t", vectors=(own, np.abs(own)))["hit@1"]
    assert 0.4 < found["value"] < 0.6
    assert found["high"] - found["low"] > 0.5  # sixty independent ones would give 0.25


def test_perfect_vectors_score_one_and_reversed_ones_zero(splits):
    test = splits["test"]
    own = np.eye(len(test), dtype=np.float32)[test.catalog_keys]
    assert measured(test, "image_text/i2t", vectors=(own, own))["hit@1"]["value"] == 1.0
    assert measured(test, "image_text/i2t", vectors=(own, -own))["hit@10"]["value"] == 0.0


@pytest.mark.parametrize(
    ("change", "key", "reason"),
    [
        ({"vectors": {}}, "image_text/i2t", "no product has a vector of its image"),
        (
            {"catalog_keys": np.full(60, -1)},
            "same_product/text",
            "no two products of this split are known to be the same product",
        ),
        (
            {"catalog_keys": np.arange(60)},
            "same_product/product",
            "no two products of this split are known to be the same product",
        ),
        ({"catalog_keys": np.where(np.arange(60) < 2, 0, -1)}, "same_product/image", ""),
        (
            {"catalog_keys": np.where(np.isin(np.arange(60), (2, 3)), 0, -1)},  # 3 has no picture
            "same_product/image",
            "no two products with a vector of their image are the same product",
        ),
        ({"group_keys": np.full(60, -1)}, "same_style/image", "no two products of this split are known to be variants"),
    ],
)
def test_what_the_data_lacks_is_said(splits, change, key, reason):

    said = retrieval.missing(replace(splits["test"], **change), setting=SETTING[key])
    assert said.startswith(reason) and bool(said) == bool(reason)
    assert retrieval.missing(splits["test"], setting=SETTING[key]) == ""
