"""Annotated pairs: ranks by hand, the query removed by id, every direction, and what cannot be asked."""

import numpy as np
import pytest

from ecommerce_vl.evaluation.judged_pairs import measure
from ecommerce_vl.evaluation.products import EmbeddedProducts


def products_of(image, text, *, pictures=None):
    """Products a, b, c, … of angles in degrees; None lacks the modality."""
    at = lambda angle: [np.nan] * 2 if angle is None else [np.cos(np.radians(angle)), np.sin(np.radians(angle))]
    vectors = {name: np.array([at(angle) for angle in angles], np.float32) for name, angles in
               (("image", image), ("text", text))}  # fmt: skip
    vectors["product"] = np.where(np.isnan(vectors["image"]), vectors["text"], vectors["image"])
    N = len(image)
    return EmbeddedProducts(
        ids=list("abcdefgh"[:N]), titles=[""] * N, category_paths=[""] * N, catalog_keys=np.full(N, -1),
        group_keys=np.full(N, -1), locales=[""] * N, adult=["no"] * N,
        images=pictures or [bytes([n]) for n in range(N)], vectors=vectors,
    )  # fmt: skip


def test_ranks_by_hand():
    # From a at 0°: b at 10°, c at 20°, d at 60°, e without a picture.
    products = products_of([0, 10, 20, 60, None], [0, 80, 30, 5, 40])
    found = measure(products, [("a", "c"), ("a", "d"), ("d", "b"), ("e", "a"), ("x", "a")])
    # image: a finds c second, behind b and not itself; d (60°) has c, then b. e does not ask, x is unknown.
    assert found["image-image/mrr"]["value"] == pytest.approx((1 / 2 + 1 / 2) / 2)
    assert found["image-image/hit@1"]["value"] == 0 and found["image-image/hit@5"]["value"] == 1
    assert found["image-image/mrr"]["candidates"] == 4
    assert found["image-image/mrr"]["coverage"] == 0.5 and found["image-image/mrr"]["n"] == 2
    # text: a (0°) has d at 5° first; d (5°): a, c, e, then b at 80°; e (40°): c, d, then a.
    assert found["text-text/mrr"]["value"] == pytest.approx((1 + 1 / 4 + 1 / 3) / 3)
    # text of a (0°) among pictures without its own: b, c of the pair; text of e (40°): c, d, b, a.
    assert found["text-image/mrr"]["value"] == pytest.approx((1 / 2 + 1 / 2 + 1 / 4) / 3)
    assert len(found) == 9 * 6 and found["text-image/tie_rate@10"]["value"] == 0
    assert found["image-image/mrr"]["mean_relevant"] == 1.5


def test_the_reverse_asks_the_other_way():
    products = products_of([0, 10, 15, 60], [None] * 4)
    forward, back = (measure(products, [("a", "c")], reverse=way)["image-image/mrr"]["value"] for way in (False, True))
    assert (forward, back) == (0.5, 0.5) and not any(key.startswith("text") for key in measure(products, [("a", "c")]))
    assert measure(products, [("d", "c")], reverse=True)["image-image/mrr"]["value"] == pytest.approx(1 / 3)


def test_equal_scores_are_ordered_by_id_and_equal_pictures_can_be_left_out():
    products, pictures = products_of([0, 30, 30, 30], [None] * 4), [b"1", b"2", b"1", None]
    assert measure(products, [("a", "c")])["image-image/mrr"]["value"] == 0.5
    assert measure(products, [("a", "d")])["image-image/mrr"]["value"] == pytest.approx(1 / 3)
    assert measure(products, [("a", "c")], pictures=pictures) == {}
    assert measure(products, [("a", "c"), ("a", "d")], pictures=pictures)["image-image/mrr"]["mean_relevant"] == 1
