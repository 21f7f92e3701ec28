"""Vocabularies, unknown values, and what a feed could be filled in with."""

from dataclasses import replace

import numpy as np
import pytest

from ecommerce_vl.evaluation import attributes
from ecommerce_vl.evaluation.context import Context
from ecommerce_vl.evaluation.results import Results


def run(parts, **known):
    results = Results(products=parts["test"])
    attributes.run(Context(**parts, **known), results)
    return results


@pytest.fixture(scope="module")
def results(splits, known):
    return run(splits, **known)


def test_vocabularies_are_the_values_that_enough_training_products_share(splits):
    train = splits["train"]
    rare = replace(train, attributes=[one | {"color": "Teal "} for one in train.attributes[:9]] + train.attributes[9:])
    found = {one.name: one for one in attributes.vocabularies(rare)}
    assert set(found) == {"brand", "color", "shape"}
    assert "teal" not in found["color"].values and set(found["color"].values) == {"red", "green", "blue", "yellow"}
    assert not found["color"].several and found["shape"].several
    assert set(found["shape"].values) == {"drawn", "cup", "ball", "box"}
    weights = replace(train, brands=[""] * len(train), attributes=[{"weight": 1.5}] * len(train))
    assert attributes.vocabularies(weights) == [], "a number is a measure, not a label"


def test_every_view_and_method_has_its_attributes_and_their_means(results):
    for key in (
        "attributes/color/image/linear/micro_f1", "attributes/shape/text/zero_shot/map",
        "attributes/color/image/colour_edges/linear/macro_f1", "attributes/color/text/tfidf/zero_shot/accuracy",
        "attributes/mean/product/untrained/linear/micro_f1", "attributes/weighted_mean/text/linear/map",
        "attributes/color/product/majority/coverage_at_precision",
    ):  # fmt: skip
        assert {"value", "low", "high", "n", "candidates", "coverage"} <= set(results.metrics[key]), key
    value = {key: entry["value"] for key, entry in results.metrics.items()}
    assert value["attributes/color/text/tfidf/linear/accuracy"] == 1.0  # the title says it
    assert value["attributes/color/text/tfidf/linear/coverage_at_precision"] == 1.0
    assert value["attributes/color/image/linear/accuracy"] > value["attributes/color/image/majority/accuracy"] + 0.2
    names = ("brand", "color", "shape")
    mean = np.mean([value[f"attributes/{name}/text/linear/micro_f1"] for name in names])
    assert value["attributes/mean/text/linear/micro_f1"] == pytest.approx(mean)
    rows = [results.metrics[f"attributes/{name}/text/linear/micro_f1"]["n"] for name in names]
    weighted = np.average([value[f"attributes/{name}/text/linear/micro_f1"] for name in names], weights=rows)
    assert value["attributes/weighted_mean/text/linear/micro_f1"] == pytest.approx(weighted)


def test_an_attribute_that_no_training_product_of_a_view_has_is_left_out_of_that_view_alone(splits, known):
    """Colours of training products without a picture: no head for pictures, the other attributes have theirs."""
    train = splits["train"]
    seen = train.present("image")
    bare = [
        {name: value for name, value in one.items() if not (name == "color" and seen[row])}
        for row, one in enumerate(train.attributes)
    ]
    found = run(splits | {"train": replace(train, attributes=bare)}, **known).metrics
    assert "attributes/shape/image/linear/micro_f1" in found and "attributes/color/image/linear/micro_f1" not in found


def text_only(splits, **changed):
    return {
        name: replace(part, vectors={"text": part.vectors["text"]}, brands=[""] * len(part), **changed)
        for name, part in splits.items()
    }


def test_unknown_is_not_negative(splits):
    """Rows without a value neither train nor count: their vectors may be anything."""
    plain = text_only(splits)
    moved = {}
    for name, products in plain.items():
        rows = products.vectors["text"].copy()
        rows[[not one for one in products.attributes]] = np.eye(16)[0]
        moved[name] = replace(products, vectors={"text": rows})
    one, other = run(plain), run(moved)
    assert "attributes/color/text/linear/map" in one.metrics
    for key, entry in one.metrics.items():
        if "mean" not in key:  # how many products the means are over does change
            same = {name: value for name, value in entry.items() if name not in ("coverage", "n", "low", "high")}
            assert same == {name: other.metrics[key][name] for name in same}, key


def test_a_value_that_training_does_not_know_is_a_miss(splits):
    plain = text_only(splits)
    strange = [one | {"color": "teal"} if one else one for one in plain["test"].attributes[:12]]
    test = replace(plain["test"], attributes=strange + plain["test"].attributes[12:])
    key = "attributes/color/text/tfidf/linear/micro_f1"
    before, after = run(plain).metrics[key], run(plain | {"test": test}).metrics[key]
    assert (before["outside"], after["outside"]) == (0, 10)  # of twelve, one is not annotated and one has no title
    assert after["n"] == before["n"] and after["value"] == pytest.approx(1 - 10 / before["n"])


def test_a_catalog_without_attributes_is_skipped(splits, known):
    bare = {
        name: replace(products, brands=[""] * len(products), attributes=[{} for _ in products.ids])
        for name, products in splits.items()
    }
    assert run(bare, **known).skipped == {"attributes": "no attribute has 2 values on 10 training products each"}
