"""Colour flips: what is asked, the composition, and numbers counted by hand."""

from dataclasses import replace

import numpy as np
import pytest

from ecommerce_vl.evaluation import composed
from ecommerce_vl.evaluation.context import Context
from ecommerce_vl.evaluation.results import Results


def run(splits, test, known, **changes):
    results = Results(products=test)
    composed.run(
        Context(test=test, train=splits["train"], validation=splits["validation"], **{**known, **changes}), results
    )
    return results


@pytest.fixture(scope="module")
def results(splits, known):
    return run(splits, splits["test"], known)


def test_flips_ask_for_a_colour_that_the_leaf_has_and_the_product_has_not(splits):
    test = splits["test"]
    flips = composed.flip(test, seed=0)
    assert len(flips.queries) > 20
    for place, (row, word) in enumerate(zip(flips.queries, flips.words, strict=True)):
        assert test.attributes[row]["color"] != word
        right = [
            test.attributes[other].get("color") == word and test.category_paths[other] == test.category_paths[row]
            for other in flips.documents
        ]
        np.testing.assert_array_equal(flips.shelf == flips.target[place], right)
        assert any(right)
    assert all(test.present("image")[flips.queries]) and len(flips.documents) == 60


def test_a_space_where_words_move_pictures_answers_flips_and_half_a_query_does_not(results):
    value = {key.removeprefix("composed/"): entry["value"] for key, entry in results.metrics.items()}
    assert value["sum/success@10"] > value["image_only/success@10"]
    assert value["sum/success@10"] > value["sum/random/success@10"] + 0.1
    assert value["words_only/collapse"] == 1.0 > value["sum/collapse"]
    assert value["image_only/identity"] > value["sum/identity"] > value["words_only/identity"]
    assert results.metrics["composed/sum/success@10"]["lambda"] in composed.LAMBDAS
    assert results.skipped == {"composed/joint": "this encoder does not read a picture and words together"}
    assert len(results.grids["composed/sum"].examples) == 10


def test_hand_counted_flip(splits, known):
    """Four cups on two axes: the red one asks for blue and finds, by norm(picture + words), one blue and one red."""
    vectors = np.array([[1, 0], [0.6, 0.8], [0, 1], [0.8, -0.6]], np.float32)
    four = replace(
        splits["test"].take(range(4)),
        category_paths=["Home > cup"] * 4,
        attributes=[{"color": "Red"}, {"color": ["blue"]}, {"color": "blue"}, {"color": ["red", "blue"]}],
        catalog_keys=np.array([1, -1, -1, -1]),
        group_keys=np.full(4, -1),
        vectors={"image": np.where(np.arange(4)[:, None] == 0, vectors, np.nan), "product": vectors},
    )

    class Words:
        def embed_texts(self, texts):
            assert texts == ["blue"]
            return np.array([[0.0, 1.0]], np.float32)

    results = Results(products=four)
    empty = four.take(np.array([], int))
    composed.run(Context(test=four, train=empty, validation=empty, encoder=Words()), results)
    entry = results.metrics["composed/sum/success@10"]
    assert entry["lambda"] == 1.0 and entry["n"] == 1
    assert entry["value"] == pytest.approx(2 / 3)  # three others, of which two are blue alone
    assert results.metrics["composed/sum/identity"]["value"] == pytest.approx(np.sqrt(0.5), abs=1e-6)
    assert results.metrics["composed/sum/collapse"]["value"] == 1.0  # three documents are the whole top either way
    order = [neighbour.row for neighbour in results.grids["composed/sum"].examples[0].neighbours]
    assert order == [1, 2, 3]  # cosines .99, .71, .14


def test_composition_keeps_unit_rows_and_the_picture_where_words_cancel_it():
    image = np.array([[1.0, 0.0], [0.6, 0.8]], np.float32)
    found = composed.compose(image, np.array([[-1.0, 0.0], [0.0, 1.0]], np.float32), 1.0)
    np.testing.assert_allclose(found[0], [1, 0], atol=1e-6)
    np.testing.assert_allclose(found[1], np.array([0.6, 1.8]) / np.hypot(0.6, 1.8), atol=1e-6)


def test_an_encoder_that_composes_is_measured_beside_the_sum(splits, known):
    class Joint(type(known["encoder"])):
        reads_both = True

        def embed_composed(self, images, texts):
            assert all(isinstance(image, bytes) for image in images)
            return self.embed_texts(texts)

    results = run(splits, splits["test"], known, encoder=Joint())
    joint, alone = (results.metrics[f"composed/{name}/success@10"] for name in ("joint", "words_only"))
    assert joint["value"] == alone["value"] and not results.skipped


def test_what_cannot_be_measured_is_said(splits, known):
    assert "no encoder" in run(splits, splits["test"], known, encoder=None).skipped["composed"]
    grey = replace(splits["test"], attributes=[{"color": "grey"}] * 60)
    assert "no product with a picture and a known color" in run(splits, grey, known).skipped["composed"]
