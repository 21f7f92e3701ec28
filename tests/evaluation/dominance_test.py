"""The dominance probe on encoders that read words alone, pictures alone, or both; centring on vectors in a cone."""

import dataclasses
import zlib

import numpy as np
import pytest

from ecommerce_vl.evaluation import centred, dominance
from ecommerce_vl.evaluation.context import Context
from ecommerce_vl.evaluation.results import Results


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class Reader:
    """An encoder of known parts: a vector of the title's words and one of the picture's bytes, weighed and added."""

    def __init__(self, products, *, words, pictures, size=64):
        draw = lambda key: np.random.default_rng(zlib.crc32(repr(key).encode())).normal(size=size)
        # Listings of one product look alike: a picture is told by its product, as far as the encoder cares.
        product = {image: key for image, key in zip(products.images, products.catalog_keys, strict=True)}
        self.of_title = lambda title: words * draw(title)
        self.of_image = lambda image: pictures * draw(("picture", int(product[image])))

    def embed_products(self, records):
        assert all("id" in record for record in records), "a query keeps its own id"
        return unit(np.stack([self.of_title(r["title"]) + self.of_image(r["images"][0]) for r in records]))


@pytest.fixture(scope="module")
def products(splits):
    test = splits["test"]
    both = test.present("image") & test.present("text")
    test = test.take(both)
    images = [f"{i}".encode() for i in range(len(test))]  # each its own
    return dataclasses.replace(test, images=images)


def probe(products, splits, *, words, pictures, seed=0):
    reader = Reader(products, words=words, pictures=pictures)
    columns = zip(products.ids, products.titles, products.images, strict=True)
    records = [{"id": name, "title": title, "images": [image]} for name, title, image in columns]
    test = dataclasses.replace(products, vectors=products.vectors | {"product": reader.embed_products(records)})
    results = Results(products=test)
    context = Context(test=test, train=splits["train"], validation=splits["validation"], encoder=reader, seed=seed)
    dominance.run(context, results)
    assert not results.skipped
    return {key.rsplit("/", 1)[1]: entry for key, entry in results.metrics.items()}


def test_a_model_that_ignores_the_picture(products, splits):
    found = probe(products, splits, words=1.0, pictures=0.0)
    assert found["drop_img"]["value"] == 0 and found["dominance"]["value"] == 1
    assert found["shift_img"]["value"] == pytest.approx(0, abs=1e-6)
    assert found["hit@1"]["value"] == 1 and found["drop_txt"]["value"] > 0.9 and found["shift_txt"]["value"] > 0.8
    assert found["dominance"]["low"] == found["dominance"]["high"] == 1


def test_a_model_that_ignores_the_words(products, splits):
    found = probe(products, splits, words=0.0, pictures=1.0)
    assert found["drop_txt"]["value"] == 0 and found["dominance"]["value"] == 0
    assert found["drop_img"]["value"] > 0.9 and found["shift_txt"]["value"] == pytest.approx(0, abs=1e-6)


def test_a_model_that_reads_both_lies_between(products, splits):
    found = probe(products, splits, words=1.0, pictures=1.0)
    assert 0 < found["dominance"]["value"] < 1
    for name in ("drop_img", "drop_txt", "dominance", "shift_img", "shift_txt", "hit@1"):
        entry = found[name]
        assert entry["low"] <= entry["value"] <= entry["high"] and entry["n"] > 10 and entry["candidates"] > 30
    assert found == probe(products, splits, words=1.0, pictures=1.0)


def test_donors_are_other_products_of_the_leaf_with_both(splits):
    test = splits["test"]
    queries = np.flatnonzero(test.present("product"))
    donors = dominance.draw_donors(test, queries, seed=0)
    both, leaf, catalog = test.present("image") & test.present("text"), test.labels("category"), test.labels("catalog")
    found = donors >= 0
    np.testing.assert_array_equal(found, both[queries])
    assert both[donors[found]].all() and (leaf[donors[found]] == leaf[queries[found]]).all()
    assert (catalog[donors[found]] != catalog[queries[found]]).all()
    assert (dominance.draw_donors(test, queries, seed=1) != donors).any()


def test_what_cannot_be_measured_is_named(splits):
    results = Results(products=splits["test"])
    dominance.run(Context(**splits), results)
    assert "needs the encoder" in results.skipped["dominance/product"]
    bare = {name: dataclasses.replace(part, vectors={}) for name, part in splits.items()}
    centred.run(Context(**bare), results)
    assert set(results.skipped) == {"dominance/product", "centred/i2m", "centred/t2m", "centred/m2m"}
    assert not results.metrics


def test_centring_finds_what_a_cone_hides(splits):
    """Vectors in one direction plus noise of their length would rank the same; with a mean that varies they do not."""

    def in_cone(products):
        axis = np.zeros((1, 16))
        axis[0, 0] = 1.0
        # Each view has its own axis, so pictures ask all documents by that axis first.
        cone = {view: products.vectors[view] + 20 * np.roll(axis, n) for n, view in enumerate(products.vectors)}
        return dataclasses.replace(products, vectors={view: unit(rows) for view, rows in cone.items()})

    coned = {name: in_cone(part) for name, part in splits.items()}
    results = Results(products=coned["test"])
    centred.run(Context(**coned), results)
    assert results.metrics["centred/m2m/hit@1"]["cone"] > 0.99
    for name in ("i2m", "t2m", "m2m"):
        assert results.metrics[f"centred/{name}/hit@5"]["value"] > 0.7
    rows = centred.centre(coned["test"], train=coned["train"], view="image")
    present = coned["test"].present("image")
    np.testing.assert_allclose(np.linalg.norm(rows[present], axis=1), 1, atol=1e-5)
    assert np.isnan(rows[~present]).all()
    assert np.linalg.norm(rows[present].mean(axis=0)) < 0.3
